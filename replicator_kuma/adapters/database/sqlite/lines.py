"""Makes a table's lines in SQLite itself, in a third of the time that rows in Python take.

`json_array()` of a row is the line that `dump.values` writes, except for what is handled here:

- SQLite leaves text beyond ASCII, and DEL, as they are. They are escaped here.
- It prints floats with 15 digits, and copies text that is not UTF-8. `values.encode` makes the
  lines of such rows; but a monitor's timeout is a float, so those with one decimal are made here.
- It refuses blobs. Then the whole table is read and encoded in Python.

The bytes must be equal: another digest would publish the same rows again, on every fleet.
"""

from __future__ import annotations

import codecs
import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from json.encoder import encode_basestring_ascii
from typing import Any

from replicator_kuma.adapters.database.sql import SelectSql, chunks, double_quoted
from replicator_kuma.adapters.database.sqlite.values import affinity
from replicator_kuma.dump import values
from replicator_kuma.dump.audit import never_empty
from replicator_kuma.dump.format import COLUMN, Lines, NotMade
from replicator_kuma.dump.kuma_columns import UNIQUE
from replicator_kuma.dump.schema import Column
from replicator_kuma.dump.select import Select

_BATCH_ROWS, _BATCH_BYTES = 1024, 1 << 16
_PROBE: tuple[values.Value, ...] = (
    "".join(map(chr, range(0x3000))) + "\ufeff\uffff🏭",
    *(None, 0, -(2**63), 2**63 - 1),
    *(k / 10 for k in (*range(1, 60), 10**10 - 1)),
)
_ESCAPE = "replicator-kuma-json"


def _escape(error: Any) -> tuple[str, int]:
    return encode_basestring_ascii(error.object[error.start : error.end])[1:-1], error.end


codecs.register_error(_ESCAPE, _escape)


def as_python(connection: sqlite3.Connection) -> bool:
    """Whether this SQLite, and the encoding of this database, give what Python gives."""
    try:
        sql = f"SELECT CAST(json_array({', '.join('?' * len(_PROBE))}) AS BLOB)"
        (made,) = connection.execute(sql, _PROBE).fetchone()
        encoding = connection.execute("PRAGMA encoding").fetchone()
    except sqlite3.Error:  # built without JSON
        return False
    return encoding == ("UTF-8",) and _ascii(made) == values.encode(_PROBE)


def made_lines(
    connection: sqlite3.Connection,
    sql: SelectSql,
    *,
    whole: bool,
    row: Callable[[int], Sequence[values.Value]],
    where: str = "",
) -> Iterator[Lines] | None:
    """A table's lines in batches; None if only Python can make lines of this table.

    ``where``: an SQL condition that narrows the rows.
    ``row`` reads one row by its rowid. The iterator raises NotMade where that shows later, and
    sqlite3.DatabaseError.
    """
    chosen, columns = sql.select, sql.schema.tables[sql.select.table].columns
    if chosen.values is not None or "_rowid_" in map(str.lower, columns):
        return None
    if chosen.unkeyed and _ties(connection, chosen):
        return None
    shown, split = sql.columns(whole=whole), len(chosen.content)
    most = connection.getlimit(sqlite3.SQLITE_LIMIT_FUNCTION_ARG)
    content, runtime = _array(shown[:split], most), _array(shown[split:], most)
    unsafe = _unsafe(columns, chosen.columns)
    made = ("t._rowid_", f"CASE WHEN {unsafe} THEN NULL ELSE {content} END", runtime)
    try:
        cursor = connection.execute(sql.rows(where, whole=whole, columns=made))
    except sqlite3.OperationalError:  # a table without rowids; a blob in the first row
        return None

    def encoded(rowid: int) -> tuple[bytes, bytes]:
        found = row(rowid)
        return values.encode(found[:split]), values.encode(found[split:])

    return _batches(cursor, encoded)


def _ties(connection: sqlite3.Connection, chosen: Select) -> bool:
    """Whether rows have the same key: `format` sorts those by their text."""
    table, key = double_quoted(chosen.table), ", ".join(map(double_quoted, chosen.order))
    keys = f"(SELECT DISTINCT {key} FROM {table})"
    sql = f"SELECT (SELECT count(*) FROM {table}) > (SELECT count(*) FROM {keys})"
    return bool(connection.execute(sql).fetchone()[0])


