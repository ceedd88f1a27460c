"""Tables of MariaDB that cannot be read or written all or nothing, or not now."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from replicator_kuma.adapters.database.mariadb.store import MariadbStore
from replicator_kuma.base.errors import DatabaseCorrupt, DatabaseError, DatabaseLocked, RowFault
from replicator_kuma.dump.catalog import TABLES
from replicator_kuma.replication.observe import write_audited
from tests.support.mariadb import Database, Server
from tests.support.mariadb_build import build


@pytest.fixture
def database(mariadb: Server, tmp_path: Path) -> Database:
    return build(mariadb.database("own", tmp_path / "data"), monitors=3, heartbeats=2)


@pytest.mark.parametrize(
    ("table", "engine"),
    [("setting", "MyISAM"), ("setting", "Aria"), ("notification_sent_history", "MyISAM")],
)
def test_a_table_without_transactions_is_neither_read_nor_written(
    store: MariadbStore, database: Database, table: str, engine: str
) -> None:
    """Nothing of it is of one instant, and nothing that was written to it rolls back."""
    database.edit(f"ALTER TABLE {table} ENGINE={engine}")
    before = database.query(f"SELECT * FROM {table}")
    for call in (store.read, store.write):
        with pytest.raises(DatabaseError, match=f"{table}.* {engine}") as caught, call():
            pass
        assert f"ALTER TABLE `{table}` ENGINE=InnoDB" in caught.value.hint
    with pytest.raises(DatabaseError):
        store.fingerprint()
    assert database.query(f"SELECT * FROM {table}") == before
    database.edit(f"ALTER TABLE {table} ENGINE=InnoDB")
    with store.read() as reader:
        assert reader.count("setting") > 0


def test_a_table_that_is_not_kumas_may_be_of_any_engine(
    store: MariadbStore, database: Database
) -> None:
    database.edit("CREATE TABLE own_notes (id int) ENGINE=MyISAM")
    with store.write() as writer:
        assert "own_notes" in writer.schema.tables


ODD = {
    "a view of nothing": ("CREATE TABLE gone (a int)", "CREATE VIEW notes AS SELECT a FROM gone",
                          "DROP TABLE gone"),
    "a view of somebody gone": (
        "CREATE DEFINER = 'nobody'@'nowhere' VIEW notes AS SELECT id FROM monitor",),
    "a trigger of another table": (
        "CREATE TABLE notes (a int)",
        "CREATE TRIGGER odd AFTER INSERT ON notes FOR EACH ROW INSERT INTO nowhere VALUES (1)"),
    "a generated column": ("ALTER TABLE tag ADD COLUMN odd text AS (concat(name, color)) VIRTUAL",),
    "a stored column": ("ALTER TABLE tag ADD COLUMN odd text AS (concat(name, color)) STORED",),
    "a trigger that cannot run": (
        "CREATE TRIGGER odd AFTER INSERT ON tag FOR EACH ROW INSERT INTO nowhere VALUES (1)",),
}  # fmt: skip


@pytest.mark.parametrize("statements", ODD.values(), ids=ODD)
def test_what_nobody_replicates_bars_no_publish(
    store: MariadbStore, database: Database, statements: tuple[str, ...]
) -> None:
    with store.read() as reader:
        before = write_audited(None, reader, reader.schema.require(TABLES))
    for statement in statements:
        database.edit(statement)
    assert list(store.check(TABLES)) == []
    with store.read() as reader:
        assert write_audited(None, reader, reader.schema.require(TABLES)) == before


@pytest.mark.parametrize(
    ("table", "fault", "words"),
    [
        ("monitor_tag", "UPDATE monitor_tag SET id = 2 WHERE id = 1", "monitor_tag have the id 2"),
        ("monitor_tag", "UPDATE monitor_tag SET tag_id = NULL WHERE id = 1", "its tag_id is no"),
        (
            "setting",
            """INSERT INTO setting ("key", value) VALUES ('checkBeta', 1), ('checkBeta', 0)""",
            "setting checkBeta .*one key",
        ),
    ],
)
def test_a_row_of_a_table_without_its_key_is_named(
    store: MariadbStore, database: Database, table: str, fault: str, words: str
) -> None:
    database.edit(
        f"CREATE TABLE copied AS SELECT * FROM {table}",
        f"DROP TABLE {table}",
        f"ALTER TABLE copied RENAME TO {table}",
        *(["ALTER TABLE monitor_tag MODIFY tag_id int NULL"] if table == "monitor_tag" else []),
        "DELETE FROM setting WHERE \"key\" = 'checkBeta'",
        fault,
    )
    with store.read() as reader, pytest.raises(RowFault, match=words):
        write_audited(None, reader, reader.schema.require(TABLES))


@pytest.mark.usefixtures("impatient")
def test_a_table_that_another_program_has_locked_is_not_damaged(
    store: MariadbStore, database: Database
) -> None:
    """CHECK TABLE waits for it, and then tells of an error in the table's row."""
    with closing(database.connect()) as other, other.cursor() as cursor:
        cursor.execute('LOCK TABLES "tag" WRITE')
        with pytest.raises(DatabaseLocked) as caught:
            store.check()
        assert not isinstance(caught.value, DatabaseCorrupt)
        assert caught.value.retryable
        cursor.execute("UNLOCK TABLES")
    store.check()


def test_a_table_without_its_key_is_met_before_anything_stops(
    store: MariadbStore, database: Database
) -> None:
    """Rows would be found by no key, and each apply would insert them once more."""
    store.check_writable()
    for table, key in (("setting", "key"), ("tag", "id")):
        like = f"CREATE TABLE made AS SELECT * FROM `{table}`"
        for sql in (
            like,
            f"RENAME TABLE `{table}` TO kept, made TO `{table}`",
        ):
            database.edit(sql)
        with pytest.raises(DatabaseError, match=f"{table} has no key on {key}") as caught:
            store.check_writable()
        assert f"ALTER TABLE `{table}` ADD" in caught.value.hint
        database.edit(f"DROP TABLE `{table}`")
        database.edit(f"RENAME TABLE kept TO `{table}`")
    store.check_writable()
