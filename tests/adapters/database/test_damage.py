"""What could not be read whole is not published, and a replica in that state stays as it is."""

from __future__ import annotations

import contextlib
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from pathlib import Path

import pytest

from replicator_kuma.base.errors import (
    DatabaseCorrupt,
    DatabaseError,
    DatabaseLocked,
    DatabaseMigrating,
    DatabaseMissing,
    DatabaseUnset,
    ReplicatorError,
    TableMissing,
)
from replicator_kuma.replication.instance import Outcome
from tests.support.databases import edit
from tests.support.fleet import Fleet

Harm = Callable[[Path], AbstractContextManager[object] | None]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def database_bytes(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.glob("kuma.db") if p.is_file()}


def absent(path: Path) -> None:
    path.unlink()


def empty_file(path: Path) -> None:
    path.write_bytes(b"")


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


def text_instead(path: Path) -> None:
    path.write_bytes(b"this is no database, but some text that somebody put here\n" * 200)


def truncated(size: float) -> Harm:
    def cut(path: Path) -> None:
        with path.open("r+b") as file:
            file.truncate(int(size) if size >= 1 else int(path.stat().st_size * size))

    return cut


def changed(*statements: str) -> Harm:
    return lambda path: edit(path, *statements)


def without_column(table: str, column: str) -> Harm:
    def rename(path: Path) -> None:
        edit(path, f'ALTER TABLE "{table}" RENAME COLUMN "{column}" TO was_{column}')

    return rename


@contextmanager
def exclusively_locked(path: Path) -> Iterator[None]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("BEGIN EXCLUSIVE")
        yield
        connection.execute("ROLLBACK")


@contextmanager
def exclusively_locked_in_wal(path: Path) -> Iterator[None]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("UPDATE tag SET color = color")
        yield


LOCK = "UPDATE knex_migrations_lock SET is_locked = 1"
STATE = "UPDATE setting SET value = '\"migrating\"' WHERE key = 'migrateAggregateTableState'"

HARMS: dict[str, tuple[Harm, type[ReplicatorError], str]] = {
    "absent": (absent, DatabaseMissing, "no database"),
    "a folder": (folder_instead, DatabaseMissing, "no database"),
    "0 bytes": (empty_file, TableMissing, "no table 'user'"),
    "text": (text_instead, DatabaseCorrupt, "damaged"),
    "no user": (changed("DELETE FROM user"), DatabaseUnset, "no user"),
    "a table renamed": (changed("ALTER TABLE tag RENAME TO tags"), TableMissing, "no table 'tag'"),
    "a table dropped": (changed('DROP TABLE "group"'), TableMissing, "no table 'group'"),
    "all tables renamed": (
        changed("ALTER TABLE monitor RENAME TO a", "ALTER TABLE user RENAME TO b"),
        TableMissing,
        "no table 'user'",
    ),
    "no id": (without_column("notification", "id"), TableMissing, "no column 'id'"),
    "no key": (without_column("setting", "key"), DatabaseError, "key"),
    "half a link": (without_column("monitor_tag", "tag_id"), TableMissing, "no column 'tag_id'"),
    "knex migrates": (changed(LOCK), DatabaseMigrating, "knex_migrations_lock"),
    "statistics migrate": (changed(STATE), DatabaseMigrating, "migrateAggregateTableState"),
    "locked": (exclusively_locked, DatabaseLocked, "locked by another program"),
    "locked in WAL": (exclusively_locked_in_wal, DatabaseLocked, "locked by another program"),
    "half a table": (changed(STATE, "DROP TABLE user"), DatabaseMigrating, "migrate"),
}


@pytest.mark.parametrize(("harm", "error", "message"), HARMS.values(), ids=HARMS)
def test_leader_publishes_nothing(
    fleet: Fleet, harm: Harm, error: type[ReplicatorError], message: str
) -> None:
    if error in (DatabaseUnset, DatabaseMissing):  # with a snapshot of its own it would wait for it
        forget(fleet)
    before = contents(fleet.repository.folder)
    with harm(fleet.leader_db) or nullcontext(), pytest.raises(error, match=message) as caught:
        fleet.publish()
    assert caught.value.exit_code == error.exit_code == 4
    assert caught.value.hint
    assert contents(fleet.repository.folder) == before
    assert fleet.repository.calls[-1] != "publish"


def forget(fleet: Fleet) -> None:
    """A leader that has published nothing yet, in a fleet without a snapshot."""
    shutil.rmtree(fleet.repository.folder)
    fleet.repository.folder.mkdir()
    (fleet.leader.state.folder / "state.json").unlink()


@pytest.mark.parametrize("harm", [absent, folder_instead, changed("DELETE FROM user")])
def test_leader_that_lost_its_rows_publishes_nothing(fleet: Fleet, harm: Harm) -> None:
    """With a newest snapshot of its own it takes that back, or waits or asks; it never empties."""
    before = contents(fleet.repository.folder)
    harm(fleet.leader_db)
    with contextlib.suppress(ReplicatorError):
        assert fleet.publish().outcome is Outcome.WAITING
    assert contents(fleet.repository.folder) == before


# A replica without a user is a fresh one: it is to be filled.
REPLICA_HARMS = {name: harm for name, harm in HARMS.items() if harm[1] is not DatabaseUnset}


