"""Heartbeats as Kuma writes them, and what a reader should say of them, by other code than its."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from random import Random

from tests.support.engines import Engine, Statement

T0 = datetime(2026, 11, 29, 6, 0, tzinfo=UTC).timestamp()
DOWN, UP, PENDING, MAINTENANCE = range(4)
NAMES = ("down", "up", "pending", "maintenance")
_IMPORTANT = {
    (DOWN, MAINTENANCE),
    (UP, MAINTENANCE),
    (MAINTENANCE, DOWN),
    (MAINTENANCE, UP),
    (UP, DOWN),
    (DOWN, UP),
    (PENDING, DOWN),
}
"""`isImportantBeat` of Kuma's server/model/monitor.js"""


def important(before: int | None, now: int) -> bool:
    return before is None or (before, now) in _IMPORTANT


def text(at: float) -> str:
    """A time as both engines hold it."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")


def statement(monitor: int, status: int, at: float, *, marked: bool, msg: str = "") -> Statement:
    return (
        "INSERT INTO heartbeat (monitor_id, status, time, important, msg) VALUES (?, ?, ?, ?, ?)",
        (monitor, status, text(at), int(marked), msg),
    )


class Kuma:
    """Writes heartbeats into a database, by Kuma's rule of what is important."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.last: dict[int, int] = {}

    def beat(self, *beats: tuple[int, int, float]) -> None:
        """Heartbeats as (monitor, status, seconds after T0), in one transaction."""
        rows = []
        for monitor, status, after in beats:
            marked = important(self.last.get(monitor), status)
            self.last[monitor] = status
            msg = f"{NAMES[status]} at {after:g}"
            rows.append(statement(monitor, status, T0 + after, marked=marked, msg=msg))
        self.engine.edit(*rows)

    def run(
        self, monitor: int, statuses: Iterable[int], start: float = 0, step: float = 20
    ) -> None:
        self.beat(*((monitor, status, start + k * step) for k, status in enumerate(statuses)))


def since(statuses: Sequence[int], step: float = 20) -> float:
    """When the present run of these began, in seconds after T0; pending interrupts no run."""
    now = statuses[-1]
    start = len(statuses) - 1
    for k in range(len(statuses) - 1, -1, -1):
        if statuses[k] == now:
            start = k
        elif statuses[k] != PENDING or now == PENDING:
            break
    return start * step


def history(random: Random, length: int) -> list[int]:
    """Statuses in an order that Kuma makes: retries lead from up to down or back to up."""
    made = [random.choice((UP, DOWN, PENDING))]
    follows = {
        UP: (UP, UP, UP, DOWN, PENDING, MAINTENANCE),
        DOWN: (DOWN, DOWN, UP, MAINTENANCE),
        PENDING: (PENDING, DOWN, UP),
        MAINTENANCE: (MAINTENANCE, UP, DOWN),
    }
    while len(made) < length:
        made.append(random.choice(follows[made[-1]]))
    return made
