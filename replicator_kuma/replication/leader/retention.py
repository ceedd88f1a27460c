"""Which snapshots of a fleet may go: a pure function, by position. Times only name the days."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from replicator_kuma.adapters.repository import Position, Snapshot

_DAY, _MONTH = len("2031-01-31"), len("2031-01")


@dataclass(frozen=True)
class Keep:
    """How many positions stay: the last ones, then one a day, then one a month.

    ``last`` is at least 1; None keeps all.
    """

    last: int | None = 50
    daily: int = 30
    monthly: int = 12


KEEP = Keep()


@dataclass(frozen=True)
class Care:
    """What an operator chose for housekeeping."""

    keep: Keep = KEEP
    parts: int = 30
    """of the data, of which each run checks one"""


def superfluous(snapshots: Sequence[Snapshot], keep: Keep, below: Position) -> list[Snapshot]:
    """The snapshots of one fleet that may go, all below ``below``, by position.

    Days and months are those that have snapshots, the highest positions' first, and each is
    represented by its highest position. The newest position always stays, and everything where
    the newest epoch has two writers: that is what tells replicas that something is wrong.
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
    kept |= _newest_of_each(ordered, _DAY, keep.daily)
    kept |= _newest_of_each(ordered, _MONTH, keep.monthly)
    going = [s for s in ordered if s.position not in kept and s.position < min(below, newest)]
    return going[::-1]


def _newest_of_each(ordered: Sequence[Snapshot], length: int, count: int) -> set[Position]:
    """The highest position of each of the first ``count`` days, or months, that are met."""
    found: dict[str, Position] = {}
    for snapshot in ordered:
        found.setdefault(snapshot.time[:length], snapshot.position)
    return set(list(found.values())[:count])