def faultless(connection: sqlite3.Connection, chosen: Select) -> bool:
    """Whether no row of a table is one that `audit.audited` refuses.

    All rows are looked at, also those that `rows` leaves out. Raises sqlite3.DatabaseError.
    """
    keys, table = (*chosen.order, *chosen.runtime) if chosen.unkeyed else chosen.order, chosen.table
    odd = [f"typeof({double_quoted(key)}) <> 'integer'" for key in keys]
    odd += [f"{double_quoted(name)} IS NULL" for name in never_empty(chosen)]
    faults = [f"WHERE {' OR '.join(odd)}"]
    # `audit.twice` looks for links with one id
    single = {UNIQUE.get(table), None if chosen.unkeyed else "id"} & {*chosen.columns}
    faults += (
        f"WHERE {name} IS NOT NULL GROUP BY {name} HAVING count(*) > 1"
        for name in map(double_quoted, map(str, single))
    )
    return all(map(COLUMN.fullmatch, chosen.columns)) and not any(
        connection.execute(f"SELECT 1 FROM {double_quoted(table)} {fault} LIMIT 1").fetchone()
        for fault in faults
    )


def _array(columns: Sequence[str], most: int) -> str:
    """A JSON array of any number of columns, from functions that take ``most`` arguments.

    It is a blob, so that Python does not decode it.
    """
    arrays = [f"json_array({', '.join(part)})" for part in chunks(columns, most)] or ["'[]'"]
    if len(arrays) == 1:
        return f"CAST({arrays[0]} AS BLOB)"
    # no element begins or ends with a bracket
    elements = " || ',' || ".join(f"trim({array}, '[]')" for array in arrays)
    return f"CAST('[' || {elements} || ']' AS BLOB)"


def _unsafe(columns: Mapping[str, Column], names: Sequence[str]) -> str:
    """An SQL condition for rows that Python has to encode; it matches a few more.

    What a column holds is looked at: somebody may have changed its type after it was written.
    """
    found, numbers = list[str](), ["0"]
    for name in names:
        column = f"t.{double_quoted(name)}"
        match affinity(columns[name].type):
            case "TEXT":  # a number sorts before text; + keeps it from being compared as text
                found.append(f"+{column} < ''")
            case "REAL":
                tenths = f"CAST({column} * 10 AS INTEGER) / 10.0"
                # without 0: SQLite takes -0.0 for equal, and prints both as 0.0
                found.append(f"NOT ({column} >= 0.1 AND {column} < 1e9 AND {column} = {tenths})")
            case _:  # a sum is a float if one part of it is
                numbers.append(f"ifnull({column}, 0)")
    return " OR ".join([f"typeof({' + '.join(numbers)}) <> 'integer'", *found])


def _batches(
    cursor: sqlite3.Cursor, encoded: Callable[[int], tuple[bytes, bytes]]
) -> Iterator[Lines]:
    size = 1
    try:
        while batch := cursor.fetchmany(size):
            yield (lines := _lines(batch, encoded))
            length = len(lines.content) + len(lines.runtime)
            size = min(_BATCH_ROWS, 1 + _BATCH_BYTES * len(batch) // length)
    except sqlite3.DatabaseError as error:
        # a blob; a line that is too long for SQLite
        if error.sqlite_errorcode in (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_TOOBIG):
            raise NotMade from error
        raise


def _lines(
    batch: list[tuple[int, bytes | None, bytes]], encoded: Callable[[int], tuple[bytes, bytes]]
) -> Lines:
    _rowids, contents, runtimes = zip(*batch, strict=True)
    if None not in contents:
        with contextlib.suppress(UnicodeDecodeError):
            content, runtime = (b"\n".join([*lines, b""]) for lines in (contents, runtimes))
            return Lines(len(batch), _ascii(content), _ascii(runtime))
    if len(batch) == 1:
        content, runtime = encoded(batch[0][0])
        return Lines(1, content + b"\n", runtime + b"\n")
    each = [_lines([row], encoded) for row in batch]
    return Lines(len(batch), b"".join(e.content for e in each), b"".join(e.runtime for e in each))


def _ascii(lines: bytes) -> bytes:
    """Escape what is no ASCII, and DEL, as Python's encoder does. Raises UnicodeDecodeError."""
    if not lines.isascii():
        lines = lines.decode().encode("ascii", _ESCAPE)
    return lines.replace(b"\x7f", b"\\u007f")
