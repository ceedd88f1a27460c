"""An apply around a restart of Kuma: note it, stop Kuma, write, start Kuma.

An interruption at any point leaves the old rows or the new ones, never a mix
(docs/architecture.md, rule 1), and Kuma running (rule 5). Each step is noted in the state before
it begins, so that a later process can go on.
"""

from __future__ import annotations

import contextlib
import logging

from replicator_kuma.base.errors import (
    KumaError,
    KumaRunning,
    NotAsWritten,
    ReplicatorError,
    SnapshotRefused,
    StateError,
)
from replicator_kuma.base.events import as_event
from replicator_kuma.replication import other_processes
from replicator_kuma.replication.apply import begin, failed_attempts
from replicator_kuma.replication.apply.confirm import confirm
from replicator_kuma.replication.apply.failed_attempts import call_bad
from replicator_kuma.replication.apply.prepare import Planned
from replicator_kuma.replication.apply.revert import stop_after_write, wait_or_revert
from replicator_kuma.replication.apply.transaction import carry_out, rehearse
from replicator_kuma.replication.instance import Instance
from replicator_kuma.replication.state import transitions
from replicator_kuma.replication.state.records import SnapshotRef

log = logging.getLogger(__name__)


def apply(instance: Instance, planned: Planned, mark: SnapshotRef) -> None:
    """Turn the instance into ``planned.wanted``, around a restart of Kuma.

    An embedded MariaDB is written while Kuma runs; Kuma restarts after that. Call with the lock
    held and a plan that is not empty. Raises KumaRunning and StoppedInVain before anything is
    touched; DatabaseErrors, SnapshotRefused and StateError with the rows unchanged and Kuma
    running again; KumaError if Kuma does not become ready (the rows from before are back in place
    if Kuma runs on them).
    """
    kuma, inside = instance.kuma, instance.store.embedded
    if kuma.manages and kuma.running() and instance.run.by_itself:
        instance.answers()
    was_running = kuma.running() if kuma.manages else _kuma_runs(instance)
    stops = was_running and kuma.manages and not inside
    wanted = failed_attempts.aim(instance, mark, planned.standing(mark, instance.tables).policy)
    failed_attempts.require_new(instance, wanted)
    if stops:
        other_processes.require_one_kuma(instance)
    rehearse(instance, planned)
    was_up = stops and other_processes.seen_up(instance)
    instance.step("stopping Kuma" if stops else "keeping the rows from before")
    restart = kuma.manages and (was_running or instance.supervised)
    unread = inside and was_running and kuma.manages
    first = begin.first_pending(instance, planned.plan, mark, restart=restart, unread=unread)

    def note(fitting: Planned) -> None:
        begin.note(instance, fitting, first, stops=stops)

    stopped = False
    try:
        note(planned)
        if kuma.manages and not inside:
            stopped = stops
            _stop(instance, was_up=was_up)
        instance.run.progress("writing the tables")
        carry_out(instance, planned, note)
    except BaseException as error:
        bad = isinstance(error, SnapshotRefused | NotAsWritten)
        if stopped and not bad and isinstance(error, Exception) and not instance.run.interrupted():
            failed_attempts.note(instance, wanted, mark, error)
        _clean_up(instance, stops)
        if stops and bad:
            why = "it did not read back" if isinstance(error, NotAsWritten) else "it was refused"
            with contextlib.suppress(StateError):  # a retry would be an outage in vain
                call_bad(instance, mark, f"{why}: {error}")
        raise
    _start(instance, was_running)


def _kuma_runs(instance: Instance) -> bool:
    """Whether a Kuma that we cannot stop may be running; raises KumaRunning unless forced."""
    inside = instance.store.embedded
    who = "" if inside else other_processes.by_kuma(instance)
    if (inside or who) and not instance.run.force:
        seen = f": {who} has its database open" if who else ""
        raise KumaRunning(f"Kuma is running, and nobody said how to stop it{seen}")
    return bool(inside or who)


def _stop(instance: Instance, *, was_up: bool) -> None:
    instance.stop_kuma()
    if who := other_processes.by_kuma(instance, was_up=was_up):
        raise KumaError(
            f"something still has Kuma's database open after Kuma was stopped: {who}",
            hint="Check REPLICATOR_KUMA and its commands: do they stop this Kuma? If so, close "
            "what else is connected to its database.",
        )


def _start(instance: Instance, was_running: bool) -> None:
    """Start Kuma, wait until it is ready and confirm; if it is not, put the old rows back.

    Raises what `revert` raises.
    """
    kuma = instance.kuma
    if not kuma.manages:
        confirm(instance)
        return
    if not (was_running or instance.supervised):
        return  # a person stopped Kuma: the apply is confirmed once somebody starts it
    if instance.run.interrupted():
        return  # a signal ends this process: the next start of the replicator goes on
    restart_on_new_rows(instance, stop=instance.store.embedded)


def restart_on_new_rows(instance: Instance, *, stop: bool) -> None:
    """Start Kuma on rows that are written, and confirm them; ``stop``: it runs, stop it first.

    If Kuma does not become ready, put the old rows back and raise what `revert` raises.
    """
    if stop:
        instance.run.progress("stopping Kuma")
        stop_after_write(instance)
    instance.run.progress("starting Kuma")
    instance.cooldown.starting()
    wait_or_revert(instance, start=True)
    confirm(instance)


def _clean_up(instance: Instance, stopped: bool) -> None:
    """After an error: drop the prepared apply and start Kuma again. Never raises."""
    begin.drop_unwritten(instance)
    if not stopped or instance.run.interrupted():
        return
    try:
        instance.start_kuma()
        instance.state.change(transitions.restarted, instance.cooldown.restarted())
    except ReplicatorError as error:
        log.error(
            "Kuma was stopped, and is not started again: %s",
            error,
            extra=as_event("kuma_left_stopped"),
        )
