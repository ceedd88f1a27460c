"""The snapshots that the state remembers, found again where their ids are others.

An id is restic's own in one repository, and made of the label in two: where a second one is added
or taken away, the same snapshot has another. Position, writer and digest tell that it is the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from replicator_kuma.adapters.repository import Snapshot
from replicator_kuma.adapters.repository.snapshot import common_id
from replicator_kuma.replication.instance import Instance
from replicator_kuma.replication.state.records import Pending, SnapshotRef
from replicator_kuma.replication.state.state import State


def identity(fleet: str, mark: SnapshotRef) -> str:
    """The common id of a remembered snapshot; empty for rows that are no snapshot's."""
    return common_id(fleet, mark.position, mark.writer, mark.digest) if mark.snapshot else ""


def recognised(instance: Instance, snapshots: Sequence[Snapshot]) -> State:
    """The state as `as_listed` has it, noted where it was another. Within a cycle."""
    state = instance.state.load()
    known = as_listed(state, snapshots)
    if known != state:
        instance.state.save(known)
    return known


def as_listed(state: State, snapshots: Sequence[Snapshot]) -> State:
    """The state with its marks by the ids of this listing; what it refuses by common ids.

    A pure function. What is not listed stays as it is.
    """
    listed = {s.id for s in snapshots}
    ids = {(s.position, s.label.writer, s.label.digest): s.id for s in snapshots}
    common = {known: s.label.common_id for s in snapshots for known in s.ids}

    def mark(known: SnapshotRef) -> SnapshotRef:
        if not known.snapshot or known.snapshot in listed:
            return known
        same = (known.position, known.writer, known.digest)
        return replace(known, snapshot=ids.get(same, known.snapshot))

    def pending(known: Pending) -> Pending:
        return replace(
            known,
            mark=mark(known.mark),
            back_to=known.back_to and mark(known.back_to),
            earlier=known.earlier and pending(known.earlier),
        )

    leading, following, applying = state.leading, state.following, state.applying
    hold = following.hold
    return replace(
        state,
        leading=replace(
            leading,
            published=leading.published and mark(leading.published),
            rollback_applied=leading.rollback_applied and mark(leading.rollback_applied),
            rivals=tuple(common.get(known, known) for known in leading.rivals),
        ),
        following=replace(
            following,
            applied=following.applied and mark(following.applied),
            hold=hold and replace(hold, mark=hold.mark and mark(hold.mark)),
        ),
        applying=replace(
            applying,
            pending=applying.pending and pending(applying.pending),
            bad=tuple(common.get(known, known) for known in applying.bad),
            suspect=common.get(applying.suspect, applying.suspect),
        ),
    )


def in_ids_of(snapshots: Sequence[Snapshot], state: State) -> State:
    """The state as people and programs are shown it: all ids are those of this listing."""
    shown = {s.label.common_id: s.id for s in snapshots}
    known = as_listed(state, snapshots)
    bad = tuple(shown.get(each, each) for each in known.applying.bad)
    return replace(known, applying=replace(known.applying, bad=bad))
