"""A web server before another that lets reading through and nothing else, and notes what was tried.

What `limit_except GET { deny all; }` is in nginx (HEAD goes with GET).
"""

from __future__ import annotations

import contextlib
import http.client
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.support.loopback import Loopback, Quiet

READING, WRITING = ("GET", "HEAD"), ("POST", "PUT", "DELETE", "PATCH")
_OWN = ("transfer-encoding", "connection", "content-length", "server", "date")


@dataclass
class Gate:
    """``address`` is host:port; ``refused`` is what was tried and is no reading, in order."""

    address: str = ""
    refused: list[str] = field(default_factory=list)


@contextlib.contextmanager
def reading_only(behind: str) -> Iterator[Gate]:
    """A gate before the server at ``behind`` (host:port)."""
    gate = Gate()

    class Handler(Quiet):
        protocol_version = "HTTP/1.1"

        def _pass(self) -> None:
            connection = http.client.HTTPConnection(behind, timeout=20)
            try:
                connection.request(self.command, self.path, headers=dict(self.headers.items()))
                answer = connection.getresponse()
                body = answer.read()
            finally:
                connection.close()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in _OWN:
                    self.send_header(name, value)
            length = answer.getheader("Content-Length") or "0"
            self.send_header("Content-Length", length if self.command == "HEAD" else str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _refuse(self) -> None:
            gate.refused.append(f"{self.command} {self.path}")
            self.say(403, Connection="close")

    for method in READING:
        setattr(Handler, f"do_{method}", Handler._pass)
    for method in WRITING:
        setattr(Handler, f"do_{method}", Handler._refuse)
    with contextlib.closing(Loopback(Handler)) as server:
        gate.address = server.address
        yield gate
