"""Fleets of replicator-kuma v1 and v2: what they put into a repository, and into a replica.

Their programs are not run. The shapes are those of their scripts: v1 stores the folder
/backup/current with one file of SQL, v2 /replicator_kuma/current with CSV files and the INSERT
statements made of them, in which NULL is left out and text has lost its outer blanks.
"""

from __future__ import annotations

import csv
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.weak_repository import PASSWORD

V1_TABLES = (
    *("monitor", "monitor_tag", "tag", "monitor_notification", "notification", "monitor_group"),
    *("group", "status_page", "monitor_maintenance", "maintenance", "maintenance_status_page"),
    "incident",
)
V2_TABLES = (
    *("group", "user", "tag", "notification", "status_page", "proxy", "remote_browser"),
    *("incident", "api_key", "maintenance", "monitor", "monitor_notification", "monitor_group"),
    *("monitor_tag", "monitor_maintenance", "maintenance_status_page"),
)
"""in the order in which v2 writes them"""


def v1_publishes(database: Path, root: Path, restic: Path, repository: Path) -> None:
    """Store a snapshot as v1's leader does; ``root`` becomes its container's file system."""
    folder = root / "backup" / "current"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with closing(sqlite3.connect(database)) as connection:
        text = "".join(f"{line}\n" for line in _dumped(connection, V1_TABLES))
    (folder / "backup.sql").write_text(text)
    stored(root, restic, repository, "/backup/current")


def v2_publishes(database: Path, root: Path, restic: Path, repository: Path) -> Path:
    """Store a snapshot as v2's leader does; returns the folder of its statements."""
    folder = root / "replicator_kuma" / "current"
    shutil.rmtree(folder, ignore_errors=True)
    exports, statements = folder / "sqlite_exports", folder / "sql_statements"
    for each in (exports, statements, folder / "le_sql_statements"):
        each.mkdir(parents=True)
    with closing(sqlite3.connect(database)) as connection:
        there = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        tables = [name for name in V2_TABLES if name in there]
        for table in tables:
            found = connection.execute(f'SELECT * FROM "{table}"')
            columns = [column[0] for column in found.description]
            rows = [["null" if v is None else str(v) for v in row] for row in found]
            if not rows:
                continue
            with (exports / f"{table}.csv").open("w", newline="") as file:
                csv.writer(file).writerows([columns, *rows])
            lines = [_insertion(table, columns, row) for row in rows]
            (statements / f"{table}.sql").write_text("\n".join(lines))
    emptied = [f"DELETE FROM `{table}`;" for table in reversed(tables)]
    (statements / "replicatorkuma_truncates.sql").write_text("\n".join(emptied))
    stored(root, restic, repository, "/replicator_kuma/current", within=True)
    return statements


def v2_restores(statements: Path, database: Path) -> None:
    """Write a v2 snapshot's rows into a replica, whose Kuma does not run."""
    files = [statements / f"{table}.sql" for table in V2_TABLES]
    with closing(sqlite3.connect(database)) as connection:
        for path in (statements / "replicatorkuma_truncates.sql", *files):
            if path.exists():
                connection.executescript(path.read_text())


def _insertion(table: str, columns: list[str], row: list[str]) -> str:
    given = [(c, _literal(v.strip())) for c, v in zip(columns, row, strict=True) if v != "null"]
    names = ", ".join(f"`{column}`" for column, _value in given)
    return f"INSERT INTO `{table}` ({names}) VALUES ({', '.join(value for _c, value in given)});"


def _literal(text: str) -> str:
    if re.fullmatch(r"0|-?[1-9][0-9]{0,14}", text):
        return text
    return "'" + text.replace("'", "''") + "'"


def _dumped(connection: sqlite3.Connection, tables: tuple[str, ...]) -> Iterator[str]:
    for table in tables:
        sql = connection.execute(
            "SELECT sql FROM sqlite_master WHERE type = 'table' AND name = ?", (table,)
        ).fetchone()
        if sql is None:
            continue
        yield f"{sql[0]};"
        found = connection.execute(f'SELECT * FROM "{table}"')
        quoted = ", ".join("quote(?)" for _column in found.description)
        for row in found.fetchall():
            values = connection.execute(f"SELECT {quoted}", row).fetchone()
            yield f'INSERT INTO "{table}" VALUES({",".join(map(str, values))});'


_IN_ROOT = (
    "import os, sys; os.chroot(sys.argv[1]); os.chdir(sys.argv[2]); "
    "os.execv('/restic', ['restic', *sys.argv[3:]])"
)


def stored(
    root: Path, restic: Path, repository: Path, folder: str, *, within: bool = False
) -> None:
    """`restic backup` in a root of its own: a snapshot has the absolute names of its folders."""
    enter = [] if os.geteuid() == 0 else ["unshare", "-r"]
    if enter and subprocess.run([*enter, "true"], check=False).returncode:
        pytest.skip("without root, this needs user namespaces")
    linked = subprocess.run(["ldd", restic], capture_output=True, text=True, check=False).stdout
    for name in (str(restic), *re.findall(r"(/\S+) \(0x", linked)):
        copy = root / ("restic" if name == str(restic) else name[1:])
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(name, copy)
        copy.chmod(0o755)
    (root / "tmp").mkdir(exist_ok=True)
    # a copy goes in and comes out: a bind mount needs more rights than chroot
    shutil.copytree(repository, root / "repository")
    call = ["--no-cache", "backup", "--host", "leader", "." if within else folder]
    subprocess.run(
        [*enter, sys.executable, "-c", _IN_ROOT, root, folder, *call],
        env={"RESTIC_REPOSITORY": "/repository", "RESTIC_PASSWORD": PASSWORD},
        check=True,
        capture_output=True,
        timeout=120,
    )
    shutil.rmtree(repository)
    shutil.move(root / "repository", repository)
