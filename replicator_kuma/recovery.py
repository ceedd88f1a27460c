"""Going on after an end in the middle: a crash, a power loss, a Kuma that does not come back."""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from replicator_kuma import staging
from replicator_kuma.cycle import Instance
from replicator_kuma.dump.format import Dump, write_tables
from replicator_kuma.errors import (
    DatabaseLocked,
    DatabaseMigrating,
    DatabaseMissing,
    KumaError,
    ReplicatorError,
    StateError,
)
from replicator_kuma.state import Pending, State

PARTIAL = "before.part"
PREVIEW = "preview-"
"""Scratch folders of previews, with their process id; they need no lock."""

_NOT_READY_HINT = (
    "Look at Kuma's own log. Is REPLICATOR_KUMA_URL where it answers, and REPLICATOR_READY_TIMEOUT "
    "longer than its start takes?"
)

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
    instance.state.prepare()
    try:
        before_start(instance)
    finally:
        state = _start_again(instance)
    _forget_scratch(instance.state.folder)
    try:
        shutil.rmtree(instance.work, ignore_errors=True)
        instance.work.mkdir(mode=0o700)
    except OSError as error:
        raise StateError(f"cannot make a scratch folder: {error}") from error
    return state


def _start_again(instance: Instance) -> State:
    """Start a Kuma that an earlier process stopped. A supervisor starts its child itself."""
    state = instance.state.load()
    if not state.stopped_by_me:
        return state
    if instance.kuma.manages and instance.kuma.name != "child":
        log.warning("an earlier run stopped Kuma and did not start it again: starting it")
        instance.kuma.start()
    return instance.state.update(stopped_by_me=False)


def _forget_scratch(folder: Path) -> None:
    """What processes left that were killed: previews hold secrets, states were never whole."""
    for path in folder.glob(f"{PREVIEW}*"):
        if not Path(f"/proc/{path.name.removeprefix(PREVIEW)}").exists():
            shutil.rmtree(path, ignore_errors=True)
    for path in folder.glob(".state.*.tmp"):
        path.unlink(missing_ok=True)


def before_folder(instance: Instance) -> Path:
    """Where the rows from before an unconfirmed apply are kept."""
    return instance.state.folder / "before"


def before_start(instance: Instance) -> None:
    """Complete or drop the files of an interrupted apply; call before Kuma is started.

    Which of the two the rows themselves tell: the transaction was committed, or it was not.
    """
    pending = instance.state.load().pending
    if pending is None:
        _forget_before(instance)
        return
    if not pending.writing:
        _forget(instance, pending)
        return
    try:
        rows = _tables_digest(instance)
    except (DatabaseMissing, DatabaseMigrating):
        return
    if rows == pending.base != pending.target and not pending.drifted:
        _forget(instance, pending)
        return
    if rows != pending.target and not pending.drifted:
        # Somebody started Kuma and changed rows since: they tell nothing any more.
        instance.state.update(pending=replace(pending, drifted=True))
    if rows == pending.target or (instance.data_dir / staging.FOLDER).exists():
        staging.finish(instance.data_dir, pending.files)


def _forget(instance: Instance, pending: Pending) -> None:
    """Drop an apply of which nothing was written; the one that it was laid over stands."""
    log.warning("an earlier run ended before its changes were written: forgetting it")
    stands = pending.earlier and replace(pending.earlier, files=())
    if pending.rollback:
        # The way back was not taken: still unconfirmed are the rows that it leads away from.
        stands = replace(pending, files=(), rollback=False, writing=True, drifted=True)
    staging.discard(instance.data_dir)
    instance.state.update(pending=stands)
    if stands is None:
        _forget_before(instance)


def _forget_before(instance: Instance) -> None:
    """Nothing is unconfirmed: what was kept for the way back holds secrets, and goes."""
    staging.discard(instance.data_dir)
    folder = before_folder(instance)
    for path in (folder, folder.with_name(PARTIAL)):
        shutil.rmtree(path, ignore_errors=True)


def _tables_digest(instance: Instance) -> str:
    from replicator_kuma.dump.manifest import digest

    with instance.store.read() as reader:
        entries, _named = write_tables(None, reader, reader.schema.require(instance.tables))
    return digest(entries, {})


def confirm(instance: Instance) -> None:
    """Kuma is ready (or nobody's to wait for): the pending apply stands; history goes after it.

    Harmless when nothing is pending.
    """
    state = instance.state.load()
    if state.pending is not None:
        pending = state.pending
        changes: dict[str, object] = {"pending": None, "stopped_by_me": False}
        changes["purge"] = state.purge or pending.purge
        if pending.rollback:
            changes |= _suspect(state, pending.mark.snapshot)
        else:
            changes |= forgiven(state, pending.mark.snapshot)
            if not pending.drifted:
                changes |= {"applied": pending.mark, **_stands(state, pending)}
        state = instance.state.update(**changes)
        _forget_before(instance)
    if state.purge:
        try:
            gone = instance.store.purge_history()
        except DatabaseLocked as error:
            log.warning("history of monitors that are gone stays until the next cycle: %s", error)
            return
        instance.state.update(purge=False)
        log.info("deleted %d rows of history of monitors that are gone", gone)


