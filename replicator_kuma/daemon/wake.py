"""Asks the supervisor for its own cycle now; any number of requests before it are one cycle."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from replicator_kuma.replication.instance import Hint


class Wake:
    """Requests from other threads and from signal handlers: an append takes no lock.

    (An Event that a signal handler sets can deadlock.)
    """

    def __init__(self, ring: Callable[[], None] = lambda: None) -> None:
        """``ring`` wakes whoever takes the requests."""
        self._asked: deque[Hint | None] = deque(maxlen=100)
        self._ring = ring

    @property
    def asked(self) -> bool:
        return bool(self._asked)

    def ask(self, hint: Hint | None = None) -> None:
        """Ask for a cycle that begins after this call."""
        self._asked.append(hint)
        self._ring()

    def take(self) -> Hint | None:
        """Forget the requests that were made so far; the last hint among them."""
        hint = None
        for _ in range(len(self._asked)):
            hint = self._asked.popleft() or hint
        return hint
