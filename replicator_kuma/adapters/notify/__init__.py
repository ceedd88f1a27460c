"""Notifications. A notifier never raises and never delays a cycle.

A service (ntfy, say) is one file here that implements `Service`; `delivery` does the rest: the
queue, the retries, the log. `config/build.py` chooses.
"""

from __future__ import annotations

from collections.abc import Mapping
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
class Request:
    """One POST; all of it may be secret."""

    url: str = field(repr=False)
    body: bytes = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)


class Service(Protocol):
    """Where messages go, and their format. It sends nothing itself, and has no state."""

    @property
    def name(self) -> str:
        """The service's name in the log."""

    @property
    def host(self) -> str:
        """The server's address for the log, without a secret."""

    def request(self, title: str, message: str, *, urgent: bool) -> Request:
        """The request that delivers one message, cut to the service's limit."""

    def refusal(self, status: int) -> str:
        """The meaning of an HTTP status from 300 to 499 here; "" if the number is enough."""


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
