"""What a running Kuma does and shows, as one value: two pictures of the same rows have to be equal.

Asked are only its targets, its pages and its interface, and its table of heartbeats: what a user
sees, and nobody's memory.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import requests

from tests.support.kuma_server import KumaClient, KumaError
from tests.support.loopback import Loopback, Quiet
from tests.support.supervised import KUMA_PASSWORD, USER, Side
from tests.support.waiting import wait_until

Picture = Mapping[str, Any]

LISTS = (
    *("monitorList", "notificationList", "proxyList", "dockerHostList", "apiKeyList"),
    *("statusPageList", "maintenanceList"),
)
LATER_LISTS = ("remoteBrowserList",)
"""lists of releases of 2.x"""
ALERTING = "/base"
"""the path that a picture lets fail for a moment, to see whom that alerts"""
_SERIES = re.compile(r"^(monitor_status|monitor_response_time)\{(.*)\} ", re.MULTILINE)


class Target:
    """What monitors look at: a page for each path, a proxy, a Docker daemon, and webhooks."""

    def __init__(self) -> None:
        self.asked = set[str]()
        self.times = list[tuple[float, str]]()
        """when each was asked for, by the monotonic clock"""
        self.alerts = list[tuple[str, str, int]]()
        """webhook, monitor, status"""
        self.down = set[str]()
        self.delays = dict[str, float]()
        """path without its query → seconds until it answers"""
        lock, target = threading.Lock(), self

        class Handler(Quiet):
            def get(self) -> None:
                login = self.headers.get("Proxy-Authorization", "")
                with lock:
                    target.asked.add(f"{self.path} {login}".strip())
                    target.times.append((time.monotonic(), self.path))
                time.sleep(target.delays.get(self.path.partition("?")[0], 0.0))
                if self.path.endswith("/json"):
                    return self.say(200, b'{"State": {"Running": true}}')
                return self.say(500 if self.path in target.down else 200)

            def post(self) -> None:
                said = json.loads(self.body())
                alert = (self.path, said["monitor"]["name"], said["heartbeat"]["status"])
                with lock:
                    target.alerts.append(alert)
                self.say(200)

        self._server = Loopback(Handler)
        self.url, self.port = self._server.url, int(self._server.url.rpartition(":")[2])

    def close(self) -> None:
        self._server.close()

    def count(self, path: str, since: float) -> int:
        """How often a path was asked for since then."""
        return sum(at >= since for at, asked in self.times if asked == path)


def take(
    side: Side,
    target: Target,
    *,
    users: Collection[str],
    slugs: Collection[str],
    domains: Collection[str],
    keys: Collection[str],
    pushes: Collection[str],
) -> Picture:
    """All that is seen of a side's Kuma. It has to be up; its monitors have to beat each second."""
    pictures: dict[str, Any] = {"pushes": {t: _push(side, t) for t in pushes}}
    pictures["asked"], pictures["beats"] = _a_while(side, target)
    pictures["alerts"] = _alerts(side, target)
    pictures["lists"] = {user: shown_to(side, user) for user in users}
    pictures["pages"] = {slug: _page(side, slug) for slug in slugs}
    pictures["hosts"] = {domain: _host(side, domain) for domain in ("other.test", *domains)}
    pictures["robots"] = _get(side, "/robots.txt").text
    pictures["metrics"] = _metrics(side, keys)
    return pictures


def differences(one: Picture, two: Picture) -> list[str]:
    """Where two pictures differ: the path to each value, and the two values."""
    return sorted(_differences("", one, two))


def _differences(path: str, one: Any, two: Any) -> Iterator[str]:
    if isinstance(one, dict) and isinstance(two, dict):
        for key in one.keys() | two.keys():
            yield from _differences(f"{path}/{key}", one.get(key), two.get(key))
    elif one != two:
        yield f"{path}: {one!r:.300} and {two!r:.300}"


# ------------------------------------------------------------------ monitors and alerts


