"""The replica's cycle: observe, decide, fetch, plan; Kuma restarts only if rows differ."""

from __future__ import annotations

import time
from dataclasses import replace

from replicator_kuma.adapters.repository import Listing, Snapshot
from replicator_kuma.base.errors import DatabaseMigrating
from replicator_kuma.replication import second_repository
from replicator_kuma.replication.apply.unconfirmed import recover
from replicator_kuma.replication.instance import CycleResult, Instance, Outcome
from replicator_kuma.replication.mode_mismatch import Promoted, promoted
from replicator_kuma.replication.observe import observe
from replicator_kuma.replication.replica import drift
from replicator_kuma.replication.replica.ahead import Ahead, ahead_of_listing
from replicator_kuma.replication.replica.decide import newest_to_follow
from replicator_kuma.replication.replica.hold import stay, take_and_hold
from replicator_kuma.replication.replica.shrink_guard import UNGUARDED, Guard
from replicator_kuma.replication.replica.take import stand, waiting
from replicator_kuma.replication.snapshots import chosen, of_earlier
from replicator_kuma.replication.state import transitions
from replicator_kuma.replication.state.records import NewestSeen
from replicator_kuma.replication.workspace import workspace


def cycle(
    instance: Instance,
    *,
    reconcile: bool = False,
    allow_shrink: bool = False,
) -> CycleResult:
    """Run one cycle, under the instance's lock.

    ``reconcile``: compare the live rows also with a snapshot that is already applied.
    ``allow_shrink``: a person allows that the newest snapshot removes most monitors. Raises
    ReplicatorErrors, with the rows unchanged.
    """
    instance = instance.under(replace(instance.run, by_itself=not reconcile))
    with workspace(instance):
        recover(instance)
        with ahead_of_listing(instance) as ahead:
            return follow(instance, listed(instance), reconcile, allow_shrink, ahead)


def listed(instance: Instance) -> Listing:
    """The fleet's snapshots, by position; raises RepositoryErrors."""
    instance.step("asking the repository")
    snapshots = instance.listed()
    second_repository.look_who_is_away(instance)
    applied = instance.state.load().following.applied
    seen = NewestSeen.of(snapshots, applied, time.time())
    instance.state.change(transitions.listed_as_replica, seen)
    return snapshots


def follow(
    instance: Instance,
    snapshots: Listing,
    reconcile: bool,
    allow_shrink: bool = False,
    ahead: Ahead | None = None,
) -> CycleResult:
    """Go to the newest listed snapshot, unless a hold is set. Call within a cycle.

    ``ahead``: what a hint named, read beside the listing.
    """
    if ahead is not None:
        ahead.listed(snapshots)
    state = instance.state.load()
    newest = newest_to_follow(state, instance.fleet, snapshots)
    if newest is None:
        said = f"fleet {instance.fleet!r} has no snapshot yet: waiting for its leader"
        said += of_earlier(snapshots)
        return CycleResult(Outcome.WAITING, said)
    if state.following.hold is not None:
        return stay(instance, newest, snapshots, reconcile)
    if state.has_published(newest.key):
        # promoted, but its mode is not set yet: rows that its rules leave out now would be
        # published as deleted later
        instance = instance.as_leader()
        by_mode = promoted(state)
        if by_mode and (result := _await_mode(instance, newest, by_mode)):
            return result
    guard = UNGUARDED if allow_shrink else Guard.of(instance, state, newest)
    return stand(instance, newest, reconcile, guard, ahead)


def _await_mode(instance: Instance, newest: Snapshot, by_mode: Promoted) -> CycleResult | None:
    """The cycle of a promoted instance until its mode is set; None if its rows were lost.

    Edits made here since are the fleet's next change. They are no drift, so they stay.
    """
    if not instance.store.exists():
        return None
    try:
        seen = observe(instance)
    except DatabaseMigrating as error:
        return waiting(newest, str(error))
    if seen.users == 0 and seen.monitors == 0:
        return None
    said = by_mode.sentence
    if seen.manifest.digest == newest.label.digest:
        instance.state.change(transitions.rows_equal, now=time.time())
    else:
        changed = drift.note_unpublished(instance, newest.position, seen.manifest.digest)
        said = f"{said}; {changed}"
    return CycleResult(Outcome.WAITING, said, newest.position, newest.label.digest)


def go_to(instance: Instance, wanted: str | None, at: float | None) -> CycleResult:
    """Go to the snapshot that a person named, and hold it; under the lock.

    Raises ReplicatorErrors; then the earlier hold is restored, unless the new rows are in place.
    """
    with workspace(instance):
        recover(instance)
        return take_and_hold(instance, chosen(listed(instance), wanted, at))


def resume(instance: Instance, *, allow_shrink: bool = False) -> CycleResult:
    """End the hold, and go to the newest snapshot at once; under the lock.

    ``allow_shrink``: also if that removes most monitors. Raises ReplicatorErrors; if the
    repository does not answer, the hold stays.
    """
    with workspace(instance):
        recover(instance)
        snapshots = listed(instance)
        # after an undo, the state may name the newest position while the rows are others
        instance.state.change(transitions.resumed)
        return follow(instance, snapshots, reconcile=True, allow_shrink=allow_shrink)
