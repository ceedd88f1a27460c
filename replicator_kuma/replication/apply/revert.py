"""Reverts an apply on which Kuma did not become ready: puts the old rows back, starts Kuma."""

from __future__ import annotations

import contextlib
import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from replicator_kuma.adapters.kuma.process import signal_of
from replicator_kuma.adapters.kuma.readiness import NotReady
from replicator_kuma.base.effects import effect
from replicator_kuma.base.errors import (
    DatabaseMigrating,
    DatabaseUnreachable,
    KumaError,
    KumaKilled,
    ReplicatorError,
)
from replicator_kuma.base.events import as_event
from replicator_kuma.base.text import killed_by
from replicator_kuma.dump.format import Dump
from replicator_kuma.replication.apply import failed_attempts, staging
from replicator_kuma.replication.apply.confirm import confirm
from replicator_kuma.replication.apply.failed_attempts import NOT_STARTED, call_bad
from replicator_kuma.replication.apply.prepare import Planned, prepare, takes_monitors
from replicator_kuma.replication.apply.recovery import before_folder, resolve_before_start
from replicator_kuma.replication.apply.transaction import carry_out
from replicator_kuma.replication.instance import Instance
from replicator_kuma.replication.state import transitions
from replicator_kuma.replication.state.records import Pending

_NOT_READY_HINT = (
    "Look at Kuma's own log. Is REPLICATOR_KUMA_URL where it answers, and REPLICATOR_READY_TIMEOUT "
    "longer than its start takes?"
)

_STARTS = 3
"""starts of Kuma on the old rows, if signals end it"""

log = logging.getLogger(__name__)


def started_on_unknown_rows(instance: Instance, pending: Pending) -> bool:
    """Whether Kuma was started while we could not read the database: it read unknown rows."""
    return pending.unread and not instance.store.embedded


def stop_after_write(instance: Instance) -> None:
    """Stop a Kuma that ran while rows were written: it reads the new rows at its next start.

    Raises KumaError; the state then still says that Kuma has not read them.
    """
    instance.state.change(transitions.kuma_stopped)
    instance.stop_kuma()
    pending = instance.state.load().applying.pending
    if pending is not None:
        instance.state.change(transitions.pending_is, replace(pending, unread=False))


def wait_or_revert(instance: Instance, *, start: bool) -> None:
    """Wait until Kuma is ready; if ``start``, start it first.

    If Kuma does not become ready, put the old rows back and raise what `revert` raises.
    """
    try:
        if start:
            instance.start_kuma()
        instance.run.progress("waiting until Kuma is ready")
        instance.wait_ready()
    except KumaError as error:
        revert(instance, error)


def revert(instance: Instance, cause: KumaError) -> NoReturn:
    """Put the old rows back and start Kuma on them, because it did not start on the new ones.

    Always raises KumaError. The snapshot is called bad only if Kuma starts on the old rows and
    failed on the new ones by itself. A signal that ended Kuma says nothing about the snapshot.
    """
    if instance.store.embedded:  # the outcome is unknown until Kuma's MariaDB is up
        with contextlib.suppress(ReplicatorError):
            resolve_before_start(instance)
    pending, folder = instance.state.load().applying.pending, before_folder(instance)
    if pending is None or not (folder / "manifest.json").exists() or _migrating(instance):
        raise cause
    if started_on_unknown_rows(instance, pending):
        raise cause  # Kuma may have failed for lack of its database: the next cycle restarts it
    number = _killed_by(cause)
    if pending.rollback:  # the old rows are in place: another stop would only delay a slow Kuma
        if number:  # once Kuma runs, the next cycle confirms the rows
            _start_again(instance)
            raise KumaKilled(
                f"Uptime Kuma was {killed_by(number)} while it started on the rows from before "
                f"{pending.mark.position}; it runs on them now"
            ) from cause
        raise KumaError(
            f"Kuma is not ready, on the rows from before: {cause}", hint=_NOT_READY_HINT
        ) from cause
    if number:  # noted first: a process that goes on after ours dies has to know it
        failed_attempts.note_killed(instance, pending.mark, pending.policy, number)
    _restore(instance, pending, folder, cause)
    instance.run.progress("starting Kuma on them")
    try:
        _start_again(instance)
    except KumaError as error:
        raise KumaError(
            "Kuma is not ready, neither on the snapshot's rows nor on those from before, which are "
            f"in place: {error}",
            hint=_NOT_READY_HINT,
        ) from cause
    confirm(instance)
    raise _judged(instance, pending, cause) from cause


