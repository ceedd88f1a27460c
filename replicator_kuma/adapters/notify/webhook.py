"""A POST of JSON to any address (docs/notifications.md describes it), signed if there is a key."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

from replicator_kuma.adapters.notify import Call, Message, Request, Result
from replicator_kuma.adapters.notify.address import Address
from replicator_kuma.adapters.notify.answers import attempted
from replicator_kuma.base.text import cut
from replicator_kuma.base.times import when

FORMAT = 1
MAX_MESSAGE = 4000
MAX_TITLE = 250
TIMESTAMP, SIGNATURE = "X-Replicator-Timestamp", "X-Replicator-Signature"

MEMBERS: Mapping[str, str] = {
    "format": "`1`. A member may be added without a change of it",
    "id": "a UUID, the same in each attempt: who has seen it already drops the message",
    "at": "when the message was made, like `2031-05-01T10:00:00Z`",
    "instance": "`REPLICATOR_INSTANCE`",
    "kind": "`failures`, `applies`, `publishes` or `drills`, as in `REPLICATOR_TELL`",
    "urgent": "`true` if something begins to fail",
    "title": "one line of text, without the instance's name; at most 250 bytes",
    "message": "text, at most 4000 bytes; a second line is a hint of what to do",
}
"""The members of the JSON object, as the page shows them."""


@dataclass(frozen=True)
class Webhook:
    """One address that takes a JSON object a message."""

    url: str = field(repr=False)
    host: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    key: bytes = field(default=b"", repr=False)
    """of the signature; empty: there is none"""
    name: str = "webhook"

    @classmethod
    def at(cls, url: str) -> Webhook:
        """The address https://[user:password@]host/path[#key]; raises SettingsError without it."""
        address = Address.of(url)
        key = address.fragment.encode()
        return cls(address.url(), address.host, address.headers, key)

    def request(self, message: Message) -> Call:
        """The same body in each attempt, signed at that time."""
        prefix = f"{message.instance}: "
        content = {
            "format": FORMAT,
            "id": str(uuid.uuid4()),
            "at": when(time.time()),
            "instance": message.instance,
            "kind": message.kind.value,
            "urgent": message.urgent,
            "title": cut(" ".join(message.title.removeprefix(prefix).split()), MAX_TITLE),
            "message": cut(message.text, MAX_MESSAGE),
        }
        return Call(partial(self._attempt, json.dumps(content).encode()))

    def _attempt(self, body: bytes, timeout: float) -> Result:
        headers = {"Content-Type": "application/json", **self.headers}
        if self.key:
            now = str(int(time.time()))
            headers |= {TIMESTAMP: now, SIGNATURE: signature(self.key, now, body)}
        return attempted(self, Request(self.url, body, headers), timeout)

    def trial(self) -> None:
        """Any request may be a message to whoever listens there."""
        return

    def refusal(self, status: int) -> str:
        """The meaning of an HTTP status from 300 to 499; "" if the number is enough."""
        if status in (401, 403):
            return "it does not accept the login or the signature"
        return "it redirects: use the address that it names" if status < 400 else ""


def signature(key: bytes, timestamp: str, body: bytes) -> str:
    """The header for a body that is sent at this time."""
    signed = timestamp.encode() + b"." + body
    return f"sha256={hmac.new(key, signed, hashlib.sha256).hexdigest()}"
