"""What a leader on SQLite says of a replica on MariaDB, without having one."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from replicator_kuma.adapters.database.mariadb.forecast import misfits
from replicator_kuma.adapters.database.sqlite.store import SqliteStore
from replicator_kuma.dump.catalog import TABLES
from replicator_kuma.dump.kuma_columns import COLUMNS, UNIQUE, in_mariadb
from replicator_kuma.dump.schema import Column
from tests.support.clock import untraced_seconds
from tests.support.databases import build, edit, insert
from tests.support.fixtures import ROOT, SQLITE, needs_fixtures
from tests.support.mariadb import Server

SCHEMA = Path(__file__).parents[2] / "schemas" / "2.3-mariadb.sql"


def found(folder: Path) -> list[str]:
    with SqliteStore(folder).read() as reader:
        return list(misfits(reader, reader.schema.require(TABLES)))


@pytest.fixture
def leader(tmp_path: Path) -> Path:
    """A leader of three monitors that fit."""
    build(tmp_path / "kuma.db", monitors=3)
    edit(tmp_path / "kuma.db", "DELETE FROM monitor WHERE id > 3")
    assert not [line for line in found(tmp_path) if line.startswith("monitor ")]
    return tmp_path


def test_each_row_is_named_once_with_all_that_does_not_fit(leader: Path) -> None:
    edit(
        leader / "kuma.db",
        ("UPDATE monitor SET name = ?, url = ?, basic_auth_pass = ?, port = 20.5 WHERE id = 2",
         ("n" * 151, "ü" * 32_768, "S3CRET" * 20_000)),
        "UPDATE monitor SET interval = 3000000000, created_date = '2031-05-01 10:00:00.5' "
        "WHERE id = 3",
    )  # fmt: skip
    lines = [line for line in found(leader) if line.startswith("monitor ")]
    assert len(lines) == 2
    assert lines[0].startswith(f"monitor 2 «{'n' * 60}…»: ")
    assert "name has 151 characters where 150 fit" in lines[0]
    assert "url has 65536 bytes where 65535 fit" in lines[0]
    assert "basic_auth_pass has 120000 bytes where 65535 fit" in lines[0]
    assert "port has a fraction where only whole numbers fit" in lines[0]
    assert "interval is out of the column's range" in lines[1]
    assert "created_date has fractions of a second" in lines[1]
    assert "S3CRET" not in "".join(lines)


def test_texts_that_mariadb_takes_for_one_are_named_together(leader: Path) -> None:
    with closing(sqlite3.connect(leader / "kuma.db")) as connection, connection:
        connection.execute("DELETE FROM user")
        for number, name in ((1, "Ädmin"), (2, "other"), (3, "admin  "), (4, "admin2")):
            insert(connection, "user", id=number, username=name, password="S3CRET", active=1)
    lines = [line for line in found(leader) if line.startswith("user ")]
    assert lines == ["user 3 «admin  » and user 1 «Ädmin»: username is the same to MariaDB"]


def test_what_kuma_writes_anew_by_itself_is_no_misfit(leader: Path) -> None:
    before = found(leader)
    sql = "UPDATE monitor SET dns_last_result = ? WHERE id = 1"
    edit(leader / "kuma.db", (sql, ("x" * 70_000,)))
    assert found(leader) == before


@needs_fixtures
@pytest.mark.parametrize("version", SQLITE)
@pytest.mark.parametrize("state", ["fresh", "leader-1", "leader-2"])
def test_the_databases_of_real_kumas_fit(version: str, state: str, tmp_path: Path) -> None:
    (tmp_path / "kuma.db").write_bytes((ROOT / version / f"{state}.db").read_bytes())
    assert found(tmp_path) == []


def test_a_column_that_is_not_known_goes_by_its_declared_length() -> None:
    guessed = in_mariadb("monitor", Column("tomorrow", "VARCHAR2(40)"))
    assert guessed is not None
    assert (guessed.type, guessed.charset) == ("varchar(40)", "utf8mb4")
    for declared in ("VARCHAR", "TEXT", "INTEGER", "DATETIME", ""):
        assert in_mariadb("monitor", Column("tomorrow", declared)) is None
    known = in_mariadb("monitor", Column("push_token", "VARCHAR(20)"))
    assert known is not None
    assert known.type == "varchar(32)"


def test_kumas_columns_are_those_of_a_real_mariadb(mariadb: Server, tmp_path: Path) -> None:
    database = mariadb.database("forecast_columns", tmp_path).load(SCHEMA)
    sql = (
        "SELECT table_name, column_name, column_type, is_nullable, character_set_name, "
        "collation_name FROM information_schema.columns WHERE table_schema = ?"
    )
    real: dict[str, dict[str, Column]] = {}
    for table, name, kind, null, charset, collation in database.query(sql, (database.name,)):
        if table in TABLES:
            column = Column(name, kind, null == "NO", None, charset or "", collation or "")
            real.setdefault(table, {})[name] = column
    assert real == COLUMNS
    sql = (
        "SELECT table_name, column_name FROM information_schema.statistics "
        "WHERE table_schema = ? AND non_unique = 0 AND index_name <> 'PRIMARY'"
    )
    unique = {t: c for t, c in database.query(sql, (database.name,)) if t in TABLES}
    assert unique == UNIQUE


def test_twenty_thousand_monitors_are_looked_at_in_seconds(tmp_path: Path) -> None:
    build(tmp_path / "kuma.db", monitors=20_000)
    assert (
        untraced_seconds(lambda: found(tmp_path)) < 5
    )  # 180,000 within the minute, however slow the machine
