"""Time as the product would need it, without coverage's tracing; and clocks that a test sets."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from replicator_kuma.replication.restart_cooldown import Cooldown


def untraced_seconds(work: Callable[[], object]) -> float:
    """Processor seconds of ``work``."""
    tracer = sys.gettrace()
    sys.settrace(None)
    try:
        began = time.process_time()
        work()
        return time.process_time() - began
    finally:
        sys.settrace(tracer)


@dataclass
class Clocks:
    """A wall clock and a monotonic one for `Cooldown`: ``pass_by`` moves both, ``set`` one."""

    wall: float = datetime(2031, 6, 1, 4, 0, tzinfo=UTC).timestamp()
    ticks: float = 5_000.0

    def pass_by(self, seconds: float) -> None:
        self.wall += seconds
        self.ticks += seconds

    def cooldown(self, every: float) -> Cooldown:
        """What one process keeps of its restarts."""
        return Cooldown(every, wall=lambda: self.wall, ticks=lambda: self.ticks)

    def text(self, seconds: float = 0.0) -> str:
        """A moment as Kuma writes it into a heartbeat."""
        moment = datetime.fromtimestamp(self.wall + seconds, UTC)
        return moment.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


@dataclass
class Clock:
    """A clock that moves only when a test says so, or somebody sleeps."""

    now: float = 0.0
    sleeps: int = 0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.sleeps += 1
