"""Going on after an end in the middle: a crash, a power loss, a Kuma that does not come back."""

from __future__ import annotations

import contextlib
import copy
import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from replicator_kuma.adapters.database import Reader
from replicator_kuma.base.effects import effect
from replicator_kuma.base.errors import (
    DatabaseLocked,
    DatabaseMigrating,
    DatabaseMissing,
    DatabaseUnreachable,
    ReplicatorError,
    SnapshotRefused,
)
from replicator_kuma.base.state_directory import unusable
from replicator_kuma.dump.format import Dump, write_tables
from replicator_kuma.dump.manifest import Manifest, digest
from replicator_kuma.replication.apply import checkpoints as kept
from replicator_kuma.replication.apply import failed_attempts, staging
from replicator_kuma.replication.drill import scratch
from replicator_kuma.replication.hints import advise
from replicator_kuma.replication.instance import Instance
from replicator_kuma.replication.replica import drift
from replicator_kuma.replication.shrink import no_rollback
from replicator_kuma.replication.snapshot_ids import identity
from replicator_kuma.replication.state.state import Bad, Hold, Mark, Pending, State

PARTIAL = "before.part"
PREVIEW = "preview-"
"""Scratch folders of previews, with their process id; they need no lock."""

NOT_STARTED = "Kuma did not start on it"

log = logging.getLogger(__name__)


@contextlib.contextmanager
def at_work(instance: Instance) -> Iterator[State]:
    """A scratch folder for the block; first of all Kuma back, if an earlier process stopped it.

    Around every cycle, with the lock held. Dumps hold secrets: the folder goes with the block.
    """
    instance.pace.begin()
    try:
        yield _begin(instance)
    except ReplicatorError as error:
        with contextlib.suppress(ReplicatorError):
            advise(error, instance.leads, instance.state.load())
        raise
    finally:
        instance.pace.end()
        shutil.rmtree(instance.work, ignore_errors=True)


def _begin(instance: Instance) -> State:
    instance.state.prepare()
    try:
        before_start(instance)
    finally:
        state = _start_again(instance)
    _forget_scratch(instance.state.folder)
    scratch.forget(instance)
    empty_work(instance)
    return state


def empty_work(instance: Instance) -> None:
    """An empty scratch folder; raises StateError."""
    try:
        shutil.rmtree(instance.work, ignore_errors=True)
        instance.work.mkdir(mode=0o700)
    except OSError as error:
        raise unusable("cannot make a scratch folder", error) from error


@contextlib.contextmanager
def aside(instance: Instance) -> Iterator[Instance]:
    """The instance with a scratch folder of this process, which lives as long as the block.

    For who only reads: it needs no lock.
    """
    made = copy.copy(instance)
    made.scratch = f"{PREVIEW}{os.getpid()}"
    instance.state.prepare()
    try:
        empty_work(made)
        yield made
    finally:
        shutil.rmtree(made.work, ignore_errors=True)


def _start_again(instance: Instance) -> State:
    """Start a Kuma that an earlier process stopped. A supervisor starts its child itself."""
    state = instance.state.load()
    if not state.stopped_by_me:
        return state
    if instance.kuma.manages and instance.kuma.name != "child":
        log.warning("an earlier run stopped Kuma and did not start it again: starting it")
        instance.start_kuma()
    return instance.state.update(stopped_by_me=False)


def _forget_scratch(folder: Path) -> None:
    """What processes left that were killed: previews hold secrets, states were never whole."""
    for path in folder.glob(f"{PREVIEW}*"):
        if not Path(f"/proc/{path.name.removeprefix(PREVIEW)}").exists():
            shutil.rmtree(path, ignore_errors=True)
    for path in (*folder.glob(".state.*.tmp"), *folder.glob(".supervisor.*.tmp")):
        path.unlink(missing_ok=True)


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
        _forget_before(instance)
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
        _forget_before(instance)


def _forget_before(instance: Instance) -> None:
    """Nothing is unconfirmed: what an apply replaced is `kept`, or holds secrets, and goes."""
    staging.discard(instance.data_dir)
    folder = before_folder(instance)
    kept.keep(instance.state.folder, folder)
    for path in (folder, folder.with_name(PARTIAL)):
        shutil.rmtree(path, ignore_errors=True)


def as_kept(instance: Instance, before: Manifest) -> Instance:
    """The instance with the choice of tables and settings under which ``before`` was kept.

    Another one may be set since: what those rows do not hold is nothing to go back to.
    """
    made = copy.copy(instance)
    made.tables = frozenset(before.tables)
    made.store = instance.store.choosing(before.settings)
    return made


def _rows_now(instance: Instance, pending: Pending) -> str:
    """The live digest, by the choice that the pending one was noted by where rows can tell it."""
    rows = _tables_digest(instance)
    if rows not in (pending.base, pending.target):
        with contextlib.suppress(SnapshotRefused):  # no rows from before, or none that are whole
            kept = as_kept(instance, Dump.open(before_folder(instance)).manifest)
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


