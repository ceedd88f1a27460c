"""A proxy before an HTTP server on this machine: it counts the requests that pass, one by one."""

from __future__ import annotations

import contextlib
import http.client
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# These belong to one connection, not to the request that is handed on.
_HOP_BY_HOP = ("connection", "keep-alive", "transfer-encoding")
_PATIENCE = 60.0
"""seconds that the server behind may take for one answer"""


class Counted:
    """The requests that have passed since the last `take`, such as ``GET /fleet/config``."""

    def __init__(self, address: str) -> None:
        self.address = address
        """where the proxy listens: ``127.0.0.1:8000``"""
        self.bytes = 0
        """bytes of all answers that have passed, without their headers"""
        self._requests: list[str] = []
        self._lock = threading.Lock()

    def add(self, request: str, answered: int) -> None:
        with self._lock:
            self._requests.append(request)
            self.bytes += answered

    def take(self) -> list[str]:
        """The requests so far, in their order; forgets them and the bytes."""
        with self._lock:
            taken, self._requests, self.bytes = self._requests, [], 0
            return taken


@contextlib.contextmanager
def counting(server: str) -> Iterator[Counted]:
    """A proxy before ``server``, an address such as ``127.0.0.1:8000``, for the block."""
    counted: Counted

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            self._server = http.client.HTTPConnection(server, timeout=_PATIENCE)

        def finish(self) -> None:
            self._server.close()
            super().finish()

        def _pass_on(self) -> None:
            headers = {n: v for n, v in self.headers.items() if n.lower() not in _HOP_BY_HOP}
            self._server.request(self.command, self.path, self._body(), headers)
            answer = self._server.getresponse()
            content = answer.read()
            counted.add(f"{self.command} {self.path}", len(content))
            self.send_response(answer.status, answer.reason)
            for name, value in answer.getheaders():
                if name.lower() not in (*_HOP_BY_HOP, "content-length"):
                    self.send_header(name, value)
            # an answer to HEAD tells the length of a content that does not come
            length = answer.getheader("Content-Length") if self.command == "HEAD" else None
            self.send_header("Content-Length", length or str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            taken = bytearray()
            while size := int(self.rfile.readline().partition(b";")[0], 16):
                taken += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return bytes(taken)

        def log_message(self, *_arguments: object) -> None:
            """Nothing: a test prints what it needs."""

    for method in ("GET", "HEAD", "POST", "PUT", "DELETE"):
        setattr(Handler, f"do_{method}", Handler._pass_on)
    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    proxy.daemon_threads = True
    counted = Counted(f"127.0.0.1:{proxy.server_address[1]}")
    thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield counted
    finally:
        proxy.shutdown()
        proxy.server_close()
        thread.join()
