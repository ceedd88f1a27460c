"""What Kuma's monitors do, as its own tables tell it: records, and a protocol of two engines.

Statuses are Kuma's (server/util.js, src/util.ts): 0 down, 1 up, 2 pending, 3 maintenance. Kuma
marks a beat as *important* where the status changes, except to and from pending
(server/model/monitor.js, isImportantBeat).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

BeatStatus = Literal["up", "down", "pending", "maintenance"]
STATUSES: dict[int, BeatStatus] = {0: "down", 1: "up", 2: "pending", 3: "maintenance"}


@dataclass(frozen=True)
class Beat:
    """One heartbeat. ``at``: seconds since the epoch, by the clock of Kuma's machine."""

    at: float
    status: BeatStatus
    msg: str = ""


@dataclass(frozen=True)
class MonitorBeats:
    """A monitor with its newest heartbeat."""

    id: int
    name: str
    type: str
    active: bool
    """false also where a group above it is paused"""
    parent: int | None
    tags: tuple[str, ...]
    """name, or `name: value`"""
    interval: int
    """seconds from check to check"""
    retry_interval: int
    """the same while it is pending"""
    newest: Beat | None
    """None: it has no heartbeat"""
    fresh: bool
    """active, and its newest heartbeat is younger than three intervals, by the clock of this
    machine (one from the future was written before the clock was set back)"""
    since: float | None
    """the first beat of the present run of its status, in seconds since the epoch

    A run of up that pending interrupts is one run, as in Kuma's own list of events.
    """


@dataclass(frozen=True)
class Change:
    """A monitor's status became another one, in seconds since the epoch."""

    monitor: int
    at: float
    status: BeatStatus


class Beats(Protocol):
    """Reads monitors and heartbeats beside a running Kuma; one thread uses it.

    Each call reads one instant, never writes, waits for nobody, and raises DatabaseErrors:
    DatabaseLocked to be called again later, DatabaseUnreachable where Kuma is down with its
    embedded MariaDB, DatabaseMigrating where a table of Kuma's is not there yet.
    """

    def monitors(self, *, exact: bool = True) -> tuple[MonitorBeats, ...]:
        """All monitors in Kuma's order: by weight and name, children below their groups.

        Without ``exact``, at less cost: the newest heartbeat of a monitor that is up may be one of
        minutes ago, and an edit shows within 30 s.
        """

    def changes(self, since: float) -> tuple[Change, ...]:
        """The changes of status from ``since`` on that Kuma calls important, oldest first."""

    def recent(self, monitor: int, since: float) -> tuple[Beat, ...]:
        """The heartbeats of a monitor from ``since`` on, oldest first; at most `MOST_RECENT`."""

    def close(self) -> None:
        """Let go of the connection; the next call opens one."""


MOST_RECENT = 400
"""beats that `recent` gives: an hour at an interval of 10 seconds"""
MOST_CHANGES = 20_000
"""changes that `changes` gives, the newest ones: monitors that flap must not fill the memory"""
