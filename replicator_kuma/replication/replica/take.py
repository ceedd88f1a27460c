"""Takes a snapshot on a replica: fetches it, plans, and applies it if rows differ."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace

from replicator_kuma.adapters.notify import Change, Kind
from replicator_kuma.adapters.repository import Snapshot
from replicator_kuma.base.errors import (
    DatabaseMigrating,
    DatabaseMissing,
    ReplicatorError,
    SnapshotShrinks,
)
from replicator_kuma.base.threads import beside
from replicator_kuma.base.times import lasting
from replicator_kuma.replication import change_sets, published_dump
from replicator_kuma.replication.apply import checkpoints, failed_attempts, prepare
from replicator_kuma.replication.apply.choose import restart_wait
from replicator_kuma.replication.apply.live import apply
from replicator_kuma.replication.change_sets import Entry
from replicator_kuma.replication.instance import WENT_ON, CycleResult, Instance, Outcome
from replicator_kuma.replication.replica import drift
from replicator_kuma.replication.replica.ahead import Ahead
from replicator_kuma.replication.replica.decide import refuse_bad
from replicator_kuma.replication.replica.patched import fetched
from replicator_kuma.replication.replica.shrink_guard import UNGUARDED, Guard
from replicator_kuma.replication.schema_check import gate, require_schema
from replicator_kuma.replication.state import transitions
from replicator_kuma.replication.state.records import SnapshotRef
from replicator_kuma.replication.workspace import empty_workspace


def stand(
    instance: Instance,
    snapshot: Snapshot,
    reconcile: bool,
    guard: Guard = UNGUARDED,
    ahead: Ahead | None = None,
) -> CycleResult:
    """Check that this snapshot is applied and its rows unchanged; else take it. In a cycle.

    ``ahead``: what was read before the snapshot was listed.
    """
    state = instance.state.load()
    if not reconcile:
        refuse_bad(state, snapshot)
    policy = instance.policy().fingerprint(instance.tables)
    applied = state.applied_by(snapshot.key, policy) and state.live.digest
    if applied and instance.store.exists():  # nothing has to be fetched
        instance.state.change(transitions.shrink_refused, "")
        return _compare(instance, snapshot, reconcile)
    aim = failed_attempts.aim(instance, SnapshotRef.of(snapshot), policy)
    failed_attempts.require_new(instance, aim)
    return _in_turn(instance, snapshot) or take(instance, snapshot, guard, ahead=ahead)


def _in_turn(instance: Instance, snapshot: Snapshot) -> CycleResult | None:
    """The result of a cycle that may not restart Kuma yet; None: it may.

    Asked before the usual fetch, so it is not known yet whether the snapshot changes rows here.
    """
    wait = restart_wait(instance)
    if wait is None:
        return None
    sentence = wait.sentence(snapshot.position)
    return CycleResult(Outcome.WAITING, sentence, snapshot.position, waits_until=wait.until)


def _compare(instance: Instance, newest: Snapshot, reconcile: bool) -> CycleResult:
    """For an applied snapshot: whether its rows are unchanged, and what to do if they are not."""
    try:
        step = drift.look(instance, newest.position, reconcile=reconcile)
    except DatabaseMigrating as error:
        return waiting(newest, str(error))
    if step is drift.Step.EQUAL:
        return _nothing(newest, f"{newest.position} is applied; nothing newer")
    if step is drift.Step.ASK:
        return take(instance, newest, only_ask=True)
    if step is drift.Step.HEAL:
        return _in_turn(instance, newest) or take(instance, newest)
    return _differs(newest)


def take(
    instance: Instance,
    snapshot: Snapshot,
    guard: Guard = UNGUARDED,
    *,
    only_ask: bool = False,
    ahead: Ahead | None = None,
) -> CycleResult:
    """Fetch, plan, and apply where rows differ. Call within a cycle.

    ``only_ask``: the snapshot is applied; only find out whether rows differ.
    On a full disk, the oldest checkpoints are deleted to make room.
    """
    while True:
        try:
            return _take(instance, snapshot, guard, only_ask, ahead)
        except ReplicatorError as error:
            if not checkpoints.make_room(instance.state.folder, error):
                raise
            if ahead is not None:
                ahead.close()
                ahead = None
            empty_workspace(instance)


def _take(
    instance: Instance, snapshot: Snapshot, guard: Guard, only_ask: bool, ahead: Ahead | None
) -> CycleResult:
    with contextlib.ExitStack() as stack:
        try:
            guard.look(snapshot)
            if not instance.store.exists():
                if not instance.supervised:
                    raise DatabaseMissing(f"there is no database in {instance.data_dir}")
                return waiting(snapshot, "Kuma has made no database here yet")
            # most likely rows will be written: the file is looked over while they are compared
            check = None if only_ask else stack.enter_context(beside(instance.store.check))
            planned = plan_of(instance, snapshot, ahead)
            _note(instance, snapshot, planned)
            guard.weigh(snapshot, planned)
        except DatabaseMigrating as error:
            return waiting(snapshot, str(error))
        except SnapshotShrinks as error:
            instance.state.change(transitions.shrink_refused, str(error))
            raise
        instance.state.change(transitions.shrink_refused, "")
        result = _used(instance, snapshot, planned, check)
    if not instance.leads:  # a leader keeps what it published
        published_dump.keep(instance.state.folder, planned.source)
    return result


def _used(
    instance: Instance,
    snapshot: Snapshot,
    planned: prepare.Planned,
    check: Future[Sequence[str]] | None,
) -> CycleResult:
    """Apply the plan; without a ``check`` of the database only tell whether rows differ."""
    if planned.plan.empty:
        return _equal(instance, snapshot, planned)
    if check is None:
        digest = planned.live.manifest.digest
        drift.note(instance, drift.Step.LEAVE, snapshot.position, digest)
        return _differs(snapshot)
    check.result()  # writing would spread any damage
    return _carry_out(instance, snapshot, planned)


def _equal(instance: Instance, snapshot: Snapshot, planned: prepare.Planned) -> CycleResult:
    """Note that the live rows equal the snapshot; a pending apply still waits for Kuma."""
    state = instance.state.load()
    if state.applying.pending is not None:
        said = f"{snapshot.position} is written; waiting for Kuma to come up on it"
        return CycleResult(Outcome.WAITING, said, snapshot.position)
    instance.state.change(
        transitions.found_equal,
        planned.standing(SnapshotRef.of(snapshot), instance.tables),
        instance.fleet,
        digest=planned.live.manifest.digest,
        now=time.time(),
    )
    return _nothing(snapshot, f"the rows equal {snapshot.position}; nothing to do")


def _carry_out(instance: Instance, snapshot: Snapshot, planned: prepare.Planned) -> CycleResult:
    summary, mark = planned.plan.summary, SnapshotRef.of(snapshot)
    again = " again" if instance.state.load().following.applied == mark else ""
    started = time.monotonic()
    instance.store.check_writable()  # Kuma must not be stopped in vain
    live = apply(instance, planned, mark)
    sentence = (
        f"applied {snapshot.position} of {snapshot.label.leader}{again}: {summary.sentence()}, "
        f"digest {snapshot.label.digest[:12]}, {lasting(time.monotonic() - started)}"
        f"{WENT_ON if live else ''}"
    )
    sentence = "; ".join((sentence, *planned.came.brief))
    change = Change(str(snapshot.position), summary)
    instance.notifier.send(Kind.APPLIES, "restore", sentence, change=change)
    odd = (*map(str, planned.observation.dangling), *planned.came.notes)
    result = CycleResult(Outcome.APPLIED, sentence, snapshot.position, snapshot.label.digest)
    return replace(result, changes=summary, warnings=odd, live=live)


def _note(instance: Instance, snapshot: Snapshot, planned: prepare.Planned) -> None:
    """Note what comes with a newer snapshot, for the page and the API. Raises StateError."""
    if instance.change_log is None:
        return
    state = instance.state.load()
    led, applied = state.leading.published, state.following.applied
    if led is not None and led.position >= snapshot.position:
        return  # a rollback: it was noted when it was published
    if applied is not None and applied.position >= snapshot.position:
        return
    if applied is None:
        entry = Entry(snapshot, notes=("the first snapshot that this instance took",))
    else:
        entry = change_sets.planned(snapshot, applied.position, planned.plan)
    instance.change_log.changed(entry)


def plan_of(instance: Instance, snapshot: Snapshot, ahead: Ahead | None = None) -> prepare.Planned:
    """What the snapshot would change here; raises ReplicatorErrors."""
    gate(instance, snapshot)
    instance.step(f"fetching {snapshot.position}")
    with contextlib.ExitStack() as stack:
        wanted = ahead.dump(snapshot) if ahead is not None else None
        if ahead is not None:
            seen = ahead.seen
        else:  # the live rows are read while restic starts: both take about as long
            seen = stack.enter_context(beside(lambda: prepare.observe_live(instance)))
        wanted = wanted or fetched(instance, snapshot, "fetched")
        instance.step("comparing the rows")
        require_schema(instance, snapshot, seen.result().live, wanted)
        return prepare.prepare(instance, wanted, seen.result())


def _nothing(snapshot: Snapshot, sentence: str) -> CycleResult:
    return CycleResult(Outcome.NOTHING, sentence, snapshot.position, snapshot.label.digest)


def _differs(snapshot: Snapshot) -> CycleResult:
    return _nothing(
        snapshot, f"{snapshot.position} is applied; nothing newer; rows here differ from it"
    )


def waiting(snapshot: Snapshot, why: str) -> CycleResult:
    """The result of a cycle that could not take this snapshot yet."""
    sentence = f"{snapshot.position} waits: {why}"
    return CycleResult(Outcome.WAITING, sentence, snapshot.position)