def _a_while(side: Side, target: Target) -> tuple[list[str], dict[str, list[int]]]:
    """What is asked for, and the states of beats, until each monitor that beats has done so."""
    target.asked.clear()
    (last,) = side.query("SELECT coalesce(max(id), 0) FROM heartbeat")[0]
    time.sleep(2.5)  # it is about what does not come, too
    beats: dict[str, set[int]] = {}
    sql = (
        "SELECT h.monitor_id, h.status FROM heartbeat h "
        f"WHERE h.id > {last} AND h.monitor_id IN (SELECT id FROM monitor WHERE type != 'push')"
    )
    for monitor, status in side.query(sql):
        beats.setdefault(str(monitor), set()).add(status)
    return sorted(target.asked), {name: sorted(found) for name, found in beats.items()}


def _alerts(side: Side, target: Target) -> list[tuple[str, str, int]]:
    """Whom it alerts when a target fails, and when it is back."""
    target.alerts.clear()
    for status in (0, 1):
        (target.down.discard if status else target.down.add)(ALERTING)
        (last,) = side.query("SELECT coalesce(max(id), 0) FROM heartbeat")[0]
        sql = f"SELECT 1 FROM heartbeat WHERE id > {last} AND monitor_id = 1 AND status = {status}"
        wait_until(lambda sql=sql: side.query(sql), f"status {status}")  # type: ignore[misc]
    # the row of a beat is stored after its alerts were sent
    return sorted(target.alerts)


def _push(side: Side, token: str) -> int:
    return _get(side, f"/api/push/{token}?status=up").status_code


# ------------------------------------------------------------------ pages


def _get(side: Side, path: str, **options: Any) -> requests.Response:
    options = {"timeout": 15, "allow_redirects": False} | options
    return requests.get(f"{side.url}{path}", **options)


def _page(side: Side, slug: str) -> Any:
    """A status page: its document, and the monitors whose heartbeats it shows."""
    try:
        answer = _get(side, f"/api/status-page/{slug}", timeout=3)
    except requests.Timeout:
        return 404  # npm's build never answers where there is no such page
    if answer.status_code != 200:
        return answer.status_code
    beats = _get(side, f"/api/status-page/heartbeat/{slug}").json()
    return {"page": answer.json(), "heartbeats": sorted(beats["heartbeatList"])}


def _host(side: Side, domain: str) -> Any:
    """What a browser gets that comes by this name: a redirect, or the page's title."""
    headers = {"Host": domain}
    answer, entry = (_get(side, path, headers=headers) for path in ("/", "/api/entry-page"))
    title = re.search(r"<title>(.*?)</title>", answer.text)
    return [answer.status_code, answer.headers.get("Location"), title and title[1], entry.json()]


def _metrics(side: Side, keys: Collection[str]) -> dict[str, Any]:
    """Who may read /metrics, and the labels of its series."""
    logins = {"password": (USER, KUMA_PASSWORD), **{key: ("", key) for key in keys}}
    answers = {name: _get(side, "/metrics", auth=login) for name, login in logins.items()}
    series = {found for answer in answers.values() for found in _SERIES.findall(answer.text)}
    return {
        "status": {name: answer.status_code for name, answer in answers.items()},
        "series": sorted(" ".join(one) for one in series),
    }


# ------------------------------------------------------------------ the interface


def shown_to(side: Side, user: str) -> Any:
    """The lists that a browser of this user gets at a log-in, settings and tags; why none."""
    client = KumaClient(side.url)
    client.connect()
    with contextlib.closing(client):
        try:
            client.login(user, KUMA_PASSWORD)
        except KumaError as error:
            return str(error)
        lists = {name: client._wait_for(name) for name in LISTS}
        # 1.x has no such list
        lists |= {name: client._events[name][-1] for name in LATER_LISTS if name in client._events}
        settings = client._call("getSettings")["data"]
        return {
            **{name: by_id(found) for name, (found, *_) in lists.items()},
            "settings": settings,
            "tags": by_id(client._call("getTags")["tags"]),
            "info": client._wait_for("info")[0],
        }


def by_id(rows: Any) -> dict[str, Any]:
    """Rows of a list, or a list by id, by their id."""
    if isinstance(rows, dict):
        return {str(key): row for key, row in rows.items()}
    return {str(row["id"]): row for row in rows}
