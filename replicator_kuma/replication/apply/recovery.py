"""What a cycle does first about an apply that Kuma has not confirmed."""

from __future__ import annotations

import logging

from replicator_kuma.base.errors import KumaRunning
from replicator_kuma.replication.apply.confirm import confirm
from replicator_kuma.replication.apply.interrupted import asked
from replicator_kuma.replication.apply.revert import (
    started_blind,
    stop_after_write,
    wait_or_revert,
)
from replicator_kuma.replication.instance import Instance

log = logging.getLogger(__name__)


def settle(instance: Instance) -> None:
    """An unconfirmed apply: wait for Kuma; if it fails, the old rows go back. Then purge.

    Raises what `roll_back` raises, and DatabaseUnreachable for tables inside a Kuma.
    """
    pending, kuma = instance.state.load().pending, instance.kuma
    # a Kuma that was started while its database could not be asked is judged by its next start
    doubtful = pending is not None and started_blind(instance, pending)
    if pending is not None and kuma.manages and not doubtful:
        running = kuma.running()
        if not running and (not pending.restart or kuma.name == "child"):
            return  # a person stopped it, or it has not begun: there is nobody to wait for
        if not running:
            log.warning("Kuma ended on rows that were not confirmed yet: starting it")
        wait_or_revert(instance, start=not running)
    if pending is not None:
        if not asked(instance):
            return
        _restart_unread(instance)
    confirm(instance)


def _restart_unread(instance: Instance) -> None:
    """A Kuma that knows only the old rows, though new ones were written, reads them now."""
    pending = instance.state.load().pending
    if pending is None or not pending.unread or instance.force:
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
