"""Who is told of what. A notifier never raises and never delays a cycle.

A service (ntfy, say) is one file here that implements `Service`; `delivery` does the rest: the
queue, the retries, the log. `config/build.py` chooses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol


class Kind(Enum):
    """What a message is about: REPLICATOR_TELL chooses by these."""

    FAILURES = "failures"
    """what fails, and that it works again"""
    APPLIES = "applies"
    PUBLISHES = "publishes"
    DRILLS = "drills"
    """a drill that fails, and that drills go well again: told with `failures` too"""


@dataclass(frozen=True)
class Request:
    """One POST; all of it may be secret."""

    url: str = field(repr=False)
    body: bytes = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)


class Service(Protocol):
    """Where messages go, and in which form. It sends nothing itself, and keeps no state."""

    @property
    def name(self) -> str:
        """What the log calls it."""

    @property
    def host(self) -> str:
        """The server's address for the log, without a secret."""

    def request(self, title: str, message: str, *, urgent: bool) -> Request:
        """The request that delivers one message, cut to what the service takes."""

    def refusal(self, status: int) -> str:
        """What an answer of HTTP 300 to 499 means here; "" where the number says it all."""


class Notifier(Protocol):
    def send(self, kind: Kind, title: str, message: str, *, urgent: bool = False) -> None:
        """Hand a message over; returns at once, also when the server is dead. Never raises."""

    def close(self, timeout: float = 2.0) -> None:
        """Give messages under way at most ``timeout`` seconds, then let them go."""


class NullNotifier:
    """Tells nobody."""

    def send(self, kind: Kind, title: str, message: str, *, urgent: bool = False) -> None:
        """Nothing."""

    def close(self, timeout: float = 2.0) -> None:
        """Nothing."""
