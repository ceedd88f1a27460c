"""Carrying a plan out: stop, write in one transaction, read back, start, be sure.

Whatever ends it, and wherever, leaves the old rows or the new ones, never a part (DESIGN, rule 1),
and Kuma running (rule 5). What a later process needs to know in order to go on is in the state
before the step that needs it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import secrets
import shutil
from collections.abc import Callable, Iterator
from typing import Any

from replicator_kuma.adapters.database import Reader, Writer
from replicator_kuma.adapters.database.sqlite.rehearsal import HINT, rehearsal, triggers
from replicator_kuma.base.effects import effect
from replicator_kuma.base.errors import (
    DatabaseError,
    DatabaseLocked,
    KumaError,
    KumaRunning,
    NotAsWritten,
    ReplicatorError,
    SnapshotRefused,
    StateError,
)
from replicator_kuma.base.state_directory import unusable
from replicator_kuma.dump import values
from replicator_kuma.dump.catalog import TABLES
from replicator_kuma.dump.format import Dump, write_tables
from replicator_kuma.dump.manifest import Manifest
from replicator_kuma.dump.plan import Change, Plan, TablePlan
from replicator_kuma.dump.select import select
from replicator_kuma.replication import other_processes
from replicator_kuma.replication.apply import failed_attempts, staging
from replicator_kuma.replication.apply.interrupted import (
    PARTIAL,
    before_folder,
    before_start,
    call_bad,
    confirm,
    purge_history,
)
from replicator_kuma.replication.apply.prepare import (
    Planned,
    expected_digest,
    prepare,
    takes_monitors,
)
from replicator_kuma.replication.apply.revert import WAITING, roll_back, stop_after_write
from replicator_kuma.replication.instance import Instance
from replicator_kuma.replication.state.state import Mark, Pending

READ_BACK_ROWS = 2_000
"""Up to so many changed rows are read back one by one; beyond, all tables are hashed again."""
_CHUNK = 400
_TRIES = 3

log = logging.getLogger(__name__)


def apply(instance: Instance, planned: Planned, mark: Mark) -> None:
    """Turn the instance into ``planned.wanted``, around a restart of Kuma.

    (Tables that live inside Kuma are written while it runs, and it restarts after that.)
    Call with the lock held, and only with a plan that is not empty. Raises KumaRunning before
    anything is touched; DatabaseError or SnapshotRefused with the rows as they were and Kuma
    running again; KumaError when Kuma does not come back (with the old rows in place if it runs
    on those).
    """
    kuma, inside = instance.kuma, instance.store.embedded
    if kuma.manages and kuma.running() and instance.by_itself:
        instance.answers()
    was_running = kuma.running() if kuma.manages else _kuma_runs(instance)
    stops = was_running and kuma.manages and not inside
    wanted = failed_attempts.aim(instance, mark, str(planned.stands(instance.tables)["policy"]))
    failed_attempts.require_new(instance, wanted)
    if stops:
        other_processes.require_one_kuma(instance)
    _rehearse(instance, planned)
    was_up = stops and other_processes.seen_up(instance)
    instance.step("stopping Kuma" if stops else "keeping the rows from before")
    earlier = instance.state.load().pending
    restart = kuma.manages and (was_running or instance.keep_running)
    unread = inside and was_running and kuma.manages
    first = Pending(mark, "", "", restart=restart, unread=unread)
    if earlier is not None:
        below = dataclasses.replace(earlier, earlier=None)
        first = dataclasses.replace(first, purge=earlier.purge, earlier=below)

    def note(fitting: Planned) -> None:
        _note(instance, fitting, first, stops)

    if earlier is None:
        _purge_orphans(instance, planned.plan)
    stopped = False
    try:
        note(planned)
        if kuma.manages and not inside:
            stopped = stops
            _stop(instance, was_up=was_up)
        instance.progress("writing the tables")
        carry_out(instance, planned, note)
    except BaseException as error:
        bad = isinstance(error, SnapshotRefused | NotAsWritten)
        why = "it did not read back" if isinstance(error, NotAsWritten) else "it was refused"
        if stopped and not bad and isinstance(error, Exception) and not instance.interrupted():
            failed_attempts.note(instance, wanted, mark, error)
        _come_back_unchanged(instance, stops)
        if stops and bad:
            with contextlib.suppress(StateError):  # each new attempt would be an outage for nothing
                call_bad(instance, mark, f"{why}: {error}")
        raise
    _come_back(instance, was_running)


def _purge_orphans(instance: Instance, todo: Plan) -> None:
    """History that belongs to no monitor must not become that of a new one with its id.

    (Another program left it, or an older replicator.) While Kuma still runs: it may take a while.
    Nor may what an apply that Kuma has confirmed set aside be taken for what this one does.
    """
    due = instance.state.load().purge
    if due or any(t.counts.added for t in todo.tables if t.name == "monitor"):
        try:
            purge_history(instance)
        except DatabaseLocked as error:
            if due:
                raise
            log.warning("history that belongs to no monitor stays: %s", error)


def _note(instance: Instance, planned: Planned, first: Pending, stops: bool) -> None:
    """Put on disk what a later process needs in order to go on, or to go back."""
    todo = planned.plan
    _keep_before(instance, planned.live, first.earlier)
    staging.stage(instance.data_dir, planned.wanted.folder, todo.files)
    purge = first.purge or takes_monitors(todo)
    live, wanted = planned.live.manifest, planned.wanted.manifest
    pending = dataclasses.replace(
        first,
        base=todo.base,
        target=todo.target,
        files=todo.files,
        purge=purge,
        replaced=live.digest,
        digest=expected_digest(instance, live, wanted),
        words=todo.summary.sentence(),
        **planned.stands(instance.tables),
    )
    instance.state.update(pending=pending, stopped_by_me=stops, live_digest="")
    effect("pending noted")


def _kuma_runs(instance: Instance) -> bool:
    """Whether a Kuma that nobody here manages may run; raises KumaRunning unless forced."""
    inside = instance.store.embedded
    who = "" if inside else other_processes.by_kuma(instance)
    if (inside or who) and not instance.force:
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


def _rehearse(instance: Instance, planned: Planned) -> None:
    """Carry the plan out on a copy: what fails there would fail after a stop, for nothing.

    Raises what the apply itself would. Rows that changed since they were compared prove nothing.
    """
    todo, wanted = planned.plan, planned.wanted.manifest
    if not todo.tables:
        return
    instance.progress("trying the changes on a copy")
    try:
        # SQLite looks its path up again: nobody can put another file in the place of a name that
        # he cannot foresee
        folder = instance.work / secrets.token_hex(8)
        with rehearsal(instance.store, folder) as writer:
            if writer is not None:
                for name in planned.live.manifest.tables:
                    writer.sweep(select(writer.schema, name))
                execute(writer, todo)
                _verify(writer, todo, wanted)
    except OSError as error:
        raise unusable("cannot make a copy to try the changes on", error) from error
    except (DatabaseError, SnapshotRefused) as error:
        with instance.store.read() as reader:
            unchanged = _same(planned.live.manifest, reader)
        if not unchanged:
            log.debug("the rows changed meanwhile: what was tried proves nothing: %s", error)
            return
        if isinstance(error, NotAsWritten | SnapshotRefused):
            raise
        names = ", ".join(triggers(instance.store)[:5])
        hint = f"{HINT} Triggers: {names}" if names else HINT
        raise DatabaseError(f"a try on a copy failed: {error}", hint=hint) from error


def _come_back_unchanged(instance: Instance, stopped: bool) -> None:
    """After an error: nothing half done, and Kuma running; never hides that error."""
    with contextlib.suppress(ReplicatorError):
        before_start(instance)
    if not stopped or instance.interrupted():
        return
    try:
        instance.start_kuma()
        instance.state.update(**instance.pace.restarted())
    except ReplicatorError as error:
        log.error("Kuma was stopped, and is not started again: %s", error)


def _come_back(instance: Instance, was_running: bool) -> None:
    """Start Kuma and wait until it is ready, or put the old rows back."""
    kuma = instance.kuma
    if not kuma.manages:
        confirm(instance)
        return
    if not (was_running or instance.keep_running):
        return  # stopped by a person: confirmed once somebody starts it
    if instance.interrupted():
        return  # a signal ends the supervisor: the next start goes on from the pending note
    if instance.store.embedded:
        instance.progress("stopping Kuma")
        stop_after_write(instance)
    instance.progress("starting Kuma")
    try:
        instance.pace.starting()
        instance.start_kuma()
        instance.progress(WAITING)
        instance.wait_ready()
    except KumaError as error:
        roll_back(instance, error)
        raise AssertionError("roll_back raises") from error
    confirm(instance)


def _keep_before(instance: Instance, live: Dump, earlier: Pending | None) -> None:
    """Keep the rows that Kuma was last ready on, durably; an older unconfirmed set wins."""
    folder = before_folder(instance)
    if earlier is not None and (folder / "manifest.json").exists():
        return
    partial = folder.with_name(PARTIAL)
    shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(partial, ignore_errors=True)
    try:
        effect("keeping the rows from before")
        shutil.copytree(live.folder, partial, copy_function=staging.link_or_copy)
        staging.sync_tree(partial)
        partial.rename(folder)
    except OSError as error:
        raise unusable("cannot keep the rows from before", error) from error


class _Changed(Exception):
    """The rows are not those that were planned with."""


def carry_out(instance: Instance, planned: Planned, note: Callable[[Planned], None]) -> None:
    """Write a noted plan and put its files in place; plan anew when rows changed meanwhile.

    ``note`` is called with each new plan. Raises DatabaseError, SnapshotRefused, StateError.
    """
    for _ in range(_TRIES):
        try:
            _write(instance, planned)
        except _Changed:
            log.info("Kuma's rows changed after they were compared: comparing again")
            planned = prepare(instance, planned.source, own=planned.own, back=planned.back)
            note(planned)
        else:
            staging.finish(instance.data_dir, planned.plan.files)
            return
    raise DatabaseLocked("Kuma's rows changed all the time while they were compared")


def _write(instance: Instance, planned: Planned) -> None:
    """The transaction: read again, write, read back, commit. Raises _Changed.

    Files that are as old as they were have seen no write since: then nothing is read again.
    """
    todo = planned.plan
    effect("opening the transaction")
    with instance.store.write() as writer:
        before = planned.observation.fingerprint
        untouched = before and writer.fingerprint() == before
        if planned.observation.dangling or not untouched:
            for name in planned.live.manifest.tables:
                writer.sweep(select(writer.schema, name))
        if not untouched and not _same(planned.live.manifest, writer):
            raise _Changed
        pending = instance.state.load().pending
        assert pending is not None
        instance.state.update(pending=dataclasses.replace(pending, writing=True))
        effect("writing noted")
        execute(writer, todo, back=pending.rollback)
        _verify(writer, todo, planned.wanted.manifest)


def _same(planned: Manifest, writer: Reader) -> bool:
    """Whether the plan still fits: ids of unkeyed rows count, runtime columns of others do not."""
    entries, _named = write_tables(None, writer, planned.tables)
    return all(
        entries[name].sha256 == entry.sha256
        and (entries[name].runtime == entry.runtime or not TABLES[name].unkeyed)
        for name, entry in planned.tables.items()
    )


def execute(writer: Writer, todo: Plan, *, back: bool = False) -> None:
    """All row changes of a plan, in an order that needs no luck.

    Deletions first, children before parents; then values that must be UNIQUE give way; then rows,
    parents before children. (An engine that checks references at once needs this order.)
    """
    for table in reversed(todo.tables):
        writer.delete(table.name, (change.key for change in todo.changes(table, "-")))
        if table.counts.moved:
            writer.delete(table.name, (c.key for c in todo.changes(table, "=-")))
    for table in todo.tables:
        if table.name == "monitor" and table.counts.replaced and not back:
            writer.park_history(int(change.key) for change in todo.changes(table, "*"))
        writer.make_room(table.name, _room(writer, todo, table))
        _upsert(writer, todo, table)
        if table.name == "monitor" and back:
            # what was set aside is theirs again; setting aside once more would drop it
            writer.unpark_history(int(change.key) for change in todo.changes(table, "*"))
    effect("rows written")


def _room(writer: Writer, todo: Plan, table: TablePlan) -> Iterator[tuple[Any, list[str]]]:
    unique = {c for columns in writer.schema.tables[table.name].unique for c in columns}
    places = [(table.content.index(c), c) for c in sorted(unique) if c in table.content]
    places = [(index, column) for index, column in places if column not in ("id", "key")]
    if not places:
        return
    for change in todo.changes(table, "~", "*"):
        old, new = change.old or (), change.new or ()
        if columns := [c for i, c in places if old[i] != new[i] and old[i] is not None]:
            yield change.key, columns


def _upsert(writer: Writer, todo: Plan, table: TablePlan) -> None:
    columns = (*table.content, *table.runtime)
    ways = ((("+", "*", "=+"), frozenset[str]()), (("~", "=~"), TABLES[table.name].runtime))
    for ops, keep in ways:
        rows = ((*c.new, *(c.runtime or ())) for c in todo.changes(table, *ops) if c.new)
        writer.upsert(table.name, columns, keep, rows)


def _verify(writer: Writer, todo: Plan, wanted: Manifest) -> None:
    """Read back what was written; raises, and so rolls back, unless it is what was wanted."""
    alone = not writer.side_effects and not any(_takes_rows(table) for table in todo.tables)
    tables = [t.name for t in todo.tables if not alone or t.counts.real or t.counts.moved]
    if broken := writer.broken_references(tables):
        raise SnapshotRefused(f"the snapshot holds references to missing rows: {broken[0]}")
    if todo.size > READ_BACK_ROWS or writer.side_effects:
        entries, _named = write_tables(None, writer, tables)
        bad = [name for name in tables if entries[name].sha256 != wanted.tables[name].sha256]
    else:
        bad = [t.name for t in todo.tables if not _reads_back(writer, todo, t)]
    counted = [name for name in tables if name != "setting"]
    bad += [name for name in counted if writer.count(name) != wanted.tables[name].rows]
    if bad:
        raise NotAsWritten(
            f"what was written to {', '.join(sorted(set(bad)))} does not read back equal; "
            "nothing was changed"
        )
    effect("rows read back")


def _takes_rows(table: TablePlan) -> bool:
    """Whether rows go: then others may go with them, or point to them."""
    return bool(table.counts.deleted or table.counts.replaced or table.counts.moved)


def _reads_back(writer: Writer, todo: Plan, table: TablePlan) -> bool:
    if not table.counts.real and not table.counts.moved:
        return True
    chosen = select(writer.schema, table.name)
    wanted = {c.key: _written(c) for c in todo.changes(table) if c.new is not None}
    gone = [c.key for c in todo.changes(table) if c.new is None and c.key not in wanted]
    keys = [*wanted, *gone]
    id_at = chosen.columns.index("key" if table.name == "setting" else "id")
    found = {}
    for start in range(0, len(keys), _CHUNK):
        for row in writer.rows(chosen, keys[start : start + _CHUNK]):
            length = len(wanted.get(row[id_at], row))
            found[row[id_at]] = row[:length]
    encode = values.encode
    return {k: encode(v) for k, v in found.items()} == {k: encode(v) for k, v in wanted.items()}


def _written(change: Change) -> tuple[Any, ...]:
    """What a change wrote: a row that stays keeps its runtime columns."""
    new = change.new or ()
    return new if change.op in ("~", "=~") else (*new, *(change.runtime or ()))
