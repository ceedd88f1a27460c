"""Rolls a leader back to an older snapshot, and publishes its rows at a new position."""

from __future__ import annotations

from dataclasses import replace

from replicator_kuma.adapters.repository import Snapshot
from replicator_kuma.base.errors import DatabaseMissing, SnapshotNotFound, Unpublished
from replicator_kuma.replication.apply.confirm import UNCONFIRMED
from replicator_kuma.replication.apply.unconfirmed import recover
from replicator_kuma.replication.instance import CycleResult, Instance, Outcome
from replicator_kuma.replication.leader.cycle import Leader
from replicator_kuma.replication.leader.decide import View
from replicator_kuma.replication.leader.publish import next_position, publish
from replicator_kuma.replication.replica.take import take
from replicator_kuma.replication.snapshots import chosen
from replicator_kuma.replication.state import transitions
from replicator_kuma.replication.state.records import SnapshotRef
from replicator_kuma.replication.workspace import workspace


def rollback(instance: Instance, wanted: str | None, at: float | None = None) -> CycleResult:
    """Write the rows of a snapshot back on the leader, and publish them. Call under the lock.

    ``wanted`` names it by id or position, ``at`` (epoch seconds) by time. The command allows that
    monitors disappear. With `Run.force`, unpublished rows are lost too. Raises ReplicatorErrors:
    Fenced, Unpublished, SnapshotNotFound, and what a restore raises.
    """
    with workspace(instance):
        recover(instance)
        leader = Leader(instance)
        view, newest, _state = leader.ask(leader.observe(), allow_shrink=True)
        if newest is None or view.newest is None:
            raise SnapshotNotFound(
                "this fleet has no snapshot to go back to", hint=SnapshotNotFound.none_yet
            )
        snapshot = chosen(view.snapshots, wanted, at)
        if not instance.run.force:
            _require_published(leader, view, newest)
        return _go(instance, view.newest, newest, snapshot)


def _require_published(leader: Leader, view: View, newest: SnapshotRef) -> None:
    if view.digest is None:
        raise DatabaseMissing("there is no database here yet")
    empty = view.users == 0 and view.monitors == 0
    same = empty or view.state.leading.equals(newest, view.digest)
    if not (same or leader.alike(view, newest)):
        raise Unpublished(
            f"rows here have changed since {newest.position}, and were never published: going "
            "back would lose them"
        )


def _go(
    instance: Instance, previous: Snapshot, newest: SnapshotRef, snapshot: Snapshot
) -> CycleResult:
    # noted first: after a crash, the next cycle publishes the applied rows without a shrink guard
    instance.state.change(transitions.rollback_begun, snapshot.position)
    try:
        taken = take(instance, snapshot)
    except Exception:
        state = instance.state.load()
        if state.applying.going is None and not state.stands_on(snapshot.key):
            instance.state.change(transitions.rollback_begun, None)
        raise
    if taken.outcome is Outcome.WAITING and instance.state.load().applying.pending is None:
        instance.state.change(transitions.rollback_begun, None)
        return taken
    if snapshot.key == previous.key:
        instance.state.change(transitions.rollback_over)
        return replace(taken, sentence=f"{taken.sentence}; it is the newest: nothing to publish")
    state = instance.state.load()
    if state.applying.pending is not None:
        return replace(taken, sentence=f"{taken.sentence}; {UNCONFIRMED}")
    instance.state.change(transitions.rollback_applied, SnapshotRef.of(snapshot))
    position = next_position(newest, state.leading.burned)
    # the command allows all deletions, also of replaced monitors
    result = publish(instance, position, previous, shrinks=lambda _seen, _since: True)
    instance.state.change(transitions.leads_with, result.digest or "")
    sentence = f"rolled back to {snapshot.position}{taken.went_on}: {result.sentence}"
    return replace(result, sentence=sentence, warnings=(*taken.warnings, *result.warnings))
