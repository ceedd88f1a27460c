"""A server on loopback that speaks ntfy's publish and its stream, for one topic."""

from __future__ import annotations

import json
import threading
import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.support.loopback import Loopback, Quiet

TOPIC = "hints-of-a-test"


class Topic(Loopback):
    """Keeps what is published, and sends it to each stream: what came since, then what comes.

    ``token`` (of Bearer) is needed by all, if it is set. Each ``status`` that a test puts into
    ``refusals`` is the answer to the next stream.
    """

    def __init__(self, port: int = 0, *, token: str = "", keepalive: float = 45.0) -> None:
        self.messages: list[dict[str, Any]] = []
        self.asked: list[str] = []
        """`since` of each stream so far"""
        self.open = 0
        """streams that are subscribed now"""
        self.token = token
        self.refusals: list[int] = []
        self.noise: list[bytes] = []
        """what each stream sends besides, after what came since"""
        self._keepalive = keepalive
        self._changed = threading.Condition()
        self._drops = 0
        owner = self

        class Handler(Quiet):
            protocol_version = "HTTP/1.1"

            def allowed(self) -> bool:
                return not owner.token or self.headers["Authorization"] == f"Bearer {owner.token}"

            def post(self) -> None:
                raw = json.loads(self.body())
                if not self.allowed() or (self.path, raw.get("topic")) != ("/", TOPIC):
                    self.say(403)
                    return
                owner.publish(**raw)
                self.say(200)

            def get(self) -> None:
                there = urlsplit(self.path)
                query = {name: values[0] for name, values in parse_qs(there.query).items()}
                status = owner.refusals.pop(0) if owner.refusals else 200
                if not self.allowed() or there.path != f"/{TOPIC}/json":
                    status = 403
                if status != 200:
                    self.say(status, Location="/elsewhere")
                    return
                self.send_response(200)
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                try:
                    owner._stream(self, query["since"], once="poll" in query)
                except OSError:  # the client hung up
                    self.close_connection = True

        super().__init__(Handler, port)

    @property
    def topic_url(self) -> str:
        """The value of REPLICATOR_SIGNAL_URL."""
        return f"http://{f'{self.token}@' if self.token else ''}{self.address}/{TOPIC}"

    def publish(self, message: str, **members: Any) -> None:
        """A message of anybody who may write; other members are those of a publish."""
        with self._changed:
            found = {
                "id": f"m{len(self.messages):011d}",
                "time": int(time.time()),
                "event": "message",
            }
            self.messages.append({**members, **found, "topic": TOPIC, "message": message})
            self._changed.notify_all()

    def drop(self) -> None:
        """End all streams."""
        with self._changed:
            self._drops += 1
            self._changed.notify_all()

    def close(self) -> None:
        self.drop()
        super().close()

    def _stream(self, to: Quiet, since: str, *, once: bool) -> None:
        def send(line: bytes) -> None:
            to.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
            to.wfile.flush()

        with self._changed:
            drops, position = self._drops, self._after(since)
            if not once:
                self.asked.append(since)
                self.open += 1
        try:
            send(b'{"id":"o","time":1,"event":"open","topic":"%s"}\n' % TOPIC.encode())
            while True:
                with self._changed:
                    new = [*self.messages[position:]]
                    position += len(new)
                for message in new:
                    send(json.dumps(message).encode() + b"\n")
                for noise in self.noise:
                    send(noise)
                with self._changed:
                    if once or self._drops != drops:
                        break
                    more = lambda: self._drops != drops or len(self.messages) > position  # noqa: B023, E731
                    heard = self._changed.wait_for(more, self._keepalive)
                if not heard:
                    send(b'{"id":"k","time":1,"event":"keepalive"}\n')
            send(b"")
            to.close_connection = True
        finally:
            with self._changed:
                self.open -= not once

    def _after(self, since: str) -> int:
        """How many messages came before; all are new to one who names none that is known."""
        if since.endswith("s") and since[:-1].isdigit():
            return sum(m["time"] < time.time() - int(since[:-1]) for m in self.messages)
        ids = [m["id"] for m in self.messages]
        return ids.index(since) + 1 if since in ids else 0
