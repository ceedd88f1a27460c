"""What Uptime Kuma's own migrations make of a database: new tables, the same rows.

Written from Kuma's patches and knex migrations in SQL, on its own: `dump.meanings` is not asked.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from tests.support.databases import create, quoted

_TO_2_0 = (
    "UPDATE new.monitor SET json_path_operator = '==' WHERE json_path_operator IS NULL",
    "UPDATE new.monitor SET kafka_producer_ssl = 0 WHERE kafka_producer_ssl IS NULL",
    "UPDATE new.maintenance SET cron = CAST(substr(start_time, 4, 2) AS INTEGER) || ' ' ||"
    " CAST(substr(start_time, 1, 2) AS INTEGER) || ' * * *'"
    " WHERE strategy = 'recurring-interval' AND cron = '* * * * *'",
)
_TO_2_3 = (
    "UPDATE new.status_page SET analytics_id = (SELECT o.google_analytics_tag_id"
    " FROM main.status_page o WHERE o.id = new.status_page.id)",
    "UPDATE new.status_page SET analytics_type = 'google' WHERE analytics_id IS NOT NULL",
)
_STEPS = {"2.0": _TO_2_0, "2.3": _TO_2_3}
_LATER = {"1.23": ("2.0", "2.3"), "2.0": ("2.3",)}


def upgrade(path: Path, target: str) -> None:
    """Do to a closed database, in place, what Kuma ``target`` does at its first start on it."""
    for version in _LATER[_version(path)]:
        if version <= target:
            _one(path, version)


def upgraded(path: Path, target: str, copy: Path) -> Path:
    """A copy of a database, upgraded."""
    shutil.copyfile(path, copy)
    upgrade(copy, target)
    return copy


def _version(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE name = 'stat_hourly'")
        return "2.0" if tables.fetchone() else "1.23"


def _one(path: Path, version: str) -> None:
    new = create(path.with_name(f"{path.name}.{version}"), version)
    moved(path, new, _STEPS[version])
    new.replace(path)


def moved(path: Path, new: Path, steps: Sequence[str] = ()) -> Path:
    """Put the rows of a database into another one, whose columns may differ, instead of its own."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("ATTACH ? AS new", (str(new),))
        sql = "SELECT name FROM {}.sqlite_master WHERE type = 'table'"
        old, others = (
            {name for (name,) in connection.execute(sql.format(side))} for side in ("main", "new")
        )
        own = {"knex_migrations", "knex_migrations_lock", "sqlite_sequence"}
        for table in sorted((old & others) - own):
            _copy(connection, table)
        counters = "FROM {}.sqlite_sequence WHERE name NOT LIKE 'knex%'"
        connection.execute(f"DELETE {counters.format('new')}")
        main = f"SELECT name, seq {counters.format('main')}"
        connection.execute(f"INSERT INTO new.sqlite_sequence (name, seq) {main}")
        for statement in steps:
            connection.execute(statement)
    return new


def _copy(connection: sqlite3.Connection, table: str) -> None:
    sides = []
    for side in ("main", "new"):
        info = connection.execute(f"PRAGMA {side}.table_info({quoted(table)})").fetchall()
        sides.append([(row[1], row[3], row[4]) for row in info])
    columns = [name for name, _n, _d in sides[0] if name in {n for n, _n, _d in sides[1]}]
    defaults = {name: default for name, notnull, default in sides[1] if notnull and default}
    names = ", ".join(map(quoted, columns))
    values = ", ".join(
        f"ifnull({quoted(name)}, {defaults[name]})" if name in defaults else quoted(name)
        for name in columns
    )
    connection.execute(f"DELETE FROM new.{quoted(table)}")
    connection.execute(
        f"INSERT INTO new.{quoted(table)} ({names}) SELECT {values} FROM main.{quoted(table)}"
    )
