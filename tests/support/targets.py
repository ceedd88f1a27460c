"""Servers on loopback that speak as Gotify, Healthchecks and a webhook's receiver do, and count."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.support.loopback import Loopback, Quiet

APP_TOKEN = "A-hush.token_17"
CHECK = "5bf66975-d4c7-4bf5-bcc8-b8d8a82ea278"
PUSH_TOKEN = "h4shT0kenOfAPush"
MOST_SECONDS = 300
HOOK_KEY = "a key, with % and #"


@dataclass(frozen=True)
class Heard:
    """One request, as it came."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes = field(repr=False)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Listener(Loopback):
    """Keeps what it hears. ``judge`` takes it, and says the answer, unless ``statuses`` has one.

    While ``held`` is not set, answers wait.
    """

    def __init__(self, judge: Callable[[Heard], int] = lambda _heard: 200) -> None:
        self.heard: list[Heard] = []
        self.statuses: list[int] = []
        self.held = threading.Event()
        self.held.set()
        owner = self

        class Handler(Quiet):
            def get(self) -> None:
                self.hear(b"")

            def post(self) -> None:
                self.hear(self.body())

            def hear(self, body: bytes) -> None:
                there = urlsplit(self.path)
                query = dict(parse_qsl(there.query, keep_blank_values=True))
                heard = Heard(self.command, there.path, query, dict(self.headers), body)
                owner.heard.append(heard)
                owner.held.wait(20)
                status = judge(heard)
                status = owner.statuses.pop(0) if owner.statuses else status
                self.say(status, Location="/elsewhere")

        super().__init__(Handler)

    def close(self) -> None:
        self.held.set()
        super().close()


class GotifyServer(Listener):
    """The message API: first the token counts, then that a message has a text."""

    def __init__(self) -> None:
        super().__init__(self._judge)

    @property
    def target(self) -> str:
        return f"gotify://{self.address}/{APP_TOKEN}"

    @staticmethod
    def _judge(heard: Heard) -> int:
        if (heard.method, heard.path) != ("POST", "/message"):
            return 404
        if heard.headers.get("X-Gotify-Key") != APP_TOKEN:
            return 401
        return 200 if heard.json.get("message") else 400

    @property
    def messages(self) -> list[str]:
        """The texts that were taken."""
        return [heard.json["message"] for heard in self.heard if self._judge(heard) == 200]


class Checks(Listener):
    """One check of Healthchecks: `signals` are `start`, `success`, `fail`, `log` or a number."""

    def __init__(self) -> None:
        super().__init__(lambda heard: 200 if self._signal(heard) else 404)

    @property
    def target(self) -> str:
        return f"ping+http://{self.address}/{CHECK}"

    @property
    def signals(self) -> list[str]:
        return [self._signal(heard) for heard in self.heard]

    @property
    def bodies(self) -> list[str]:
        return [heard.body.decode() for heard in self.heard]

    @staticmethod
    def _signal(heard: Heard) -> str:
        if heard.path == f"/{CHECK}":
            return "success"
        there, _, signal = heard.path.rpartition("/")
        known = signal in ("start", "fail", "log") or (signal.isdigit() and int(signal) < 256)
        return signal if there == f"/{CHECK}" and known else ""


class PushMonitor(Listener):
    """One push monitor of Uptime Kuma: `beats` are (status, msg)."""

    def __init__(self) -> None:
        super().__init__(self._judge)

    @property
    def target(self) -> str:
        return f"kuma+http://{self.address}/api/push/{PUSH_TOKEN}?status=up&msg=OK&ping="

    @staticmethod
    def _judge(heard: Heard) -> int:
        there = (f"/api/push/{PUSH_TOKEN}", "/api/entry-page")
        return 200 if heard.method == "GET" and heard.path in there else 404

    @property
    def beats(self) -> list[tuple[str, str]]:
        pushed = [heard for heard in self.heard if heard.path.startswith("/api/push/")]
        return [(heard.query["status"], heard.query["msg"]) for heard in pushed]


class Receiver(Listener):
    """What a reader of docs/notifications.md would write: it checks signature, age and repeats."""

    def __init__(self, key: str = HOOK_KEY) -> None:
        self.taken: list[dict[str, Any]] = []
        self._key = key.encode()
        super().__init__(self._judge)

    @property
    def target(self) -> str:
        key = self._key.decode().replace("%", "%25").replace("#", "%23").replace(" ", "%20")
        return f"webhook+http://{self.address}/hook?x=1{key and f'#{key}'}"

    def _judge(self, heard: Heard) -> int:
        if self._key:
            stamp = heard.headers.get("X-Replicator-Timestamp", "")
            signed = hmac.new(self._key, stamp.encode() + b"." + heard.body, hashlib.sha256)
            given = heard.headers.get("X-Replicator-Signature", "")
            if not hmac.compare_digest(given, f"sha256={signed.hexdigest()}"):
                return 401
            if abs(time.time() - int(stamp)) > MOST_SECONDS:
                return 401
        if all(heard.json["id"] != known["id"] for known in self.taken):
            self.taken.append(heard.json)
        return 200
