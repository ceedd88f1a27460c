"""An apply that ended in the middle: complete it where it was committed, else drop it."""

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
from replicator_kuma.dump.format import Dump, write_tables
from replicator_kuma.dump.manifest import digest
from replicator_kuma.replication.apply import checkpoints as kept
from replicator_kuma.replication.apply import staging
from replicator_kuma.replication.instance import Instance
from replicator_kuma.replication.state.state import Pending

PARTIAL = "before.part"

log = logging.getLogger(__name__)


def before_folder(instance: Instance) -> Path:
    """Where the rows from before an unconfirmed apply are kept."""
    return instance.state.folder / "before"


def before_start(instance: Instance) -> None:
    """Complete or drop the files of an interrupted apply; call before Kuma is started.

    Which of the two the rows themselves tell: the transaction was committed, or it was not. Where
    they live inside a Kuma that is not up, or one that migrates, `asked` asks later.
    """
    try:
        sort_out(instance)
    except (DatabaseMissing, DatabaseMigrating) as error:
        log.debug("whether the rows were written is not known yet: %s", error)
    except DatabaseUnreachable:
        if not instance.store.embedded:
            raise


def sort_out(instance: Instance) -> None:
    """`before_start` for rows that can be asked: raises DatabaseError where they cannot.

    A Kuma that is started while they cannot has read who knows which: then it is `unread`.
    """
    pending = _pending_now(instance)
    if pending is None:
        forget_before(instance)
        return
    if not pending.writing:
        _forget(instance, pending)
        return
    try:
        rows = _rows_now(instance, pending)
    except (DatabaseLocked, DatabaseUnreachable):
        outside = _ends_by_itself(instance) and not instance.store.embedded
        if outside and instance.kuma.manages:
            instance.state.update(pending=replace(pending, unread=True))
        raise
    if rows == pending.base != pending.target and not pending.drifted:
        _forget(instance, pending)
        return
    if rows != pending.target and not pending.drifted:
        # Somebody started Kuma and changed rows since: they tell nothing any more.
        instance.state.update(pending=replace(pending, drifted=True))
    if rows == pending.target and not pending.seen:
        instance.state.update(pending=replace(pending, seen=True))
    if rows == pending.target or staging.is_staged(instance.data_dir):
        _finish(instance, pending)


def _finish(instance: Instance, pending: Pending) -> None:
    """Put the staged files in place; where they are lost, the next apply brings them anew."""
    try:
        staging.finish(instance.data_dir, pending.files)
    except staging.StagedLost as error:
        log.warning("%s: taking the snapshot again", error)
        known = instance.state.load().pending
        if known is not None:
            instance.state.update(pending=replace(known, files=(), drifted=True))


def _pending_now(instance: Instance) -> Pending | None:
    """What is pending; a Kuma that is not there reads the rows as they are when it starts."""
    pending = instance.state.load().pending
    if pending is not None and pending.unread and not instance.kuma.running():
        pending = replace(pending, unread=False)
        instance.state.update(pending=pending)
    return pending


def _forget(instance: Instance, pending: Pending) -> None:
    """Drop an apply of which nothing was written; the one that it was laid over stands."""
    log.warning("an apply ended before its changes were written: the rows are as they were")
    stands = pending.earlier and replace(pending.earlier, files=())
    if pending.rollback:
        # The way back was not taken: still unconfirmed are the rows that it leads away from.
        stands = replace(pending, files=(), rollback=False, writing=True, drifted=True)
    staging.discard(instance.data_dir)
    kept.disown(instance.state.folder)
    instance.state.update(pending=stands)
    if stands is None:
        forget_before(instance)


def forget_before(instance: Instance) -> None:
    """Nothing is unconfirmed: what an apply replaced is `kept`, or holds secrets, and goes."""
    staging.discard(instance.data_dir)
    folder = before_folder(instance)
    kept.keep(instance.state.folder, folder)
    for path in (folder, folder.with_name(PARTIAL)):
        shutil.rmtree(path, ignore_errors=True)


def _rows_now(instance: Instance, pending: Pending) -> str:
    """The live digest, by the choice that the pending one was noted by where rows can tell it."""
    rows = _tables_digest(instance)
    if rows not in (pending.base, pending.target):
        with contextlib.suppress(SnapshotRefused):  # no rows from before, or none that are whole
            kept = instance.choosing(Dump.open(before_folder(instance)).manifest)
            by_kept = _tables_digest(kept)
            if by_kept in (pending.base, pending.target):
                return by_kept
    return rows


def _tables_digest(instance: Instance) -> str:
    store = instance.store
    waits = _ends_by_itself(instance)
    opened: AbstractContextManager[Reader] = store.write() if waits else store.read()
    with opened as reader:
        entries, _named = write_tables(None, reader, reader.schema.require(instance.tables))
    return digest(entries, {})


def _ends_by_itself(instance: Instance) -> bool:
    """Whether a transaction goes on without its process, as in a server: a commit may come yet.

    Only a writer waits for it; who reads gets the old rows until then.
    """
    return instance.store.engine != "sqlite"


def asked(instance: Instance) -> bool:
    """Whether it is known what became of the pending apply; ask once Kuma is ready.

    (`before_start` cannot tell while Kuma migrates: then nothing is confirmed, and the next cycle
    asks again.) Raises DatabaseError.
    """
    try:
        sort_out(instance)
    except DatabaseMigrating as error:
        log.info("what an earlier run wrote is not confirmed yet: %s", error)
        return False
    except DatabaseMissing:  # what was written, or was not, is gone
        pending = instance.state.load().pending
        if pending is not None:
            instance.state.update(pending=replace(pending, drifted=True))
    return True