def _killed_by(error: KumaError) -> int:
    """The number of the signal that ended Kuma at its start; 0: Kuma failed in another way."""
    return signal_of(error.status) if isinstance(error, NotReady) else 0


def _restore(instance: Instance, pending: Pending, folder: Path, cause: KumaError) -> None:
    """Put the old rows back and leave Kuma stopped; if that fails, start Kuma.

    Raises KumaError.
    """
    log.error(
        "Kuma did not come back (%s): putting the rows from before in place",
        cause,
        extra=as_event("apply_reverted"),
    )
    instance.run.progress("putting the rows from before in place")
    instance.state.change(transitions.kuma_stopped)
    try:
        _restore_in_order(instance, pending, folder)
    except Exception as error:
        instance.start_kuma()
        raise KumaError(
            f"Kuma did not come back, and the rows from before could not be written: {error}",
            hint=f"They are kept in {folder}. Look at Kuma's log, then: replicator "
            f"{'backup' if instance.leads else 'restore --now'}, which goes on with it.",
        ) from cause


def _start_again(instance: Instance) -> None:
    """Start Kuma on the old rows and wait; start it again if a signal ended it.

    Raises KumaError if Kuma is not ready, or at the third signal; Kuma is left started.
    """
    for left in reversed(range(_STARTS)):
        instance.start_kuma()
        try:
            instance.wait_ready()
        except KumaError as error:
            if not _killed_by(error):
                raise
            log.error(
                "%s, on the rows from before: starting it again",
                error,
                extra=as_event("kuma_start_failed"),
            )
            if not left:
                instance.start_kuma()
                raise
        else:
            return


def _judged(instance: Instance, pending: Pending, cause: KumaError) -> KumaError:
    """The error to raise once Kuma runs on the old rows; notes a bad snapshot."""
    position, runs = pending.mark.position, "it runs on the rows from before"
    if number := _killed_by(cause):
        how = killed_by(number)
        return KumaKilled(f"Uptime Kuma was {how} while it started on {position}; {runs}")
    said = f"Kuma did not start on snapshot {position}; {runs}"
    unknown = isinstance(cause, NotReady) and cause.state is None and cause.status is None
    if not unknown:
        call_bad(instance, pending.mark, f"{NOT_STARTED} ({cause})")
        instance.state.change(transitions.unsuspected)
    elif instance.state.load().applying.suspect in pending.mark.names(instance.fleet):
        # Kuma may have been killed, which cannot be known: try the snapshot once more
        return KumaError(said, hint="Look at Kuma's log. The next cycle tries it once more.")
    return KumaError(
        said,
        hint="Look at Kuma's log. This snapshot is not tried again by itself; the next one is.",
    )


def _migrating(instance: Instance) -> bool:
    """Whether Kuma is migrating its schema after an upgrade: then it must not be stopped.

    During some migrations Kuma listens on no port.
    """
    try:
        with instance.store.read():
            return False
    except DatabaseMigrating:
        return True
    except ReplicatorError:
        return False


def _restore_in_order(instance: Instance, pending: Pending, folder: Path) -> None:
    """Write the old rows and stop Kuma, in the order that its database needs.

    An embedded MariaDB ends when Kuma ends: its rows are written first.
    """
    if instance.store.embedded:
        try:
            _write_before(instance, pending, folder)
        except DatabaseUnreachable as error:
            log.warning("Kuma's own MariaDB is gone: %s", error, extra=as_event("mariadb_gone"))
        else:
            stop_after_write(instance)
            return
    instance.stop_kuma()
    with instance.database_up() if instance.store.embedded else contextlib.nullcontext():
        _write_before(instance, pending, folder)


def _write_before(instance: Instance, pending: Pending, folder: Path) -> None:
    effect("putting the rows from before in place")
    before = Dump.open(folder)

    def note(planned: Planned) -> None:
        back = planned.plan
        staging.stage(instance.data_dir, before.folder, back.files)
        way_back = replace(
            pending,
            base=back.base,
            target=back.target,
            files=back.files,
            purge=pending.purge or takes_monitors(back),
            rollback=True,
            writing=False,
            drifted=False,
            seen=False,
            earlier=None,
            unread=instance.store.embedded and instance.kuma.running(),
        )
        instance.state.change(transitions.pending_is, way_back)
        effect("way back noted")

    shutil.rmtree(instance.work, ignore_errors=True)
    try:
        instance.work.mkdir(mode=0o700)
        there = instance.choosing(before.manifest)
        planned = prepare(there, before, own=True)
        note(planned)
        carry_out(there, planned, note)
    finally:
        shutil.rmtree(instance.work, ignore_errors=True)
