"""Recovers an interrupted apply: completes it if it was committed, else drops it."""

from __future__ import annotations

import contextlib
import logging
import shutil
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from replicator_kuma.adapters.database import Reader
from replicator_kuma.base.errors import (
    DatabaseLocked,
    DatabaseMigrating,
    DatabaseMissing,
    DatabaseUnreachable,
    SnapshotRefused,
)
from replicator_kuma.base.events import as_event
from replicator_kuma.dump.format import Dump, write_tables
from replicator_kuma.dump.manifest import digest
from replicator_kuma.replication.apply import checkpoints, staging
from replicator_kuma.replication.instance import Instance
from replicator_kuma.replication.state import transitions
from replicator_kuma.replication.state.records import Pending

PARTIAL = "before.part"

log = logging.getLogger(__name__)


def before_folder(instance: Instance) -> Path:
    """The folder of the rows from before an unconfirmed apply."""
    return instance.state.folder / "before"


def resolve_before_start(instance: Instance) -> None:
    """Complete or drop an interrupted apply before Kuma starts, if the database can be read.

    If it cannot (Kuma migrates, or the tables live inside a Kuma that does not run), call
    `outcome_known` once Kuma is ready. Raises DatabaseErrors, StateError.
    """
    try:
        resolve_interrupted(instance)
    except (DatabaseMissing, DatabaseMigrating) as error:
        log.debug("whether the rows were written is not known yet: %s", error)
    except DatabaseUnreachable:
        if not instance.store.embedded:
            raise


def resolve_interrupted(instance: Instance) -> None:
    """Complete the pending apply if its transaction was committed; else drop it.

    The digest of the live rows decides: it equals the pending apply's target or its base. Raises
    DatabaseErrors if the rows cannot be read. A Kuma that starts then reads unknown rows: the
    apply is noted as `unread`.
    """
    pending = _pending_now(instance)
    if pending is None:
        drop_before(instance)
        return
    if not pending.writing:
        _drop(instance, pending)
        return
    try:
        rows = _rows_now(instance, pending)
    except (DatabaseLocked, DatabaseUnreachable):
        outside = instance.store.outlives_us and not instance.store.embedded
        if outside and instance.kuma.manages:
            instance.state.change(transitions.pending_is, replace(pending, unread=True))
        raise
    if rows == pending.base != pending.target and not pending.drifted:
        _drop(instance, pending)
        return
    if rows != pending.target and not pending.drifted:
        # the rows were changed since: they no longer show whether it was committed
        instance.state.change(transitions.pending_is, replace(pending, drifted=True))
    if rows == pending.target and not pending.seen:
        instance.state.change(transitions.pending_is, replace(pending, seen=True))
    if rows == pending.target or staging.is_staged(instance.data_dir):
        _finish(instance, pending)


def _finish(instance: Instance, pending: Pending) -> None:
    """Put the staged files in place; if they are lost, the next apply fetches them again."""
    try:
        staging.finish(instance.data_dir, pending.files)
    except staging.StagedLost as error:
        log.warning("%s: taking the snapshot again", error, extra=as_event("apply_again"))
        known = instance.state.load().applying.pending
        if known is not None:
            instance.state.change(transitions.pending_is, replace(known, files=(), drifted=True))


def _pending_now(instance: Instance) -> Pending | None:
    """The pending apply; a Kuma that does not run now will read its rows at the next start."""
    pending = instance.state.load().applying.pending
    if pending is not None and pending.unread and not instance.kuma.running():
        pending = replace(pending, unread=False)
        instance.state.change(transitions.pending_is, pending)
    return pending


def _drop(instance: Instance, pending: Pending) -> None:
    """Drop an apply that wrote nothing; the unconfirmed apply before it stays pending."""
    log.warning(
        "an apply ended before its changes were written: the rows are as they were",
        extra=as_event("apply_dropped"),
    )
    stands = pending.earlier and replace(pending.earlier, files=())
    if pending.rollback:
        # Kuma has not confirmed the rows that this revert was to replace: they stay pending
        stands = replace(pending, files=(), rollback=False, writing=True, drifted=True)
    staging.discard(instance.data_dir)
    checkpoints.abandon(instance.state.folder)
    instance.state.change(transitions.pending_is, stands)
    if stands is None:
        drop_before(instance)


def drop_before(instance: Instance) -> None:
    """Commit the checkpoint of a confirmed apply; delete the folder with the rows from before it.

    The folder holds secrets. Call when nothing is pending.
    """
    staging.discard(instance.data_dir)
    folder = before_folder(instance)
    checkpoints.commit(instance.state.folder, folder)
    for path in (folder, folder.with_name(PARTIAL)):
        shutil.rmtree(path, ignore_errors=True)


def _rows_now(instance: Instance, pending: Pending) -> str:
    """The digest of the live tables, computed as for the pending apply.

    The operator may have changed the choice of tables and settings since. Then this uses the choice
    stored with the rows from before, if its digest is one of the pending apply's.
    """
    rows = _tables_digest(instance)
    if rows not in (pending.base, pending.target):
        with contextlib.suppress(SnapshotRefused):  # no rows from before, or damaged ones
            before = Dump.open(before_folder(instance)).manifest
            as_before = _tables_digest(instance.choosing(before))
            if as_before in (pending.base, pending.target):
                return as_before
    return rows


def _tables_digest(instance: Instance) -> str:
    store = instance.store
    # a writer waits for the commit that a dead client began; a reader would see the old rows
    opened: AbstractContextManager[Reader] = store.write() if store.outlives_us else store.read()
    with opened as reader:
        entries, _named = write_tables(None, reader, reader.schema.require(instance.tables))
    return digest(entries, {})


def outcome_known(instance: Instance) -> bool:
    """Whether we know if the pending apply was committed; call once Kuma is ready.

    False while Kuma migrates: then confirm nothing, the next cycle asks again. Raises
    DatabaseErrors.
    """
    try:
        resolve_interrupted(instance)
    except DatabaseMigrating as error:
        log.info(
            "what an earlier run wrote is not confirmed yet: %s",
            error,
            extra=as_event("apply_unconfirmed"),
        )
        return False
    except DatabaseMissing:  # the outcome can no longer be known
        pending = instance.state.load().applying.pending
        if pending is not None:
            instance.state.change(transitions.pending_is, replace(pending, drifted=True))
    return True
