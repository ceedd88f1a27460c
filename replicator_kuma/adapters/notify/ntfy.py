"""The requests of a topic of ntfy: publish (https://docs.ntfy.sh/publish), subscribe; its URL."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

from replicator_kuma.adapters.notify import Message, Request, Trial
from replicator_kuma.base.errors import SettingsError
from replicator_kuma.base.text import cut

# ntfy turns a longer message into an attachment; only the screen limits a title.
MAX_MESSAGE = 4000
MAX_TITLE = 250
MIN_PRIORITY, PRIORITY, URGENT_PRIORITY = 1, 3, 4

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
    variable: str = "NTFY_URL"
    """the variable that has its URL"""
    for_programs: bool = False
    """no person waits for its messages: no phone is to ring"""

    @classmethod
    def at(
        cls,
        url: str,
        token: str | None = None,
        *,
        variable: str = "NTFY_URL",
        for_programs: bool = False,
    ) -> Ntfy:
        """The topic of a URL (https://[user:password@]host/topic[?auth=…]) and a token.

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
            raise SettingsError(f"{variable} must be like https://ntfy.sh/your-topic")
        folder, _, topic = parts.path.rstrip("/").rpartition("/")
        if not _TOPIC.match(unquote(topic)):
            raise SettingsError(
                f"{variable} must end with a topic (letters, digits, - and _), like /your-topic"
            )
        authorization, query = _take_auth(parts.query, variable)
        token = (token or "").strip()
        if not token.isascii() or not token.isprintable():
            raise SettingsError("NTFY_TOKEN is not an access token of ntfy (tk_…)")
        if token:
            authorization = f"Bearer {token}"
        elif authorization is None:
            authorization = _basic(unquote(parts.username or ""), unquote(parts.password or ""))
        address = f"[{host}]" if ":" in host else host
        netloc = address if port is None else f"{address}:{port}"
        return cls(
            root=urlunsplit((parts.scheme, netloc, f"{folder}/", query, "")),
            host=netloc,
            topic=unquote(topic),
            authorization=authorization,
            name=f"ntfy of {variable}" if for_programs else "ntfy",
            variable=variable,
            for_programs=for_programs,
        )

    def request(self, message: Message) -> Request:
        """The JSON that publishes a message; unlike headers, JSON can hold any character."""
        content: dict[str, object] = {
            "topic": self.topic,
            "title": cut(" ".join(message.title.split()), MAX_TITLE),
            "message": cut(message.text, MAX_MESSAGE),
            "priority": URGENT_PRIORITY if message.urgent else self._priority,
        }
        if message.urgent:
            content["tags"] = ["warning"]
        headers = {"Content-Type": "application/json", **self._login}
        # Not escaped to ASCII: ntfy also limits the length of the JSON, to twice the message's.
        return Request(self.root, json.dumps(content, ensure_ascii=False).encode(), headers)

    def subscription(self, since: str, *, once: bool = False) -> Request:
        """The GET of the topic's messages, one JSON object a line, as they come.

        ``since``: first those after this message's id, or of this last time (`90s`). ``once``: the
        answer ends with those.
        """
        parts = urlsplit(self.root)
        asked = [*parse_qsl(parts.query, keep_blank_values=True), ("since", since)]
        query = urlencode([*asked, *([("poll", "1")] if once else [])])
        url = urlunsplit(parts._replace(path=f"{parts.path}{quote(self.topic)}/json", query=query))
        return Request(url, b"", {"Accept-Encoding": "identity", **self._login}, "GET")

    def trial(self) -> Trial:
        """ntfy checks a login at every address, also at that of its health."""
        parts = urlsplit(self.root)
        url = urlunsplit(parts._replace(path=f"{parts.path}v1/health"))
        shows = "it answers, and takes the login; whether it may write there is not tried"
        if self.authorization is None:
            shows = "it answers; whether anybody may write there is not tried"
        return Trial(Request(url, b"", self._login, "GET"), shows)

    @property
    def _login(self) -> dict[str, str]:
        return {} if self.authorization is None else {"Authorization": self.authorization}

    @property
    def _priority(self) -> int:
        return MIN_PRIORITY if self.for_programs else PRIORITY

    def refusal(self, status: int) -> str:
        """The meaning of an HTTP status from 300 to 499; "" if the number is enough."""
        if status in (401, 403):
            return "it does not accept the credentials for this topic"
        if status < 400:
            return f"it redirects: put the address that it names into {self.variable}"
        return ""


def _basic(user: str, password: str) -> str | None:
    """The Authorization header for the login before the @ of a URL."""
    if not user and not password:
        return None
    if user.startswith("tk_") and not password:
        return f"Bearer {user}"
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


def _take_auth(query: str, variable: str) -> tuple[str | None, str]:
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
            raise SettingsError(f"The auth=… in {variable} is not in ntfy's base64 form")
    return found, urlencode(rest)
