"""Checks by /api/entry-page whether a started Uptime Kuma is ready, and waits for it.

1.23, the npm build 2.0.0-dev.0 and 2.x give the same answer when they are ready. Only 2.x has the
set-up page. Only its long migration (of the statistics) has a server, which answers 404. 1.x, and
2.x during changes of the schema, refuse connections, which looks like a start.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from enum import Enum
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from replicator_kuma.adapters.kuma.process import signal_of
from replicator_kuma.base.errors import Interrupted, KumaError
from replicator_kuma.base.text import killed_by
from replicator_kuma.base.times import lasting

if TYPE_CHECKING:
    from http.client import HTTPConnection

PATH = "/api/entry-page"
TIMEOUT = 120.0
# Seconds: a poll may lengthen the outage of a restart by this.
POLL = 0.1
PROBE_TIMEOUT = 2.0
_MAX_ANSWER = 65536


class Readiness(Enum):
    """The state of a Kuma, seen from outside."""

    READY = "ready"
    STARTING = "starting"
    """No answer: connection refused or reset, or no answer in time."""
    MIGRATING = "migrating"
    SETUP = "waiting on its set-up page"
    OTHER = "answering, but not as Uptime Kuma does"


class NotReady(KumaError):
    """Kuma did not become ready; ``state`` is the last one seen, None if its process ended.

    ``status`` is the exit status of an ended process, if known.
    """

    def __init__(
        self,
        message: str,
        state: Readiness | None = None,
        *,
        status: int | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.state = state
        self.status = status


def probe(url: str, timeout: float = PROBE_TIMEOUT) -> Readiness:
    """Probe once the Kuma at base address ``url``; raises KumaError for an invalid address.

    Not with the requests library: its import takes 0.1 s of the outage, and it would use the
    environment's proxies, which do not know a server beside us.
    """
    from http.client import HTTPException

    try:
        connection = _connection(url, timeout)
    except (ValueError, HTTPException):
        raise KumaError(
            "The address of Uptime Kuma is not one like http://127.0.0.1:3001",
            hint="Set REPLICATOR_KUMA_URL to where it answers.",
        ) from None
    try:
        with _ends_at(connection, timeout):
            path = urlsplit(url).path.rstrip("/") + PATH
            connection.request("GET", path, headers={"Accept": "application/json"})
            response = connection.getresponse()
            return classify(response.status, response.read(_MAX_ANSWER))
    except HTTPException as error:
        # The error of a server that ends while it answers is also an OSError.
        return Readiness.STARTING if isinstance(error, OSError) else Readiness.OTHER
    except OSError as error:
        import ssl

        return Readiness.OTHER if isinstance(error, ssl.SSLError) else Readiness.STARTING
    finally:
        connection.close()


@contextlib.contextmanager
def _ends_at(connection: HTTPConnection, seconds: float) -> Iterator[None]:
    """Connect, and end the whole exchange after ``seconds``.

    A socket's own timeout restarts with each byte: a very slow answer would never end.
    """
    connection.connect()
    # not by the SSLSocket's own method: that removes state which the reading thread uses
    end = threading.Timer(seconds, _hang_up, [connection.sock])
    end.daemon = True
    end.start()
    try:
        yield
    finally:
        end.cancel()


def _hang_up(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_RDWR)


def taken(url: str) -> bool:
    """Whether any process listens at an address."""
    try:
        socket.create_connection(place(url), PROBE_TIMEOUT).close()
    except (OSError, ValueError):
        return False
    return True


def classify(status: int, body: bytes) -> Readiness:
    """The state that an answer to /api/entry-page shows."""
    import json

    if status == 404:
        return Readiness.MIGRATING
    try:
        answer = json.loads(body) if status == 200 else None
    except (ValueError, RecursionError):  # the answer may be another server's
        return Readiness.OTHER
    kind = answer.get("type") if isinstance(answer, dict) else None
    if kind in ("entryPage", "statusPageMatchedDomain"):
        return Readiness.READY
    return Readiness.SETUP if kind == "setup-database" else Readiness.OTHER


def wait_ready(
    url: str,
    alive: Callable[[], bool],
    timeout: float = TIMEOUT,
    *,
    ended_with: Callable[[], int | None] = lambda: None,
    stranger: Callable[[], str] = lambda: "",
    interrupted: Callable[[], bool] = lambda: False,
    on_state: Callable[[Readiness], None] | None = None,
    poll: float = POLL,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Return once Kuma is ready and ``alive()`` says that its process exists.

    Time in a migration does not count against ``timeout``. ``on_state`` gets each new state.
    ``stranger()`` names another Kuma that answers, "" for the awaited one; answers of another
    are ignored. Raises NotReady when the time is up, on the set-up page, and at once when the
    process has ended, with the status of ``ended_with()``; Interrupted (no KumaError: Kuma did
    not fail) as soon as ``interrupted()`` is true; and what ``alive`` raises.
    """
    left = timeout
    before = clock()
    seen: Readiness | None = None
    who = ""
    while True:
        _unless(interrupted)
        state = probe(url, max(POLL, min(PROBE_TIMEOUT, left)))
        # Checked after the probe: another server on Kuma's port must not pass for Kuma.
        if not alive():
            _unless(interrupted)  # a signal that ends us also ends Kuma: that is no failure of Kuma
            raise _ended(ended_with, who)
        if state is not Readiness.STARTING and (who := stranger()):
            state = Readiness.OTHER
        if state is not seen and on_state is not None:
            on_state(state)
        seen = state
        if state is Readiness.READY:
            return
        now = clock()
        if state is not Readiness.MIGRATING:
            left -= now - before
        before = now
        if state is Readiness.SETUP or left <= 0:
            raise _not_ready(url, state, timeout, who)
        sleep(poll)


