"""Kuma's database in MariaDB: empty, or with the same rows as `tests.support.databases` makes."""

from __future__ import annotations

import itertools
import re
import sqlite3
import tempfile
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

from tests.support import databases
from tests.support.mariadb import Database

_ROWS = 500
_DATE = re.compile(r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d)(:\d\d)?(?:\.\d+)?Z?)?")
_TIME = re.compile(r"\d\d:\d\d")


def create(database: Database) -> Database:
    """Make an empty database what Kuma's first start leaves: no user yet."""
    database.load(databases.schema_sql("2.3-mariadb"))
    value = f"jwt of {database.data_dir.name}"
    database.edit(("INSERT INTO setting (\"key\", value) VALUES ('jwtSecret', ?)", (value,)))
    return database


def build(database: Database, **sizes: Any) -> Database:
    """The rows of `databases.build`, with its arguments, in an empty database."""
    create(database)
    with tempfile.TemporaryDirectory() as folder:
        source = databases.build(Path(folder) / "kuma.db", **sizes)
        copy_rows(source, database)
    return database


def copy_rows(source: Path, database: Database, *, keep: tuple[str, ...] = ()) -> None:
    """Put every row of a SQLite database in the place of those there, but for ``keep``'s tables.

    Values are written as Kuma writes them to MariaDB. Migrations and local settings stay.
    """
    own = {"knex_migrations", "knex_migrations_lock", "sqlite_sequence", *keep}
    with closing(sqlite3.connect(source)) as rows, database.transaction() as target:
        for table, columns in database.columns().items():
            if table in own:
                continue
            if table == "setting":
                columns = {name: kind for name, kind in columns.items() if name != "id"}
                where = "WHERE key NOT IN ('jwtSecret', 'database_version', "
                where += "'databasePatchedFiles', 'migrateAggregateTableState')"
            else:
                target.execute(f'DELETE FROM "{table}"')
                where = ""
            _copy(rows, table, columns, where, target)


def _copy(
    rows: sqlite3.Connection, table: str, columns: Mapping[str, str], where: str, target: Any
) -> None:
    names = ", ".join(f'"{name}"' for name in columns)
    sql = f'REPLACE INTO "{table}" ({names}) VALUES ({", ".join(["%s"] * len(columns))})'
    hold = [(n, how) for n, how in enumerate(map(_holding, columns.values())) if how]
    found = rows.execute(f'SELECT {names} FROM "{table}" {where}')
    while batch := list(itertools.islice(found, _ROWS)):
        lines = [list(row) for row in batch]
        for line in lines:
            for n, how in hold:
                line[n] = how(line[n])
        target.executemany(sql, lines)


@cache
def _holding(kind: str) -> Callable[[Any], Any] | None:
    """How a value of SQLite's becomes one of a column of this type; None: as it is."""
    if kind.startswith(("datetime", "timestamp")):
        return _date
    if kind.startswith("time"):
        return lambda value: f"{value}:00" if value and _TIME.fullmatch(value) else value
    return None


def _date(value: Any) -> Any:
    if not isinstance(value, str) or (found := _DATE.fullmatch(value)) is None:
        return value
    day, minute, second = found.groups()
    return f"{day} {minute or '00:00'}{second or ':00'}"
