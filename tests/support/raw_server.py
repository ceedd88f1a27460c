"""Servers that say what no HTTP server says, on loopback."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def raw_server(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """The URL of a server that does this with each connection, in a thread of its own."""
    listener = socket.create_server(("127.0.0.1", 0))

    def one(link: socket.socket) -> None:
        with link, contextlib.suppress(OSError):
            link.recv(65536)
            answer(link)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                link, _ = listener.accept()
                threading.Thread(target=one, args=(link,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def drip(start: bytes, over: threading.Event | None = None) -> Callable[[socket.socket], None]:
    """Sends ``start``, then bytes for a minute: each single read is in time, the whole is not.

    It ends once ``over`` is set.
    """
    over = over or threading.Event()

    def answer(link: socket.socket) -> None:
        link.sendall(start)
        for _ in range(1200):
            link.sendall(b"x")
            if over.wait(0.05):  # what a server of ill will does
                return

    return answer
