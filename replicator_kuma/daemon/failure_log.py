"""Logs repeated failures at a limited rate, and each recovery once."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from replicator_kuma.base.errors import ReplicatorError, describe
from replicator_kuma.base.events import as_event
from replicator_kuma.base.text import counted
from replicator_kuma.base.times import lasting

_DAILY = 24
"""Hours after which a failure that needs a person is logged again."""

logger = logging.getLogger(__name__)


@dataclass
class _Kind:
    """The record of one kind of failure since cycles last worked."""

    count: int = 0
    since: float = 0.0
    said_at: float = 0.0


def _members(error: ReplicatorError) -> dict[str, str | int]:
    return {"error": type(error).__name__, "exit_code": error.exit_code}


class FailureLog:
    """Logs failures of each kind at growing intervals, and the recovery in one line.

    It logs the first of a kind in full, then the 2nd, 4th, 8th … and at least one an hour. Two
    kinds that alternate, as on a flapping network, do not count as new. Seconds of ``clock``.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, hourly: float = 3600.0) -> None:
        self._clock = clock
        self._hourly = hourly
        self._kinds: dict[type[BaseException], _Kind] = {}
        self._since = 0.0

    def failed(self, error: Exception, then: str = "") -> None:
        """Log one failure, or skip it because this kind was logged recently.

        ``then``: words about what happens next, put between the failure and its hint.
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
            logger.error(
                "%s%s%s. %s",
                describe(error),
                again,
                next_try,
                error.hint,
                extra=as_event("cycle_failed", **_members(error)),
            )
        else:
            logger.error("%s%s", describe(error), again, exc_info=error, extra=as_event("bug"))

    def succeeded(self) -> None:
        """Log the recovery, if a failure was logged before."""
        if not self._kinds:
            return
        count = sum(kind.count for kind in self._kinds.values())
        failures = counted(count, "failure")
        logger.info(
            "works again after %s, %s",
            lasting(self._clock() - self._since),
            failures,
            extra=as_event("cycle_works"),
        )
        self._kinds.clear()
