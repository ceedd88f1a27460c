"""Checks whether kuma.db is intact, and sorts SQLite's findings by their meaning and their repair.

A damaged file, or an index that does not fit its table: nobody may read the table. A row that its
own table would refuse: a RowFault. An object that this SQLite cannot check (it lacks a module):
an error only for an action that needs the object.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from replicator_kuma.adapters.database.sql import double_quoted
from replicator_kuma.adapters.database.sqlite.values import SqliteRepresentation, affinity
from replicator_kuma.base.errors import DatabaseCorrupt, DatabaseError, RowFault
from replicator_kuma.dump.catalog import HISTORY, TABLES
from replicator_kuma.dump.row_names import describe_row
from replicator_kuma.dump.schema import Column
from replicator_kuma.dump.transform.represent import Convert, Misfit
from replicator_kuma.dump.values import Value

_ROW = re.compile(r"NULL value in |CHECK constraint failed in |(?:non-)?[A-Z]+ value in ")
_INDEX = re.compile(r"row \d+ |wrong # of entries in index |rowid not at end-of-record ")
_TWICE = "non-unique entry in index "
_SHOWN = 3
_BATCH = 200
_LIMIT = 100
_TOKEN = re.compile(
    r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|`[^`]*`|\[[^\]]*\]|--[^\n]*|/\*.*?\*/|\w+|[()]""", re.DOTALL
)
_REINDEX = (
    "Nothing was published or changed. The rows are whole, only an index is not. Stop Kuma, then: "
    'sqlite3 kuma.db "REINDEX"'
)


def examine(
    connection: sqlite3.Connection,
    path: Path,
    tables: Collection[str] | None,
    settings: Collection[str],
) -> list[str]:
    """See `Store.check`; ``settings`` are the replicated keys. May raise sqlite3.DatabaseError."""
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    if path.stat().st_size % size:  # SQLite reads zeros there
        raise _damaged("its file was cut off within a page")
    there = _tables(connection)
    writing, odd = tables is None, list[str]()
    for table in TABLES if tables is None else [name for name in TABLES if name in tables]:
        if table in there:
            odd += _own(connection, table, writing, settings)
    return list(dict.fromkeys([*odd, *_rest(connection, there, writing)]))


def _tables(connection: sqlite3.Connection) -> list[str]:
    """Tables that have pages: a virtual table has none, and SQLite may lack its module."""
    sql = "SELECT name FROM sqlite_master WHERE type = 'table' AND rootpage > 0 ORDER BY name"
    return [row[0] for row in connection.execute(sql)]


def _own(
    connection: sqlite3.Connection, table: str, writing: bool, settings: Collection[str]
) -> list[str]:
    """Check one replicated table: raises if it must not be used, returns the other findings."""
    try:
        found = _lines(connection, f"PRAGMA integrity_check({double_quoted(table)})")
    except _Unseen as error:
        if writing:
            raise _unseen(table, error) from error
        return [f"{table} cannot be looked over: {error}"]
    rows = [line for line in found if _ROW.match(line)]
    twice = [line for line in found if line.startswith(_TWICE)]
    index = [line for line in found if _INDEX.match(line)]
    if worse := [line for line in found if line not in (*rows, *twice, *index)]:
        raise _damaged(worse[0])
    if index and not twice:
        raise DatabaseCorrupt(f"an index of Kuma's table {table}: {index[0]}", hint=_REINDEX)
    if not writing and (misheld := list(_misheld(connection, table, settings))):
        raise RowFault(
            _listed(f"rows of {table} hold values as this table would not keep them:", misheld),
            hint=f"{RowFault.hint} Written anew they are kept as they should be, for example: "
            f'sqlite3 kuma.db "UPDATE {table} SET … = …"',
        )
    if twice or (rows and not writing):
        fault = _fault(connection, table, (*twice, *rows)[0], settings)
        if fault is not None:
            raise fault
    elif not writing and (refused := list(_unchecked(connection, table, settings))):
        raise _breaking(table, refused)
    return rows


