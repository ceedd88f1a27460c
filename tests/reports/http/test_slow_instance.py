"""`replicator fleet --serve` over an instance that answers, but each time slowly."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from http.client import HTTPException
from urllib.parse import urlsplit

import pytest

from replicator_kuma.adapters.peers import Peer
from replicator_kuma.config.listen import Listen
from replicator_kuma.config.settings import Settings
from replicator_kuma.reports.http import remote
from replicator_kuma.reports.http.fleets import page_over
from replicator_kuma.reports.http.pages import Asked, build
from replicator_kuma.reports.http.remote import Remote
from replicator_kuma.reports.http.web import Web
from tests.reports.http.conftest import BEARER, TOKEN, Client
from tests.reports.http.stand_in import exchange
from tests.support import html_tree
from tests.support.loopback import Loopback, Quiet
from tests.support.waiting import wait_until

ASKED = Asked(fleet="", q="", all=True, monitor=1, status=False)
DOCUMENTS = ("summary", "fleet", "monitors", "status", "log?limit=20", "beats/1")
"""what a page asks for, in its order"""


class Gate:
    """Lets answers through: each takes ``seconds``, and those of ``held`` until it is open."""

    def __init__(self, seconds: float = 0.0, held: tuple[str, ...] = ()) -> None:
        self.open, self.seconds, self.held = threading.Event(), seconds, held
        self.asked: list[str] = []

    def wait(self, path: str) -> None:
        self.asked.append(path.removeprefix("/api/v1/"))
        self.open.wait(60.0 if self.asked[-1] in self.held else self.seconds)


@pytest.fixture
def instance(environ: dict[str, str]) -> Iterator[Client]:
    """A real one, that answers at once."""
    token = {"REPLICATOR_HTTP": "127.0.0.1:0", "REPLICATOR_HTTP_TOKEN": TOKEN}
    web = Web(Settings.load({**environ, **token}), exchange(monitors=3))
    web.start()
    try:
        assert web.address is not None
        yield Client(urlsplit(f"http://{web.address}").port or 0)
    finally:
        web.stop()


def behind(gate: Gate, instance: Client) -> Loopback:
    """A proxy before the instance, whose answers wait at the gate."""

    class Handler(Quiet):
        def get(self) -> None:
            gate.wait(self.path)
            with suppress(OSError, HTTPException):  # the test may have ended
                answer = instance.get(self.path, BEARER)
                self.say(answer.status, answer.body)

    return Loopback(Handler)


class Line:
    """The way to the instance, by the gate."""

    def __init__(self, gate: Gate, instance: Client) -> None:
        self._gate, self._instance = gate, instance

    def ask(self, _body: bytes | None, path: str) -> bytes:
        self._gate.wait(path)
        return self._instance.get(path, BEARER).body

    def cut(self) -> None: ...


def test_what_comes_too_late_for_a_page_is_there_for_the_next(
    instance: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(held=DOCUMENTS[2:])
    view = Remote(Peer("far", "http://127.0.0.1:1"), TOKEN, Line(gate, instance))
    # so that the two that are not held come in time on a busy machine, and the wait is short
    for ask in (view.summary, view.fleet):
        ask()
    monkeypatch.setattr(remote, "PAGE", 0.5)
    first = build(ASKED, {"far": view}, 0.0)
    late = "far: no answer within the 0.5 s that a page has"
    assert (first.own_trouble, first.status_trouble, first.changes_trouble) == (late, late, late)
    assert first.fleet is not None
    assert first.detail is not None
    assert first.detail.trouble == late
    assert first.sentence
    gate.open.set()
    wait_until(lambda: set(DOCUMENTS[:5]) <= set(gate.asked), "all is asked in turn")
    monkeypatch.setattr(remote, "PAGE", 60.0)
    second = build(ASKED, {"far": view}, 0.0)
    assert (second.own_trouble, second.status_trouble, second.changes_trouble) == ("", "", "")
    assert second.detail is not None
    assert second.detail.trouble != late


def test_a_page_shows_what_came_in_time_and_names_the_rest(
    environ: dict[str, str], instance: Client
) -> None:
    """One after another its answers would take 15 s, and the server gives a page 10."""
    gate = Gate(seconds=2.5)
    settings = Settings.load({**environ, "REPLICATOR_HTTP_TOKEN": TOKEN})
    with closing(behind(gate, instance)) as slow:
        page = page_over(settings, Listen("127.0.0.1", 0), [Peer("far", slow.url)], {})
        page.start()
        try:
            answer = Client(page.address.port).get("/?monitor=1", BEARER)
        finally:
            gate.open.set()
            page.stop()
    assert answer.status == 200
    html = answer.body.decode()
    assert "far: no answer within the 6 s that a page has" in html
    assert "far:" not in html_tree.read(html).one("h1").text, "the summary came in time"


def test_pages_over_an_instance_that_hangs_leave_one_thread_a_document(
    instance: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(held=DOCUMENTS)
    view = Remote(Peer("far", "http://127.0.0.1:1"), TOKEN, Line(gate, instance))
    monkeypatch.setattr(remote, "PAGE", 0.1)
    before = threading.active_count()
    try:
        for _ in range(10):
            assert build(ASKED, {"far": view}, 0.0).fleet is None
        assert threading.active_count() <= before + len(DOCUMENTS)
    finally:
        gate.open.set()


def test_the_tab_of_a_fast_fleet_does_not_wait_for_a_slow_one(
    instance: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fleet that is shown may use all of the page's time."""
    slow, fast = Gate(held=DOCUMENTS), Gate()
    views = {
        name: Remote(Peer(name, "http://127.0.0.1:1"), TOKEN, Line(gate, instance))
        for name, gate in (("slow", slow), ("fast", fast))
    }
    monkeypatch.setattr(remote, "PAGE", 5.0)
    try:
        page = build(ASKED, views, 0.0)
    finally:
        slow.open.set()
    conditions = {tab.name: tab.condition for tab in page.tabs}
    assert conditions["slow"] == "unknown"
    assert conditions["fast"] != "unknown"
