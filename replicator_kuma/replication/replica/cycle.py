"""The replica's cycle: observe, decide, fetch, plan; stop, apply, start only when rows differ."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from replicator_kuma.adapters.notify import Kind
from replicator_kuma.adapters.repository import Snapshot, missing
from replicator_kuma.base.errors import (
    DatabaseMigrating,
    DatabaseMissing,
    ReplicatorError,
    SnapshotNotFound,
    SnapshotRefused,
    SnapshotShrinks,
    TwoLeaders,
)
from replicator_kuma.base.times import when
from replicator_kuma.dump import change_words
from replicator_kuma.dump.plan import Plan, Summary
from replicator_kuma.replication import (
    mode_mismatch,
    restart_cooldown,
    second_repository,
)
from replicator_kuma.replication.apply import checkpoints, failed_attempts, prepare
from replicator_kuma.replication.apply.confirm import forgiven, holds
from replicator_kuma.replication.apply.recovery import recover
from replicator_kuma.replication.apply.restart import apply
from replicator_kuma.replication.instance import CycleResult, Instance, Outcome
from replicator_kuma.replication.mode_mismatch import awaits_mode
from replicator_kuma.replication.observe import observe
from replicator_kuma.replication.replica import drift
from replicator_kuma.replication.replica import hold as holding
from replicator_kuma.replication.replica.hold import find
from replicator_kuma.replication.replica.shrink_guard import UNGUARDED, Guard, noted
from replicator_kuma.replication.schema_check import gate, require_schema
from replicator_kuma.replication.shrink import no_rollback
from replicator_kuma.replication.snapshot_ids import recognised
from replicator_kuma.replication.state.hold_words import told
from replicator_kuma.replication.state.state import NO_DRIFT, Hold, Mark, State
from replicator_kuma.replication.workspace import empty_workspace, preview_workspace, workspace

T = TypeVar("T")

log = logging.getLogger(__name__)


def newest_to_follow(state: State, fleet: str, snapshots: Sequence[Snapshot]) -> Snapshot | None:
    """The snapshot that a replica follows: a pure function of what it knows and what is listed.

    None in a fleet that has published nothing. Raises RepositoryLost, TwoLeaders: the replica
    then keeps what it has, and never goes back by itself.
    """
    applied = holding.floor(state)
    if not snapshots:
        if applied is not None:
            raise missing(
                snapshots,
                f"the repository holds no snapshot of fleet {fleet!r}, but {applied} "
                "was applied here",
            )
        if getattr(snapshots, "away", ""):
            raise missing(snapshots, f"no snapshot of fleet {fleet!r} is known yet")
        return None
    newest = snapshots[-1]
    if applied is not None and newest.position < applied:
        raise missing(
            snapshots,
            f"the newest snapshot is {newest.position}, but {applied} was applied here",
        )
    tied = [s for s in snapshots if s.position == newest.position]
    if len({s.label.digest for s in tied}) > 1:
        raise TwoLeaders(
            f"{len(tied)} snapshots are {newest.position}: this replica keeps its rows"
        )
    epoch = [s for s in snapshots if s.position.epoch == newest.position.epoch]
    writers = sorted({s.label.writer for s in epoch})
    if len(writers) > 1:
        leaders = sorted({s.label.leader for s in epoch})
        raise TwoLeaders(
            f"epoch {newest.position.epoch} has {len(writers)} writers "
            f"({', '.join(leaders)}): this replica keeps its rows"
        )
    return newest


def refuse_bad(state: State, newest: Snapshot) -> None:
    """Raise SnapshotRefused for one that has stopped Kuma in vain: a person may try it again."""
    if newest.label.common_id in state.bad:
        why = "it was refused here, or Kuma did not start on it"
        if state.bad_why is not None and state.bad_why.position == str(newest.position):
            why = f"{state.bad_why.sentence}, {when(state.bad_why.at)}"
        raise SnapshotRefused(
            f"{newest.position} is not tried again: {why}",
            hint="Look at the logs. To try it all the same: replicator restore --now",
        )


@dataclass(frozen=True)
class Preview:
    """A plan that was not carried out."""

    snapshot: Snapshot
    plan: Plan
    state: State
    """of this instance, as it was when the plan was made"""
    live_digest: str
    """of the rows here"""
    hold: Hold | None = None
    """where a person has sent this replica, which may be elsewhere"""

    @property
    def summary(self) -> Summary:
        return self.plan.summary

    def changes(self) -> Iterator[dict[str, Any]]:
        """One dict a row change, secrets masked (see `dump.change_words.changes`)."""
        return change_words.changes(self.plan)

    def words(self) -> Iterator[str]:
        """The same for people, a line each."""
        return change_words.lines(self.plan)


class Replica:
    """A replica's cycles on one instance."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance

    def cycle(
        self, *, reconcile: bool = False, snapshot: str | None = None, allow_shrink: bool = False
    ) -> CycleResult:
        """One cycle, under the instance's lock.

        ``reconcile`` compares the live rows also with a snapshot that is already applied;
        ``snapshot`` names one to go to, an older one too; ``allow_shrink``: a person says that
        the newest may take most of the monitors. Raises ReplicatorErrors, with the rows as they
        were.
        """
        self.instance.by_itself = not reconcile and snapshot is None
        with workspace(self.instance):
            recover(self.instance)
            snapshots = self.listed()
            if snapshot is not None:
                return holding.take_and_hold(self, find(snapshots, snapshot))
            return self.follow(snapshots, reconcile, allow_shrink)

    def listed(self) -> Sequence[Snapshot]:
        """The fleet's snapshots, by position; raises RepositoryErrors."""
        instance = self.instance
        instance.step("asking the repository")
        snapshots = instance.repository.snapshots(instance.fleet)
        second_repository.look_who_is_away(instance)
        if recognised(instance, snapshots).verified_at:
            # who follows may not go on as a leader by what it knew before: it asks first
            instance.state.update(verified_at=0.0)
        return snapshots

    def follow(
        self, snapshots: Sequence[Snapshot], reconcile: bool, allow_shrink: bool = False
    ) -> CycleResult:
        """Go to the newest of what was listed, unless a person holds another. Within a cycle."""
        instance = self.instance
        state = instance.state.load()
        newest = newest_to_follow(state, instance.fleet, snapshots)
        if newest is None:
            return CycleResult(
                Outcome.WAITING,
                f"fleet {instance.fleet!r} has no snapshot yet: waiting for its leader",
            )
        if state.hold is not None:
            return holding.cycle(self, newest, snapshots, reconcile)
        if state.published is not None and state.published.snapshot == newest.id:
            # promoted, and its mode is not set yet: what its rules left out here now would be
            # published as gone once it is
            self.instance = instance.as_leader()
            if awaits_mode(state) and (result := self._await_mode(newest)):
                return result
        guard = UNGUARDED if allow_shrink else Guard.of(instance, state, newest)
        return self.stand(newest, reconcile, guard)

    def stand(self, snapshot: Snapshot, reconcile: bool, guard: Guard = UNGUARDED) -> CycleResult:
        """See that this snapshot is applied and that its rows stand, or take it. In a cycle."""
        state = self.instance.state.load()
        if not reconcile:
            refuse_bad(state, snapshot)
        if self._applied(state, snapshot) and self.instance.store.exists():
            noted(self.instance, "")
            return self._compare(snapshot, reconcile)
        policy = self.instance.policy().fingerprint(self.instance.tables)
        failed_attempts.require_new(
            self.instance, failed_attempts.aim(self.instance, Mark.of(snapshot), policy)
        )
        return self._in_turn(snapshot) or self.take(snapshot, guard)

    def _in_turn(self, snapshot: Snapshot) -> CycleResult | None:
        """The end of a cycle that may not restart Kuma yet; None: it may.

        Asked before anything is fetched. Whether the snapshot changes rows here, only that tells.
        """
        wait = restart_cooldown.look(self.instance)
        if wait is None:
            return None
        sentence = wait.sentence(snapshot.position)
        return CycleResult(Outcome.WAITING, sentence, snapshot.position, waits_until=wait.until)

    def _await_mode(self, newest: Snapshot) -> CycleResult | None:
        """What a promoted instance says until its mode is set; None where its rows were lost.

        What was edited here since is the fleet's next change, and no drift: it stays.
        """
        instance = self.instance
        if not instance.store.exists():
            return None
        try:
            seen = observe(instance)
        except DatabaseMigrating as error:
            return _waiting(newest, str(error))
        if seen.users == 0 and seen.monitors == 0:
            return None
        said = mode_mismatch.sentence(instance.state.load())
        if seen.manifest.digest == newest.label.digest:
            instance.state.update(**NO_DRIFT)
        else:
            changed = drift.note_unpublished(instance, newest.position, seen.manifest.digest)
            said = f"{said}; {changed}"
        return CycleResult(Outcome.WAITING, said, newest.position, newest.label.digest)

    def _applied(self, state: State, newest: Snapshot) -> bool:
        """Whether it came over, by the choices of today, and what it came to is known."""
        policy = self.instance.policy().fingerprint(self.instance.tables)
        return state.applied_by(newest.id, policy) and bool(state.live_digest)

    def _compare(self, newest: Snapshot, reconcile: bool) -> CycleResult:
        """The newest is applied: whether its rows still stand, and what to do if they do not."""
        try:
            step = drift.look(self.instance, newest.position, reconcile=reconcile)
        except DatabaseMigrating as error:
            return _waiting(newest, str(error))
        if step is drift.Step.EQUAL:
            return _nothing(newest, f"{newest.position} is applied; nothing newer")
        if step is drift.Step.ASK:
            return self.take(newest, only_ask=True)
        if step is drift.Step.HEAL:
            return self._in_turn(newest) or self.take(newest)
        return _differs(newest)

    def take(
        self, snapshot: Snapshot, guard: Guard = UNGUARDED, *, only_ask: bool = False
    ) -> CycleResult:
        """Fetch, plan, and apply where rows differ. Call within a cycle.

        ``only_ask``: it is applied, and whether rows differ is all that is to be known.
        On a full disk rows that were kept from before older applies make room.
        """
        while True:
            try:
                return self._take(snapshot, guard, only_ask)
            except ReplicatorError as error:
                if not checkpoints.make_room(self.instance.state.folder, error):
                    raise
                empty_workspace(self.instance)

    def _take(self, snapshot: Snapshot, guard: Guard, only_ask: bool) -> CycleResult:
        instance = self.instance
        try:
            guard.look(snapshot)
            if not instance.store.exists():
                if not instance.keep_running:
                    raise DatabaseMissing(f"there is no database in {instance.data_dir}")
                return _waiting(snapshot, "Kuma has made no database here yet")
            preview, planned = self._plan(snapshot)
            guard.weigh(snapshot, planned)
        except DatabaseMigrating as error:
            return _waiting(snapshot, str(error))
        except SnapshotShrinks as error:
            noted(instance, str(error))
            raise
        noted(instance, "")
        if preview.plan.empty:
            return self._equal(snapshot, planned)
        if only_ask:
            digest = planned.live.manifest.digest
            drift.note(instance, drift.Step.LEAVE, snapshot.position, digest)
            return _differs(snapshot)
        return self._carry_out(snapshot, planned)

    def _equal(self, snapshot: Snapshot, planned: prepare.Planned) -> CycleResult:
        """Note that the live rows are the snapshot's; a pending apply is Kuma's to confirm."""
        instance, state = self.instance, self.instance.state.load()
        if state.pending is not None:
            return CycleResult(
                Outcome.WAITING,
                f"{snapshot.position} is written; waiting for Kuma to come up on it",
                snapshot.position,
                None,
            )
        policy = planned.policy.fingerprint(instance.tables)
        again = state.applied_by(snapshot.id, policy)
        changes = drift.equal(state) if again else {**NO_DRIFT, "healed": "", "healed_at": 0.0}
        instance.state.update(
            applied=Mark.of(snapshot),
            live_digest=planned.live.manifest.digest,
            applied_policy=policy,
            arrived=prepare.remembered(planned.arrived),
            keeps_own=planned.keeps_own,
            unchanged="",
            waits_until=0.0,
            hold=state.hold if state.hold and holds(state.hold, snapshot.id) else None,
            **changes,
            **no_rollback(state, snapshot.position),
            **forgiven(state, snapshot.label.common_id),
        )
        return _nothing(snapshot, f"the rows equal {snapshot.position}; nothing to do")

    def _carry_out(self, snapshot: Snapshot, planned: prepare.Planned) -> CycleResult:
        instance, summary, mark = self.instance, planned.plan.summary, Mark.of(snapshot)
        again = " again" if instance.state.load().applied == mark else ""
        started = time.monotonic()
        instance.store.check()  # damage anywhere would grow with what is written
        instance.store.check_writable()  # Kuma must not stop for nothing
        apply(instance, planned, mark)
        sentence = (
            f"applied {snapshot.position} of {snapshot.label.leader}{again}: {summary.sentence()}, "
            f"digest {snapshot.label.digest[:12]}, {time.monotonic() - started:.1f} s"
        )
        sentence = "; ".join((sentence, *planned.brief))
        instance.notifier.send(Kind.APPLIES, "restore", sentence)
        return CycleResult(
            Outcome.APPLIED,
            sentence,
            snapshot.position,
            snapshot.label.digest,
            summary,
            warnings=(*(str(d) for d in planned.observation.dangling), *planned.notes),
        )

    def _plan(self, snapshot: Snapshot) -> tuple[Preview, prepare.Planned]:
        instance = self.instance
        gate(instance, snapshot)
        instance.step(f"fetching {snapshot.position}")
        # the live rows are read while restic starts, which takes as long
        with _beside(lambda: prepare.observe_live(instance)) as seen:
            wanted = prepare.fetched(instance, snapshot, "fetched")
            instance.step("comparing the rows")
            require_schema(instance, snapshot, seen.result().live, wanted)
            planned = prepare.prepare(instance, wanted, seen.result())
        digest = planned.live.manifest.digest
        return Preview(snapshot, planned.plan, instance.state.load(), digest), planned

    @contextlib.contextmanager
    def preview(self, snapshot: str | None = None, at: float | None = None) -> Iterator[Preview]:
        """What a restore would change; only reads, so it needs no lock.

        ``snapshot`` or ``at`` (epoch seconds) name another than the newest. The plan's files live
        as long as the block, in a scratch folder of its own.
        """
        with preview_workspace(self.instance) as instance:
            snapshots = instance.repository.snapshots(instance.fleet)
            if snapshot is not None or at is not None:
                newest: Snapshot | None = holding.chosen(snapshots, snapshot, at)
            else:
                newest = newest_to_follow(instance.state.load(), instance.fleet, snapshots)
            if newest is None:
                raise SnapshotNotFound(
                    f"fleet {instance.fleet!r} has no snapshot yet", hint=SnapshotNotFound.none_yet
                )
            state = instance.state.load()
            own = awaits_mode(state) and _same(state.published, newest)
            made = Replica(instance.as_leader() if own else instance)._plan(newest)[0]
            yield replace(made, state=state, hold=told(state))


@contextlib.contextmanager
def _beside(work: Callable[[], T]) -> Iterator[Future[T]]:
    """Do ``work`` in a thread beside the block, which does not end before it has.

    A daemon: the threads of a ThreadPoolExecutor would keep an interrupted process from ending.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    thread = threading.Thread(target=run, name="beside", daemon=True)
    thread.start()
    try:
        yield future
    finally:
        thread.join()


def _same(mark: Mark | None, snapshot: Snapshot) -> bool:
    """By what all copies of a snapshot have in common."""
    label = snapshot.label
    wanted = (label.position, label.writer, label.digest)
    return mark is not None and (mark.position, mark.writer, mark.digest) == wanted


def _nothing(snapshot: Snapshot, sentence: str) -> CycleResult:
    return CycleResult(Outcome.NOTHING, sentence, snapshot.position, snapshot.label.digest)


def _differs(snapshot: Snapshot) -> CycleResult:
    return _nothing(
        snapshot, f"{snapshot.position} is applied; nothing newer; rows here differ from it"
    )


def _waiting(snapshot: Snapshot, why: str) -> CycleResult:
    return CycleResult(
        Outcome.WAITING, f"{snapshot.position} waits: {why}", snapshot.position, None
    )