def _rest(connection: sqlite3.Connection, there: Sequence[str], writing: bool) -> list[str]:
    """Check the whole file, after the replicated tables were found intact."""
    odd = []
    try:
        found = _lines(connection, "PRAGMA quick_check")
    except _Unseen:
        found = []
        for table in there:
            try:
                found += _lines(connection, f"PRAGMA quick_check({double_quoted(table)})")
            except _Unseen as error:
                if writing and table in HISTORY:
                    raise _unseen(table, error) from error
                odd.append(f"{table} cannot be looked over: {error}")
    except sqlite3.DatabaseError as error:
        if writing or error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_CORRUPT:
            raise
        found = [str(error)]
    if damage := [line for line in found if not _ROW.match(line)]:
        if writing:
            raise _damaged(damage[0])
        odd.append(f"outside of what is replicated, Kuma's database is damaged: {damage[0]}")
    return odd


class _Unseen(Exception):
    """SQLite cannot check an object: it lacks a collation, a function or a module."""


def _lines(connection: sqlite3.Connection, pragma: str) -> list[str]:
    """The findings of a check, without the line that names its scope; empty if all is well."""
    try:
        found = [str(row[0]) for row in connection.execute(pragma)]
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_ERROR:
            raise _Unseen(str(error)) from error
        raise
    lines = [line for text in found for line in text.splitlines() if not line.startswith("***")]
    return [line for line in lines if line and line != "ok"]


def _damaged(what: str) -> DatabaseCorrupt:
    return DatabaseCorrupt(f"Kuma's database is damaged: {what}")


def _unseen(table: str, error: _Unseen) -> DatabaseError:
    return DatabaseError(
        f"nothing can be written to Kuma's table {table}: {error}",
        hint="Nothing was stopped or changed. Somebody made an index, a check or a column by hand "
        f'that needs it. What there is: sqlite3 kuma.db ".schema {table}"',
    )


# --- rows that their own table would refuse -------------------------------------------------------


def _fault(
    connection: sqlite3.Connection, table: str, line: str, settings: Collection[str]
) -> RowFault | None:
    """A RowFault that names the first bad rows: an empty table of the same definition refuses them.

    None if all of them are settings that are not replicated.
    """
    with contextlib.suppress(sqlite3.Error):
        if refused := list(_refused(connection, table, settings, together=True)):
            return _breaking(table, refused)
        if table == "setting":
            return None
    return RowFault(f"a row of {table} breaks its own rules: {line}")


def _listed(what: str, lines: Sequence[str]) -> str:
    more = len(lines) - _SHOWN
    return "\n  ".join([what, *lines[:_SHOWN], *([f"… and {more} more"] if more > 0 else [])])


def _misheld(
    connection: sqlite3.Connection, table: str, settings: Collection[str]
) -> Iterator[str]:
    """Values that were stored under another column type: a replica would read back other values."""
    sql = f"PRAGMA table_info({double_quoted(table)})"
    types = {name: kind.lower() for _id, name, kind, *_rest in connection.execute(sql)}
    suspect = _suspect({name: affinity(kind) for name, kind in types.items()})
    if not suspect:
        return
    cursor = connection.execute(
        f"SELECT {', '.join(map(double_quoted, types))} FROM {double_quoted(table)} "
        f"WHERE {' OR '.join(suspect)}"
    )
    converters = [
        SqliteRepresentation().converter(table, Column(name, kind)) for name, kind in types.items()
    ]
    for row in cursor:
        if not _travels(table, list(types), row, settings):
            continue
        for name, value, convert in zip(types, row, converters, strict=True):
            if value is not None and convert is not None and not _stays(value, convert):
                yield f"{_row(table, list(types), row)}: {name}"


def _suspect(kinds: Mapping[str, str]) -> list[str]:
    """SQL conditions for rows with a value that may be stored under another type.

    ``kinds``: the affinity of each column. They match a few more rows. Each is cheap for the rows
    that all is well with: a comparison takes far less time than `typeof`.
    """
    found, whole = list[str](), list[str]()
    for column, kind in kinds.items():
        name = double_quoted(column)
        if kind == "TEXT":  # a number sorts before text; + keeps it from being compared as text
            found.append(f"+{name} < ''")
        if kind in ("INTEGER", "NUMERIC"):
            whole.append(f"ifnull({name}, 0)")
        if kind in ("INTEGER", "NUMERIC", "REAL"):  # text that may be a number, but not a date
            found.append(
                f"(+{name} >= '' AND typeof({name}) = 'text' AND {name} GLOB '*[0-9]*' "
                f"AND {name} NOT GLOB '*[A-DF-Za-df-z:/]*')"
            )
    if whole:  # a sum is a float if one part of it is
        found.append(f"typeof({' + '.join(['0', *whole])}) <> 'integer'")
    return found