def confirm(instance: Instance) -> None:
    """Kuma is ready (or nobody's to wait for): the pending apply stands; history goes after it.

    Harmless when nothing is pending.
    """
    state = instance.state.load()
    if state.pending is not None:
        pending = state.pending
        changes: dict[str, object] = {"pending": None, "stopped_by_me": False}
        changes["purge"] = state.purge or pending.purge
        if instance.kuma.manages:
            changes |= instance.pace.restarted(long_since=not pending.rollback)
        if pending.rollback:
            kept.disown(instance.state.folder)
            if not failed_attempts.killed(
                state, failed_attempts.aim(instance, pending.mark, pending.policy)
            ):
                changes |= _suspect(state, pending, identity(instance.fleet, pending.mark))
            changes["rolled_back"] = None
        else:
            _announce(instance, state, pending)
            changes |= forgiven(state, identity(instance.fleet, pending.mark))
            changes["hold"] = _holds(state, pending)
            changes |= _went_back(state, pending)
            if not pending.drifted:
                applied = pending.back_to if pending.undoes else pending.mark
                changes |= {"applied": applied, **_stands(state, pending)}
        state = instance.state.update(**changes)
        _forget_before(instance)
    if state.purge:
        try:
            gone = purge_history(instance)
        except DatabaseLocked as error:
            log.warning("history of monitors that are gone stays until the next cycle: %s", error)
            return
        instance.state.update(purge=False)
        log.info("deleted %d rows of history of monitors that are gone", gone)


def purge_history(instance: Instance) -> int:
    """Delete history that belongs to no monitor; the number of rows. Raises DatabaseErrors."""
    effect("purging history")
    gone = instance.store.purge_history()
    effect("history purged")
    return gone


def _announce(instance: Instance, state: State, pending: Pending) -> None:
    """What this apply replaced is kept once it is confirmed: the way back from a mistake."""
    before = before_folder(instance)
    if not (before / "manifest.json").exists():
        return
    kept.announce(
        instance.state.folder,
        before,
        state.led_from,
        at=time.time(),
        to=pending.mark.position,
        sentence=pending.words,
        was=kept.stood_for(state, pending, before),
        undoes=pending.undoes,
        policy=state.applied_policy,
        arrived=state.arrived,
        keeps_own=state.keeps_own,
    )


def _stands(state: State, pending: Pending) -> dict[str, object]:
    """What holds of the live rows from now on, until a cycle finds something else."""
    again = drift.stood(state, pending.mark.snapshot, pending.policy)
    return {
        "live_digest": pending.digest,
        "applied_policy": pending.policy,
        "arrived": pending.arrived,
        "keeps_own": pending.keeps_own,
        "healed": pending.replaced if again else "",
        "healed_at": 0.0,
        "unchanged": "",
        **drift.NONE,
    }


def _went_back(state: State, pending: Pending) -> dict[str, object]:
    """A leader's rollback is in place: what a person meant by it is still to be published.

    An undo takes that word back, too. Rows that nobody saw in place prove nothing.
    """
    if pending.undoes:
        return {"rolled_back": None, "went_back": None}
    if over := no_rollback(state, pending.mark.position):
        return over
    in_place = pending.seen or not pending.drifted
    if in_place and state.rolled_back == pending.mark.position:
        return {"went_back": pending.mark}
    return {}


def _holds(state: State, pending: Pending) -> Hold | None:
    """The hold once this is confirmed: an undo is done, and another snapshot ends it."""
    if state.hold is None:
        return None
    if pending.undoes:
        return replace(state.hold, kept=0)
    return state.hold if holds(state.hold, pending.mark.snapshot) else None


def holds(hold: Hold, snapshot: str) -> bool:
    """Whether a hold is of this snapshot."""
    return hold.mark is not None and hold.mark.snapshot == snapshot


def _suspect(state: State, pending: Pending, snapshot: str) -> dict[str, object]:
    """Kuma came up on the old rows, late: the snapshot may be innocent once, not twice.

    (It failed on both at first: a port, a disk. Or its start takes longer than we wait; then each
    new attempt would be an outage for nothing.) Of an undo there is none: it is not tried again.
    """
    if pending.undoes:
        return {"hold": state.hold and replace(state.hold, mark=state.applied, kept=0)}
    if state.suspect == snapshot:
        return {**_bad(state, snapshot, pending.mark, NOT_STARTED), "suspect": ""}
    return {"suspect": snapshot}


def _bad(state: State, snapshot: str, mark: Mark, why: str) -> dict[str, object]:
    """The snapshots that are not tried again by themselves, and one more; the last twenty."""
    bad = (*(known for known in state.bad if known != snapshot), snapshot)[-20:]
    return {"bad": bad, "bad_why": Bad(str(mark.position), time.time(), why)}


def call_bad(instance: Instance, mark: Mark, why: str) -> None:
    """Remember a snapshot for which Kuma was stopped in vain: it is not tried again by itself."""
    if snapshot := identity(instance.fleet, mark):  # an undo's rows are of none
        instance.state.update(**_bad(instance.state.load(), snapshot, mark, why))


def forgiven(state: State, snapshot: str) -> dict[str, object]:
    """The changes of the state once Kuma has been ready on a snapshot's rows; its common id."""
    return {
        "bad": tuple(known for known in state.bad if known != snapshot),
        "suspect": "" if state.suspect == snapshot else state.suspect,
        "vain": None,
    }
