"""History in MariaDB moves in slices: no statement takes as long as a server may be silent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from replicator_kuma.adapters.database.mariadb.connection import Link
from replicator_kuma.adapters.database.mariadb.store import MariadbStore
from replicator_kuma.adapters.database.mariadb.writer import PARKED
from tests.support.mariadb import Database, Server
from tests.support.mariadb_build import build

SLICE = 10_000
MANY = (
    "INSERT INTO heartbeat (monitor_id, status, time) "
    "SELECT 1 + seq % 2, 1, date_add('2025-01-01', INTERVAL seq SECOND) FROM seq_1_to_45000"
)


@pytest.fixture
def database(mariadb: Server, tmp_path: Path) -> Database:
    return build(mariadb.database("own", tmp_path / "data"), monitors=4, heartbeats=4)


def beats(database: Database) -> dict[int, int]:
    sql = "SELECT monitor_id, count(*) FROM heartbeat GROUP BY monitor_id ORDER BY 1"
    return dict(database.query(sql))


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The rows that each statement changed."""
    changed: list[int] = []
    run = Link.run

    def counting(link: Link, sql: str | bytes, table: str = "") -> int:
        changed.append(run(link, sql, table))
        return changed[-1]

    with monkeypatch.context() as patched:
        patched.setattr(Link, "run", counting)
        yield changed


def test_no_statement_moves_or_deletes_the_history_of_a_whole_fleet(
    store: MariadbStore, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.edit(MANY)
    before = beats(database)
    with counted(monkeypatch) as changed:
        with store.write() as writer:
            writer.park_history([1, 2])
        assert max(changed) == SLICE
        aside = {PARKED + 1: before[1], PARKED + 2: before[2]}
        assert beats(database) == {3: 4, 4: 4} | aside
        database.edit(MANY)  # what was written meanwhile goes, in slices too
        changed.clear()
        with store.write() as writer:
            writer.unpark_history([1, 2])
        assert max(changed) == SLICE
    assert beats(database) == before


def test_history_of_few_monitors_asks_nothing_for_each_table_that_has_none(
    store: MariadbStore, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not each table has an index by monitor: only monitors with rows in it are gone through."""
    database.edit("DELETE FROM notification_sent_history")
    asked: list[str] = []
    run = Link.run

    def recording(link: Link, sql: str | bytes, table: str = "") -> int:
        asked.append(str(sql))
        return run(link, sql, table)

    monkeypatch.setattr(Link, "run", recording)
    with store.write() as writer:
        writer.park_history(range(1, 400))
    assert not [sql for sql in asked if "notification_sent_history" in sql]
    assert len([sql for sql in asked if sql.startswith("UPDATE heartbeat ")]) == 4
