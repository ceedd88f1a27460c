"""The first step of a cycle: handles an apply that Kuma has not confirmed."""

from __future__ import annotations

import logging

from replicator_kuma.base.events import as_event
from replicator_kuma.replication.apply.confirm import confirm
from replicator_kuma.replication.apply.live import read_rows
from replicator_kuma.replication.apply.recovery import outcome_known
from replicator_kuma.replication.apply.revert import (
    started_on_unknown_rows,
    wait_or_revert,
)
from replicator_kuma.replication.instance import Instance

log = logging.getLogger(__name__)


def recover(instance: Instance) -> None:
    """Confirm a pending apply once Kuma is ready; if Kuma is not, put the old rows back.

    Then delete the history of deleted monitors. Raises what `revert` raises; KumaRunning if Kuma
    needs a restart and no way to restart it is configured; DatabaseUnreachable if the tables live
    inside a Kuma that does not run.
    """
    pending, kuma = instance.state.load().applying.pending, instance.kuma
    # it is unknown which rows Kuma read at this start: only its next start can confirm them
    doubtful = pending is not None and started_on_unknown_rows(instance, pending)
    if pending is not None and kuma.manages and not doubtful:
        running = kuma.running()
        if not running and (not pending.restart or kuma.owned):
            return  # a person stopped Kuma, or the supervisor has not started it yet
        if not running:
            log.warning(
                "Kuma ended on rows that were not confirmed yet: starting it",
                extra=as_event("kuma_started_again"),
            )
        wait_or_revert(instance, start=not running)
    if pending is not None:
        if not outcome_known(instance):
            return
        pending = instance.state.load().applying.pending
        if pending is not None and pending.unread and not instance.run.force:
            read_rows(instance)
    confirm(instance)


def confirm_started(instance: Instance) -> None:
    """Confirm a pending apply: `replicator run` has just started Kuma, and it is ready."""
    pending = instance.state.load().applying.pending
    if pending is not None and pending.unread:
        return  # the rows could not be read before this start: the next cycle reads them
    if pending is None or outcome_known(instance):
        confirm(instance)
