"""Messages and pings. What sends them never raises and never delays a cycle.

A service (ntfy, say) is one file here. It implements `Service` if it takes messages, or
`PingService` if it takes a ping after each cycle. `outbox` does the rest: the queue, the retries,
the log. `targets` reads the addresses, and `config/build.py` chooses.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from replicator_kuma.dump.plan import Summary


class Kind(Enum):
    """What a message is about: REPLICATOR_TELL chooses by these."""

    FAILURES = "failures"
    """something fails, or works again"""
    APPLIES = "applies"
    PUBLISHES = "publishes"
    DRILLS = "drills"
    """a drill fails, or drills succeed again; also sent with `failures`"""


@dataclass(frozen=True)
class Change:
    """What a publish or an apply did, for the message that sums several up."""

    position: str
    """the position that is there now"""
    summary: Summary | None = None
    """None: nobody knows"""


@dataclass(frozen=True)
class Message:
    """One message, as every service gets it."""

    title: str
    """with the instance's name in front"""
    text: str
    urgent: bool = False
    kind: Kind = Kind.FAILURES
    instance: str = ""


@dataclass(frozen=True)
class CycleEnd:
    """How a cycle ended, for those who are pinged."""

    ok: bool | None
    """whether this instance is in sync; None: the cycle waited, which says neither"""
    words: str
    exit_code: int = 0
    """of the error that ended the cycle; 0: none did"""
    seconds: float = 0.0
    """how long the cycle took"""


@dataclass(frozen=True)
class Request:
    """One HTTP request; all of it may be secret."""

    url: str = field(repr=False)
    body: bytes = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    method: str = "POST"


Result = tuple[str | None, bool]
"""Why an attempt failed (None: it did not), and whether a retry can help."""


@dataclass(frozen=True)
class Call:
    """A function that makes one attempt within so many seconds, where no `Request` can say it."""

    attempt: Callable[[float], Result] = field(repr=False)


@dataclass(frozen=True)
class Trial:
    """A request that shows whether a service would take messages, and sends none."""

    request: Request
    shows: str
    """what a good answer proves, and what it leaves open"""
    good: Collection[int] = range(200, 300)
    """the HTTP statuses of a good answer"""


class Target(Protocol):
    """Where messages or pings go, and their format. It sends nothing itself, and has no state."""

    @property
    def name(self) -> str:
        """The target's name in the log; it holds no secret."""

    @property
    def host(self) -> str:
        """The server's address for the log, without a secret; "" if it may be one."""

    def refusal(self, status: int) -> str:
        """The meaning of an HTTP status from 300 to 499 here; "" if the number is enough."""

    def trial(self) -> Trial | None:
        """The request by which `doctor` checks it; None: each request would be a message."""


class Service(Target, Protocol):
    """A target of messages."""

    def request(self, message: Message) -> Request | Call:
        """What delivers one message, cut to the service's limit."""


class PingService(Target, Protocol):
    """A target of pings."""

    def begun(self) -> Request | None:
        """The request that says that a cycle begins; None: it is not told."""

    def ended(self, end: CycleEnd) -> Request | None:
        """The request that says how a cycle ended; None: it is not told."""


def where(target: Target) -> str:
    """The target for the log: its name and its server's address."""
    return f"{target.name} at {target.host}" if target.host else target.name


class Notifier(Protocol):
    def send(
        self,
        kind: Kind,
        title: str,
        message: str,
        *,
        urgent: bool = False,
        change: Change | None = None,
    ) -> None:
        """Queue a message; returns at once, also if the server is dead. Never raises.

        Messages of one kind that tell of a ``change`` go out once a minute at most. Several are
        summed up in one; none is lost.
        """

    def close(self, timeout: float = 2.0) -> None:
        """Give unsent messages at most ``timeout`` seconds, then drop them."""


class NullNotifier:
    """Tells nobody."""

    def send(
        self,
        kind: Kind,
        title: str,
        message: str,
        *,
        urgent: bool = False,
        change: Change | None = None,
    ) -> None:
        """Nothing."""

    def close(self, timeout: float = 2.0) -> None:
        """Nothing."""


class Pings(Protocol):
    """Tells those who are pinged how cycles go. It never raises, and returns at once."""

    def begun(self) -> None:
        """A cycle begins."""

    def ended(self, end: CycleEnd) -> None:
        """A cycle has ended."""

    def close(self, timeout: float = 2.0) -> None:
        """Give unsent pings at most ``timeout`` seconds, then drop them."""


class NoPings:
    """Pings nobody."""

    def begun(self) -> None:
        """Nothing."""

    def ended(self, end: CycleEnd) -> None:
        """Nothing."""

    def close(self, timeout: float = 2.0) -> None:
        """Nothing."""
