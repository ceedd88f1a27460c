"""The engines over which the conformance suite runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from replicator_kuma.adapters.database import Reader
from replicator_kuma.adapters.database.db_config import read_login
from replicator_kuma.adapters.database.mariadb.store import MariadbStore
from replicator_kuma.dump.select import select
from tests.conftest import need_mariadb
from tests.support.databases import build, edit
from tests.support.engines import Engine, MariadbEngine, SqliteEngine
from tests.support.fleet import Fleet
from tests.support.mariadb import Database, Embedded, Server, short_folder

ENGINES = ("sqlite", "mariadb", "embedded")


@pytest.fixture(scope="session")
def embedded() -> Iterator[Embedded]:
    """A mariadbd in an instance's data directory, as Kuma starts its own."""
    need_mariadb()
    with short_folder() as folder, Embedded(folder / "data") as server:
        yield server


def store_of(database: Database, **options: Any) -> MariadbStore:
    """The store of the database that a data directory names."""
    login = read_login(database.data_dir, {})
    assert login is not None
    return MariadbStore(login, **options)


@pytest.fixture
def store(database: Database) -> MariadbStore:
    """Of a module's own fixture ``database``."""
    return store_of(database)


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    """One snapshot published and applied, and something new on the leader."""
    fleet = Fleet(tmp_path)
    build(fleet.leader_db, monitors=40, heartbeats=20)
    build(fleet.replica_db, monitors=40, heartbeats=20)
    fleet.replicate()
    edit(fleet.leader_db, "UPDATE tag SET color = '#abcdef' WHERE id = 1")
    return fleet


def rows(reader: Reader, table: str, keys: list[Any] | None = None) -> list[tuple[Any, ...]]:
    return list(reader.rows(select(reader.schema, table), keys))


def column(reader: Reader, table: str, name: str) -> list[Any]:
    at = select(reader.schema, table).columns.index(name)
    return [row[at] for row in rows(reader, table)]


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    """One instance's database, empty, in each engine in turn."""
    if request.param == "sqlite":
        return SqliteEngine(tmp_path / "data")
    if request.param == "mariadb":
        server: Server = request.getfixturevalue("mariadb")
        data_dir = tmp_path / "data"
        return MariadbEngine("mariadb", lambda: server.database("conformance", data_dir))
    inside: Embedded = request.getfixturevalue("embedded")
    return MariadbEngine("embedded", inside.kuma)
