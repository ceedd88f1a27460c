"""What a cycle does first about an apply that Kuma has not confirmed."""

from __future__ import annotations

import logging

from replicator_kuma.base.errors import KumaRunning
from replicator_kuma.replication.apply.confirm import confirm
from replicator_kuma.replication.apply.recovery import outcome_known
from replicator_kuma.replication.apply.revert import (
    started_on_unknown_rows,
    stop_after_write,
    wait_or_revert,
)
from replicator_kuma.replication.instance import Instance

log = logging.getLogger(__name__)


def recover(instance: Instance) -> None:
    """Confirm a pending apply once Kuma is ready, or put the rows from before back.

    Then delete the history of monitors that are gone. Raises what `revert` raises; KumaRunning
    where Kuma would have to restart and nobody said how; DatabaseUnreachable where the tables live
    inside a Kuma that does not run.
    """
    pending, kuma = instance.state.load().applying.pending, instance.kuma
    # nobody knows which rows this start of Kuma has read: only its next start tells of them
    doubtful = pending is not None and started_on_unknown_rows(instance, pending)
    if pending is not None and kuma.manages and not doubtful:
        running = kuma.running()
        if not running and (not pending.restart or kuma.owned):
            return  # a person stopped it, or the supervisor has yet to start it
        if not running:
            log.warning("Kuma ended on rows that were not confirmed yet: starting it")
        wait_or_revert(instance, start=not running)
    if pending is not None:
        if not outcome_known(instance):
            return
        _restart_unread(instance)
    confirm(instance)


def confirm_started(instance: Instance) -> None:
    """Confirm a pending apply: `replicator run` has just started Kuma, and it is ready."""
    pending = instance.state.load().applying.pending
    if pending is not None and pending.unread:
        return  # the rows could not be asked before this start: the cycle that comes does
    if pending is None or outcome_known(instance):
        confirm(instance)


def _restart_unread(instance: Instance) -> None:
    """Restart a Kuma that has not read the rows since they were written."""
    pending = instance.state.load().applying.pending
    if pending is None or not pending.unread or instance.run.force:
        return
    if not instance.kuma.manages:
        raise KumaRunning(
            "the rows are new, Kuma has not read them yet, and nobody said how to restart it",
            hint="Restart Kuma by: replicator run. Or tell how to: REPLICATOR_KUMA=docker, systemd "
            "or command.",
        )
    log.warning("Kuma has not read its rows since they were written: restarting it")
    stop_after_write(instance)
    wait_or_revert(instance, start=True)
