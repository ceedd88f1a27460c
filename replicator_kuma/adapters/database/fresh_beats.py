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
        self._until: dict[int, float] = {}
        """by active monitor, when its newest heartbeat is too old, as far as it is known"""
        self._lasts: dict[int, float] = {}
        self._watched: set[int] = set()

    def note(self, monitor: int, at: float, every: float, now: float, *, watched: bool) -> None:
        """Its newest heartbeat is of ``at``, and the next one is due within ``every`` seconds.

        ``watched``: each of its heartbeats matters; it is always due.
        """
        self._lasts[monitor] = lasts = FRESH_FOR * every
        # one from the future was written before the clock was set back
        self._until[monitor] = at + lasts if at < now + lasts else 0.0
        (self._watched.add if watched else self._watched.discard)(monitor)

    def beaten(self, monitors: Iterable[int], after: float) -> None:
        """Each of them has a heartbeat that was stored after that time."""
        until, lasts = self._until, self._lasts
        until.update((each, after + lasts[each]) for each in monitors if each in lasts)

    def due(self, now: float) -> set[int]:
        """Monitors whose newest heartbeats have to be read to say how they are."""
        return self.old(now + EARLY) | self._watched

    def old(self, now: float) -> set[int]:
        """Active monitors whose newest heartbeat is too old, as far as it was read."""
        return {monitor for monitor, until in self._until.items() if until <= now}
