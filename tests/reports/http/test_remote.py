"""`replicator fleet --serve`: the page over several fleets, without a Kuma beside it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from replicator_kuma.adapters.peers import Peer, Unheard
from replicator_kuma.base.errors import InstanceUnreachable, SettingsError
from replicator_kuma.config.listen import Listen
from replicator_kuma.config.settings import Settings
from replicator_kuma.reports.http.fleets import page_over
from replicator_kuma.reports.http.pages import _tabs
from replicator_kuma.reports.http.remote import FRESH, Remote
from replicator_kuma.reports.http.summary import Summary
from replicator_kuma.reports.http.web import Web
from tests.reports.http.conftest import BEARER, TOKEN, Client
from tests.reports.http.stand_in import exchange
from tests.support import html_tree
from tests.support.clock import Clock
from tests.support.supervised import REPLICATOR
from tests.support.waiting import wait_until


@pytest.fixture
def two_fleets(environ: dict[str, str]) -> Iterator[Mapping[str, str]]:
    """Two instances with a server each, that say other sentences; addresses by fleet."""
    with ExitStack() as stack:
        found = {}
        for name, monitors in (("home", 3), ("shop", 7)):
            token = {"REPLICATOR_HTTP": "127.0.0.1:0", "REPLICATOR_HTTP_TOKEN": TOKEN}
            web = Web(Settings.load({**environ, **token}), exchange(monitors=monitors))
            web.start()
            stack.callback(web.stop)
            found[name] = f"http://{web.address}"
        yield found


def test_one_page_over_several_fleets(
    environ: dict[str, str], two_fleets: Mapping[str, str]
) -> None:
    settings = Settings.load({**environ, "REPLICATOR_HTTP_TOKEN": TOKEN})
    peers = [Peer(name, url) for name, url in two_fleets.items()]
    peers.append(Peer("gone", "http://127.0.0.1:1"))
    page = page_over(settings, Listen("127.0.0.1", 0), peers, {})
    page.start()
    try:
        client = Client(page.address.port)
        for name, monitors in (("home", 3), ("shop", 7)):
            html = client.get(f"/?fleet={name}&all=1", BEARER).body.decode()
            assert len(set(re.findall(r"monitor=(\d+)", html))) == monitors, name
            links = {link.attributes["href"] for link in html_tree.read(html).all("a")}
            assert any("fleet=gone" in link for link in links)
        gone = html_tree.read(client.get("/?fleet=gone", BEARER).body.decode())
        assert "gone: no connection" in gone.one("h1").text
        assert client.get("/").status == 401
    finally:
        page.stop()


def test_each_fleet_is_asked_with_its_own_token(
    environ: dict[str, str], two_fleets: Mapping[str, str]
) -> None:
    ours = "the-token-of-this-page"
    settings = Settings.load({**environ, "REPLICATOR_HTTP_TOKEN": ours})
    peers = [Peer(name, url) for name, url in two_fleets.items()]
    page = page_over(settings, Listen("127.0.0.1", 0), peers, {"home": TOKEN})
    page.start()
    try:
        client, login = Client(page.address.port), {"Authorization": f"Bearer {ours}"}
        home = client.get("/?fleet=home&all=1", login).body.decode()
        assert len(set(re.findall(r"monitor=(\d+)", home))) == 3
        shop = client.get("/?fleet=shop", login).body.decode()
        assert "it does not accept our token" in html_tree.read(shop).one("h1").text
        assert TOKEN not in home + shop
        assert client.get("/?fleet=home", BEARER).status == 401
    finally:
        page.stop()


def test_it_is_as_guarded_as_any_page(environ: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="no token"):
        page_over(
            Settings.load(environ), Listen("0.0.0.0", 0), [Peer("a", "http://127.0.0.1:1")], {}
        )


class _Line:
    """An instance that answers as a test says."""

    def __init__(self, answer: Callable[[str], bytes]) -> None:
        self._answer = answer

    def ask(self, _body: bytes | None, path: str) -> bytes:
        return self._answer(path)

    def cut(self) -> None: ...


@pytest.mark.parametrize(
    "answer",
    [b"", b"[]", b"{}", b'"x"', b'[{"snapshot": 1}]', b'[{"snapshot": {"position": []}}]', b"NaN"],
)
def test_an_odd_answer_is_a_sentence(answer: bytes) -> None:
    remote = Remote(Peer("odd", "http://127.0.0.1:1"), "", _Line(lambda _path: answer))
    for ask in (remote.summary, remote.fleet, remote.own, remote.status):
        with pytest.raises(InstanceUnreachable, match="odd tells nothing at"):
            ask()
    if answer != b"[]":  # no entry is a log too
        with pytest.raises(InstanceUnreachable, match="odd tells nothing at /api/v1/log"):
            remote.log(20)


def test_one_answer_serves_many_looks() -> None:
    asked = []

    def refuse(path: str) -> bytes:
        asked.append(path)
        raise Unheard("HTTP 401, it does not accept our token", answered=True)

    remote = Remote(Peer("far", "http://127.0.0.1:1"), "", _Line(refuse))
    with pytest.raises(InstanceUnreachable, match="far: HTTP 401"):
        remote.fleet()
    assert asked == ["/api/v1/fleet"]


def test_an_instance_that_hangs_is_asked_once_for_all_that_a_page_shows() -> None:
    """Each call takes its 3 s, a page asks for five documents, and has 10 s itself."""
    clock, asked = Clock(), []

    def hang(path: str) -> bytes:
        asked.append(path)
        clock.sleep(3.0)
        raise Unheard("no whole answer within 3 s")

    remote = Remote(Peer("far", "http://127.0.0.1:1"), "", _Line(hang), clock)
    looks = (remote.summary, remote.fleet, remote.own, remote.status, lambda: remote.log(20))
    for look in looks:
        with pytest.raises(InstanceUnreachable, match="far: no whole answer"):
            look()
    assert asked == ["/api/v1/summary"]
    clock.sleep(FRESH)
    with pytest.raises(InstanceUnreachable, match="far: no whole answer"):
        remote.fleet()
    assert asked == ["/api/v1/summary", "/api/v1/fleet"]


def test_what_one_answer_lacks_says_nothing_of_the_others() -> None:
    def refuse(_path: str) -> bytes:
        raise Unheard("HTTP 503, it is not ready yet")

    line = _Line(refuse)
    remote = Remote(Peer("far", "http://127.0.0.1:1"), "", line)
    with pytest.raises(InstanceUnreachable, match="HTTP 503"):
        remote.fleet()
    line._answer = lambda _path: b"[]"
    assert remote.log(20) == []


def test_fleets_that_hang_are_asked_side_by_side() -> None:
    """For the tabs: one after another they would take longer than a page may."""
    together = threading.Barrier(3, timeout=30)

    class Hangs(Remote):
        def summary(self) -> Summary:
            together.wait()
            raise InstanceUnreachable("no connection")

    views = {name: Hangs(Peer(name, "http://127.0.0.1:1"), "") for name in ("a", "b", "c")}
    tabs = list(_tabs(views))
    assert [(tab.name, tab.condition) for tab in tabs] == [(name, "unknown") for name in views]


def test_a_monitor_that_the_instance_does_not_have_is_no_failure(
    two_fleets: Mapping[str, str],
) -> None:
    remote = Remote(Peer("home", two_fleets["home"]), TOKEN)
    assert remote.beats(4_711) is None


def test_the_command_ends_by_a_signal(
    environ: dict[str, str], two_fleets: Mapping[str, str], tmp_path: Path
) -> None:
    with (tmp_path / "err").open("wb") as err:
        process = subprocess.Popen(
            [*REPLICATOR, "fleet", "-v", "--serve", "127.0.0.1:0"]
            + [f"--url={name}={url}" for name, url in two_fleets.items()],
            env={**os.environ, **environ, "REPLICATOR_HTTP_TOKEN": TOKEN},
            stderr=err,
        )
    try:
        found = wait_until(
            lambda: re.search(r"http://127\.0\.0\.1:(\d+)/", (tmp_path / "err").read_text()),
            "it says where the page is",
        )
        assert found is not None
        client = Client(int(found[1]))
        assert client.get("/?fleet=shop", BEARER).status == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        if process.poll() is None:
            process.kill()
