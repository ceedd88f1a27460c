"""Notifications by ntfy (https://docs.ntfy.sh/publish), from a thread of their own."""

from __future__ import annotations

import base64
import json
import logging
import re
import threading
import time
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from replicator_kuma.adapters.notify import Chosen, Kind, Notifier, NullNotifier
from replicator_kuma.base.errors import SettingsError
from replicator_kuma.base.text import plain

if TYPE_CHECKING:
    from requests import PreparedRequest

logger = logging.getLogger(__name__)

CAPACITY = 100
TIMEOUT = 5.0
RETRY_DELAYS = (1.0, 5.0)
SAY_EVERY = 600.0

# ntfy turns a longer message into an attachment; a title has no limit but the screen's.
MAX_MESSAGE = 4000
MAX_TITLE = 250
PRIORITY, URGENT_PRIORITY = 3, 4

_now = time.monotonic
_TOPIC = re.compile(r"[-_A-Za-z0-9]{1,64}\Z")


@dataclass(frozen=True)
class Target:
    """Where to publish. Whoever knows the topic can read it: it is as secret as a password."""

    root: str = field(repr=False)
    host: str
    topic: str = field(repr=False)
    authorization: str | None = field(default=None, repr=False)


def parse_target(url: str, token: str | None = None) -> Target:
    """Take NTFY_URL (https://[user:password@]host/topic[?auth=…]) and an access token apart.

    The token wins over ``?auth=``, and that over what stands before the @ (a user's name and
    password, or a tk_… alone). Raises SettingsError, which shows nothing of
    the URL.
    """
    try:
        parts = urlsplit(url.strip())
        url.encode()  # bytes that are no UTF-8 have no place in one
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
    return Target(
        root=urlunsplit((parts.scheme, netloc, f"{folder}/", query, "")),
        host=netloc,
        topic=unquote(topic),
        authorization=authorization,
    )


def _login(user: str, password: str) -> str | None:
    """The Authorization header for what stands before the @ of a URL."""
    if not user and not password:
        return None
    if user.startswith("tk_") and not password:
        return f"Bearer {user}"
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


