"""Kuma is ready: the pending apply stands. Or its snapshot is called bad."""

from __future__ import annotations

import logging
import time
from dataclasses import replace

from replicator_kuma.base.effects import effect
from replicator_kuma.base.errors import DatabaseLocked
from replicator_kuma.replication.apply import checkpoints as kept
from replicator_kuma.replication.apply import failed_attempts
from replicator_kuma.replication.apply.interrupted import before_folder, forget_before
from replicator_kuma.replication.instance import Instance
from replicator_kuma.replication.shrink import no_rollback
from replicator_kuma.replication.snapshot_ids import identity
from replicator_kuma.replication.state.state import NO_DRIFT, Bad, Hold, Mark, Pending, State

NOT_STARTED = "Kuma did not start on it"
UNCONFIRMED = "Kuma has not confirmed these rows: the first cycle once it runs publishes them"

log = logging.getLogger(__name__)


def confirm(instance: Instance) -> None:
    """Kuma is ready (or nobody's to wait for): the pending apply stands; history goes after it.

    Harmless when nothing is pending.
    """
    state = instance.state.load()
    if state.pending is not None:
        pending = state.pending
        changes: dict[str, object] = {"pending": None, "stopped_by_me": False}
        changes["purge"] = state.purge or pending.purge
        if instance.kuma.manages:
            changes |= instance.pace.restarted(long_since=not pending.rollback)
        if pending.rollback:
            kept.disown(instance.state.folder)
            if not failed_attempts.killed(
                state, failed_attempts.aim(instance, pending.mark, pending.policy)
            ):
                changes |= _suspect(state, pending, identity(instance.fleet, pending.mark))
            changes["rolled_back"] = None
        else:
            _announce(instance, state, pending)
            changes |= forgiven(state, identity(instance.fleet, pending.mark))
            changes["hold"] = _holds(state, pending)
            changes |= _went_back(state, pending)
            if not pending.drifted:
                applied = pending.back_to if pending.undoes else pending.mark
                changes |= {"applied": applied, **_stands(state, pending)}
        state = instance.state.update(**changes)
        forget_before(instance)
    if state.purge:
        try:
            gone = purge_history(instance)
        except DatabaseLocked as error:
            log.warning("history of monitors that are gone stays until the next cycle: %s", error)
            return
        instance.state.update(purge=False)
        log.info("deleted %d rows of history of monitors that are gone", gone)


def purge_history(instance: Instance) -> int:
    """Delete history that belongs to no monitor; the number of rows. Raises DatabaseErrors."""
    effect("purging history")
    gone = instance.store.purge_history()
    effect("history purged")
    return gone


def _announce(instance: Instance, state: State, pending: Pending) -> None:
    """What this apply replaced is kept once it is confirmed: the way back from a mistake."""
    before = before_folder(instance)
    if not (before / "manifest.json").exists():
        return
    kept.announce(
        instance.state.folder,
        before,
        state.led_from,
        at=time.time(),
        to=pending.mark.position,
        sentence=pending.words,
        was=kept.stood_for(state, pending, before),
        undoes=pending.undoes,
        policy=state.applied_policy,
        arrived=state.arrived,
        keeps_own=state.keeps_own,
    )


def _stands(state: State, pending: Pending) -> dict[str, object]:
    """What holds of the live rows from now on, until a cycle finds something else."""
    again = state.applied_by(pending.mark.snapshot, pending.policy)
    return {
        "live_digest": pending.digest,
        "applied_policy": pending.policy,
        "arrived": pending.arrived,
        "keeps_own": pending.keeps_own,
        "healed": pending.replaced if again else "",
        "healed_at": 0.0,
        "unchanged": "",
        **NO_DRIFT,
    }


def _went_back(state: State, pending: Pending) -> dict[str, object]:
    """A leader's rollback is in place: what a person meant by it is still to be published.

    An undo takes that word back, too. Rows that nobody saw in place prove nothing.
    """
    if pending.undoes:
        return {"rolled_back": None, "went_back": None}
    if over := no_rollback(state, pending.mark.position):
        return over
    in_place = pending.seen or not pending.drifted
    if in_place and state.rolled_back == pending.mark.position:
        return {"went_back": pending.mark}
    return {}


def _holds(state: State, pending: Pending) -> Hold | None:
    """The hold once this is confirmed: an undo is done, and another snapshot ends it."""
    if state.hold is None:
        return None
    if pending.undoes:
        return replace(state.hold, kept=0)
    return state.hold if holds(state.hold, pending.mark.snapshot) else None


def holds(hold: Hold, snapshot: str) -> bool:
    """Whether a hold is of this snapshot."""
    return hold.mark is not None and hold.mark.snapshot == snapshot


def _suspect(state: State, pending: Pending, snapshot: str) -> dict[str, object]:
    """Kuma came up on the old rows, late: the snapshot may be innocent once, not twice.

    (It failed on both at first: a port, a disk. Or its start takes longer than we wait; then each
    new attempt would be an outage for nothing.) Of an undo there is none: it is not tried again.
    """
    if pending.undoes:
        return {"hold": state.hold and replace(state.hold, mark=state.applied, kept=0)}
    if state.suspect == snapshot:
        return {**_bad(state, snapshot, pending.mark, NOT_STARTED), "suspect": ""}
    return {"suspect": snapshot}


def _bad(state: State, snapshot: str, mark: Mark, why: str) -> dict[str, object]:
    """The snapshots that are not tried again by themselves, and one more; the last twenty."""
    bad = (*(known for known in state.bad if known != snapshot), snapshot)[-20:]
    return {"bad": bad, "bad_why": Bad(str(mark.position), time.time(), why)}


def call_bad(instance: Instance, mark: Mark, why: str) -> None:
    """Remember a snapshot for which Kuma was stopped in vain: it is not tried again by itself."""
    if snapshot := identity(instance.fleet, mark):  # an undo's rows are of none
        instance.state.update(**_bad(instance.state.load(), snapshot, mark, why))


def forgiven(state: State, snapshot: str) -> dict[str, object]:
    """The changes of the state once Kuma has been ready on a snapshot's rows; its common id."""
    return {
        "bad": tuple(known for known in state.bad if known != snapshot),
        "suspect": "" if state.suspect == snapshot else state.suspect,
        "vain": None,
    }
