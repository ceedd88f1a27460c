"""A local HTTP server in the place of ntfy's."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from replicator_kuma.adapters.notify.delivery import Delivery
from replicator_kuma.adapters.notify.ntfy import Ntfy
from tests.support.loopback import Loopback, Quiet

TOPIC = "secret-topic-17"


@dataclass
class Post:
    path: str
    headers: Mapping[str, str]
    body: Any


class Server(Loopback):
    """Takes posts; ``statuses`` are its next answers, then 200."""

    def __init__(self) -> None:
        self.posts: list[Post] = []
        self.statuses: list[int] = []
        self.held = threading.Event()
        self.held.set()
        owner = self

        class Handler(Quiet):
            def post(self) -> None:
                owner.posts.append(Post(self.path, dict(self.headers), json.loads(self.body())))
                owner.held.wait(20)
                status = owner.statuses.pop(0) if owner.statuses else 200
                self.say(status, Location="/elsewhere")

            def get(self) -> None:
                owner.posts.append(Post(f"GET {self.path}", {}, {}))
                self.say(200)

        super().__init__(Handler)

    def close(self) -> None:
        self.held.set()
        super().close()


def delivery(address: str, *, token: str | None = None, **options: Any) -> Delivery:
    """A delivery to a topic of the server at this address; it tries again at once."""
    service = Ntfy.at(f"http://{address}/{TOPIC}", token)
    return Delivery(service, "berlin", **{"retry_delays": (0.01, 0.01)} | options)
