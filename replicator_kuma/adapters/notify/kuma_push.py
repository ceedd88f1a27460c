"""A push monitor of an Uptime Kuma, which goes down when nothing or a failure is pushed to it.

The API is the same in all versions: GET /api/push/TOKEN?status=up|down&msg=…&ping=….
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlencode

from replicator_kuma.adapters.notify import CycleEnd, Request, Trial
from replicator_kuma.adapters.notify.address import Address
from replicator_kuma.base.errors import SettingsError
from replicator_kuma.base.text import cut

MAX_MESSAGE = 250
_PUSH = re.compile(r"(?P<root>.*/)api/push/[A-Za-z0-9_-]+/?")
_OURS = ("status", "msg", "ping")


@dataclass(frozen=True)
class KumaPush:
    """One push monitor. Whoever knows its address can push to it."""

    address: Address = field(repr=False)
    host: str
    root: str = field(repr=False)
    name: str = "kuma"

    @classmethod
    def at(cls, url: str) -> KumaPush:
        """The monitor whose address Kuma shows; raises SettingsError without it."""
        address = Address.of(url)
        found = _PUSH.fullmatch(address.path)
        if found is None:
            raise SettingsError(
                "it must be the address that Uptime Kuma shows for a push monitor, like "
                "kuma+https://host/api/push/TOKEN"
            )
        return cls(address, address.host, found["root"])

    def begun(self) -> None:
        """A push monitor knows no begin."""
        return

    def ended(self, end: CycleEnd) -> Request | None:
        """Up or down, the words, and the cycle's time in milliseconds; nothing if it waited."""
        if end.ok is None:
            return None
        kept = [
            (name, value)
            for name, value in parse_qsl(self.address.query, keep_blank_values=True)
            if name not in _OURS
        ]
        said = {
            "status": "up" if end.ok else "down",
            "msg": cut(" ".join(end.words.split()), MAX_MESSAGE),
            "ping": str(round(end.seconds * 1000)),
        }
        query = urlencode([*kept, *said.items()])
        return Request(self.address.url(query=query), b"", self._headers, "GET")

    def trial(self) -> Trial:
        """Kuma tells anybody where its pages begin; each push to the monitor would be a beat."""
        url = self.address.url(f"{self.root}api/entry-page", "")
        shows = "it answers; whether the push monitor is there is not tried"
        return Trial(Request(url, b"", self._headers, "GET"), shows)

    @property
    def _headers(self) -> Mapping[str, str]:
        return self.address.headers

    def refusal(self, status: int) -> str:
        """The meaning of an HTTP status from 300 to 499; "" if the number is enough."""
        if status == 404:
            return "no active push monitor has this address"
        return "it redirects: use the address that it names" if status < 400 else ""
