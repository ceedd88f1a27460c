"""Finds the instances that lack a monitor though they hold the snapshot that has it. Pure.

What an instance lacks for a reason that is told elsewhere is no news: it is silent, behind, fenced
or a misfit, its Kuma cannot be read, or its own settings choose its monitors. And a monitor that a
replica alone has is not missing elsewhere: somebody added it there, and the replica tells that its
rows differ. So a monitor belongs to the snapshot where the leader has it, or where more than half
of the instances have it that call themselves equal to that snapshot. With a leader and one replica,
nothing tells whether somebody deleted it on the leader or added it on the replica.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from replicator_kuma.adapters.repository.snapshot import Position
from replicator_kuma.reports.fleet.documents import Judged, Monitors

AFTER = 60.0
"""seconds for which it has to stay so: a new monitor is published and applied within these"""


@dataclass(frozen=True)
class Alike:
    """The instances that should have the same monitors."""

    by_name: Mapping[str, Collection[int]]
    """the monitors of each, by the name of the instance"""
    witnesses: Collection[str]
    """those whose rows equal the snapshot, as far as they know"""
    leader: str | None
    """the witness that leads"""

    def lacking(self, number: int) -> tuple[str, ...]:
        """The instances that should have this monitor and lack it, by name."""
        lacks = [name for name, monitors in self.by_name.items() if number not in monitors]
        if not lacks or not self._expected(number):
            return ()
        return tuple(sorted(lacks))

    def _expected(self, number: int) -> bool:
        if self.leader is not None and number in self.by_name[self.leader]:
            return True
        having = sum(number in self.by_name[name] for name in self.witnesses)
        return 2 * having > len(self.witnesses)


def alike(answering: Iterable[tuple[Monitors, Collection[int]]], newest: Position | None) -> Alike:
    """Those of the instances that answer, each with the ids of its monitors, which are comparable.

    ``newest``: the newest position that one of them holds.
    """
    found = [
        (one, monitors)
        for one, monitors in answering
        if newest is not None
        and one.position == newest
        and one.state in ("equal", "drift")
        and one.beats_at is not None
        and not one.chooses_monitors
    ]
    equal = [one for one, _monitors in found if one.state == "equal"]
    leaders = [one.instance for one in equal if one.role == "leader"]
    return Alike(
        {one.instance: monitors for one, monitors in found},
        [one.instance for one in equal],
        leaders[0] if len(leaders) == 1 else None,
    )


def lacks(monitors: Iterable[Judged]) -> Counter[str]:
    """How many monitors are missing in each place, by its name."""
    return Counter(name for one in monitors for name in one.missing_in)
