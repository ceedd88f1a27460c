"""The log of failures that come again and again: it fills no disk, and tells the recovery once."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from replicator_kuma.base.errors import ReplicatorError, describe
from replicator_kuma.base.text import counted
from replicator_kuma.base.times import lasting

_DAILY = 24
"""What lasts until somebody acts is said again after so many hours."""

logger = logging.getLogger(__name__)


@dataclass
class _Kind:
    """What is known of one kind of failure since cycles last worked."""

    count: int = 0
    since: float = 0.0
    said_at: float = 0.0


class FailureLog:
    """Logs a row of failures, each kind at growing distances, and the recovery in one line.

    The first of a kind in full, then the 2nd, 4th, 8th … and once an hour at least. Two kinds
    that take turns, as over a flapping network, do not make each other new. Seconds of ``clock``.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, hourly: float = 3600.0) -> None:
        self._clock = clock
        self._hourly = hourly
        self._kinds: dict[type[BaseException], _Kind] = {}
        self._since = 0.0

    def failed(self, error: Exception, then: str = "") -> None:
        """Log one failure, or keep silent because this kind was logged lately.

        ``then``: what comes next, in words, between the failure and its hint.
        """
        now = self._clock()
        if not self._kinds:
            self._since = now
        kind = self._kinds.setdefault(type(error), _Kind(since=now))
        kind.count += 1
        lasts = isinstance(error, ReplicatorError) and error.lasting
        if lasts and kind.count > 1 and now - kind.said_at < _DAILY * self._hourly:
            return
        power_of_two = kind.count & (kind.count - 1) == 0
        if not power_of_two and now - kind.said_at < self._hourly:
            return
        kind.said_at = now
        again = f" ({kind.count} times in {lasting(now - kind.since)})" if kind.count > 1 else ""
        if isinstance(error, ReplicatorError):
            next_try = f"; {then}" if then else ""
            logger.error("%s%s%s. %s", describe(error), again, next_try, error.hint)
        else:
            logger.error("%s%s", describe(error), again, exc_info=error)

    def succeeded(self) -> None:
        """Log the recovery, where there is something to recover from."""
        if not self._kinds:
            return
        count = sum(kind.count for kind in self._kinds.values())
        failures = counted(count, "failure")
        logger.info("works again after %s, %s", lasting(self._clock() - self._since), failures)
        self._kinds.clear()
