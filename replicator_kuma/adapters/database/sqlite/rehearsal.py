"""Tries a plan and takes it back, so that refusals are found before Kuma is stopped.

A small one is tried in the database itself, in a transaction that is rolled back: Kuma's requests
wait for it as for a live apply. Any other is tried on a copy, so that nobody waits.

SQLite only: a copy in MariaDB needs rights that Kuma's login may lack. There, errors of triggers
show only after the stop; they are remembered (replication/apply/failed_attempts.py).
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sqlite3
from collections.abc import Collection, Iterator
from pathlib import Path
from urllib.parse import quote as url_quote

from replicator_kuma.adapters.database.sql import double_quoted
from replicator_kuma.adapters.database.sqlite.reader import SqliteReader, explained
from replicator_kuma.adapters.database.sqlite.writer import SqliteWriter, statements
from replicator_kuma.base.errors import DatabaseError
from replicator_kuma.dump.catalog import LOCAL, TABLES

log = logging.getLogger(__name__)

_OTHER_ROWS = 10_000
"""How many rows of an unknown table are copied, since a trigger may read them."""


class _RowsAtFault(Exception):
    """A live row that its own table would refuse today; the apply may repair it."""


@contextlib.contextmanager
def taken_back(
    connection: sqlite3.Connection, settings: frozenset[str]
) -> Iterator[SqliteWriter | None]:
    """A writer in the database itself, whose transaction is rolled back after the block.

    None where a trigger acts: all that it did would have to be read back, which takes long.
    """
    with explained():
        # nothing reaches the log before a commit; references are checked as `SqliteStore.write` has
        for pragma in ("cache_spill = OFF", "foreign_keys = OFF"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("BEGIN IMMEDIATE")
    try:
        writer = SqliteWriter(connection, settings, str)
        yield None if writer.triggers() else writer
    finally:
        with contextlib.suppress(sqlite3.Error):  # the end of the connection does the same
            connection.execute("ROLLBACK")


@contextlib.contextmanager
def on_a_copy(live: Path, settings: frozenset[str], folder: Path) -> Iterator[SqliteWriter | None]:
    """A writer on a copy of all rows, triggers and rules in ``folder``; ``live``: the file.

    None for rows that a copy could not hold.
    """
    folder.mkdir(mode=0o700)
    try:
        path = folder / "kuma.db"
        path.touch(mode=0o600)
        name = f"file:{url_quote(os.fsencode(path.absolute()))}"
        opened = sqlite3.connect(name, uri=True, isolation_level=None)
        with contextlib.closing(opened) as connection:
            try:
                with explained():
                    _fill(connection, live)
                    connection.execute("BEGIN")
                writer = SqliteWriter(connection, settings, str)
            except _RowsAtFault as error:
                log.debug("rows that stand there break a rule of their table: no copy: %s", error)
                writer = None
            yield writer
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _fill(connection: sqlite3.Connection, live: Path) -> None:
    """Copy tables with their rows first; then triggers, views and indexes, which act on rows."""
    for pragma in ("synchronous = OFF", "foreign_keys = OFF"):
        connection.execute(f"PRAGMA {pragma}")
    # rows that are there already may break a CHECK: to copy them is no new fault
    connection.execute("PRAGMA ignore_check_constraints = ON")
    source = url_quote(os.fsencode(live.absolute()))
    connection.execute("ATTACH ? AS live", (f"file:{source}?mode=ro",))
    connection.execute("BEGIN")
    found = connection.execute(
        "SELECT type, name, sql FROM live.sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE "
        "'sqlite\\_%' ESCAPE '\\' ORDER BY type <> 'table', type <> 'index', type <> 'view', rowid"
    ).fetchall()
    acts = any(kind == "trigger" for kind, _name, _sql in found)
    for kind, name, sql in found:
        # an unknown table may need a module that SQLite lacks; a trigger that needs it will fail
        known = name in TABLES or kind == "trigger"
        with contextlib.nullcontext() if known else contextlib.suppress(sqlite3.Error):
            connection.execute(sql)
            if kind == "table" and (name in TABLES or (acts and name not in LOCAL)):
                _copy_rows(connection, name, whole=name in TABLES)
    connection.execute("COMMIT")
    connection.execute("DETACH live")
    connection.execute("PRAGMA ignore_check_constraints = OFF")


def _copy_rows(connection: sqlite3.Connection, name: str, *, whole: bool) -> None:
    table = double_quoted(name)
    # table_info leaves out computed columns, which cannot be written
    columns = ", ".join(
        double_quoted(row[1]) for row in connection.execute(f"PRAGMA main.table_info({table})")
    )
    try:
        connection.execute(
            f"INSERT INTO main.{table} ({columns}) SELECT {columns} FROM live.{table}"
            + ("" if whole else f" LIMIT {_OTHER_ROWS}")
        )
    except sqlite3.IntegrityError as error:
        raise _RowsAtFault(name) from error


def obstacles(reader: SqliteReader, tables: Collection[str]) -> list[str]:
    """Why rows of these tables could not be written, in words: compiles statements, runs none."""
    found = []
    for table in tables:
        for sql in statements(table, sorted(reader.schema.tables[table].columns)):
            try:
                reader.query(f"EXPLAIN {sql}")
            except DatabaseError as error:
                found.append(f"{table}: {error}")
                break
    return found
