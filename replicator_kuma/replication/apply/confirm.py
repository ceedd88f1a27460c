"""Confirms a pending apply once Kuma is ready on its rows."""

from __future__ import annotations

import logging
import time

from replicator_kuma.base.effects import effect
from replicator_kuma.base.errors import DatabaseLocked
from replicator_kuma.base.events import as_event
from replicator_kuma.replication.apply import checkpoints, failed_attempts
from replicator_kuma.replication.apply.recovery import before_folder, drop_before
from replicator_kuma.replication.instance import Instance
from replicator_kuma.replication.state import transitions
from replicator_kuma.replication.state.records import Pending
from replicator_kuma.replication.state.state import State

UNCONFIRMED = "Kuma has not confirmed these rows: the first cycle once it runs publishes them"

log = logging.getLogger(__name__)


def confirm(instance: Instance, *, live: bool = False) -> None:
    """Note that the pending apply is confirmed; delete the history of monitors that it removed.

    Call once Kuma is ready on its rows, or where nobody can wait for Kuma. ``live``: Kuma was not
    restarted for it. Without a pending apply, it only deletes history. Raises StateError,
    DatabaseErrors.
    """
    state = instance.state.load()
    if (pending := state.applying.pending) is not None:
        if not pending.rollback:
            _prepare_checkpoint(instance, state, pending)
        else:
            checkpoints.abandon(instance.state.folder)
        state = instance.state.change(_ended, instance, pending, live)
        drop_before(instance)
    if state.applying.purge:
        try:
            gone = purge_history(instance)
        except DatabaseLocked as error:
            log.warning(
                "history of monitors that are gone stays until the next cycle: %s",
                error,
                extra=as_event("history_stays"),
            )
            return
        instance.state.change(transitions.history_purged)
        log.info(
            "deleted %d rows of history of monitors that are gone",
            gone,
            extra=as_event("history_deleted"),
        )


def purge_history(instance: Instance) -> int:
    """Delete history that belongs to no monitor; returns the number of rows. DatabaseErrors."""
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
        state.leading.led_from,
        at=time.time(),
        to=pending.mark.position,
        sentence=pending.words,
        was=checkpoints.mark_of_replaced(state, pending, before),
        undoes=pending.undoes,
        policy=state.following.policy,
        arrived=state.following.arrived,
        keeps_own=state.following.keeps_own,
    )


def _ended(state: State, instance: Instance, pending: Pending, live: bool) -> State:
    """The state once Kuma is ready: on the new rows, or on the rows from before the apply."""
    if not pending.rollback:
        state = transitions.confirmed(state, pending, instance.fleet)
    else:
        key = failed_attempts.aim(instance, pending.mark, pending.policy)
        killed = failed_attempts.killed(state, key)
        state = transitions.reverted(state, pending)
        if not killed:
            why = failed_attempts.NOT_STARTED
            state = transitions.suspected(state, pending, instance.fleet, why, now=time.time())
    if live:
        return transitions.waits(state, 0.0)
    if not instance.kuma.manages:
        return state
    restart = instance.cooldown.restarted(long_since=not pending.rollback)
    return transitions.restarted(state, restart)
