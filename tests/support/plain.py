"""Databases of any engine as plain SQLite files, so that tests/support/compare.py can judge them.

A plain copy has every table and no type: each value is what the engine gave, or, asked for
MariaDB's form, what the rule below makes of it. The rule knows nothing of the code under test.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime, time
from functools import cache
from pathlib import Path
from typing import Any

from tests.support.compare import REPLICATED
from tests.support.databases import quoted, schema_sql
from tests.support.engines import Engine, MariadbEngine

_TABLE = re.compile(r"CREATE TABLE `(\w+)` \((.*?)\n\) ENGINE", re.DOTALL)
_COLUMN = re.compile(r"^  `(\w+)` (\w+)", re.MULTILINE)
_INTEGERS = {"int", "tinyint", "smallint", "bigint"}


@cache
def mariadb_types() -> Mapping[str, Mapping[str, str]]:
    """Of each table each column's type, by a word, as the described schema has it."""
    return {
        table: dict(_COLUMN.findall(columns))
        for table, columns in _TABLE.findall(schema_sql("2.3-mariadb"))
    }


def in_mariadb(value: Any, kind: str) -> Any:
    """A value as a MariaDB column of this type shows it."""
    if value is None:
        return None
    if kind in ("datetime", "timestamp"):
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is not None:
            moment = moment.astimezone(UTC).replace(tzinfo=None)
        return moment.replace(microsecond=0).isoformat(" ")
    if kind == "time":
        return time.fromisoformat(value).isoformat("seconds")
    if kind in _INTEGERS:
        return int(value)
    return float(value) if kind in ("double", "float") else value


def plain(engine: Engine, target: Path, *, as_mariadb: bool = False) -> Path:
    """Copy a whole database into a new file; a file that is there goes."""
    target.unlink(missing_ok=True)
    with closing(sqlite3.connect(target, isolation_level=None)) as copy:
        copy.execute("BEGIN")
        for table, columns in engine.columns().items():
            names = ", ".join(map(quoted, columns))
            copy.execute(f"CREATE TABLE {quoted(table)} ({names})")
            rows = engine.query(f"SELECT {names} FROM {quoted(table)}")
            if as_mariadb and table in REPLICATED:
                kinds = [mariadb_types()[table][column] for column in columns]
                rows = [
                    tuple(in_mariadb(v, kind) for v, kind in zip(row, kinds, strict=True))
                    for row in rows
                ]
            marks = ", ".join("?" * len(columns))
            copy.executemany(f"INSERT INTO {quoted(table)} VALUES ({marks})", rows)
        copy.execute("COMMIT")
    return target


def mariadb_damage(engine: MariadbEngine) -> list[str]:
    """What MariaDB itself finds, UNIQUE values that are there twice, counters below an id."""
    found = []
    unique = engine.query(
        "SELECT table_name, index_name, GROUP_CONCAT(CONCAT('\"', column_name, '\"')) "
        "FROM information_schema.statistics WHERE table_schema = DATABASE() AND non_unique = 0 "
        "GROUP BY table_name, index_name"
    )
    for table, index, columns in unique:
        sql = f'SELECT 1 FROM "{table}" GROUP BY {columns} HAVING COUNT(*) > 1'
        given = " AND ".join(f"{column} IS NOT NULL" for column in columns.split(","))
        if engine.query(sql.replace(" GROUP", f" WHERE {given} GROUP")):
            found.append(f"{table}: {index} is not unique")
    for table, columns in engine.columns().items():
        for row in engine.query(f'CHECK TABLE "{table}" EXTENDED'):
            found += [] if row[2:] == ("status", "OK") else [repr(row)]
        key = next(iter(columns))
        highest = engine.query(f'SELECT MAX("{key}") FROM "{table}"')[0][0] or 0
        sql = (
            "SELECT auto_increment FROM information_schema.tables "
            "WHERE table_schema = DATABASE() AND table_name = ?"
        )
        counter = engine.query(sql, (table,))[0][0]
        if counter is not None and counter <= highest:
            found.append(f"{table} has id {highest} and goes on at {counter}")
    return found
