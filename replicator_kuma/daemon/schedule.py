"""When the next cycle is due: spread over instances, and by the monotonic clock.

Fifty replicas that come up together, after a power cut or by one command, would otherwise poll
their repository together for as long as they live.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable
from datetime import datetime, timedelta

import schedule

JITTER = 0.05
"""the part of an interval by which a cycle comes early or late at most; it does not add up"""


def steady_part(name: str) -> float:
    """A number from 0 up to 1, always the same for a name, and spread evenly over names."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


class Timetable:
    """The instants at which cycles are due; seconds of ``clock``.

    They lie one interval apart, each moved by a little jitter. The first comes half an interval
    to one and a half after the start, always the same for ``name``.
    """

    def __init__(
        self,
        interval: float,
        name: str,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._interval = interval
        self._clock = clock
        self._chance = chance
        self._slot = clock() + interval * (0.5 + steady_part(name))
        self.due = self._jittered()

    def advance(self) -> None:
        """A cycle begins: on to the first slot that lies ahead. What was slept over is left out."""
        late = max(0.0, self._clock() - self._slot)
        # by its jitter a cycle may come before its own slot: that one is used up all the same
        self._slot += self._interval * (1 + late // self._interval)
        self.due = self._jittered()

    @property
    def left(self) -> float:
        """Seconds until the next cycle; 0 where it is due."""
        return max(0.0, self.due - self._clock())

    def hold(self, job: schedule.Job, now: datetime) -> None:
        """Set a job's next run, which `schedule` keeps by the wall clock, to what is due.

        Called before each look at the jobs, so that a wall clock that jumps by hours, in either
        direction, neither brings a cycle near nor puts it off.
        """
        job.next_run = now + timedelta(seconds=self.due - self._clock())

    def _jittered(self) -> float:
        return self._slot + self._interval * JITTER * (2 * self._chance() - 1)
