"""Undo: puts the newest checkpoint back, by an ordinary apply."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from replicator_kuma.adapters.notify import Kind
from replicator_kuma.base.errors import (
    Interrupted,
    KeptDamaged,
    KumaError,
    KumaKilled,
    NothingKept,
    ReplicatorError,
    SettingsError,
    SnapshotRefused,
)
from replicator_kuma.base.times import when
from replicator_kuma.dump.format import Dump
from replicator_kuma.dump.plan import Plan
from replicator_kuma.replication.apply import checkpoints
from replicator_kuma.replication.apply.checkpoints import Checkpoint, Damaged
from replicator_kuma.replication.apply.confirm import UNCONFIRMED
from replicator_kuma.replication.apply.prepare import (
    Planned,
    UndoOf,
    observe_live,
    prepare,
    remembered,
)
from replicator_kuma.replication.apply.restart import apply
from replicator_kuma.replication.apply.unconfirmed import recover
from replicator_kuma.replication.instance import CycleResult, Instance, Outcome
from replicator_kuma.replication.state import transitions
from replicator_kuma.replication.state.hold_words import TO_GO_ON, restore_hold
from replicator_kuma.replication.state.records import Arrived, Hold, SnapshotRef
from replicator_kuma.replication.state.state import State
from replicator_kuma.replication.workspace import preview_workspace, workspace

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Preview:
    """What an undo would do."""

    checkpoint: Checkpoint
    plan: Plan


def undo(instance: Instance, number: int | None = None, *, hold: bool = True) -> CycleResult:
    """Put the rows from before the last apply back; each further run goes one apply further back.

    ``number`` names a checkpoint instead. ``hold``: this is a replica, and it then follows no newer
    snapshot. Call with the lock held. Raises ReplicatorErrors, with the rows unchanged.
    """
    with workspace(instance):
        recover(instance)
        there, planned, one = _choose(instance, number, leads=not hold)
        state = instance.state.load()
        if not hold:
            assert planned.undo is not None
            # it means nothing on a leader
            leads = replace(planned.undo, applied=state.following.applied)
            result = _carry_out(there, replace(planned, undo=leads), one)
            waits = instance.state.load().applying.pending is not None
            then = UNCONFIRMED if waits else "the next cycle publishes them"
            return replace(result, sentence=f"{result.sentence}; {then}")
        wish = Hold(time.time(), one.was, kept=one.number)
        instance.state.change(transitions.held, wish)
        try:
            result = _carry_out(there, planned, one)
        except (Interrupted, KumaKilled):
            raise  # the next cycle continues
        except Exception:
            restore_hold(instance.state, state)
            raise
        return replace(result, sentence=f"{result.sentence}; holding them, {TO_GO_ON}")


def put_back(instance: Instance, number: int) -> CycleResult:
    """Continue an undo that an earlier process began on this replica. Call within a cycle."""
    return _carry_out(*_choose(instance, number))


@contextlib.contextmanager
def preview(
    instance: Instance, number: int | None = None, *, hold: bool = True
) -> Iterator[Preview]:
    """What an undo would change; only reads, and needs no lock.

    The arguments are those of `undo`. The plan's files exist until the block ends.
    """
    with preview_workspace(instance) as beside:
        _there, planned, one = _choose(beside, number, leads=not hold)
        yield Preview(one, planned.plan)


def _choose(
    instance: Instance, number: int | None, *, leads: bool = False
) -> tuple[Instance, Planned, Checkpoint]:
    """The checkpoint to put back, and its plan: the named one, or the newest with other rows.

    Raises NothingKept (KeptDamaged), DatabaseErrors; KumaError if the last apply is not confirmed
    and so has no checkpoint yet.
    """
    found, damaged = checkpoints.read_all(instance.state.folder)
    if number is not None:
        one = _named(instance, found, damaged, number)
        return (*_prepare(instance, one), one)
    state = instance.state.load()
    _require_confirmed(state)
    eligible = checkpoints.eligible(found, state, leads=leads)
    passed_over = len(eligible) < len(found)
    barred = checkpoints.eligible(damaged, state, leads=leads)
    while True:
        if met := checkpoints.damaged_in_the_way(eligible, barred):
            raise _damaged(instance, met.number, met.why, found)
        following = checkpoints.next_to_undo(eligible)
        if following is None:
            raise _nothing(found, passed_over)
        there, planned = _prepare(instance, following)
        if not planned.plan.empty:
            return there, planned, following
        number = following.number
        log.info("the rows here equal those kept as %d: going one further back", number)
        eligible = [other for other in eligible if other.number < number]
        barred = [other for other in barred if other.number < number]


def _require_confirmed(state: State) -> None:
    """Raise KumaError if the last apply has no checkpoint yet: an undo would skip it."""
    if state.applying.pending is not None and checkpoints.unconfirmed(state):
        position = state.applying.pending.mark.position
        raise KumaError(
            f"the rows of {position} are in place, and Kuma has not confirmed them: what "
            "they replaced is not kept yet",
            hint="Start Kuma first, then once more: replicator undo. Or by number what is further "
            "back: replicator undo --list",
        )


def _nothing(found: Sequence[Checkpoint], passed_over: bool) -> NothingKept:
    if not passed_over:
        return NothingKept(f"there is no {'further ' if found else ''}apply to undo")
    return NothingKept(
        "there is no further apply to undo since this instance became the leader",
        hint="What it replaced as a replica, by rules of its own, goes to the whole fleet only if "
        "named by its number: replicator undo --list",
    )


def _damaged(instance: Instance, number: int, why: str, found: Sequence[Checkpoint]) -> KeptDamaged:
    """The error for a checkpoint that cannot be put back; it names the next older one."""
    further = _further(instance, [one for one in found if one.number < number])
    message = f"the rows kept as {number} cannot be put back: {why}"
    if further is None:
        return KeptDamaged(message)
    return KeptDamaged(
        message,
        hint=f"Nothing was changed. Further back, to the rows from before {further.to}: "
        f"replicator undo {further.number}. All that is kept: replicator undo --list",
    )


def _further(instance: Instance, below: Sequence[Checkpoint]) -> Checkpoint | None:
    """The next older checkpoint that would change a row.

    A checkpoint that cannot be compared counts too: an undo with its number reports why.
    """
    while (one := checkpoints.next_to_undo(below)) is not None:
        try:
            if not _planned(instance, one, _opened(one))[1].plan.empty:
                return one
        except Interrupted:
            raise
        except ReplicatorError as error:
            log.debug("the rows kept as %d cannot be compared: %s", one.number, error)
            return one
        below = [other for other in below if other.number < one.number]
    return None


def _named(
    instance: Instance,
    found: Sequence[Checkpoint],
    damaged: Sequence[Damaged],
    number: int,
) -> Checkpoint:
    for one in found:
        if one.number == number:
            return one
    for lost in damaged:
        if lost.number == number:
            raise _damaged(instance, number, lost.why, found)
    raise NothingKept(f"nothing is kept as {number}")


def _prepare(instance: Instance, one: Checkpoint) -> tuple[Instance, Planned]:
    try:
        dump = _opened(one)
    except SnapshotRefused as error:
        why = str(error).replace("the snapshot", "the set")
        found = checkpoints.readable(instance.state.folder)
        raise _damaged(instance, one.number, why, found) from error
    return _planned(instance, one, dump)


def _opened(one: Checkpoint) -> Dump:
    """The checkpoint's rows; raises SnapshotRefused if they do not match their manifest."""
    dump = Dump.open(one.folder)
    dump.verify()
    return dump