def _unless(interrupted: Callable[[], bool]) -> None:
    """Raise Interrupted if a signal asks us to end."""
    if interrupted():
        raise Interrupted("Asked to end while waiting for Uptime Kuma", hint="It goes on starting.")


def _ended(ended_with: Callable[[], int | None], who: str) -> NotReady:
    status: int | None = None
    with contextlib.suppress(KumaError):  # then it is unknown
        status = ended_with()
    if number := signal_of(status):
        return NotReady(f"Uptime Kuma was {killed_by(number)} before it was ready", status=status)
    told = "" if status is None else f", with exit code {status}"
    told += f"; another one answers at its address: {who}" if who else ""
    return NotReady(f"Uptime Kuma's process ended before it was ready{told}", status=status)


def shown(url: str) -> str:
    """An address without its login, if it has one."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def place(url: str) -> tuple[str, int]:
    """The host and port of an address; raises ValueError."""
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _not_ready(url: str, state: Readiness, timeout: float, who: str) -> NotReady:
    address = shown(url)
    if who:
        return NotReady(
            f"What answers at {address} is another Uptime Kuma: {who}",
            state,
            hint="Two cannot share a port. End one of them.",
        )
    if state is Readiness.SETUP:
        return NotReady(
            f"Uptime Kuma waits at {address} for somebody to choose a database",
            state,
            hint="Finish its set-up page, or start it with UPTIME_KUMA_DB_TYPE=sqlite.",
        )
    after = lasting(timeout)
    if state is Readiness.OTHER:
        return NotReady(
            f"What answers at {address} is not a ready Uptime Kuma, {after} after its start",
            state,
            hint="Check the address and the port (http or https?), and look at Kuma's own log.",
        )
    return NotReady(
        f"Uptime Kuma does not answer at {address}, {after} after its start",
        state,
        hint="Look at Kuma's own log. Does it answer elsewhere? Then set REPLICATOR_KUMA_URL. Does "
        "its start take longer? Then set REPLICATOR_READY_TIMEOUT.",
    )


def _connection(url: str, timeout: float) -> HTTPConnection:
    from http.client import HTTPConnection, HTTPSConnection

    parts = urlsplit(url)
    host = parts.hostname
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError("neither http nor https, or no host")
    host.encode("idna")  # as the later look-up does: its UnicodeError is a ValueError
    if parts.scheme == "http":
        return HTTPConnection(host, parts.port, timeout=timeout)
    import ssl

    context = ssl.create_default_context()
    if _is_loopback(host):
        # Kuma's certificate names its public host.
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return HTTPSConnection(host, parts.port, timeout=timeout, context=context)


def _is_loopback(host: str) -> bool:
    from ipaddress import ip_address

    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
