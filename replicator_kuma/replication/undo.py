"""Undo: puts the newest checkpoint back, by an ordinary apply."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from replicator_kuma.adapters.notify import Change, Kind
from replicator_kuma.base.errors import (
    Interrupted,
    KeptDamaged,
    KumaError,
    NothingKept,
    ReplicatorError,
    SettingsError,
    SnapshotRefused,
)
from replicator_kuma.base.events import as_event
from replicator_kuma.base.times import when
from replicator_kuma.dump.format import Dump
from replicator_kuma.dump.plan import Plan
from replicator_kuma.replication.apply import checkpoints
from replicator_kuma.replication.apply.checkpoints import Checkpoint, Kept
from replicator_kuma.replication.apply.confirm import UNCONFIRMED
from replicator_kuma.replication.apply.live import apply
from replicator_kuma.replication.apply.prepare import (
    Planned,
    UndoOf,
    observe_live,
    prepare,
    remembered,
)
from replicator_kuma.replication.apply.unconfirmed import recover
from replicator_kuma.replication.instance import WENT_ON, CycleResult, Instance, Outcome
from replicator_kuma.replication.state import transitions
from replicator_kuma.replication.state.hold_words import TO_GO_ON, holding
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
    if hold:
        instance.require_lasting_hold()
    with workspace(instance):
        recover(instance)
        there, planned, one = _choose(instance, number, leads=not hold)
        if not hold:
            assert planned.undo is not None
            # it means nothing on a leader
            leads = replace(planned.undo, applied=instance.state.load().following.applied)
            result = _carry_out(there, replace(planned, undo=leads), one)
            waits = instance.state.load().applying.pending is not None
            then = UNCONFIRMED if waits else "the next cycle publishes them"
            return replace(result, sentence=f"{result.sentence}; {then}")
        with holding(instance.state, Hold(time.time(), one.was, kept=one.number)):
            result = _carry_out(there, planned, one)
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
    found = checkpoints.read_all(instance.state.folder)
    if number is not None:
        named = next((one for one in found if one.number == number), None)
        if named is None:
            raise NothingKept(f"nothing is kept as {number}")
        return _prepare(instance, named)
    state = instance.state.load()
    _require_confirmed(state)
    left = eligible = checkpoints.eligible(found, state, leads=leads)
    while (following := checkpoints.next_to_undo(left)) is not None:
        there, planned, one = _prepare(instance, following)
        if not planned.plan.empty:
            return there, planned, one
        log.info(
            "the rows here equal those kept as %d: going one further back",
            one.number,
            extra=as_event("undo_further"),
        )
        left = [other for other in left if other.number < one.number]
    raise _nothing(found, eligible)


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


def _nothing(found: Sequence[Kept], eligible: Sequence[Kept]) -> NothingKept:
    intact = [one for one in found if isinstance(one, Checkpoint)]
    if all(one in eligible for one in intact):
        return NothingKept(f"there is no {'further ' if intact else ''}apply to undo")
    return NothingKept(
        "there is no further apply to undo since this instance became the leader",
        hint="What it replaced as a replica, by rules of its own, goes to the whole fleet only if "
        "named by its number: replicator undo --list",
    )


def _damaged(instance: Instance, number: int, why: str) -> KeptDamaged:
    """The error for a checkpoint that cannot be put back; it names the next older one."""
    further = _further(instance, number)
    message = f"the rows kept as {number} cannot be put back: {why}"
    if further is None:
        return KeptDamaged(message)
    return KeptDamaged(
        message,
        hint=f"Nothing was changed. Further back, to the rows from before {further.to}: "
        f"replicator undo {further.number}. All that is kept: replicator undo --list",
    )


def _further(instance: Instance, number: int) -> Checkpoint | None:
    """The next older checkpoint that would change a row.

    A checkpoint that cannot be compared counts too: an undo with its number reports why.
    """
    below = [one for one in checkpoints.readable(instance.state.folder) if one.number < number]
    while (one := checkpoints.next_to_undo(below)) is not None:
        assert isinstance(one, Checkpoint)
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


def _prepare(instance: Instance, one: Kept) -> tuple[Instance, Planned, Checkpoint]:
    """The plan of a checkpoint; raises KeptDamaged."""
    if not isinstance(one, Checkpoint):
        raise _damaged(instance, one.number, one.why)
    try:
        dump = _opened(one)
    except SnapshotRefused as error:
        why = str(error).replace("the snapshot", "the set")
        raise _damaged(instance, one.number, why) from error
    return (*_planned(instance, one, dump), one)


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
    summary, live = planned.plan.summary, False
    if planned.plan.empty:
        if there.state.load().applying.pending is None:  # else Kuma has to confirm it first
            assert planned.undo is not None
            digest = planned.live.manifest.digest
            there.state.change(transitions.undone_already, planned.undo, digest=digest)
    else:
        there.store.check()
        there.store.check_writable()
        # without a snapshot's id: so no snapshot can be called bad for it
        stood = one.was or SnapshotRef(one.to, "", "")
        live = apply(there, planned, replace(stood, snapshot=""))
    came = f"those of {one.was.position}" if one.was is not None else "the first ones"
    sentence = (
        f"put the rows from before {one.to} back, {came}, kept since {when(one.at)}: "
        f"{summary.sentence()}{WENT_ON if live else ''}"
    )
    position = one.was.position if one.was is not None else None
    change = Change(str(position) if position else "its own rows", summary)
    there.notifier.send(Kind.APPLIES, "undo", sentence, change=change)
    digest = planned.wanted.manifest.digest
    return CycleResult(Outcome.APPLIED, sentence, position, digest, summary)
