"""Several targets at once: none waits for another, and together they hold nobody up."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator

import pytest

from replicator_kuma.adapters.notify import Change, CycleEnd, Kind
from replicator_kuma.config.build import build_notifier, build_pings
from replicator_kuma.config.settings import Settings
from tests.support.kuma_server import free_port
from tests.support.targets import CHECK, PUSH_TOKEN, Checks, GotifyServer
from tests.support.waiting import wait_until


@pytest.fixture
def hung() -> Iterator[str]:
    """The address of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def gotify() -> Iterator[GotifyServer]:
    with contextlib.closing(GotifyServer()) as made:
        yield made


@pytest.fixture
def checks() -> Iterator[Checks]:
    with contextlib.closing(Checks()) as made:
        yield made


def settings(*urls: str, **environ: str) -> Settings:
    return Settings.load(
        {"REPLICATOR_INSTANCE": "berlin", "REPLICATOR_NOTIFY": "\n".join(urls), **environ}
    )


def test_one_that_hangs_and_one_that_is_gone_keep_nobody_from_being_told(
    hung: str, gotify: GotifyServer, caplog: pytest.LogCaptureFixture
) -> None:
    gone = f"127.0.0.1:{free_port()}"
    told = build_notifier(
        settings(f"gotify://{hung}/A1", f"ntfy://{gone}/topic", gotify.target, f"gotify://{gone}/A")
    )
    began = time.monotonic()
    for number in range(20):
        told.send(Kind.FAILURES, "restore fails", f"{number}", urgent=True)
    assert time.monotonic() - began < 4.0  # one attempt takes 5 s
    wait_until(lambda: len(gotify.messages) == 20, "all that was sent")
    began = time.monotonic()
    told.close(0.3)
    assert 0.25 < time.monotonic() - began < 5.0
    assert "20 notifications were not delivered" in caplog.text


def test_what_waits_goes_out_while_another_one_uses_up_the_time(
    hung: str, gotify: GotifyServer
) -> None:
    told = build_notifier(settings(f"gotify://{hung}/A1", gotify.target))
    for position in ("1.1", "1.2", "1.3"):
        told.send(Kind.APPLIES, "restore", f"applied {position}", change=Change(position))
    wait_until(lambda: len(gotify.messages) == 1, "the first change")
    told.close(3.0)
    assert len(gotify.messages) == 2
    assert gotify.messages[1].startswith("2 changes since ")


def test_the_kinds_are_those_of_every_target_and_pings_are_of_none(
    gotify: GotifyServer, checks: Checks
) -> None:
    chosen = settings(gotify.target, checks.target, REPLICATOR_TELL="applies")
    told, pings = build_notifier(chosen), build_pings(chosen)
    told.send(Kind.FAILURES, "restore fails", "no")
    told.send(Kind.APPLIES, "restore", "yes")
    pings.ended(CycleEnd(False, "no", 5))
    told.close(10)
    pings.close(10)
    assert (gotify.messages, checks.signals) == (["yes"], ["5"])


def test_a_check_that_hangs_keeps_no_cycle_and_no_other_check(hung: str, checks: Checks) -> None:
    pings = build_pings(
        settings(
            f"ping+http://{hung}/{CHECK}",
            f"kuma+http://{hung}/api/push/{PUSH_TOKEN}",
            checks.target,
        )
    )
    began = time.monotonic()
    for number in range(1, 20):
        pings.begun()
        pings.ended(CycleEnd(False, "no", number))
    assert time.monotonic() - began < 4.0  # one attempt takes 5 s
    wait_until(lambda: checks.signals[-1:] == ["19"], "the newest end")
    began = time.monotonic()
    pings.close(0.3)
    assert time.monotonic() - began < 5.0


def test_nobody_is_pinged_by_default() -> None:
    pings = build_pings(Settings.load({}))
    pings.begun()
    pings.ended(CycleEnd(True, "fine"))
    pings.close()
