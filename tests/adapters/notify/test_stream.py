"""A topic's stream: what comes in order, and whatever a server or a stranger may send instead."""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import threading
import tracemalloc
from collections.abc import Iterator

import pytest

from replicator_kuma.adapters.notify import Trial, stream
from replicator_kuma.adapters.notify.answers import refused
from replicator_kuma.adapters.notify.ntfy import Ntfy
from replicator_kuma.adapters.notify.stream import LONGEST, RATE, Ended, events, lines
from tests.support.clock import Clock
from tests.support.kuma_server import free_port
from tests.support.ntfy import TOPIC, Topic


@pytest.fixture
def topic(monkeypatch: pytest.MonkeyPatch) -> Iterator[Topic]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with contextlib.closing(Topic(token="tk_hush")) as made:
        yield made


def at(topic: Topic) -> Ntfy:
    return Ntfy.at(topic.topic_url)


def test_what_came_since_and_what_comes_in_order(topic: Topic) -> None:
    for word in ("old", "new"):
        topic.publish(word)
    came = events(at(topic), topic.messages[0]["id"])
    assert next(came).message is None, "subscribed"
    assert next(came).message == "new"
    topic.publish("newer")
    event = next(came)
    assert (event.message, event.id) == ("newer", topic.messages[2]["id"])
    topic.drop()
    with pytest.raises(Ended, match="the server ended the stream"):
        next(came)


def test_a_sign_of_life_is_enough(topic: Topic) -> None:
    """ntfy's own line keeps a quiet stream open for longer than a dead one would be waited for."""
    topic._keepalive = 0.1
    came = events(at(topic), "1s", silence=2.0)
    next(came)
    threading.Timer(3.0, topic.publish, ("late",)).start()
    assert next(came).message == "late"


def test_a_dead_server_is_noticed(topic: Topic) -> None:
    came = events(at(topic), "1s", silence=0.2)
    next(came)
    with pytest.raises(Ended, match=r"no answer within 0\.2 s"):
        next(came)


@pytest.mark.parametrize(
    ("status", "words"),
    [(401, "does not accept the credentials"), (302, "REPLICATOR_SIGNAL_URL"), (503, "HTTP 503")],
)
def test_a_refusal_says_why(topic: Topic, status: int, words: str) -> None:
    where = Ntfy.at(topic.topic_url, variable="REPLICATOR_SIGNAL_URL")
    topic.refusals = [status, status]
    once = Trial(where.subscription("1s", once=True), "it can be read")
    with pytest.raises(Ended, match=words) as caught:
        next(events(where, "1s"))
    for shown in (str(caught.value), refused(where, once)):
        assert words in shown
        assert "tk_hush" not in shown
        assert TOPIC not in shown
    assert refused(where, once) == ""


def test_nobody_there_and_no_http() -> None:
    with pytest.raises(Ended, match="no connection"):
        next(events(Ntfy.at(f"http://127.0.0.1:{free_port()}/{TOPIC}"), "1s"))
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def babble() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"\x16\x03 what\r\n\r\n")

        threading.Thread(target=babble, daemon=True).start()
        where = Ntfy.at(f"http://127.0.0.1:{listener.getsockname()[1]}/{TOPIC}")
        with pytest.raises(Ended, match="no connection"):
            next(events(where, "1s"))


ODD = (
    b"\n",
    b"{\n",
    b"[]\n",
    b"null\n",
    b"\xff\xfe\n",
    b"[" * 9000 + b"\n",
    b'{"event":"message","id":"../../x","message":"id"}\n',
    b'{"event":"message","id":7,"message":"id"}\n',
    b'{"event":"message","id":"a","message":{}}\n',
    b'{"event":"message_delete","id":"a"}\n',
    b'{"event":"message","id":"a","message":"' + b"x" * LONGEST + b'"}\n',
)


def test_lines_that_are_no_message_are_skipped(topic: Topic) -> None:
    topic.noise = [b"".join(ODD)]
    came = events(at(topic), "1s")
    next(came)
    topic.publish("after all that")
    assert next(came).message == "after all that"


class Bytes:
    """A source that gives its parts one after another, and counts them."""

    def __init__(self, parts: Iterator[bytes]) -> None:
        self._parts = parts

    def read1(self, amount: int) -> bytes:
        part = next(self._parts, b"")
        assert len(part) <= amount
        return part


def test_lines_are_put_together_whatever_their_parts() -> None:
    text = b"one\n\ntwo" + b"x" * LONGEST + b"\nthree\n" + b"y" * LONGEST + b"\nfour\nrest"
    for size in (1, 2, 7, 4096, stream.PART):
        parts = (text[at : at + size] for at in range(0, len(text), size))
        assert list(lines(Bytes(parts))) == [b"one", b"", b"three", b"y" * LONGEST, b"four"], size


def test_an_endless_line_costs_no_memory_and_a_flood_is_read_at_its_rate() -> None:
    clock, seconds = Clock(), 120
    part = b"z" * stream.PART
    parts = itertools.repeat(part, seconds * RATE // len(part))
    tracemalloc.start()
    try:
        assert list(lines(Bytes(parts), clock, clock.sleep)) == []
        assert tracemalloc.get_traced_memory()[1] < 20 * LONGEST
    finally:
        tracemalloc.stop()
    assert clock.now == seconds
    line = json.dumps({"event": "message", "id": "a", "message": "m" * 120}).encode() + b"\n"
    flood = (line for _ in range(1000 * 10))
    clock = Clock()
    assert sum(1 for _ in lines(Bytes(flood), clock, clock.sleep)) == 10_000
    assert clock.now <= 10, "a thousand messages a second are not yet held up"
