"""A local HTTP server in the place of ntfy's."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from replicator_kuma.adapters.notify.delivery import Delivery
from replicator_kuma.adapters.notify.ntfy import Ntfy

TOPIC = "secret-topic-17"


@dataclass
class Post:
    path: str
    headers: Mapping[str, str]
    body: Any


class Server:
    """Takes posts; ``statuses`` are its next answers, then 200."""

    def __init__(self) -> None:
        self.posts: list[Post] = []
        self.statuses: list[int] = []
        self.held = threading.Event()
        self.held.set()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                post = Post(self.path, dict(self.headers), json.loads(body))
                owner.posts.append(post)
                owner.held.wait(20)
                self.send_response(owner.statuses.pop(0) if owner.statuses else 200)
                self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def do_GET(self) -> None:
                owner.posts.append(Post(f"GET {self.path}", {}, {}))
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self.held.set()
        self._server.shutdown()
        self._server.server_close()


def delivery(address: str, *, token: str | None = None, **options: Any) -> Delivery:
    """A delivery to a topic of the server at this address; it tries again at once."""
    service = Ntfy.at(f"http://{address}/{TOPIC}", token)
    return Delivery(service, "berlin", **{"retry_delays": (0.01, 0.01)} | options)