def _planned(instance: Instance, one: Checkpoint, dump: Dump) -> tuple[Instance, Planned]:
    instance.step(f"comparing with the rows from before {one.to}")
    there = instance.choosing(dump.manifest)
    seen = observe_live(there)
    arrived = _arrived(instance.state.load(), one, seen.live)
    undo_of = UndoOf(one.was, _policy(instance, one), arrived, one.keeps_own, one.number)
    return there, prepare(there, dump, seen, own=True, undo=undo_of)


def _policy(instance: Instance, one: Checkpoint) -> str:
    """The policy to note for these rows: today's, so that the next cycle does not apply it again.

    (A person may undo what a new rule did.) Later policies apply, and `--resume` applies all.
    """
    try:
        return instance.policy().fingerprint(instance.tables)
    except SettingsError as error:
        log.debug("today's choices cannot be read, and must not bar the way back: %s", error)
        return one.policy


def _arrived(state: State, one: Checkpoint, live: Dump) -> Arrived:
    """The ids that had arrived at the checkpoint, and those that a person has deleted since."""
    found = {name: frozenset(ids) for name, ids in one.arrived}
    for name, ids in state.following.arrived:
        if name in live.manifest.tables:
            own = {int(line[1 : line.index(b",")]) for line, _rest in live.lines(name)}
            found[name] = found.get(name, frozenset()) | (frozenset(ids) - own)
    return remembered(found)


def _carry_out(there: Instance, planned: Planned, one: Checkpoint) -> CycleResult:
    summary = planned.plan.summary
    if planned.plan.empty:
        if there.state.load().applying.pending is None:  # else Kuma has to confirm it first
            assert planned.undo is not None
            digest = planned.live.manifest.digest
            there.state.change(transitions.undone_already, planned.undo, digest=digest)
    else:
        there.store.check()
        there.store.check_writable()
        apply(there, planned, _mark(one))
    came = f"those of {one.was.position}" if one.was is not None else "the first ones"
    sentence = (
        f"put the rows from before {one.to} back, {came}, kept since {when(one.at)}: "
        f"{summary.sentence()}"
    )
    there.notifier.send(Kind.APPLIES, "undo", sentence)
    position = one.was.position if one.was is not None else None
    digest = planned.wanted.manifest.digest
    return CycleResult(Outcome.APPLIED, sentence, position, digest, summary)


def _mark(one: Checkpoint) -> SnapshotRef:
    """The reference of an apply without a snapshot: so no snapshot can be called bad for it."""
    stood = one.was or SnapshotRef(one.to, "", "")
    return replace(stood, snapshot="")