def _stands(state: State, pending: Pending) -> dict[str, object]:
    """What holds of the live rows from now on, until a cycle finds something else."""
    again = state.applied is not None and state.applied.snapshot == pending.mark.snapshot
    return {
        "live_digest": pending.digest,
        "applied_policy": pending.policy,
        "arrived": pending.arrived,
        "healed": pending.replaced if again else "",
        "drift": 0.0,
        "drift_words": "",
    }


def _suspect(state: State, snapshot: str) -> dict[str, object]:
    """Kuma came up on the old rows, late: the snapshot may be innocent once, not twice.

    (It failed on both at first: a port, a disk. Or its start takes longer than we wait; then each
    new attempt would be an outage for nothing.)
    """
    if state.suspect == snapshot:
        return {"bad": _bad(state, snapshot), "suspect": ""}
    return {"suspect": snapshot}


def _bad(state: State, snapshot: str) -> tuple[str, ...]:
    """The snapshots that are not tried again by themselves, and one more; the last twenty."""
    return (*(known for known in state.bad if known != snapshot), snapshot)[-20:]


def call_bad(instance: Instance, snapshot: str) -> None:
    """Remember a snapshot for which Kuma was stopped in vain: it is not tried again by itself."""
    instance.state.update(bad=_bad(instance.state.load(), snapshot))


def forgiven(state: State, snapshot: str) -> dict[str, object]:
    """The changes of the state once Kuma has been ready on a snapshot's rows."""
    return {
        "bad": tuple(known for known in state.bad if known != snapshot),
        "suspect": "" if state.suspect == snapshot else state.suspect,
    }


def settle(instance: Instance) -> None:
    """An unconfirmed apply: wait for Kuma; if it fails, the old rows go back. Then purge.

    Raises what `roll_back` raises.
    """
    pending, kuma = instance.state.load().pending, instance.kuma
    if pending is not None and kuma.manages:
        running = kuma.running()
        if not running and (not pending.restart or kuma.name == "child"):
            return  # a person stopped it, or it has not begun: there is nobody to wait for
        try:
            if not running:
                log.warning("Kuma ended on rows that were not confirmed yet: starting it")
                kuma.start()
            instance.wait_ready()
        except KumaError as error:
            roll_back(instance, error)
    confirm(instance)


def roll_back(instance: Instance, cause: KumaError) -> None:
    """Kuma does not come back on new rows: put those from before in place, and start it on them.

    Always raises KumaError. The snapshot is called bad only if Kuma starts on the old rows.
    """
    pending, folder = instance.state.load().pending, before_folder(instance)
    if pending is None or not (folder / "manifest.json").exists() or _migrating(instance):
        raise cause
    if pending.rollback:  # they are in place: another stop would only keep a slow Kuma down
        raise KumaError(
            f"Kuma is not ready, on the rows from before: {cause}", hint=_NOT_READY_HINT
        ) from cause
    log.error("Kuma did not come back (%s): putting the rows from before in place", cause)
    instance.state.update(stopped_by_me=True)
    try:
        instance.kuma.stop()
        _restore_before(instance, pending, folder)
    except Exception as error:
        instance.kuma.start()
        instance.state.update(stopped_by_me=False)
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
            "Kuma is not ready, neither on the snapshot's rows nor on those from before, which are "
            f"in place: {error}",
            hint=_NOT_READY_HINT,
        ) from cause
    confirm(instance)
    call_bad(instance, pending.mark.snapshot)
    instance.state.update(suspect="")
    raise KumaError(
        f"Kuma did not start on snapshot {pending.mark.position}; it runs on the rows from before",
        hint="Look at Kuma's log. This snapshot is not tried again by itself; the next one is.",
    ) from cause


def _migrating(instance: Instance) -> bool:
    """Whether Kuma changes its schema: some of its migrations answer on no port, and none may end.

    (A Kuma that was upgraded at this very start.)
    """
    try:
        with instance.store.read():
            return False
    except DatabaseMigrating:
        return True
    except ReplicatorError:
        return False


def _restore_before(instance: Instance, pending: Pending, folder: Path) -> None:
    from replicator_kuma.apply import carry_out
    from replicator_kuma.planning import Planned, prepare, takes_monitors

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
            earlier=None,
        )
        instance.state.update(pending=way_back)

    shutil.rmtree(instance.work, ignore_errors=True)
    try:
        instance.work.mkdir(mode=0o700)
        planned = prepare(instance, before, own=True)
        note(planned)
        carry_out(instance, planned, note)
    finally:
        shutil.rmtree(instance.work, ignore_errors=True)
