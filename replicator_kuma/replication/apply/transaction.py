"""Writes a plan in one transaction: read again, write, read back, commit; then the files.

The result is the old rows or the new ones, never a mix (docs/architecture.md, rule 1).
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

from replicator_kuma.adapters.database import ADDED, Reader, Writer, named_triggers
from replicator_kuma.base.effects import effect
from replicator_kuma.base.errors import (
    DatabaseError,
    DatabaseLocked,
    NotAsWritten,
    SnapshotRefused,
    StateError,
)
from replicator_kuma.base.events import as_event
from replicator_kuma.base.state_directory import unusable
from replicator_kuma.dump import values
from replicator_kuma.dump.catalog import TABLES
from replicator_kuma.dump.format import write_tables
from replicator_kuma.dump.manifest import Manifest
from replicator_kuma.dump.plan import Change, Plan, TablePlan
from replicator_kuma.dump.select import select
from replicator_kuma.replication import last_dump
from replicator_kuma.replication.apply import staging
from replicator_kuma.replication.apply.prepare import Planned, prepare
from replicator_kuma.replication.instance import Instance
from replicator_kuma.replication.state import transitions

READ_BACK_ROWS = 2_000
"""Up to this many changed rows are held in memory, compared and read back one by one.

For more, all tables are hashed after they were written.
"""
_CHUNK = 400
_TRIES = 3
_HINT = f"Kuma was not stopped for it. {ADDED}"

log = logging.getLogger(__name__)


class _Changed(Exception):
    """The live rows are no longer those of the plan."""


def carry_out(instance: Instance, planned: Planned, note: Callable[[Planned], None]) -> Planned:
    """Write a noted plan and put its files in place; plan again if rows changed meanwhile.

    ``note`` is called with each new plan; the last one is returned. Raises DatabaseError,
    SnapshotRefused, StateError.
    """
    for _ in range(_TRIES):
        try:
            _write(instance, planned)
        except _Changed:
            log.info(
                "Kuma's rows changed after they were compared: comparing again",
                extra=as_event("rows_raced"),
            )
            planned = prepare(instance, planned.source, own=planned.own, undo=planned.undo)
            note(planned)
        else:
            staging.finish(instance.data_dir, planned.plan.files)
            return planned
    raise DatabaseLocked(
        "Kuma's rows changed all the time while they were compared",
        hint="Somebody edits in Kuma without a pause. The next cycle tries it again.",
    )


def _write(instance: Instance, planned: Planned) -> None:
    """Read the rows again, write, read back, commit: one transaction. Raises _Changed.

    Kuma's requests wait for as long as the transaction holds the database. So the rows are read
    again right before it, and in it only tables that may have been written since. If the
    database's fingerprint proves that nobody has written, no row is read again.
    """
    begun, few = False, planned.plan.size <= READ_BACK_ROWS
    todo = planned.plan.hold() if few else planned.plan
    rows, known = planned.live.manifest, planned.observation.fingerprint
    dangling = {found.table for found in planned.observation.dangling}

    def look(reader: Reader) -> None:
        if known and reader.fingerprint() == known:
            return
        if not dangling and _closed(reader, rows.tables):
            reader.as_stored(rows.tables)
            if _same(rows, reader, rows.tables):
                return
        for name in rows.tables:
            if reader.dangling(select(reader.schema, name)):
                dangling.add(name)
        if not _same(rows, reader, rows.tables):
            raise _Changed

    pending = instance.state.load().applying.pending
    assert pending is not None
    # before the lock: Kuma's requests wait for as long as we hold it
    instance.state.change(transitions.pending_is, dataclasses.replace(pending, writing=True))
    effect("writing noted")
    try:
        effect("opening the transaction")
        earlier = last_dump.earlier(instance.state.folder)
        with instance.store.write(look, monitors(todo) if few else None, earlier) as writer:
            again = set(rows.tables).difference(writer.unchanged)
            if again and known and writer.fingerprint() == known:
                again.clear()
            for name in rows.tables:
                if name in again or name in dangling:
                    writer.sweep(select(writer.schema, name))
            if not _same(rows, writer, again) or (few and not _holds_old(writer, todo)):
                raise _Changed
            begun = True
            execute(writer, todo, back=pending.rollback)
            verify(writer, todo, planned.wanted.manifest)
    except Exception:
        if not begun:  # a server that does not answer now would leave it in doubt
            with contextlib.suppress(StateError):  # the first error is the one to tell
                instance.state.change(transitions.pending_is, pending)
        raise


def monitors(todo: Plan, *ops: str) -> list[int]:
    """The monitors whose rows a plan changes; with ``ops`` those of these changes only."""
    tables = (t for t in todo.tables if t.name == "monitor")
    return [int(change.key) for table in tables for change in todo.changes(table, *ops)]


def _same(planned: Manifest, reader: Reader, tables: Iterable[str]) -> bool:
    """Whether the live rows of these tables are still those of the plan.

    Compares the ids of rows without a key; ignores runtime columns of other rows.
    """
    entries, _named = write_tables(None, reader, tables)
    return all(
        entry.sha256 == planned.tables[name].sha256
        and (entry.runtime == planned.tables[name].runtime or not TABLES[name].unkeyed)
        for name, entry in entries.items()
    )


def _closed(reader: Reader, tables: Collection[str]) -> bool:
    """Whether rows of these tables refer to rows of these tables only."""
    chosen = (select(reader.schema, name) for name in tables)
    return all(reference.table in tables for one in chosen for reference in one.references)


def changed_since(instance: Instance, planned: Planned) -> list[str]:
    """The tables that are no longer as `carry_out` has left them. Raises DatabaseErrors.

    It has compared, written and read back in one transaction. So what differs is another program's
    whole edit beside it or after it, and is left to the next cycle.
    """
    wanted = planned.wanted.manifest.tables
    with instance.store.read(last_dump.earlier(instance.state.folder)) as reader:
        reader.as_stored(planned.live.manifest.tables)  # nothing dangles in what was written
        entries, _named = write_tables(None, reader, planned.live.manifest.tables)
    return [name for name, entry in entries.items() if entry.sha256 != wanted[name].sha256]


def rehearse(instance: Instance, planned: Planned) -> None:
    """Try the plan and take it back, to find errors before Kuma is stopped.

    Raises DatabaseError, SnapshotRefused, StateError. If the live rows have changed since they were
    compared, an error proves nothing and is not raised.
    """
    todo, wanted = planned.plan, planned.wanted.manifest
    if not todo.tables:
        return
    instance.run.progress("trying the changes")
    try:
        # SQLite opens its path more than once: a random name keeps others from replacing the file
        folder = instance.work / secrets.token_hex(8)
        takes = any(_takes_rows(table) for table in todo.tables)
        brief = todo.size <= READ_BACK_ROWS and not takes and not planned.observation.dangling
        with instance.store.rehearsal(folder, brief=brief) as writer:
            if writer is not None:
                for name in {found.table for found in planned.observation.dangling}:
                    writer.sweep(select(writer.schema, name))
                execute(writer, todo)
                verify(writer, todo, wanted)
    except OSError as error:
        raise unusable("cannot make a copy to try the changes on", error) from error
    except DatabaseLocked:
        raise  # Kuma was busy for seconds: the next cycle tries it again
    except (DatabaseError, SnapshotRefused) as error:
        with instance.store.read() as reader:
            rows = planned.live.manifest
            unchanged = _same(rows, reader, rows.tables)
            names = ", ".join(named_triggers(reader)[:5])
        if not unchanged:
            log.debug("the rows changed meanwhile: what was tried proves nothing: %s", error)
            return
        if isinstance(error, NotAsWritten | SnapshotRefused):
            raise
        hint = f"{_HINT} Triggers: {names}" if names else _HINT
        raise DatabaseError(f"the changes were tried and failed: {error}", hint=hint) from error


def execute(writer: Writer, todo: Plan, *, back: bool = False) -> None:
    """Write all row changes of a plan.

    First deletions, children before parents; then room for values that must be UNIQUE; then rows,
    parents before children. An engine that checks each reference at once needs this order.
    ``back``: these are the old rows, so they get back the history that was set aside.
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
            # history that is set aside twice would be lost
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


