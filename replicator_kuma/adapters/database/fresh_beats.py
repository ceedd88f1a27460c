"""Which monitors have a heartbeat that is not too old, known without reading each heartbeat."""

from __future__ import annotations

from collections.abc import Iterable

FRESH_FOR = 3
"""intervals after which a heartbeat is too old to say how its monitor is"""
EARLY = 10.0
"""seconds before that, from which on the newest heartbeat itself is looked for: two reads"""


class FreshBeats:
    """All times are seconds since the epoch, by this machine's clock."""

    def __init__(self) -> None:
        self._at: dict[int, float] = {}
        """by active monitor, a time since which it has a heartbeat"""
        self._lasts: dict[int, float] = {}
        self._watched: set[int] = set()

    def note(self, monitor: int, at: float, every: float, *, watched: bool) -> None:
        """Its newest heartbeat is of ``at``, and the next one is due within ``every`` seconds.

        ``watched``: each of its heartbeats matters; it is always due.
        """
        self._at[monitor], self._lasts[monitor] = at, FRESH_FOR * every
        (self._watched.add if watched else self._watched.discard)(monitor)

    def beaten(self, monitors: Iterable[int], after: float) -> None:
        """Each of them has a heartbeat that was stored after that time."""
        for monitor in monitors:
            if monitor in self._at:
                self._at[monitor] = after

    def forget(self, monitor: int) -> None:
        """It is not active, or not there."""
        for known in (self._at, self._lasts):
            known.pop(monitor, None)
        self._watched.discard(monitor)

    def due(self, now: float) -> list[int]:
        """Monitors whose newest heartbeats have to be read to say how they are."""
        lasts = self._lasts
        late = [m for m, at in self._at.items() if not abs(now - at) < lasts[m] - EARLY]
        return [*late, *(self._watched - set(late))]

    def old(self, now: float) -> set[int]:
        """Active monitors whose newest heartbeat is too old, as far as it was read."""
        lasts = self._lasts
        return {monitor for monitor, at in self._at.items() if not abs(now - at) < lasts[monitor]}
