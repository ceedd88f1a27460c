"""Apprise's addresses: real Apprise, and servers on loopback."""

from __future__ import annotations

import contextlib
import io
import logging
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from replicator_kuma.adapters.notify import Kind, by_apprise, outbox, targets
from replicator_kuma.adapters.notify.by_apprise import UNKNOWN, ByApprise
from replicator_kuma.adapters.notify.delivery import Delivery
from tests.support.raw_server import drip, raw_server
from tests.support.targets import Listener
from tests.support.waiting import wait_until

HUSH = "hunter2-hush"


@pytest.fixture
def server() -> Iterator[Listener]:
    with contextlib.closing(Listener()) as made:
        yield made


def delivery(url: str, timeout: float = 5.0) -> Delivery:
    (service,) = targets.read(url).services
    return Delivery(service, "berlin", retry_delays=(0.01, 0.01), timeout=timeout)


def test_a_message_arrives_by_apprise(server: Listener) -> None:
    told = delivery(f"json://me:{HUSH}@{server.address}/{HUSH}")
    told.send(Kind.FAILURES, "restore fails", "no network", urgent=True)
    told.send(Kind.APPLIES, "restore", "applied 1.2")
    told.close(60)
    first, second = (heard.json for heard in server.heard)
    assert (first["title"], first["message"], first["type"]) == (
        "berlin: restore fails",
        "no network",
        "failure",
    )
    assert second["type"] == "info"


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What a program would print that logs all warnings. (pytest's own log takes more.)"""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setLevel(logging.INFO)
    logging.getLogger().addHandler(handler)
    yield text
    logging.getLogger().removeHandler(handler)


def test_what_apprise_says_is_shown_in_part_and_without_a_secret(
    server: Listener, log: io.StringIO
) -> None:
    server.statuses = [500] * 3
    told = delivery(f"json://me:{HUSH}@{server.address}/{HUSH}")
    told.send(Kind.FAILURES, "a", "b")
    told.close(60)
    assert len(server.heard) == 3
    (line,) = log.getvalue().splitlines()
    assert line.startswith("json: Failed to send JSON POST notification")
    assert "500" in line
    assert HUSH not in line


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("Failed to send to chat12345678.", "Failed to send to ***."),
        (f"Bad token {HUSH.upper()}", "Bad token ***"),
        ("Bad key p@ss word", "Bad *** ***"),
        ("Authorization Basic bWU6aHVudGVyMi1odXNoaHVzaA==", "Authorization Basic ***"),
        ("x y " * 500, ""),
        ("a\x1b[31m", "a\\x1b[31m"),
    ],
)
def test_a_line_of_apprise_is_masked_and_cut(line: str, shown: str) -> None:
    made = ByApprise.at(f"tgram://{HUSH}/chat12345678/?key=p%40ss%20word")
    said = made._said(["earlier", line])
    assert said == shown if shown else len(said.encode()) == by_apprise.MAX_SAID
    assert HUSH not in said


def test_several_recipients_are_never_told_twice() -> None:
    """One of them may have the message: another attempt would tell that one again."""
    pair = _Pair()

    class Two(ByApprise):
        def _target(self, timeout: float) -> _Pair:
            return pair

    told = Delivery(Two("json://h", "json"), "berlin", retry_delays=(0.01, 0.01))
    told.send(Kind.FAILURES, "a", "b")
    told.close(60)
    assert pair.calls == 1


class _Pair:
    """Apprise's object for two recipients, of whom one did not get it."""

    calls = 0

    def notify(self, **_message: str) -> bool:
        self.calls += 1
        return False

    def __len__(self) -> int:
        return 2


def test_a_server_that_hangs_takes_its_time_and_no_more(log: io.StringIO) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        by_apprise._apprise()
        told = delivery(f"json://{address}/{HUSH}", timeout=0.2)
        began = time.monotonic()
        told.send(Kind.FAILURES, "a", "b")
        told.close(30)
        assert time.monotonic() - began < 20.0
    assert log.getvalue().startswith("json: ")
    assert HUSH not in log.getvalue()


def test_a_server_that_answers_a_byte_at_a_time_is_given_up(
    log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can end Apprise's call: its thread stays behind, and no second one beside it."""
    over, calls = threading.Event(), threading.Semaphore(0)

    def answer(link: socket.socket) -> None:
        calls.release()
        if not over.is_set():
            drip(b"HTTP/1.1 200 OK\r\nX-Header: ", over)(link)
        link.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    by_apprise._apprise()
    monkeypatch.setattr(outbox, "CALL", 1.0)
    monkeypatch.setattr(outbox, "SAY_EVERY", 0.0)
    with raw_server(answer) as url:
        told = delivery(f"{url.replace('http:', 'json:')}/{HUSH}", timeout=20.0)
        for text in ("a", "b"):
            told.send(Kind.FAILURES, text, text)
        wait_until(lambda: "the attempt before it has not ended" in log.getvalue(), "it is told")
        assert "no whole answer within 1 s (1 notification lost)" in log.getvalue()
        assert calls.acquire(timeout=0), "the first message came"
        assert not calls.acquire(timeout=0), "no call beside the one that has not ended"
        monkeypatch.setattr(outbox, "CALL", 60.0)
        over.set()
        wait_until(lambda: told._left is None or told._left.done(), "the call has ended")
        told.send(Kind.FAILURES, "c", "c")
        told.close(60)
        assert calls.acquire(timeout=0), "the third message came"
    assert log.getvalue().count("lost)") == 2, "the third message was not lost"
    assert HUSH not in log.getvalue()


def test_an_address_that_apprise_does_not_know_is_told_without_it(log: io.StringIO) -> None:
    for url in (f"nosuch://{HUSH}", "tgram://short"):
        made = ByApprise.at(url)
        assert made.problem() == UNKNOWN
        told = Delivery(made, "berlin")
        told.send(Kind.FAILURES, "a", "b")
        told.close(60)
    assert f"nosuch: {UNKNOWN}" in log.getvalue()
    assert len(log.getvalue().splitlines()) == 2
    assert HUSH not in log.getvalue()
    assert ByApprise.at("json://127.0.0.1").problem() == ""


def test_a_command_waits_for_apprise_only_if_it_is_to_say_something(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(by_apprise, "_wanted", threading.Event())
    monkeypatch.setattr(by_apprise, "_loaded", threading.Event())
    began = time.monotonic()
    by_apprise.loaded(30)
    assert time.monotonic() - began < 5.0
    by_apprise._wanted.set()
    began = time.monotonic()
    by_apprise.loaded(0.2)
    assert time.monotonic() - began >= 0.2
