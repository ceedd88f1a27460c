"""Gotify's message API (https://gotify.net/docs/pushmsg)."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from urllib.parse import unquote

from replicator_kuma.adapters.notify import Message, Request, Trial
from replicator_kuma.adapters.notify.address import Address
from replicator_kuma.base.errors import SettingsError
from replicator_kuma.base.text import cut

MAX_MESSAGE = 4000
MAX_TITLE = 250
PRIORITY, URGENT_PRIORITY = 5, 8
"""from 8 on, Gotify's app for Android makes a sound and shows the message at once"""


@dataclass(frozen=True)
class Gotify:
    """One application of a Gotify server. Whoever has its token can send messages as it."""

    url: str = field(repr=False)
    """of the message API"""
    host: str
    token: str = field(repr=False)
    name: str = "gotify"

    @classmethod
    def at(cls, url: str) -> Gotify:
        """The application of https://host[/folder]/TOKEN; raises SettingsError without the URL."""
        address = Address.of(url)
        folder, _, token = address.path.rstrip("/").rpartition("/")
        token = unquote(token)
        if not token or not token.isascii() or not token.isprintable() or " " in token:
            raise SettingsError(
                "it must end with an application's token, like gotifys://host/TOKEN"
            )
        return cls(address.url(f"{folder}/message", ""), address.host, token)

    def request(self, message: Message) -> Request:
        """The JSON of one message."""
        content = {
            "title": cut(" ".join(message.title.split()), MAX_TITLE),
            "message": cut(message.text, MAX_MESSAGE),
            "priority": URGENT_PRIORITY if message.urgent else PRIORITY,
        }
        return self._post(content)

    def trial(self) -> Trial:
        """Gotify looks at the token first, and refuses a message without a text (400)."""
        return Trial(self._post({}), "it takes the token", (400,))

    def _post(self, content: dict[str, object]) -> Request:
        headers = {"Content-Type": "application/json", "X-Gotify-Key": self.token}
        return Request(self.url, json.dumps(content).encode(), headers)

    def refusal(self, status: int) -> str:
        """The meaning of an HTTP status from 300 to 499; "" if the number is enough."""
        if status in (401, 403):
            return "it does not accept the token: an application's, not a client's, is needed"
        if status == 404:
            return "no Gotify answers there"
        return "it redirects: use the address that it names" if status < 400 else ""