def _take_auth(query: str) -> tuple[str | None, str]:
    """The Authorization header hidden in ?auth=, and the query without it.

    A header appears in no access log and in no debug line of the HTTP library; a query does.
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


def encode(topic: str, title: str, message: str, *, urgent: bool = False) -> bytes:
    """The JSON that publishes a message: unlike headers it holds any character."""
    content: dict[str, object] = {
        "topic": topic,
        "title": _clean(" ".join(title.split()), MAX_TITLE),
        "message": _clean(message, MAX_MESSAGE),
        "priority": URGENT_PRIORITY if urgent else PRIORITY,
    }
    if urgent:
        content["tags"] = ["warning"]
    # Not escaped to ASCII: ntfy also limits the length of the JSON, to twice the message's.
    return json.dumps(content, ensure_ascii=False).encode()


def _clean(text: str, limit: int) -> str:
    """``text`` as valid UTF-8 of at most ``limit`` bytes, cut between characters."""
    data = plain(text).encode()
    if len(data) <= limit:
        return data.decode()
    return data[: limit - 3].decode(errors="ignore") + "…"


class NtfyNotifier:
    """Publishes to one topic; raises SettingsError for a URL that is none, nothing later on.

    A queue that is full loses its oldest message. A message gets three tries; that it was lost
    is logged once, then every ten minutes while it goes on, without the topic.
    """

    def __init__(
        self,
        url: str,
        instance: str,
        *,
        token: str | None = None,
        capacity: int = CAPACITY,
        timeout: float = TIMEOUT,
        retry_delays: Sequence[float] = RETRY_DELAYS,
    ) -> None:
        self._target = parse_target(url, token)
        self._instance = instance
        self._capacity = capacity
        self._timeout = timeout
        self._retry_delays = tuple(retry_delays)
        self._changed = threading.Condition()
        self._queue: deque[bytes] = deque()
        self._thread: threading.Thread | None = None
        self._busy = False
        self._closed = False
        self._given_up = False
        self._lost = 0
        self._said_at: float | None = None

    def send(self, kind: Kind, title: str, message: str, *, urgent: bool = False) -> None:
        """Queue a message of any kind; its title gets the instance's name in front."""
        try:
            body = encode(self._target.topic, f"{self._instance}: {title}", message, urgent=urgent)
            with self._changed:
                if self._closed:
                    return
                if len(self._queue) >= self._capacity:
                    self._queue.popleft()
                    self._lost += 1
                self._queue.append(body)
                self._changed.notify_all()
                self._ensure_thread()
        except Exception as error:  # a thread that cannot start, a title that is no text
            logger.warning("A notification was lost: %s", type(error).__name__)

    def close(self, timeout: float = 2.0) -> None:
        """Wait until all is delivered or lost, at most ``timeout`` seconds; drop the rest."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            self._changed.wait_for(self._idle, max(0.0, timeout))
            left = len(self._queue) + self._busy
            self._given_up = True
            self._queue.clear()
            self._changed.notify_all()
        if left:
            logger.warning("%d notifications were not delivered before the end", left)

    def _idle(self) -> bool:
        return not self._queue and not self._busy

    def _ensure_thread(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._work, name="ntfy", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._closed)
                if not self._queue:
                    return
                body = self._queue.popleft()
                self._busy = True
            try:
                self._note(self._deliver(body))
            finally:
                with self._changed:
                    self._busy = False
                    self._changed.notify_all()

    def _deliver(self, body: bytes) -> str | None:
        """Publish with retries; None, or why it failed."""
        delays = list(self._retry_delays)
        while True:
            failed, again = self._publish(body)
            if failed is None or not again or not delays:
                return failed
            with self._changed:
                if self._changed.wait_for(lambda: self._given_up, delays.pop(0)):
                    return failed

    def _publish(self, body: bytes) -> tuple[str | None, bool]:
        """One try: why it failed (None: it did not), and whether another can help."""
        import requests

        try:
            with requests.post(
                self._target.root,
                data=body,
                headers={"Content-Type": "application/json"},
                auth=self._authorize,
                timeout=self._timeout,
                # A POST that is redirected becomes a GET, whose 200 would look like success.
                allow_redirects=False,
                stream=True,
            ) as response:
                return _judge(response.status_code)
        except requests.Timeout:
            return f"no answer within {self._timeout:g} s", True
        except requests.exceptions.SSLError:
            return "its certificate is not accepted", False
        except requests.ConnectionError:
            return "no connection", True
        except Exception as error:  # its text may hold the URL
            return type(error).__name__, False

    def _authorize(self, request: PreparedRequest) -> PreparedRequest:
        # Set here, and not among the headers, because a ~/.netrc would replace it there.
        if self._target.authorization is not None:
            request.headers["Authorization"] = self._target.authorization
        return request

    def _note(self, failed: str | None) -> None:
        now = _now()
        with self._changed:
            said_at, lost = self._said_at, self._lost + (failed is not None)
            say = failed is not None and (said_at is None or now - said_at >= SAY_EVERY)
            self._lost = 0 if say or failed is None else lost
            self._said_at = None if failed is None else now if say else said_at
        if say:
            logger.warning(
                "ntfy at %s: %s (%d notifications lost). Replication goes on.",
                self._target.host,
                failed,
                lost,
            )
        elif failed is None and said_at is not None:
            logger.info("ntfy at %s takes notifications again.", self._target.host)


def _judge(status: int) -> tuple[str | None, bool]:
    if 200 <= status < 300:
        return None, False
    if status in (401, 403):
        return f"HTTP {status}, it does not accept the credentials for this topic", False
    if 300 <= status < 400:
        return f"HTTP {status}, it redirects: put the address that it names into NTFY_URL", False
    return f"HTTP {status}", status == 429 or status >= 500


def make_notifier(
    url: str | None,
    instance: str,
    *,
    token: str | None = None,
    tell: Collection[Kind] = tuple(Kind),
) -> Notifier:
    """The notifier for NTFY_URL, NTFY_TOKEN and REPLICATOR_TELL; tells nobody without a URL.

    Raises SettingsError.
    """
    if not url or not url.strip():
        return NullNotifier()
    return Chosen(NtfyNotifier(url, instance, token=token), tell)
