"""Who is told of what. A notifier never raises and never delays a cycle."""

from __future__ import annotations

from collections.abc import Collection
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


class Chosen:
    """Hands on messages of some kinds only."""

    def __init__(self, notifier: Notifier, kinds: Collection[Kind]) -> None:
        self._notifier = notifier
        self._kinds = frozenset(kinds)
        if Kind.FAILURES in self._kinds:  # a snapshot that cannot be recovered from is one
            self._kinds |= {Kind.DRILLS}

    def send(self, kind: Kind, title: str, message: str, *, urgent: bool = False) -> None:
        """Hand a message of a chosen kind over."""
        if kind in self._kinds:
            self._notifier.send(kind, title, message, urgent=urgent)

    def close(self, timeout: float = 2.0) -> None:
        """Close the notifier behind it."""
        self._notifier.close(timeout)
