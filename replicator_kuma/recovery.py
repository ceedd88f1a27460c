"""Going on after an end in the middle: a crash, a power loss, a Kuma that does not come back."""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

from replicator_kuma import staging
from replicator_kuma.cycle import Instance
from replicator_kuma.dump.format import Dump, write_tables
from replicator_kuma.dump.plan import plan
from replicator_kuma.errors import (
    DatabaseMigrating,
    DatabaseMissing,
    KumaError,
    ReplicatorError,
)
from replicator_kuma.state import Pending, State

PREVIEW = "preview-"
"""Scratch folders of previews, with their process id; they need no lock."""

log = logging.getLogger(__name__)


@contextlib.contextmanager
def at_work(instance: Instance) -> Iterator[State]:
    """A scratch folder for the block; first of all Kuma back, if an earlier process stopped it.

    Around every cycle, with the lock held. Dumps hold secrets: the folder goes with the block.
    """
    try:
        yield _begin(instance)
    finally:
        shutil.rmtree(instance.work, ignore_errors=True)


def _begin(instance: Instance) -> State:
    shutil.rmtree(instance.work, ignore_errors=True)
    _forget_previews(instance.state.folder)
    instance.state.prepare()
    instance.work.mkdir(mode=0o700)
    before_start(instance)
    state = instance.state.load()
    if state.stopped_by_me:
        if instance.kuma.manages and instance.kuma.name != "child":
            log.warning("an earlier run stopped Kuma and did not start it again: starting it")
            instance.kuma.start()
        state = instance.state.update(stopped_by_me=False)
    return state


def _forget_previews(folder: Path) -> None:
    """Scratch folders of previews whose process was killed hold secrets: they go."""
    for path in folder.glob(f"{PREVIEW}*"):
        if not Path(f"/proc/{path.name.removeprefix(PREVIEW)}").exists():
            shutil.rmtree(path, ignore_errors=True)


def before_start(instance: Instance) -> None:
    """Complete or drop the files of an interrupted apply; call before Kuma is started.

    Which of the two the rows themselves tell: the transaction was committed, or it was not.
    """
    pending = instance.state.load().pending
    if pending is None:
        return
    try:
        rows = _tables_digest(instance)
    except (DatabaseMissing, DatabaseMigrating):
        return
    if rows == pending.base != pending.target:
        log.warning("an earlier run ended before its changes were written: forgetting it")
        staging.discard(instance.data_dir)
        instance.state.update(pending=None)
        shutil.rmtree(_before(instance), ignore_errors=True)
    elif (instance.data_dir / staging.FOLDER).exists() or rows == pending.target:
        staging.finish(instance.data_dir, pending.files)


def _tables_digest(instance: Instance) -> str:
    from replicator_kuma.dump.format import digest

    with instance.store.read() as reader:
        entries, _named = write_tables(None, reader, reader.schema.require(instance.tables))
    return digest(entries, {})


def _before(instance: Instance) -> Path:
    return instance.state.folder / "before"


def confirm(instance: Instance) -> None:
    """Kuma is ready (or nobody's to wait for): the pending apply stands; history goes after it.

    Harmless when nothing is pending.
    """
    state = instance.state.load()
    if state.pending is not None:
        pending = state.pending
        changes: dict[str, object] = {"pending": None, "stopped_by_me": False}
        changes["purge"] = state.purge or pending.purge
        if not pending.rollback:
            changes["applied"] = pending.mark
        state = instance.state.update(**changes)
        shutil.rmtree(_before(instance), ignore_errors=True)
    if state.purge:
        gone = instance.store.purge_history()
        instance.state.update(purge=False)
        log.info("deleted %d rows of history of monitors that are gone", gone)


def settle(instance: Instance) -> None:
    """An unconfirmed apply: wait for Kuma; if it fails, the old rows go back. Then purge.

    Raises what `roll_back` raises.
    """
    state = instance.state.load()
    if state.pending is not None and instance.kuma.manages:
        if not instance.kuma.running():
            return  # a person stopped it: there is nobody to wait for
        try:
            instance.wait_ready()
        except KumaError as error:
            roll_back(instance, error)
    confirm(instance)


def roll_back(instance: Instance, cause: KumaError) -> None:
    """Kuma does not come back on new rows: put those from before in place, and start it on them.

    Always raises KumaError. The snapshot is called bad only if Kuma starts on the old rows.
    """
    pending = instance.state.load().pending
    folder = _before(instance)
    if pending is None or not (folder / "manifest.json").exists():
        raise cause
    log.error("Kuma did not come back (%s): putting the rows from before in place", cause)
    instance.kuma.stop()
    try:
        _restore_before(instance, pending, folder)
    except ReplicatorError as error:
        instance.kuma.start()
        raise KumaError(
            f"Kuma did not come back, and the rows from before could not be written: {error}",
            hint=f"They are kept in {folder}. Look at Kuma's log, then: replicator restore --now",
        ) from cause
    instance.kuma.start()
    instance.state.update(stopped_by_me=False)
    try:
        instance.wait_ready()
    except KumaError as error:
        raise KumaError(
            f"Kuma does not start, neither on the snapshot's rows nor on those from before: {error}"
        ) from cause
    confirm(instance)
    bad = (*instance.state.load().bad, pending.mark.snapshot)[-20:]
    instance.state.update(bad=bad)
    raise KumaError(
        f"Kuma did not start on snapshot {pending.mark.position}; it runs on the rows from before",
        hint="Look at Kuma's log. This snapshot is not tried again by itself; the next one is.",
    ) from cause


def _restore_before(instance: Instance, pending: Pending, folder: Path) -> None:
    from replicator_kuma.apply import execute
    from replicator_kuma.observe import observed_dump

    shutil.rmtree(instance.work, ignore_errors=True)
    instance.work.mkdir(mode=0o700)
    before = Dump.open(folder)
    live, _observation = observed_dump(instance, "failed")
    back = plan(live, before, instance.work / "back")
    staging.stage(instance.data_dir, before.folder, back.files)
    note = Pending(pending.mark, back.base, back.target, back.files, pending.purge, rollback=True)
    instance.state.update(pending=note, stopped_by_me=True)
    with instance.store.write() as writer:
        execute(writer, back)
        writer.unpark_history()
    staging.finish(instance.data_dir, back.files)
