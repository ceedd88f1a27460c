"""Asks the supervisor for its own cycle now; any number of requests before it are one cycle."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from replicator_kuma.replication.instance import Hint


class Asked(NamedTuple):
    """What is known to whoever asks for a cycle."""

    hint: Hint | None = None
    edited: bool = False
    """`Run.edited`"""


class Wake:
    """Requests from other threads and from signal handlers: an append takes no lock.

    (An Event that a signal handler sets can deadlock.)
    """

    def __init__(self, ring: Callable[[], None] = lambda: None) -> None:
        """``ring`` wakes whoever takes the requests."""
        self._asked: deque[Asked] = deque(maxlen=100)
        self._ring = ring

    @property
    def asked(self) -> bool:
        return bool(self._asked)

    def ask(self, hint: Hint | None = None, *, edited: bool = False) -> None:
        """Ask for a cycle that begins after this call."""
        self._asked.append(Asked(hint, edited))
        self._ring()

    def take(self) -> Asked:
        """Forget the requests that were made so far; the last hint of them, and any edit."""
        hint, edited = None, False
        for _ in range(len(self._asked)):
            asked = self._asked.popleft()
            hint, edited = asked.hint or hint, asked.edited or edited
        return Asked(hint, edited)
