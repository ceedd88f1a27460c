"""`doctor` on HTTP: what answers here, and at each peer, over real servers on loopback."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from replicator_kuma.base.times import Moment
from replicator_kuma.config.settings import Settings
from replicator_kuma.reports.doctor import peers
from replicator_kuma.reports.doctor.findings import Context
from replicator_kuma.reports.http.web import Web
from tests.cli.conftest import World
from tests.cli.test_commands import now_beat
from tests.reports.http.stand_in import exchange

TOKEN = "the-token-of-this-fleet"
Serve = Callable[..., str]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Serves an instance of this name, fleet and time; returns its address."""
    with ExitStack() as stack:

        def start(name: str, fleet: str = "default", ahead: float | None = 0.0) -> str:
            told = exchange()
            at = None if ahead is None else Moment(time.time() + ahead)
            told.monitors = replace(told.monitors, instance=name, fleet=fleet, beats_at=at)
            web = Web(settings(tmp_path, REPLICATOR_INSTANCE=name), told)
            web.start()
            stack.callback(web.stop)
            return str(web.address)

        yield start


def settings(folder: Path, **more: str) -> Settings:
    return Settings.load(
        {
            "DATA_DIR": str(folder),
            "REPLICATOR_MODE": "RESTORE",
            "REPLICATOR_INSTANCE": "here",
            "REPLICATOR_HTTP": "127.0.0.1:0",
            "REPLICATOR_HTTP_TOKEN": TOKEN,
            **more,
        }
    )


def found(check: Callable[[Context], object], made: Settings) -> list[tuple[str, str, str]]:
    said = check(Context(made, lambda: False))
    return [(level.value, message, hint) for level, message, hint in said]  # type: ignore[attr-defined]


def test_each_peer_is_told_in_words(tmp_path: Path, serve: Serve) -> None:
    addresses = {
        "fine": serve("fine"),
        "late": serve("late", ahead=-7_230.0),
        "soon": serve("soon", ahead=50.0),
        "blind": serve("blind", ahead=None),
        "other": serve("other", fleet="blue"),
        "wrong": serve("right"),
        "twin": serve("here"),
        "gone": "127.0.0.1:1",
    }
    named = ",".join(f"{name}=http://{address}" for name, address in addresses.items())
    said = found(peers.peers, settings(tmp_path, REPLICATOR_PEERS=named))
    told = [(level, re.sub(r"about [0-9]+ s", "about N s", message)) for level, message, _ in said]
    assert told == [
        ("OK", "fine answers; its clock is that of here, within 10 s"),
        ("WARN", "late answers; its clock is about 2 h behind"),
        ("OK", "soon answers; its clock is about N s ahead"),
        ("WARN", "blind answers, and cannot read its Kuma's database"),
        ("WARN", "other is of fleet blue, not of default"),
        ("WARN", "wrong says that it is right"),
        ("WARN", "twin: here answers there, which is the name of this one"),
        ("WARN", "gone: no connection"),
    ]
    hints = {message.split()[0].rstrip(":"): hint for _, message, hint in said}
    assert hints["wrong"] == f"Correct REPLICATOR_PEERS: right=http://{addresses['wrong']}"
    assert "REPLICATOR_PEERS" in hints["gone"]
    assert all(hint or level == "OK" for level, _, hint in said)


def test_another_token_is_told(tmp_path: Path, serve: Serve) -> None:
    named = f"fine=http://{serve('fine')}"
    made = settings(tmp_path, REPLICATOR_PEERS=named, REPLICATOR_HTTP_TOKEN="that-of-another-one")
    ((level, message, _),) = found(peers.peers, made)
    assert level == "WARN"
    assert message.startswith("fine: HTTP 401, it does not accept our token")


def test_what_is_served_here_answers_or_not(
    tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = serve("here")
    # what asks this machine goes by no proxy
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    made = settings(tmp_path, REPLICATOR_HTTP=address)
    ((level, message, _),) = found(peers.page, made)
    assert (level, message.split(":")[0]) == ("OK", "served at 127.0.0.1")  # nothing runs
    now_beat(made.state_dir)
    assert found(peers.page, made) == [("OK", f"answers at {address}", "")]
    port = address.rpartition(":")[2]
    everywhere = settings(tmp_path, REPLICATOR_HTTP=f"0.0.0.0:{port}")
    assert found(peers.page, everywhere)[0][0] == "OK"
    for more, said in (
        ({"REPLICATOR_HTTP": "127.0.0.1:1"}, "nothing that can be used answers at 127.0.0.1:1"),
        ({"REPLICATOR_HTTP_TOKEN": "that-of-another-one"}, "HTTP 401"),
        ({"REPLICATOR_INSTANCE": "beta"}, f"at {address} answers here of fleet default"),
    ):
        ((level, message, hint),) = found(
            peers.page, settings(tmp_path, **{"REPLICATOR_HTTP": address, **more})
        )
        assert level == "WARN"
        assert said in message
        assert "REPLICATOR_HTTP" in hint
    assert found(peers.page, settings(tmp_path, REPLICATOR_HTTP="off")) == []


def test_the_command_has_both(world: World, serve: Serve) -> None:
    world.begin()
    world.monkeypatch.setenv("REPLICATOR_HTTP", "127.0.0.1:8067")
    world.monkeypatch.setenv("REPLICATOR_HTTP_TOKEN", TOKEN)
    world.monkeypatch.setenv("REPLICATOR_PEERS", f"fine=http://{serve('fine')}")
    said = world.on_replica("doctor").out
    assert "OK   peers: fine answers; its clock is that of here, within 10 s" in said
    assert "OK   page and API: served at 127.0.0.1:8067 while `replicator run` runs" in said
