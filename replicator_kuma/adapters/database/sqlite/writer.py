"""One write transaction on Kuma's SQLite database."""

from __future__ import annotations

import contextlib
import itertools
import secrets
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

from replicator_kuma.adapters.database import Row
from replicator_kuma.adapters.database.history import History
from replicator_kuma.adapters.database.reader import SqlWriter
from replicator_kuma.adapters.database.sql import chunks, double_quoted
from replicator_kuma.adapters.database.sqlite.reader import SqliteReader, explained
from replicator_kuma.base.errors import DatabaseError, SnapshotRefused
from replicator_kuma.dump.schema import Schema
from replicator_kuma.dump.values import is_plain

_ROWS = 32


def key_column(table: str) -> str:
    """The column that identifies a row."""
    return "key" if table == "setting" else "id"


@contextlib.contextmanager
def _refusing(table: str) -> Iterator[None]:
    """Turn a broken constraint into SnapshotRefused, without its text, which may hold a value.

    A trigger's refusal is not the snapshot's fault, since Kuma has no triggers.
    """
    try:
        yield
    except sqlite3.IntegrityError as error:
        if error.sqlite_errorname == "SQLITE_CONSTRAINT_TRIGGER":
            raise DatabaseError(f"a trigger of Kuma's database refuses rows of {table}") from None
        raise SnapshotRefused(
            f"the snapshot's {table} breaks a rule of the table ({error.sqlite_errorname})"
        ) from None


class SqliteHistory(History):
    """History that is set aside has the negative id of its monitor."""

    aside = "< 0"

    def place(self, monitor: int) -> int:
        return -monitor

    def origin(self, place: int) -> int:
        return -place

    def some(self, table: str, which: str, most: int) -> str:
        chosen = f"SELECT id FROM {table} WHERE {which} LIMIT {most}"
        return f"DELETE FROM {table} WHERE id IN ({chosen})"


class SqliteWriter(SqliteReader, SqlWriter):
    history = SqliteHistory

    def __init__(
        self,
        connection: sqlite3.Connection,
        settings: frozenset[str],
        fingerprint: Callable[[], str],
        schema: Schema | None = None,
        unchanged: frozenset[str] = frozenset(),
    ) -> None:
        """``schema``: see `SqliteReader`; ``unchanged``: see `Writer`."""
        super().__init__(connection, settings, schema=schema)
        self._token = secrets.token_hex(8)
        self._fingerprint = fingerprint
        self.unchanged = unchanged

    def fingerprint(self) -> str:
        return self._fingerprint()  # the files': nobody else can write them now

    def run(self, sql: str, table: str = "") -> int:
        with explained():
            return self._connection.execute(sql).rowcount

    def delete(self, table: str, keys: Iterable[Any]) -> None:
        self._whole.clear()
        waiting = iter(keys)
        for first in waiting:  # without keys, compile nothing: a broken trigger must not fail then
            with explained(), _refusing(table):
                self._connection.executemany(
                    _delete_sql(table), ((key,) for key in itertools.chain((first,), waiting))
                )

    def make_room(self, table: str, rows: Iterable[tuple[Any, Sequence[str]]]) -> None:
        self._whole.clear()
        for key, columns in rows:
            taken = ", ".join(f"{double_quoted(column)} = ?" for column in columns)
            parked = [f"replicator-{self._token}-{key}"] * len(columns)
            with explained(), _refusing(table):
                self._connection.execute(
                    f"UPDATE {double_quoted(table)} SET {taken} "
                    f"WHERE {double_quoted(key_column(table))} = ?",
                    (*parked, key),
                )

    def upsert(
        self, table: str, columns: Sequence[str], keep: Collection[str], rows: Iterable[Row]
    ) -> None:
        self._whole.clear()
        with explained(), _refusing(table):
            for batch in chunks(rows, _ROWS):
                # binding None takes sqlite3 far longer than a value: a column that holds only
                # None is NULL in the statement
                full = [
                    n
                    for n, column in enumerate(zip(*batch, strict=True))
                    if column.count(None) < len(batch)
                ]
                marks = ["?" if n in full else "NULL" for n in range(len(columns))]
                sql = _upsert_sql(table, columns, keep, marks)
                try:
                    self._connection.executemany(sql, ([row[n] for n in full] for row in batch))
                except UnicodeEncodeError:
                    # text that is not UTF-8: bind its bytes as a blob and cast it to text
                    for row in batch:
                        self._upsert_raw(table, columns, keep, row)

    def _upsert_raw(
        self, table: str, columns: Sequence[str], keep: Collection[str], row: tuple[Any, ...]
    ) -> None:
        odd = [isinstance(value, str) and not is_plain(value) for value in row]
        marks = ["CAST(? AS TEXT)" if raw else "?" for raw in odd]
        values = [
            value.encode("utf-8", "surrogateescape") if raw else value
            for value, raw in zip(row, odd, strict=True)
        ]
        self._connection.execute(_upsert_sql(table, columns, keep, marks), values)

    def broken_references(self, tables: Iterable[str]) -> list[str]:
        broken: list[str] = []
        with explained():
            for table in tables:
                found = self._connection.execute(
                    f"PRAGMA foreign_key_check({double_quoted(table)})"
                ).fetchmany(10)
                broken += [f"{child} row {row} → {parent}" for child, row, parent, _n in found]
        return broken[:10]


def statements(table: str, columns: Sequence[str]) -> tuple[str, str, str]:
    """One statement of each kind that writes rows, with NULL for the values: to be compiled."""
    key = double_quoted(key_column(table))
    value = next((c for c in columns if c != key_column(table)), key_column(table))
    move = f"UPDATE {double_quoted(table)} SET {double_quoted(value)} = NULL WHERE {key} = NULL"
    marks = ["NULL"] * len(columns)
    delete = _delete_sql(table).replace("?", "NULL")
    return _upsert_sql(table, columns, (), marks), move, delete


def _delete_sql(table: str) -> str:
    return f"DELETE FROM {double_quoted(table)} WHERE {double_quoted(key_column(table))} = ?"


def _upsert_sql(
    table: str, columns: Sequence[str], keep: Collection[str], marks: Sequence[str]
) -> str:
    key = key_column(table)
    names = ", ".join(double_quoted(column) for column in columns)
    updates = ", ".join(
        f"{double_quoted(c)} = excluded.{double_quoted(c)}"
        for c in columns
        if c != key and c not in keep
    )
    action = f"DO UPDATE SET {updates}" if updates else "DO NOTHING"
    return (
        f"INSERT INTO {double_quoted(table)} ({names}) VALUES ({', '.join(marks)}) "
        f"ON CONFLICT({double_quoted(key)}) {action}"
    )
