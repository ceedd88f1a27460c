"""Kuma is ready: the pending apply stands."""

from __future__ import annotations

import logging
import time
from dataclasses import replace

from replicator_kuma.base.effects import effect
from replicator_kuma.base.errors import DatabaseLocked
from replicator_kuma.replication.apply import checkpoints, failed_attempts
from replicator_kuma.replication.apply.failed_attempts import forgiven, suspect_fields
from replicator_kuma.replication.apply.recovery import before_folder, drop_before
from replicator_kuma.replication.instance import Instance
from replicator_kuma.replication.shrink import no_rollback
from replicator_kuma.replication.snapshot_ids import identity
from replicator_kuma.replication.state.records import NO_DRIFT, Hold, Pending
from replicator_kuma.replication.state.state import State

UNCONFIRMED = "Kuma has not confirmed these rows: the first cycle once it runs publishes them"

log = logging.getLogger(__name__)


def confirm(instance: Instance) -> None:
    """Note that the pending apply stands, and delete the history of monitors that it removed.

    Call once Kuma is ready on its rows, or where nobody can wait for Kuma. Without a pending apply
    only history goes. Raises StateError, DatabaseErrors.
    """
    state = instance.state.load()
    if (pending := state.pending) is not None:
        restarted = {}
        if instance.kuma.manages:
            restarted = instance.cooldown.restarted(long_since=not pending.rollback)
        if pending.rollback:
            checkpoints.abandon(instance.state.folder)
            noted = _reverted_fields(instance, state, pending)
        else:
            _prepare_checkpoint(instance, state, pending)
            noted = _confirmed_fields(instance, state, pending)
        purge = state.purge or pending.purge
        state = instance.state.update(
            pending=None, stopped_by_me=False, purge=purge, **restarted, **noted
        )
        drop_before(instance)
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


def _prepare_checkpoint(instance: Instance, state: State, pending: Pending) -> None:
    """Prepare a checkpoint of the rows that this apply replaced; `undo` can put them back."""
    before = before_folder(instance)
    if not (before / "manifest.json").exists():
        return
    checkpoints.prepare(
        instance.state.folder,
        before,
        state.led_from,
        at=time.time(),
        to=pending.mark.position,
        sentence=pending.words,
        was=checkpoints.mark_of_replaced(state, pending, before),
        undoes=pending.undoes,
        policy=state.applied_policy,
        arrived=state.arrived,
        keeps_own=state.keeps_own,
    )


def _reverted_fields(instance: Instance, state: State, pending: Pending) -> dict[str, object]:
    """The state's fields once Kuma is ready on the rows from before."""
    suspected: dict[str, object] = {}
    key = failed_attempts.aim(instance, pending.mark, pending.policy)
    if not failed_attempts.killed(state, key):
        suspected = suspect_fields(state, pending, identity(instance.fleet, pending.mark))
    return {"rolled_back": None, **suspected}


def _confirmed_fields(instance: Instance, state: State, pending: Pending) -> dict[str, object]:
    """The state's fields once Kuma is ready on the rows of an apply."""
    noted = forgiven(state, identity(instance.fleet, pending.mark))
    noted |= {"hold": _hold_after(state, pending), **_rollback_fields(state, pending)}
    if not pending.drifted:
        applied = pending.back_to if pending.undoes else pending.mark
        noted |= {"applied": applied, **_applied_fields(state, pending)}
    return noted


def _applied_fields(state: State, pending: Pending) -> dict[str, object]:
    """The state's fields that describe the live rows from now on."""
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


def _rollback_fields(state: State, pending: Pending) -> dict[str, object]:
    """The state's fields about a leader's rollback: its rows are in place and not published yet.

    An undo cancels the rollback. Where nobody saw the rows in place, nothing is noted.
    """
    if pending.undoes:
        return {"rolled_back": None, "went_back": None}
    if over := no_rollback(state, pending.mark.position):
        return over
    in_place = pending.seen or not pending.drifted
    if in_place and state.rolled_back == pending.mark.position:
        return {"went_back": pending.mark}
    return {}


def _hold_after(state: State, pending: Pending) -> Hold | None:
    """The hold after this apply: an undo is done; a hold of another snapshot ends."""
    if state.hold is None:
        return None
    if pending.undoes:
        return replace(state.hold, kept=0)
    return state.hold if holds(state.hold, pending.mark.snapshot) else None


def holds(hold: Hold, snapshot: str) -> bool:
    """Whether a hold is of this snapshot."""
    return hold.mark is not None and hold.mark.snapshot == snapshot
