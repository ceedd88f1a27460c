"""HTTP servers of tests, on loopback, or in a network that a test made."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Quiet(BaseHTTPRequestHandler):
    """A handler that logs nothing; a test says what it answers to GET and POST."""

    def get(self) -> None:
        self.say(501)

    def post(self) -> None:
        self.say(501)

    def do_GET(self) -> None:
        self.get()

    def do_POST(self) -> None:
        self.post()

    def say(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def body(self) -> bytes:
        """What was posted."""
        return self.rfile.read(int(self.headers["Content-Length"]))

    def log_message(self, *_arguments: object) -> None:
        return None


class Loopback:
    """Serves from its creation until `close`; ``address`` is host:port."""

    def __init__(
        self, handler: type[BaseHTTPRequestHandler], port: int = 0, host: str = "127.0.0.1"
    ) -> None:
        self._server = ThreadingHTTPServer((host, port), handler)
        self.address = f"{host}:{self._server.server_port}"
        self.url = f"http://{self.address}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.01,), daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
