"""The page in a real browser, under the policy that forbids inline script and style."""

from __future__ import annotations

import re
import time

from flask import Flask, Response, request

from tests.support import fleet_views
from tests.support.chromium import dom_after, need_chromium, served


class Page:
    """Serves the page; ``states`` are those of the first answers, the last one goes on."""

    def __init__(self, *states: str) -> None:
        self.asked: list[tuple[str | None, int]] = []
        """If-None-Match of each request for the page, and the status of its answer"""
        born = time.time()
        self._apps = [
            fleet_views.app_of({"home": fleet_views.STATES[one](born)}, lambda: born)
            if one in fleet_views.STATES
            else None
            for one in states
        ]

    def app(self) -> Flask:
        app = Flask(__name__, static_folder=None)

        @app.get("/")
        @app.get("/<path:path>")
        def any_path(path: str = "") -> Response:
            turn = self._apps[min(len(self.asked), len(self._apps) - 1)]
            if path:  # what belongs to it is always there
                turn = next(one for one in self._apps if one is not None)
            given = request.headers.get("If-None-Match")
            if turn is None:
                answer = Response("<h1>Bad gateway</h1>", 502, mimetype="text/html")
            else:
                with turn.test_client() as client:
                    headers = {"If-None-Match": given} if given else {}
                    found = client.get(f"/{path}", headers=headers)
                    answer = Response(found.get_data(), found.status_code, dict(found.headers))
                    found.close()
            if not path:
                self.asked.append((given, answer.status_code))
            return answer

        return app


def title_of(dom: str) -> str:
    found = re.search(r"<title>(.*?)</title>", dom)
    assert found
    return found[1]


def icon_of(dom: str) -> str:
    found = re.search(r'<link rel="icon"[^>]*href="([^"]*)"', dom)
    assert found
    return found[1]


def stale_of(dom: str) -> str:
    found = re.search(r'<p id="stale"[^>]*>([^<]*)</p>', dom)
    assert found
    return found[1]


def said_in(dom: str) -> str:
    found = re.search(r'<p id="said"[^>]*>([^<]*)</p>', dom)
    assert found
    return found[1]


def test_it_follows_the_state_in_line_title_and_icon() -> None:
    chromium, page = need_chromium(), Page("fine", "down")
    with served(page.app()) as url:
        dom = dom_after(chromium, url, 13)
    assert title_of(dom).startswith("✕ «Shop checkout» is down everywhere")
    assert icon_of(dom) == "static/state-fail.svg"
    assert "Shop checkout</bdi></a>" in dom
    # a reader of the screen hears it
    assert "broken: «Shop checkout» is down everywhere (3 of 3)." in said_in(dom)
    assert stale_of(dom) == ""


def test_it_asks_for_news_only() -> None:
    chromium, page = need_chromium(), Page("down")
    with served(page.app()) as url:
        dom = dom_after(chromium, url, 33)
    statuses = [status for _given, status in page.asked]
    # the first is the browser's own; the script knows the second one's ETag
    assert statuses[:4] == [200, 200, 304, 304]
    assert [given for given, _status in page.asked[:2]] == [None, None]
    assert stale_of(dom) == said_in(dom) == ""


def test_it_says_when_it_gets_no_answer_and_keeps_what_it_shows() -> None:
    chromium, page = need_chromium(), Page("fine", "broken")
    with served(page.app()) as url:
        dom = dom_after(chromium, url, 45)
    assert stale_of(dom).startswith("This page gets no answer since 20")
    assert title_of(dom).startswith("? No answer · Everything is equal")
    assert icon_of(dom) == "static/state-unknown.svg"
    assert 'id="h-monitors"' in dom
    assert "Bad gateway" not in dom