def verify(writer: Writer, todo: Plan, wanted: Manifest) -> None:
    """Read the written rows back; raise if they differ from the plan.

    Raises NotAsWritten, SnapshotRefused; then the transaction is rolled back.
    """
    acts = bool(writer.triggers())
    alone = not acts and not any(_takes_rows(table) for table in todo.tables)
    tables = _written(todo) if alone else [table.name for table in todo.tables]
    if broken := writer.broken_references(tables):
        raise SnapshotRefused(f"the snapshot holds references to missing rows: {broken[0]}")
    if todo.size > READ_BACK_ROWS or acts:
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


def _written(todo: Plan) -> list[str]:
    """The tables of which the plan writes rows."""
    return [table.name for table in todo.tables if table.counts.real or table.counts.moved]


def _takes_rows(table: TablePlan) -> bool:
    """Whether the plan deletes rows: other rows may refer to them, or be deleted with them."""
    return bool(table.counts.deleted or table.counts.replaced or table.counts.moved)


def _holds_old(writer: Writer, todo: Plan) -> bool:
    """Whether the rows that the plan changes are those from which it was made.

    What was written since they were read is known by other means; this does not rely on them.
    """
    for table in todo.tables:
        old = {c.key: c.old for c in todo.changes(table) if c.old is not None}
        absent = [c.key for c in todo.changes(table, "+", "=+") if c.key not in old]
        if not _are(writer, table, old, absent):
            return False
    return True


def _reads_back(writer: Writer, todo: Plan, table: TablePlan) -> bool:
    new = {c.key: _new_values(c) for c in todo.changes(table) if c.new is not None}
    return _are(writer, table, new, [c.key for c in todo.changes(table) if c.key not in new])


def _are(
    writer: Writer, table: TablePlan, rows: Mapping[Any, tuple[Any, ...]], absent: Iterable[Any]
) -> bool:
    """Whether a table holds these rows (by key; as many columns as given) and no absent key."""
    chosen = select(writer.schema, table.name)
    id_at = chosen.columns.index("key" if table.name == "setting" else "id")
    encode, keys, found = values.encode, [*rows, *absent], dict[Any, bytes]()
    for start in range(0, len(keys), _CHUNK):
        for row in writer.rows(chosen, keys[start : start + _CHUNK]):
            length = len(rows.get(row[id_at], row))
            found[row[id_at]] = encode(row[:length])
    return found == {key: encode(row) for key, row in rows.items()}


def _new_values(change: Change) -> tuple[Any, ...]:
    """The values that a change wrote; an updated row keeps its runtime columns."""
    new = change.new or ()
    return new if change.op in ("~", "=~") else (*new, *(change.runtime or ()))