def _stays(value: Value, convert: Convert) -> bool:
    try:
        return type(convert(value)) is type(value)
    except Misfit:
        return False


def _travels(
    table: str, columns: Sequence[str], row: Sequence[Any], settings: Collection[str]
) -> bool:
    return table != "setting" or row[columns.index("key")] in settings


def _row(table: str, columns: Sequence[str], row: Sequence[Any]) -> str:
    """The row's name; a link has no name, so its id is added."""
    name = describe_row(table, columns, row)
    key = f" (id {row[columns.index('id')]})" if TABLES[table].unkeyed and "id" in columns else ""
    return f"{name}{key}"


def _refused(
    connection: sqlite3.Connection,
    table: str,
    settings: Collection[str],
    *,
    together: bool = False,
) -> Iterator[str]:
    """Yield the rows that an empty copy refuses; ``together``: also those that collide."""
    quoted = double_quoted(table)
    cursor = connection.execute(f"SELECT * FROM {quoted} NOT INDEXED")
    columns = [column[0] for column in cursor.description]
    with contextlib.closing(_empty(connection, table)) as trial:
        names = ", ".join(map(double_quoted, columns))
        sql = f"INSERT INTO {quoted} ({names}) VALUES ({', '.join('?' * len(columns))})"
        end = "COMMIT" if together else "ROLLBACK"
        while batch := cursor.fetchmany(_BATCH):
            trial.execute("BEGIN")
            try:
                trial.executemany(sql, batch)
                trial.execute(end)
                continue
            except sqlite3.IntegrityError:
                trial.execute("ROLLBACK")
            trial.execute("BEGIN")
            for row in batch:
                try:
                    trial.execute(sql, row)
                except sqlite3.IntegrityError as error:
                    if _travels(table, columns, row, settings):
                        yield f"{_row(table, columns, row)}: {_reason(error)}"
            trial.execute(end)


def _unchecked(
    connection: sqlite3.Connection, table: str, settings: Collection[str]
) -> Iterator[str]:
    """Rows that break a CHECK: SQLite's own check skips them on a read-only connection."""
    sql = "SELECT sql FROM sqlite_master WHERE type = 'table' AND name = ?"
    (definition,) = connection.execute(sql, (table,)).fetchone()
    for rule in _checks(definition):
        with contextlib.suppress(sqlite3.OperationalError):  # a function that is not here
            cursor = connection.execute(
                f"SELECT * FROM {double_quoted(table)} WHERE NOT ({rule}) LIMIT {_LIMIT}"
            )
            columns = [column[0] for column in cursor.description]
            for row in cursor:
                if _travels(table, columns, row, settings):
                    name = _row(table, columns, row)
                    yield f"{name}: a value that the table does not allow (CHECK {rule})"


def _checks(definition: str) -> Iterator[str]:
    """The expressions of a table's CHECKs."""
    depth = start = 0
    before = ""
    for token in _TOKEN.finditer(definition):
        text = token[0]
        if text.startswith(("--", "/*")):
            continue
        if text == "(":
            depth += 1
            if before.upper() == "CHECK":
                start, outer = token.end(), depth
        elif text == ")":
            if start and depth == outer:
                yield definition[start : token.start()]
                start = 0
            depth -= 1
        before = text


def _breaking(table: str, refused: Sequence[str]) -> RowFault:
    return RowFault(_listed(f"rows of {table} break its own rules:", refused))


def _reason(error: sqlite3.IntegrityError) -> str:
    """The column and the broken rule, in words; a value is never shown."""
    _what, _, named = str(error).partition(" constraint failed: ")
    match error.sqlite_errorname:
        case "SQLITE_CONSTRAINT_NOTNULL":
            return f"{named} is empty, which it may not be"
        case "SQLITE_CONSTRAINT_CHECK":
            return f"a value that the table does not allow (CHECK {named})"
        case _:
            return f"another row has the same {named}"


def _empty(connection: sqlite3.Connection, table: str) -> sqlite3.Connection:
    made = sqlite3.connect(":memory:", isolation_level=None)
    sql = "SELECT sql FROM sqlite_master WHERE tbl_name = ? AND sql IS NOT NULL AND type IN "
    for kinds in ("('table')", "('index')"):
        for (text,) in connection.execute(sql + kinds, (table,)).fetchall():
            made.execute(text)
    return made
