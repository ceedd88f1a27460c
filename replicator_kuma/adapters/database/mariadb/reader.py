"""Reads Kuma's MariaDB database: rows and schema at one instant."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from replicator_kuma.adapters.database.mariadb.connection import (
    Link,
    literal,
    quoted,
)
from replicator_kuma.adapters.database.migrations import read_migrations
from replicator_kuma.adapters.database.reader import SqlReader
from replicator_kuma.base.errors import (
    DatabaseError,
    DatabaseMissing,
)
from replicator_kuma.dump.catalog import HISTORY, LOCAL, SETTINGS, TABLES
from replicator_kuma.dump.schema import Column, Schema, TableSchema
from replicator_kuma.dump.select import Select
from replicator_kuma.dump.values import is_plain

_NO_HASH = 10**40
"""What a row without a hash adds to the sum: more than all 64-bit hashes together could."""
_KNOWN = ", ".join(map(literal, sorted({*TABLES, *LOCAL})))
"""The tables whose columns are read: any other table or view may be broken, and does no harm."""
_KUMA = frozenset({"monitor", "user"})
"""Tables that every Kuma has: if both are missing, Kuma has not made its database yet."""
_TRIGGERS = (
    "FROM information_schema.triggers WHERE event_object_schema = database() ORDER BY trigger_name"
)


def exact(expression: str) -> str:
    """An SQL expression that compares and sorts text by code point, whatever its collation.

    UTF-8 bytes sort like code points; a `_bin` collation would ignore spaces at the end.
    """
    return f"CAST(CONVERT({expression} USING utf8mb4) AS BINARY)"


def key_filter(table: str, keys: Sequence[Any], alias: str = "") -> str:
    """An SQL condition for rows with these keys; false for keys that the table cannot have."""
    found: list[Any]
    if table == "setting":
        found = [key for key in keys if isinstance(key, str) and is_plain(key)]
        column = exact(f"{alias}{quoted('key')}")
    else:
        # MariaDB would take '5x' for 5, and find no row for 4.6
        found = [key for key in keys if type(key) is int]
        column = f"{alias}{quoted('id')}"
    return f"{column} IN ({', '.join(map(literal, found))})" if found else "FALSE"


class MariadbReader(SqlReader):
    """Reads through one connection that is inside a transaction."""

    quote = staticmethod(quoted)
    exact = staticmethod(exact)

    def __init__(self, link: Link, settings: frozenset[str] = SETTINGS) -> None:
        super().__init__(read_schema(link, settings))
        self._link = link

    def rows(self, select: Select, keys: Sequence[Any] | None = None) -> Iterator[tuple[Any, ...]]:
        chosen = None if select.values is None else sorted(select.values)
        wanted = chosen if keys is None else keys
        where = "" if wanted is None else key_filter(select.table, wanted, "t.")
        yield from self._link.stream(
            self._sql(select).rows(where, whole=select.table in self._whole)
        )

    def fingerprint(self) -> str:
        return self.digest(TABLES, quiet=True)

    def digest(self, tables: Collection[str], *, quiet: bool) -> str:
        """A digest of the rows without runtime columns: the server hashes, and sends only sums.

        Without ``quiet`` also without quiet columns, and without ids that do not last. Empty if a
        row cannot be hashed.
        """
        hasher = hashlib.sha256(repr(self.schema.migrations).encode())
        for name, table in TABLES.items():
            if name not in self.schema.tables or name not in tables:
                continue
            columns = self.schema.tables[name].columns
            left_out = table.runtime if quiet else table.not_compared
            kept = [columns[c] for c in sorted(set(columns) - left_out)]
            where = ""
            if name == "setting":
                where = f"WHERE {key_filter(name, sorted(self.schema.settings))}"
            # used once: the server computes an expression again for each aggregate that has it
            hashed = f"CAST(conv(left(md5({_row_bytes(kept)}), 16), 16, 10) AS UNSIGNED)"
            (found,) = self._link.all(
                f"SELECT count(*), sum(ifnull({hashed}, {_NO_HASH})) FROM {quoted(name)} {where}"
            )
            _rows, total = found
            if int(total or 0) >= _NO_HASH:  # a row is longer than max_allowed_packet
                return ""
            hasher.update(repr((name, [c.name for c in kept], found)).encode())
        return hasher.hexdigest()

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        return self._link.all(sql)

    def triggers(self) -> list[tuple[Any, ...]]:
        return self.query(f"SELECT trigger_name, event_object_table {_TRIGGERS}")

    def definitions(self) -> list[tuple[Any, ...]]:
        return self.query(f"SELECT trigger_name, action_statement {_TRIGGERS}")


def _row_bytes(columns: Sequence[Column]) -> str:
    """An SQL expression for a row as unique bytes: lengths tell '' from NULL, and end each text."""
    names = [quoted(column.name) for column in columns]
    marks = [
        f"ifnull(length({quoted(c.name)}), 'n')"
        if c.charset or any(kind in c.type for kind in ("blob", "binary", "bit"))
        else f"isnull({quoted(c.name)})"
        for c in columns
    ]
    return f"concat(concat_ws(0x00, {', '.join(names)}), concat_ws(',', {', '.join(marks)}))"


def read_schema(link: Link, settings: frozenset[str] = SETTINGS) -> Schema:
    """Tables, columns and migrations as they are.

    Raises DatabaseMissing if Kuma's tables are missing, DatabaseMigrating while they change,
    DatabaseError if one of them has no transactions.
    """
    there = _tables(link)
    columns: dict[str, dict[str, Column]] = {name: {} for name in there}
    if not _KUMA & set(columns):
        raise DatabaseMissing(
            "Kuma's database in MariaDB has no tables of Kuma's",
            hint="Kuma makes them at its first start. Is it the right database in db-config.json?",
        )
    _require_transactions(there)
    for table, name, kind, null, default, charset, collation in link.all(
        "SELECT table_name, column_name, column_type, is_nullable, column_default, "
        "character_set_name, collation_name FROM information_schema.columns "
        f"WHERE table_schema = database() AND table_name IN ({_KNOWN}) "
        "AND extra NOT REGEXP '(VIRTUAL|STORED) GENERATED' ORDER BY table_name, ordinal_position"
    ):
        if table in columns:
            columns[table][name] = Column(
                name,
                kind.lower(),
                null == "NO",
                None if default is None or str(default).upper() == "NULL" else str(default),
                charset or "",
                collation or "",
            )
    unique: dict[tuple[str, str], list[str]] = {}
    for table, index, column in link.all(
        "SELECT table_name, index_name, column_name FROM information_schema.statistics "
        f"WHERE table_schema = database() AND table_name IN ({_KNOWN}) "
        "AND non_unique = 0 AND index_name <> 'PRIMARY' "
        "ORDER BY table_name, index_name, seq_in_index"
    ):
        unique.setdefault((table, index), []).append(column)
    tables = {
        name: TableSchema(
            found, tuple(tuple(u) for (t, _), u in unique.items() if t == name and None not in u)
        )
        for name, found in columns.items()
    }
    return Schema(tables, read_migrations(tables, link.all, quoted), settings)


def _tables(link: Link, database: str = "database()") -> dict[str, str]:
    """Each table's storage engine; empty where the server cannot open the table.

    ``database``: an SQL expression for its name.
    """
    sql = (
        "SELECT table_name, engine FROM information_schema.tables "
        f"WHERE table_schema = {database} AND table_type = 'BASE TABLE' ORDER BY table_name"
    )
    return {name: engine or "" for name, engine in link.all(sql)}


def _require_transactions(engines: Mapping[str, str]) -> None:
    for name in (*TABLES, *HISTORY):
        if engines.get(name, "") not in ("", "InnoDB"):
            raise DatabaseError(
                f"Kuma's table {name} is no InnoDB table but {engines[name]}: it cannot be read "
                "or written all or nothing",
                hint=f"Try, with Kuma stopped: ALTER TABLE {quoted(name)} ENGINE=InnoDB",
            )
