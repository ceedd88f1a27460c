"""A held replica: a person sent it to a position, and it follows no newer one until resumed.

The hold is noted before a row is touched: after an interruption, the next cycle goes there.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import replace

from replicator_kuma.adapters.repository import Snapshot
from replicator_kuma.base.errors import (
    Interrupted,
    KumaKilled,
    ReplicatorError,
    SnapshotNotFound,
    StoppedInVain,
)
from replicator_kuma.base.events import as_event
from replicator_kuma.replication import problems
from replicator_kuma.replication.instance import CycleResult, Instance, Outcome
from replicator_kuma.replication.replica import drift
from replicator_kuma.replication.replica.take import stand, take
from replicator_kuma.replication.state import transitions
from replicator_kuma.replication.state.hold_words import (
    TO_GO_ON,
    held_words,
    holding,
    in_place,
    told,
)
from replicator_kuma.replication.state.records import HOLD, Hold, SnapshotRef
from replicator_kuma.replication.undo import put_back

log = logging.getLogger(__name__)


def take_and_hold(instance: Instance, snapshot: Snapshot) -> CycleResult:
    """Note the hold, then take the snapshot. Call within a cycle.

    Raises HoldWouldNotLast.
    """
    instance.require_lasting_hold()
    hold = instance.state.load().following.hold
    if hold is None or hold.kept or not hold.holds(snapshot.key):
        hold = Hold(time.time(), SnapshotRef.of(snapshot))
    with holding(instance.state, hold):
        result = take(instance, snapshot)
    return replace(result, sentence=f"{result.sentence}; holding it, {TO_GO_ON}")


def stay(
    instance: Instance, newest: Snapshot, snapshots: Sequence[Snapshot], reconcile: bool
) -> CycleResult:
    """The cycle of a held replica: check that the held snapshot is applied, and go no further.

    ``reconcile``: if the rows differ, correct them from the held snapshot.
    """
    state = instance.state.load()
    hold = state.following.hold
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
        result = _stand(instance, hold, snapshots, reconcile)
    if result.outcome is Outcome.NOTHING:
        differ = "; rows here differ from it" if instance.state.load().drift else ""
        return replace(result, sentence=f"{sentence}{differ}")
    return replace(result, sentence=f"{result.sentence}; {sentence}")


def _say(instance: Instance, newest: Snapshot) -> str:
    """The sentence of a held replica; it is logged once for each newer position."""
    shown = told(instance.state.load())
    assert shown is not None
    sentence = f"holding {held_words(shown)}; newest is {newest.position}; {TO_GO_ON}"
    newer = str(newest.position)
    problems.raise_(
        instance, HOLD, newer, sentence, lambda: log.warning("%s", sentence, extra=as_event("held"))
    )
    return sentence


def _stand(
    instance: Instance, hold: Hold, snapshots: Sequence[Snapshot], reconcile: bool
) -> CycleResult:
    state, mark = instance.state.load(), hold.mark
    found = next((s for s in snapshots if hold.holds(s.key)), None)
    if found is not None:
        return stand(instance, found, reconcile)
    if mark != state.following.applied:
        raise SnapshotNotFound(
            f"{mark.position if mark else 'what'} this replica was sent to is not in the "
            "repository any more: it keeps the rows that it has",
            hint="To follow the newest: replicator restore --resume",
        )
    # there is no snapshot from which rows could be corrected
    drift.look(instance, held_words(hold), may_heal=False)
    position = mark.position if mark is not None else None
    return CycleResult(Outcome.NOTHING, "", position, mark.digest if mark is not None else None)


def _undo_again(instance: Instance, hold: Hold) -> CycleResult:
    """Continue an interrupted undo; only once, so that not every cycle stops Kuma."""
    try:
        return put_back(instance, hold.kept)
    except (Interrupted, KumaKilled, StoppedInVain):
        raise
    except ReplicatorError:
        state = instance.state.load()
        noted = state.following.hold
        if noted is not None and noted.kept and state.applying.pending is None:
            stays = replace(noted, mark=state.following.applied, kept=0)
            instance.state.change(transitions.hold_is, stays)
        raise
