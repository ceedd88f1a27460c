"""Whatever answers at NTFY_URL: sending raises nothing, ends in time, and logs no secret."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicator_kuma.adapters.notify import Kind
from replicator_kuma.adapters.notify.delivery import Delivery
from replicator_kuma.adapters.notify.ntfy import Ntfy

TOKEN, TOPIC = "tk_s3cr3t", "topic-s3cr3t"
ODD = (
    b"",
    b"\x00\xff" * 100,
    b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n{",
    b"HTTP/1.1 999999999999999999999 x\r\n\r\n",
    b"HTTP/1.1 200 \x1b[2J\r\nX: " + b"y" * 70_000 + b"\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 500 + b"\r\n",
    b"HTTP/1.1 301 x\r\nLocation: http://127.0.0.1:1/\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n" * 200,
    b"HTTP/9.9 200 OK\r\n\r\n",
)


class Answering:
    """Gives one answer to whoever connects, and hangs up."""

    def __init__(self) -> None:
        self.answer = b""
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                peer, _address = self._listening.accept()
            except OSError:
                return
            with peer:
                try:
                    peer.settimeout(60)
                    peer.recv(65536)
                    peer.sendall(self.answer)
                except OSError:
                    continue

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()


@pytest.fixture
def server() -> Iterator[Answering]:
    made = Answering()
    yield made
    made.close()


def send(server: Answering, answer: bytes, caplog: pytest.LogCaptureFixture) -> None:
    server.answer = answer
    caplog.clear()
    url = f"http://127.0.0.1:{server.port}/{TOPIC}"
    notifier = Delivery(Ntfy.at(url, TOKEN), "here", timeout=20, retry_delays=())
    with caplog.at_level(logging.DEBUG, logger="replicator_kuma"):
        notifier.send(Kind.FAILURES, "title", "message")
        notifier.close(60)
    assert "not delivered before the end" not in caplog.text
    assert "s3cr3t" not in caplog.text
    assert notifier._thread is not None
    notifier._thread.join(60)
    assert not notifier._thread.is_alive()


@pytest.mark.parametrize("answer", ODD, ids=range(len(ODD)))
def test_an_odd_answer_is_a_lost_notification_at_most(
    answer: bytes, server: Answering, caplog: pytest.LogCaptureFixture
) -> None:
    send(server, answer, caplog)


@given(answer=st.binary(max_size=60) | st.binary(max_size=60).map(b"HTTP/1.1 ".__add__))
def test_any_answer_is_a_lost_notification_at_most(
    answer: bytes, server: Answering, caplog: pytest.LogCaptureFixture
) -> None:
    send(server, answer, caplog)
