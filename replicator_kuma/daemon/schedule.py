"""Computes when the next cycle is due: spread over instances, by the monotonic clock.

Without the spread, fifty replicas that start together, as after a power cut, would always poll
their repository at the same time.
"""

from __future__ import annotations

import hashlib
import math
import random
import time
from collections.abc import Callable
from datetime import datetime, timedelta

import schedule

JITTER = 0.05
"""the most that a cycle is early or late, as a part of the interval; it does not add up"""


def steady_part(name: str) -> float:
    """A number from 0 up to 1: always the same for one name, evenly spread over names."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


class Timetable:
    """The instants at which cycles are due; seconds of ``clock``.

    They are one interval apart, each with a small jitter. The first comes 0.5 to 1.5 intervals
    after the start, always the same for ``name``.
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
        self._start, self._part = clock(), 0.5 + steady_part(name)
        self._slot = self._start + interval * self._part
        self._last = self._slot - interval
        self.due = self._jittered()

    def every(self, interval: float) -> None:
        """Go on with another interval, which counts from the last cycle.

        If that is over, the next one comes within an interval, always the same for a name: a change
        at the same time for many instances must not gather them.
        """
        if interval == self._interval:
            return
        self._interval, now, before = interval, self._clock(), self._slot
        self._slot = self._last + interval
        if self._slot <= now:
            passed = math.floor((now - self._start) / interval - self._part)
            self._slot = min(before, self._start + interval * (self._part + passed + 1))
        self.due = self._jittered()

    def advance(self) -> None:
        """A cycle begins: go on to the next slot in the future; missed slots are skipped."""
        late = max(0.0, self._clock() - self._slot)
        self._last = self._slot
        # by its jitter a cycle may come before its slot: that slot is used up anyway
        self._slot += self._interval * (1 + late // self._interval)
        self.due = self._jittered()

    @property
    def left(self) -> float:
        """Seconds until the next cycle; 0 if it is due."""
        return max(0.0, self.due - self._clock())

    def hold(self, job: schedule.Job, now: datetime) -> None:
        """Set a job's next run, which `schedule` keeps by the wall clock, to the time due here.

        Call before each look at the jobs, so that a jump of the wall clock, in either direction,
        does not move a cycle.
        """
        job.next_run = now + timedelta(seconds=self.due - self._clock())

    def _jittered(self) -> float:
        return self._slot + self._interval * JITTER * (2 * self._chance() - 1)
