"""A target that answers a byte at a time: each single read is in time, only the whole is not."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from replicator_kuma.adapters.notify import CycleEnd, Kind, answers, stream
from replicator_kuma.adapters.notify.answers import refused
from replicator_kuma.adapters.notify.delivery import Delivery
from replicator_kuma.adapters.notify.ntfy import Ntfy
from replicator_kuma.adapters.notify.ping_url import PingUrl
from replicator_kuma.adapters.notify.pinging import Pinging
from replicator_kuma.adapters.notify.stream import Ended, events
from tests.support.raw_server import drip, raw_server
from tests.support.waiting import wait_until

TIMEOUT = 10.0
"""seconds, in which each byte comes"""
WHOLE = 0.4
"""seconds of the whole attempt in these tests"""
DRIPS = 60.0
"""seconds for which the server goes on; in half of them a busy machine is in time, too"""


@pytest.fixture(
    params=[b"", b"HTTP/1.1 200 OK\r\nX-Header: "], ids=["in the status line", "in a header"]
)
def slow(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(answers, "PARTS", WHOLE / TIMEOUT)
    monkeypatch.setattr(stream, "CONNECT", TIMEOUT)
    with raw_server(drip(request.param)) as url:
        began = time.monotonic()
        yield url
        assert WHOLE <= time.monotonic() - began < DRIPS / 2


def test_a_message_is_given_up_and_the_next_one_has_its_turn(
    slow: str, caplog: pytest.LogCaptureFixture
) -> None:
    told = Delivery(Ntfy.at(f"{slow}/topic"), "here", timeout=TIMEOUT, retry_delays=())
    with caplog.at_level(logging.WARNING, logger="replicator_kuma"):
        for number in range(2):
            told.send(Kind.FAILURES, f"title {number}", "message")
        told.close(DRIPS)
    assert "no whole answer within 0.4 s (1 notification lost)" in caplog.text
    assert "not delivered before the end" not in caplog.text


def test_a_ping_is_given_up(slow: str, caplog: pytest.LogCaptureFixture) -> None:
    pings = Pinging(PingUrl.at(f"{slow}/ping"), timeout=TIMEOUT, retry_delays=())
    with caplog.at_level(logging.WARNING, logger="replicator_kuma"):
        pings.ended(CycleEnd(ok=True, words="well"))
        pings.close(DRIPS)
    assert "no whole answer within 0.4 s" in caplog.text


def test_a_subscription_that_never_begins_is_given_up(slow: str) -> None:
    with pytest.raises(Ended, match=r"no whole answer within 0\.4 s"):
        next(events(Ntfy.at(f"{slow}/topic"), "1s"))


def test_the_trial_of_doctor_is_given_up(slow: str) -> None:
    topic = Ntfy.at(f"{slow}/topic")
    trial = topic.trial()
    assert trial is not None
    assert refused(topic, trial, TIMEOUT) == "no whole answer within 0.4 s"


def test_a_stream_that_has_begun_lasts_as_long_as_it_likes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the headers have a limit: ntfy's lines come for days."""

    def say(link: socket.socket) -> None:
        link.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        link.sendall(b'{"event": "open"}\n')
        assert over.wait(DRIPS)
        link.sendall(b'{"event": "message", "id": "a", "message": "late"}\n')

    over = threading.Event()
    monkeypatch.setattr(answers, "PARTS", 3.0 / stream.CONNECT)
    with raw_server(say) as url:
        began = time.monotonic()
        came = events(Ntfy.at(f"{url}/topic"), "1s")
        assert next(came).message is None
        wait_until(lambda: time.monotonic() - began > 3.2, "the time of the headers is over")
        over.set()
        assert next(came).message == "late"
