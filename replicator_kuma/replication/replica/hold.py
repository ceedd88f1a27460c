"""A replica that a person sent to a position, and that follows no newer one until told to go on.

The word is in the state before a row is touched: who ends in between, goes there next time.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from replicator_kuma.adapters.repository import Position, Snapshot, missing
from replicator_kuma.base.errors import (
    Held,
    Interrupted,
    KumaKilled,
    ReplicatorError,
    RepositoryUnreachable,
    SnapshotNotFound,
    StoppedInVain,
    TwoLeaders,
)
from replicator_kuma.base.times import moment_of, when
from replicator_kuma.replication.apply.confirm import holds
from replicator_kuma.replication.apply.recovery import recover
from replicator_kuma.replication.instance import CycleResult, Instance, Outcome
from replicator_kuma.replication.replica import drift
from replicator_kuma.replication.state.hold_words import held_words, in_place, told
from replicator_kuma.replication.state.state import Hold, Mark, State
from replicator_kuma.replication.workspace import workspace

if TYPE_CHECKING:
    from replicator_kuma.replication.replica.cycle import Replica

TO_GO_ON = "to go on: replicator restore --resume"

log = logging.getLogger(__name__)


def find(snapshots: Sequence[Snapshot], wanted: str) -> Snapshot:
    """The snapshot that a person means by an id, the beginning of one, or a position."""
    found = [
        s
        for s in snapshots
        if str(s.position) == wanted or any(known.startswith(wanted) for known in s.ids)
    ]
    away = getattr(snapshots, "away", "")
    if away and not found:
        raise missing(snapshots, f"no snapshot of this fleet matches {wanted!r}")
    if len(found) != 1:
        many = "more than one snapshot matches" if found else "no snapshot of this fleet matches"
        raise SnapshotNotFound(f"{many} {wanted!r}")
    return found[0]


def as_of(snapshots: Sequence[Snapshot], at: float) -> Snapshot:
    """The snapshot of the highest position that was not published after ``at`` (epoch seconds).

    Raises SnapshotNotFound; TwoLeaders where two differ at that position; RepositoryUnreachable
    where one of two repositories is away: the one between may be in it alone.
    """
    if away := getattr(snapshots, "away", ""):
        raise RepositoryUnreachable(
            f"which snapshot was the newest at {when(at)} cannot be told: {away} gave no answer",
            hint="Name one by its position: replicator snapshots, then --snapshot POSITION "
            "(rollback: POSITION)",
        )
    old = [s for s in snapshots if _published(s) <= at]
    if not old:
        raise SnapshotNotFound(f"no snapshot of this fleet is as old as {when(at)}")
    tied = [s for s in old if s.position == old[-1].position]
    if len({s.label.digest for s in tied}) > 1:
        raise TwoLeaders(
            f"{len(tied)} snapshots are {old[-1].position}",
            hint="Name one by its id: replicator snapshots",
        )
    return old[-1]


def _published(snapshot: Snapshot) -> float:
    try:
        return moment_of(snapshot.time)
    except ValueError:
        return float("inf")


def chosen(snapshots: Sequence[Snapshot], wanted: str | None, at: float | None) -> Snapshot:
    """The snapshot that a person named by one of the two; raises SnapshotNotFound, TwoLeaders."""
    if wanted is not None:
        return find(snapshots, wanted)
    assert at is not None
    return as_of(snapshots, at)


def floor(state: State) -> Position | None:
    """The highest position that was ever applied here, confirmed or not."""
    positions = [mark.position for mark in (state.applied,) if mark is not None]
    if state.floor is not None:
        positions.append(state.floor)
    if state.pending is not None and not state.pending.rollback:
        positions.append(state.pending.mark.position)
    return max(positions, default=None)


def refuse_while_held(state: State) -> None:
    """Raise Held for a word that says neither where to go, nor that the hold ends."""
    if state.hold is not None:
        raise Held(f"this replica holds {held_words(state.hold)}: it stays there")


def go_to(instance: Instance, wanted: str | None, at: float | None) -> CycleResult:
    """Go to the snapshot that a person named, and hold it; under the lock.

    Raises ReplicatorErrors; then the hold is what it was before, unless rows are in place.
    """
    from replicator_kuma.replication.replica.cycle import Replica

    with workspace(instance):
        recover(instance)
        replica = Replica(instance)
        return take_and_hold(replica, chosen(replica.listed(), wanted, at))


def resume(instance: Instance, *, allow_shrink: bool = False) -> CycleResult:
    """End the hold, and go to the newest snapshot at once; under the lock.

    ``allow_shrink``: also where most of the monitors go by it. Raises ReplicatorErrors; with a
    repository that gives no answer the hold stays.
    """
    from replicator_kuma.replication.replica.cycle import Replica

    with workspace(instance):
        recover(instance)
        replica = Replica(instance)
        snapshots = replica.listed()
        # rows that an undo put back may bear the newest position, and be none of its rows
        instance.state.update(hold=None, live_digest="")
        return replica.follow(snapshots, reconcile=True, allow_shrink=allow_shrink)


def take_and_hold(replica: Replica, snapshot: Snapshot) -> CycleResult:
    """Note the hold, then take the snapshot. Call within a cycle."""
    instance, state = replica.instance, replica.instance.state.load()
    again = state.hold is not None and holds(state.hold, snapshot.id) and not state.hold.kept
    hold = state.hold if again else Hold(time.time(), Mark.of(snapshot))
    instance.state.update(hold=hold, floor=floor(state))
    try:
        result = replica.take(snapshot)
    except (Interrupted, KumaKilled):
        raise  # the next cycle goes on
    except Exception:
        revert(instance, state)
        raise
    return replace(result, sentence=f"{result.sentence}; holding it, {TO_GO_ON}")


def revert(instance: Instance, before: State) -> None:
    """After an error that the person sees: hold as before, unless the rows are in place."""
    state = instance.state.load()
    under_way = state.pending is not None and not state.pending.rollback
    wanted = state.hold.mark if state.hold is not None else None
    done = state.applied == wanted != before.applied
    if not (under_way or done):
        instance.state.update(hold=before.hold)


def cycle(
    replica: Replica, newest: Snapshot, snapshots: Sequence[Snapshot], reconcile: bool
) -> CycleResult:
    """A cycle of a replica that holds: see that it stands where it was sent, and go no further.

    ``reconcile`` puts its rows right where they differ, from the snapshot that it holds.
    """
    instance, state = replica.instance, replica.instance.state.load()
    hold = state.hold
    assert hold is not None
    if in_place(state):
        sentence = (
            f"{_say(instance, newest)}; its rows are written, waiting for Kuma to come up on them"
        )
        return CycleResult(Outcome.WAITING, sentence)
    if hold.kept:
        result = _undo_again(instance, hold)
        sentence = _say(instance, newest)
    else:
        sentence = _say(instance, newest)
        result = _stand(replica, hold, snapshots, reconcile)
    if result.outcome is Outcome.NOTHING:
        differ = "; rows here differ from it" if instance.state.load().drift else ""
        return replace(result, sentence=f"{sentence}{differ}")
    return replace(result, sentence=f"{result.sentence}; {sentence}")


def _say(instance: Instance, newest: Snapshot) -> str:
    """What a held replica says: aloud once for each newer position."""
    state = instance.state.load()
    hold, shown = state.hold, told(state)
    assert hold is not None
    assert shown is not None
    sentence = f"holding {held_words(shown)}; newest is {newest.position}; {TO_GO_ON}"
    if hold.said != newest.position:
        instance.state.update(hold=replace(hold, said=newest.position))
        log.warning("%s", sentence)
    return sentence


def _stand(
    replica: Replica, hold: Hold, snapshots: Sequence[Snapshot], reconcile: bool
) -> CycleResult:
    state, mark = replica.instance.state.load(), hold.mark
    found = next((s for s in snapshots if holds(hold, s.id)), None)
    if found is not None:
        return replica.stand(found, reconcile)
    if mark != state.applied:
        raise SnapshotNotFound(
            f"{mark.position if mark else 'what'} this replica was sent to is not in the "
            "repository any more: it keeps the rows that it has",
            hint="To follow the newest: replicator restore --resume",
        )
    # nothing is there to put rows right with
    drift.look(replica.instance, held_words(hold), may_heal=False)
    position = mark.position if mark is not None else None
    return CycleResult(Outcome.NOTHING, "", position, mark.digest if mark is not None else None)


def _undo_again(instance: Instance, hold: Hold) -> CycleResult:
    """Go on with an undo that ended in the middle; once, so that Kuma is not stopped each cycle."""
    from replicator_kuma.replication.undo import put_back

    try:
        return put_back(instance, hold.kept)
    except (Interrupted, KumaKilled, StoppedInVain):
        raise
    except ReplicatorError:
        state = instance.state.load()
        if state.hold is not None and state.hold.kept and state.pending is None:
            stays = replace(state.hold, mark=state.applied, kept=0)
            instance.state.update(hold=stays)
        raise
