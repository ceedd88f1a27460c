"""Decides which hints of a replica's topic become a cycle, and when.

Anybody may have written a hint, so at most one look comes of any number of them in a least time.
That time is short while hints come true. It doubles with each one that does not.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from replicator_kuma.adapters.repository import Position
from replicator_kuma.replication.instance import CycleResult, Hint

LEAST = 2.0
"""seconds between two looks for hints that come true"""
FALSE = 5.0
"""the same after a hint that did not come true; it doubles until MOST"""
MOST = 60.0
SPREAD = 1.0
"""seconds over which the replicas of a fleet spread their looks for one hint"""


def _after(seconds: float, work: Callable[[], None]) -> None:
    timer = threading.Timer(seconds, work)
    timer.daemon = True
    timer.start()


class HintGate:
    """Gets hints and the ends of cycles; calls ``ask`` for a cycle. Its methods take no time.

    ``holds``: the position of the replica's rows; None if it has none. ``delay``: seconds by which
    this replica looks later than the first of its fleet.
    """

    def __init__(
        self,
        ask: Callable[[Hint], None],
        holds: Callable[[], Position | None],
        delay: float,
        clock: Callable[[], float] = time.monotonic,
        after: Callable[[float, Callable[[], None]], None] = _after,
    ) -> None:
        self._ask = ask
        self._holds = holds
        self._delay = delay
        self._clock = clock
        self._after = after
        self._lock = threading.Lock()
        self._waiting: Hint | None = None
        self._asked: Hint | None = None
        """the hint for which a cycle was asked, until that has ended"""
        self._least = LEAST
        self._free_at = clock()
        self._seen: Position | None = None
        """the newest position, as the last cycle saw it"""
        self._heard: Position | None = None
        """the highest position of any hint"""
        self._untold: Position | None = None
        """a position that a cycle found by itself, and no hint has told"""
        self._failed = self._false = False
        """the last cycle failed; the last hint did not come true"""

    @property
    def reliable(self) -> bool:
        """Whether cycles find what hints say, and nothing else: a poll then can wait longer."""
        return not (self._failed or self._false or self._untold)

    def heard(self, hint: Hint) -> None:
        """Note a hint; the highest waits until the least time is over."""
        with self._lock:
            if hint.position == self._untold:
                self._untold = None  # it came later than the cycle
            if not _above(hint, self._seen):
                return
            self._heard = max(hint.position, self._heard or hint.position)
            first = self._waiting is None
            self._waiting = max(hint, self._waiting or hint, key=lambda each: each.position)
            if first:
                self._after(max(0.0, self._free_at - self._clock()) + self._delay, self._look)

    def _look(self) -> None:
        held = self._holds()
        with self._lock:
            left = self._free_at - self._clock()
            if left > 0:  # a hint has turned out to be false meanwhile
                self._after(left, self._look)
                return
            hint, self._waiting = self._waiting, None
            if hint is None or hint == self._asked:
                return
            if not (_above(hint, self._seen) and _above(hint, held)):
                return
            self._asked = hint
            self._free_at = self._clock() + self._least
        self._ask(hint)

    def looked(self, hint: Hint | None, result: CycleResult | None) -> None:
        """Note the end of a cycle; ``hint``: what it looked for first; no result: it failed."""
        with self._lock:
            self._failed = result is None
            found = result.position if result is not None else None
            if hint is not None:
                self._asked = None if hint == self._asked else self._asked
                true = found is not None and not _above(hint, found)
                self._false = not true and not self._failed
                self._least = LEAST if true else min(MOST, max(FALSE, 2 * self._least))
                self._free_at = self._clock() + self._least
            if found is None:
                return
            if hint is not None and not self._false:
                self._untold = None
            elif self._seen is not None and found > max(self._seen, self._heard or self._seen):
                self._untold = found
            self._seen = found


def _above(hint: Hint, position: Position | None) -> bool:
    return position is None or hint.position > position
