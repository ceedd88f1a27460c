"""Whether a started Uptime Kuma serves: what /api/entry-page answers, and waiting for it.

1.23, the npm build 2.0.0-dev.0 and 2.x answer alike when they serve. Only 2.x has the set-up
page, and only its long migration (of the statistics) has a server that answers 404: 1.x, and
2.x while it changes the schema itself, refuse connections meanwhile and look like a start.
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
# Every tenth of a second: what a poll adds to the outage of a restart.
POLL = 0.1
PROBE_TIMEOUT = 2.0
_MAX_ANSWER = 65536


class Readiness(Enum):
    """What a Kuma does, seen from outside."""

    READY = "ready"
    STARTING = "starting"
    """Nobody answers: connection refused or reset, or no answer in time."""
    MIGRATING = "migrating"
    SETUP = "waiting on its set-up page"
    OTHER = "answering, but not as Uptime Kuma does"


class NotReady(KumaError):
    """Kuma did not come back; ``state`` is what was seen last, None where its process ended.

    ``status`` is the exit status of one that ended, where that is known.
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
    """One look at the Kuma whose base address is ``url``; raises KumaError for no address.

    Not by requests: importing it takes a tenth of a second of an outage that is counted, and
    it would ask the proxies of the environment, which know nothing of a server beside us.
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
        # A server that goes away while it answers is both, an OSError too.
        return Readiness.STARTING if isinstance(error, OSError) else Readiness.OTHER
    except OSError as error:
        import ssl

        return Readiness.OTHER if isinstance(error, ssl.SSLError) else Readiness.STARTING
    finally:
        connection.close()


@contextlib.contextmanager
def _ends_at(connection: HTTPConnection, seconds: float) -> Iterator[None]:
    """Connect, and end the whole exchange after so long.

    A socket's own timeout begins anew with each byte: an answer in drops would never end.
    """
    connection.connect()
    # not by the SSLSocket's own method: that takes its state away below whoever reads
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
    """Whether anybody listens at an address, whatever it is."""
    try:
        socket.create_connection(place(url), PROBE_TIMEOUT).close()
    except (OSError, ValueError):
        return False
    return True


def classify(status: int, body: bytes) -> Readiness:
    """What an answer to /api/entry-page tells."""
    import json

    if status == 404:
        return Readiness.MIGRATING
    try:
        answer = json.loads(body) if status == 200 else None
    except (ValueError, RecursionError):  # another server may listen there
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
    """Return once Kuma serves and ``alive()`` says that its process is there.

    Time spent migrating does not count against ``timeout``. ``on_state`` is told of each state
    when it begins. ``stranger()`` tells, in words, which other Kuma it is that answers, "" for the
    awaited one; another's answers are none. Raises NotReady when the time is up, on the set-up
    page, and at once when the process is gone, with what ``ended_with()`` tells of that;
    Interrupted (no KumaError: Kuma did not fail) as soon as ``interrupted()`` is true; and what
    ``alive`` raises.
    """
    left = timeout
    before = clock()
    seen: Readiness | None = None
    who = ""
    while True:
        _unless(interrupted)
        state = probe(url, max(POLL, min(PROBE_TIMEOUT, left)))
        # Asked after the probe: another server on Kuma's port must not pass for it.
        if not alive():
            _unless(interrupted)  # who ends us ends Kuma: that is no failure of its own
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
    """Raise Interrupted where a signal wants us to end."""
    if interrupted():
        raise Interrupted("Asked to end while waiting for Uptime Kuma", hint="It goes on starting.")


def _ended(ended_with: Callable[[], int | None], who: str) -> NotReady:
    status: int | None = None
    with contextlib.suppress(KumaError):  # nobody can tell, then
        status = ended_with()
    if number := signal_of(status):
        return NotReady(f"Uptime Kuma was {killed_by(number)} before it was ready", status=status)
    told = "" if status is None else f", with exit code {status}"
    told += f"; another one answers at its address: {who}" if who else ""
    return NotReady(f"Uptime Kuma's process ended before it was ready{told}", status=status)


def shown(url: str) -> str:
    """An address without the login that it may hold."""
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
    host.encode("idna")  # as the look-up will: a UnicodeError is a ValueError
    if parts.scheme == "http":
        return HTTPConnection(host, parts.port, timeout=timeout)
    import ssl

    context = ssl.create_default_context()
    if _is_loopback(host):
        # Kuma's certificate is made out to its public name.
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return HTTPSConnection(host, parts.port, timeout=timeout, context=context)


def _is_loopback(host: str) -> bool:
    from ipaddress import ip_address

    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
