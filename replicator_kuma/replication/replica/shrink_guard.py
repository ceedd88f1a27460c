"""A replica's guard: a snapshot that removes most monitors waits until a person allows it."""

from __future__ import annotations

from dataclasses import dataclass

from replicator_kuma.adapters.repository import Snapshot
from replicator_kuma.base.errors import SnapshotShrinks
from replicator_kuma.replication.apply.prepare import Planned
from replicator_kuma.replication.instance import Instance
from replicator_kuma.replication.shrink import HALF, Limit, gone, held
from replicator_kuma.replication.state.records import SnapshotRef
from replicator_kuma.replication.state.state import State


@dataclass(frozen=True)
class Guard:
    """``before`` is the snapshot that the replica has; with None, everything passes."""

    limit: Limit = HALF
    before: SnapshotRef | None = None

    @classmethod
    def of(cls, instance: Instance, state: State, snapshot: Snapshot) -> Guard:
        """The guard for a snapshot that no person named.

        Everything passes on a new replica, which has nothing to lose, and for a heal, which is no
        leader's deletion. A shrink allowed after the position held here counts for us too.
        """
        before, shrunk = held(state), snapshot.label.shrunk
        if before is None or before.key == snapshot.key or "monitor" not in instance.tables:
            return UNGUARDED
        if shrunk is not None and shrunk > before.position:
            return UNGUARDED
        return cls(instance.shrink_limit, before)

    def look(self, snapshot: Snapshot) -> None:
        """Check the tags, before anything is fetched; raises SnapshotShrinks.

        (No monitors: the leader may not replicate them. Then only its dump can tell.)
        """
        if self.before is None or not snapshot.label.monitors:
            return
        self._count(snapshot, snapshot.label.monitors)

    def weigh(self, snapshot: Snapshot, planned: Planned) -> None:
        """Check the leader's dump and the rows here, whatever the tags say; raises SnapshotShrinks.

        A monitor that another one replaces counts as gone. A monitor that rules leave out is no
        deletion by the leader; if rules left it out before, it still counts as the fleet's.
        """
        source = planned.source
        if self.before is None or "monitor" not in source.manifest.tables:
            return
        left = self._count(snapshot, source.manifest.monitors)
        # the same for files that no row names any more in the leader's dump
        theirs, live = source.manifest.files, planned.live.manifest
        lost = [name for name, to in planned.plan.files if to is None and name not in theirs]
        if self.limit.part(len(live.files), len(lost)):
            files = f"{len(lost)} of {len(live.files)} files (logos, certificates)"
            raise _refusal(snapshot, files)
        before, count = max(self.before.monitors, live.monitors), gone(planned.plan, source)
        if count and self.limit.exceeded(before, count, left):
            raise _refusal(snapshot, f"{count} of {before} monitors")

    def _count(self, snapshot: Snapshot, left: int) -> int:
        """The number of monitors, ``left``; raises SnapshotShrinks if too many are gone."""
        assert self.before is not None
        before = self.before.monitors
        if self.limit.exceeded(before, before - left, left):
            raise _refusal(snapshot, f"{before - left} of {before} monitors")
        return left


UNGUARDED = Guard()


def _refusal(snapshot: Snapshot, what: str) -> SnapshotShrinks:
    return SnapshotShrinks(
        f"{snapshot.position} of {snapshot.label.leader} would take {what} from this replica: it "
        "keeps its rows until somebody says that this is meant"
    )
