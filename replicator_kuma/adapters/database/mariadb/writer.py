"""One write transaction on Kuma's MariaDB database."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from replicator_kuma.adapters.database import Row
from replicator_kuma.adapters.database.history import SLICE, History
from replicator_kuma.adapters.database.mariadb.connection import Link, literal, quoted, refused
from replicator_kuma.adapters.database.mariadb.reader import MariadbReader, exact, key_filter
from replicator_kuma.adapters.database.reader import SqlWriter
from replicator_kuma.adapters.database.sql import chunks

PARKED = 2**31
_IDS = 500
_ROWS = 500
_BYTES = 1 << 20
_SPARE = 1 << 10
"""Bytes of a packet that the statement cannot use."""
_TWO_ROWS = "(SELECT 1 FROM (SELECT 1 UNION ALL SELECT 2) AS another_row_has_it)"
"""Fails with error 1242 where it is evaluated."""


class MariadbHistory(History):
    """History that is set aside has its monitor's id plus PARKED: ids are unsigned here."""

    aside = f">= {PARKED}"
    limit = f" LIMIT {SLICE}"

    def place(self, monitor: int) -> int | None:
        return monitor + PARKED if monitor < PARKED else None

    def origin(self, place: int) -> int:
        return place - PARKED

    def some(self, table: str, which: str, most: int) -> str:
        return f"DELETE FROM {table} WHERE {which} LIMIT {most}"


class MariadbWriter(MariadbReader, SqlWriter):
    history = MariadbHistory
    unchanged = frozenset[str]()

    def __init__(self, link: Link, settings: frozenset[str]) -> None:
        super().__init__(link, settings)
        self._token = secrets.token_hex(8)
        packet = int(link.value("SELECT @@max_allowed_packet"))
        self._most = packet - _SPARE
        self._batch = min(_BYTES, self._most)

    def run(self, sql: str, table: str = "") -> int:
        return self._link.run(sql, table)

    def delete(self, table: str, keys: Iterable[Any]) -> None:
        self._whole.clear()
        for chunk in chunks(keys, _IDS):
            sql = f"DELETE FROM {quoted(table)} WHERE {key_filter(table, chunk)}"
            self._link.run(sql, table)

    def make_room(self, table: str, rows: Iterable[tuple[Any, Sequence[str]]]) -> None:
        self._whole.clear()
        for key, columns in rows:
            taken = literal(f"replicator-{self._token}-{key}")
            places = ", ".join(f"{quoted(column)} = {taken}" for column in columns)
            where = key_filter(table, [key])
            self._link.run(f"UPDATE {quoted(table)} SET {places} WHERE {where}", table)

    def upsert(
        self, table: str, columns: Sequence[str], keep: Collection[str], rows: Iterable[Row]
    ) -> None:
        self._whole.clear()
        head, tail = _upsert_sql(table, columns, keep)
        frame = len(head) + len(tail)
        waiting: list[bytes] = []
        size = frame
        for row in rows:
            values = _values(table, row)
            if frame + len(values) > self._most:
                raise refused(table, "a row is longer than max_allowed_packet")
            if waiting and (size + len(values) + 1 > self._batch or len(waiting) == _ROWS):
                self._link.run(head + b",".join(waiting) + tail, table)
                waiting, size = [], frame
            waiting.append(values)
            size += len(values) + 1
        if waiting:
            self._link.run(head + b",".join(waiting) + tail, table)

    def broken_references(self, tables: Iterable[str]) -> list[str]:
        wanted = set(tables)
        broken: list[str] = []
        for child, column, schema, parent, key in self._link.all(
            "SELECT table_name, column_name, referenced_table_schema, referenced_table_name, "
            "referenced_column_name FROM information_schema.key_column_usage "
            "WHERE table_schema = database() AND referenced_table_name IS NOT NULL "
            "ORDER BY table_name, constraint_name, ordinal_position"
        ):
            if child not in wanted:
                continue
            reference = f"c.{quoted(column)}"
            found = self._link.all(
                f"SELECT c.id FROM {quoted(child)} AS c "
                f"LEFT JOIN {quoted(schema)}.{quoted(parent)} AS p "
                f"ON p.{quoted(key)} = {reference} "
                f"WHERE {reference} IS NOT NULL AND p.{quoted(key)} IS NULL "
                f"ORDER BY c.id LIMIT {10 - len(broken)}"
            )
            broken += [f"{child} row {row} → {parent}" for (row,) in found]
            if len(broken) == 10:
                break
        return broken


def _values(table: str, row: Sequence[Any]) -> bytes:
    """A row of VALUES; raises SnapshotRefused for a value that no MariaDB column can store."""
    try:
        return f"({','.join(map(literal, row))})".encode()
    except ValueError:  # an infinity, or text that is not UTF-8
        raise refused(table, "a value that MariaDB does not have") from None


def _upsert_sql(table: str, columns: Sequence[str], keep: Collection[str]) -> tuple[bytes, bytes]:
    """The text of an upsert before its rows, and the text after them.

    The first update sets the key to itself. If the row that MariaDB found is another one with the
    same UNIQUE value, it evaluates a subquery that fails: else MariaDB would update that row.
    """
    key = "key" if table == "setting" else "id"
    name, new = quoted(key), f"VALUES({quoted(key)})"
    same = f"{exact(name)} = {exact(new)}" if key == "key" else f"{name} = {new}"
    updates = [f"{name} = IF({same}, {name}, {_TWO_ROWS})"]
    updates += [f"{quoted(c)} = VALUES({quoted(c)})" for c in columns if c != key and c not in keep]
    names = ", ".join(map(quoted, columns))
    return (
        f"INSERT INTO {quoted(table)} ({names}) VALUES ".encode(),
        f" ON DUPLICATE KEY UPDATE {', '.join(updates)}".encode(),
    )