@pytest.mark.parametrize(
    ("harm", "error", "message"), REPLICA_HARMS.values(), ids=list(REPLICA_HARMS)
)
def test_replica_is_unchanged(
    fleet: Fleet, harm: Harm, error: type[ReplicatorError], message: str
) -> None:
    fleet.publish()
    asked = list(fleet.kuma.log)
    with harm(fleet.replica_db) or nullcontext():
        before = database_bytes(fleet.replica.data_dir)
        if error is DatabaseMigrating:
            assert fleet.follow().outcome is Outcome.WAITING
        else:
            with pytest.raises(error, match=message):
                fleet.follow()
        assert database_bytes(fleet.replica.data_dir) == before
    assert [a for a in fleet.kuma.log[len(asked) :] if a != "ready?"] == []


SIZES = (1, 15, 16, 99, 100, 101, 511, 512, 1024, 4095, 4096, 4097, 8192, 0.3, 0.5, 0.9, 0.999)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("wal", [False, True], ids=["delete", "wal"])
def test_truncated(fleet: Fleet, size: float, wal: bool) -> None:
    fleet.publish()
    edit(fleet.leader_db, "UPDATE tag SET color = '#fedcba' WHERE id = 1")
    before = contents(fleet.repository.folder)
    for path in (fleet.leader_db, fleet.replica_db):
        if wal:
            with closing(sqlite3.connect(path)) as connection:
                connection.execute("PRAGMA journal_mode = WAL")
        truncated(size)(path)
    error = TableMissing if size == 1 else DatabaseCorrupt  # to SQLite, one byte is as none
    with pytest.raises(error):
        fleet.publish()
    assert contents(fleet.repository.folder) == before
    cut = database_bytes(fleet.replica.data_dir)
    with pytest.raises(error):
        fleet.follow()
    assert database_bytes(fleet.replica.data_dir) == cut
    assert fleet.kuma.up


def test_one_byte_less(fleet: Fleet) -> None:
    """SQLite reads a zero in its place, and finds nothing wrong."""
    before = contents(fleet.repository.folder)
    truncated(fleet.leader_db.stat().st_size - 1)(fleet.leader_db)
    with pytest.raises(DatabaseCorrupt, match="cut off within a page"):
        fleet.publish()
    assert contents(fleet.repository.folder) == before


def pages_of(path: Path, table: str) -> list[int]:
    """The pages of a table and its indexes: their roots, or all where SQLite can tell."""
    named = "(SELECT name FROM sqlite_master WHERE tbl_name = ?)"
    with closing(sqlite3.connect(path)) as connection:
        try:
            sql = f"SELECT pageno FROM dbstat WHERE name IN {named} ORDER BY pageno"
            return [row[0] for row in connection.execute(sql, (table,))]
        except sqlite3.OperationalError:  # a SQLite without dbstat
            sql = f"SELECT rootpage FROM sqlite_master WHERE name IN {named}"
            return [row[0] for row in connection.execute(sql, (table,)) if row[0]]


def overwrite(path: Path, page: int, seed: int) -> None:
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(random.Random(seed).randbytes(4096))


@pytest.mark.parametrize(
    "table",
    ["monitor", "notification", "setting", "status_page", "monitor_tag", "incident"],
)
def test_foreign_bytes_in_pages(fleet: Fleet, table: str) -> None:
    """Page by page of a table and its indexes: none of them may pass."""
    before = contents(fleet.repository.folder)
    whole = fleet.leader_db.read_bytes()
    pages = pages_of(fleet.leader_db, table)
    assert len(pages) >= 1
    for seed, page in enumerate(pages[:12]):
        fleet.leader_db.write_bytes(whole)
        overwrite(fleet.leader_db, page, seed)
        with pytest.raises(DatabaseError) as caught:
            fleet.publish()
        assert caught.value.exit_code == 4
        assert contents(fleet.repository.folder) == before, (table, page)


@pytest.mark.parametrize("table", ["monitor", "setting", "monitor_tag", "heartbeat"])
def test_foreign_bytes_in_pages_of_a_replica(fleet: Fleet, table: str) -> None:
    fleet.publish()
    whole = fleet.replica_db.read_bytes()
    asked = list(fleet.kuma.log)
    for seed, page in enumerate(pages_of(fleet.replica_db, table)[:6]):
        fleet.replica_db.write_bytes(whole)
        overwrite(fleet.replica_db, page, seed)
        hurt = fleet.replica_db.read_bytes()
        with pytest.raises(DatabaseError):
            fleet.follow()
        assert fleet.replica_db.read_bytes() == hurt, (table, page)
    assert [a for a in fleet.kuma.log[len(asked) :] if a != "ready?"] == []


def test_an_index_that_does_not_fit_its_table(fleet: Fleet) -> None:
    """Rows found by one way and not by the other, while each page is well formed."""
    before = contents(fleet.repository.folder)
    path = fleet.leader_db
    sql = "SELECT sql FROM sqlite_master WHERE name = 'user_id'"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        (made,) = connection.execute(sql).fetchone()
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_master SET sql = ? WHERE name = 'user_id'",
                           (made.replace("(user_id)", "(weight)"),))  # fmt: skip
    with pytest.raises(DatabaseCorrupt):
        fleet.publish()
    assert contents(fleet.repository.folder) == before
