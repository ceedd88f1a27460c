"""An HTTP server on loopback whose answer a test can change at any time."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.support.kuma_server import free_port

ENTRY = (200, json.dumps({"type": "entryPage", "entryPage": "dashboard"}))
DOMAIN = (200, json.dumps({"type": "statusPageMatchedDomain", "statusPageSlug": "x"}))
SETUP = (200, json.dumps({"type": "setup-database"}))
MIGRATING = (404, "Cannot GET /api/entry-page")


class Stage:
    """A port where nobody listens, until open(); ``answer`` is what it then says."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.answer: tuple[int, str] = ENTRY
        self.asked: list[str] = []
        self._server: ThreadingHTTPServer | None = None

    def open(self, answer: tuple[int, str]) -> None:
        """Listen, and answer so from now on."""
        self.answer = answer
        if self._server is None:
            stage = self

            class Handler(BaseHTTPRequestHandler):
                def do_GET(self) -> None:
                    stage.asked.append(self.path)
                    status, body = stage.answer
                    data = body.encode()
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data)

                def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
                    pass

            self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
            threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        """Listen no longer."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


@contextlib.contextmanager
def stage() -> Iterator[Stage]:
    """A Stage that is closed at the end."""
    made = Stage()
    try:
        yield made
    finally:
        made.close()


class Clock:
    """A clock that moves only when somebody sleeps, and tells a story as it does."""

    def __init__(self) -> None:
        self.now = 0.0
        self.sleeps = 0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.sleeps += 1
