"""Builds a message as a request to ntfy (https://docs.ntfy.sh/publish); parses NTFY_URL."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from replicator_kuma.adapters.notify import Request
from replicator_kuma.base.errors import SettingsError
from replicator_kuma.base.text import cut

# ntfy turns a longer message into an attachment; only the screen limits a title.
MAX_MESSAGE = 4000
MAX_TITLE = 250
PRIORITY, URGENT_PRIORITY = 3, 4

_TOPIC = re.compile(r"[-_A-Za-z0-9]{1,64}\Z")


@dataclass(frozen=True)
class Ntfy:
    """One topic. Whoever knows its name can read it: it is as secret as a password."""

    root: str = field(repr=False)
    """the URL of the server itself, which takes JSON"""
    host: str
    topic: str = field(repr=False)
    authorization: str | None = field(default=None, repr=False)
    name: str = "ntfy"

    @classmethod
    def at(cls, url: str, token: str | None = None) -> Ntfy:
        """The topic of NTFY_URL (https://[user:password@]host/topic[?auth=…]) and a token.

        The token wins over ``?auth=``, which wins over the login before the @ (name and password,
        or a tk_… alone). Raises SettingsError, which shows nothing of the URL.
        """
        try:
            parts = urlsplit(url.strip())
            url.encode()  # raises if it is not UTF-8
            host = parts.hostname
            port = parts.port
        except ValueError:
            host = port = None
        if not host or parts.scheme not in ("http", "https"):
            raise SettingsError("NTFY_URL must be like https://ntfy.sh/your-topic")
        folder, _, topic = parts.path.rstrip("/").rpartition("/")
        if not _TOPIC.match(unquote(topic)):
            raise SettingsError(
                "NTFY_URL must end with a topic (letters, digits, - and _), like /your-topic"
            )
        authorization, query = _take_auth(parts.query)
        token = (token or "").strip()
        if not token.isascii() or not token.isprintable():
            raise SettingsError("NTFY_TOKEN is not an access token of ntfy (tk_…)")
        if token:
            authorization = f"Bearer {token}"
        elif authorization is None:
            authorization = _login(unquote(parts.username or ""), unquote(parts.password or ""))
        address = f"[{host}]" if ":" in host else host
        netloc = address if port is None else f"{address}:{port}"
        return cls(
            root=urlunsplit((parts.scheme, netloc, f"{folder}/", query, "")),
            host=netloc,
            topic=unquote(topic),
            authorization=authorization,
        )

    def request(self, title: str, message: str, *, urgent: bool = False) -> Request:
        """The JSON that publishes a message; unlike headers, JSON can hold any character."""
        content: dict[str, object] = {
            "topic": self.topic,
            "title": cut(" ".join(title.split()), MAX_TITLE),
            "message": cut(message, MAX_MESSAGE),
            "priority": URGENT_PRIORITY if urgent else PRIORITY,
        }
        if urgent:
            content["tags"] = ["warning"]
        headers = {"Content-Type": "application/json"}
        if self.authorization is not None:
            headers["Authorization"] = self.authorization
        # Not escaped to ASCII: ntfy also limits the length of the JSON, to twice the message's.
        return Request(self.root, json.dumps(content, ensure_ascii=False).encode(), headers)

    def refusal(self, status: int) -> str:
        """The meaning of an HTTP status from 300 to 499; "" if the number is enough."""
        if status in (401, 403):
            return "it does not accept the credentials for this topic"
        if status < 400:
            return "it redirects: put the address that it names into NTFY_URL"
        return ""


def _login(user: str, password: str) -> str | None:
    """The Authorization header for the login before the @ of a URL."""
    if not user and not password:
        return None
    if user.startswith("tk_") and not password:
        return f"Bearer {user}"
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


def _take_auth(query: str) -> tuple[str | None, str]:
    """The Authorization header from ?auth=, and the query without it.

    A query appears in access logs and in debug lines of the HTTP library; a header does not.
    """
    found: str | None = None
    rest: list[tuple[str, str]] = []
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name.lower() not in ("auth", "authorization"):
            rest.append((name, value))
            continue
        bare = value.rstrip("=")
        try:
            decoded = base64.b64decode(bare + "=" * (-len(bare) % 4), b"-_", validate=True)
            found = decoded.decode("ascii").strip()
        except ValueError:
            found = ""
        if not found.isprintable() or not found.lower().startswith(("basic ", "bearer ")):
            raise SettingsError("The auth=… in NTFY_URL is not in ntfy's base64 form")
    return found, urlencode(rest)
