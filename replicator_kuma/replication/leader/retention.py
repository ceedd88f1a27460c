"""Chooses by position which snapshots to delete; a pure function.

Times are the snapshots' own, from the leader's clock. They only give hours, days and months, and
how long before the newest position a snapshot was made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from replicator_kuma.adapters.repository import Position, Snapshot

_HOUR, _DAY, _MONTH = len("2031-01-31T23"), len("2031-01-31"), len("2031-01")


@dataclass(frozen=True)
class Keep:
    """How many positions stay: the last ones; then one an hour, one a day, one a month.

    ``last`` is at least 1; None keeps all. Of the last ``hours`` hours before the newest position
    all stay too.
    """

    last: int | None = 50
    hours: int = 24
    hourly: int = 168
    daily: int = 30
    monthly: int = 12


KEEP = Keep()


@dataclass(frozen=True)
class Care:
    """What an operator chose for housekeeping."""

    keep: Keep = KEEP
    parts: int = 30
    """the number of parts of the data; each run checks one"""


def superfluous(snapshots: Sequence[Snapshot], keep: Keep, below: Position) -> list[Snapshot]:
    """The snapshots of one fleet that may be deleted, all below ``below``, by position.

    Only hours, days and months with snapshots count, newest positions first. The highest position
    of each is kept. The newest position is always kept. If the newest epoch has two writers, all
    are kept: they show replicas that something is wrong.
    """
    if keep.last is None or not snapshots:
        return []
    ordered = sorted(snapshots, key=lambda s: s.position, reverse=True)
    newest = ordered[0].position
    epoch = [s for s in ordered if s.position.epoch == newest.epoch]
    if len({s.label.writer for s in epoch}) > 1:
        return []
    positions = list(dict.fromkeys(s.position for s in ordered))
    kept = set(positions[: max(1, keep.last)])
    since = ordered[0].moment - keep.hours * 3600
    kept |= {s.position for s in ordered if keep.hours and s.moment >= since}
    kept |= _newest_of_each(ordered, _HOUR, keep.hourly)
    kept |= _newest_of_each(ordered, _DAY, keep.daily)
    kept |= _newest_of_each(ordered, _MONTH, keep.monthly)
    going = [s for s in ordered if s.position not in kept and s.position < min(below, newest)]
    return going[::-1]


def _newest_of_each(ordered: Sequence[Snapshot], length: int, count: int) -> set[Position]:
    """The highest position of each of the newest ``count`` hours, days or months that have one."""
    found: dict[str, Position] = {}
    for snapshot in ordered:
        found.setdefault(snapshot.time[:length], snapshot.position)
    return set(list(found.values())[:count])
