"""What nobody replicates keeps nothing else from being published or applied; rows that are at fault
are named, and no advice counts on a snapshot that does not exist."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from replicator_kuma.adapters.database.sqlite.integrity import _checks
from replicator_kuma.base.errors import DatabaseCorrupt, DatabaseError, RowFault, TableMissing
from replicator_kuma.dump.catalog import HISTORY, TABLES
from replicator_kuma.replication.instance import Outcome
from tests.adapters.database.test_damage import contents, forget, overwrite, pages_of
from tests.support.compare import config_differences
from tests.support.databases import edit, query
from tests.support.fleet import Fleet

Harm = Callable[[Path], None]


def by_hand(*statements: str) -> Harm:
    """By a connection that has what ours has not: a collation, a function."""

    def harm(path: Path) -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.create_collation("theirs", lambda a, b: (a > b) - (a < b))
            connection.create_function("theirs", 1, lambda value: value, deterministic=True)
            for statement in statements:
                connection.execute(statement)

    return harm


def with_a_broken_index(path: Path) -> None:
    edit(path, "CREATE TABLE notes (note TEXT)", "CREATE INDEX by_note ON notes (note)",
         "INSERT INTO notes SELECT name FROM monitor")  # fmt: skip
    edit(path, "PRAGMA writable_schema = ON",
         "UPDATE sqlite_master SET sql = 'CREATE INDEX by_note ON notes (note || 1)' "
         "WHERE name = 'by_note'")  # fmt: skip


def in_sqlite_master(kind: str, name: str, sql: str) -> Harm:
    return by_hand(
        "PRAGMA writable_schema = ON",
        f"INSERT INTO sqlite_master VALUES ('{kind}', '{name}', '{name}', 0, '{sql}')",
    )


HARMLESS: dict[str, Harm] = {
    "module": in_sqlite_master("table", "notes", "CREATE VIRTUAL TABLE notes USING vec0(a)"),
    "full text": by_hand("CREATE VIRTUAL TABLE notes USING fts5(note)",
                         "INSERT INTO notes VALUES ('a')"),
    "collation": by_hand("CREATE TABLE notes (note COLLATE theirs)",
                         "CREATE INDEX by_note ON notes (note)", "INSERT INTO notes VALUES ('a')"),
    "check": by_hand("CREATE TABLE notes (note CHECK (theirs(note)))",
                     "INSERT INTO notes VALUES (1)"),
    "index by a function": by_hand("CREATE TABLE notes (note)", "INSERT INTO notes VALUES (1)",
                                   "CREATE INDEX by_note ON notes (theirs(note))"),
    "view": by_hand("CREATE VIEW notes AS SELECT * FROM nowhere"),
    "view by a function": by_hand("CREATE VIEW notes AS SELECT theirs(name) FROM monitor"),
    "name": by_hand('CREATE TABLE "a ""b""; DROP TABLE monitor --" (note)'),
    "no rowid": by_hand("CREATE TABLE notes (note PRIMARY KEY) WITHOUT ROWID"),
    "another table's index": with_a_broken_index,
    "a generated column": by_hand("ALTER TABLE tag ADD COLUMN both AS (name || color)"),
    "a unique expression": by_hand("CREATE UNIQUE INDEX odd ON tag (name || id)"),
    "a foreign empty value": by_hand(
        "CREATE TABLE notes (note)", "INSERT INTO notes VALUES (NULL)",
        "PRAGMA writable_schema = ON",
        "UPDATE sqlite_master SET sql = 'CREATE TABLE notes (note NOT NULL)' "
        "WHERE name = 'notes'"),
}  # fmt: skip


@pytest.mark.parametrize("harm", HARMLESS.values(), ids=HARMLESS)
@pytest.mark.parametrize("who", ["leader", "replica"])
def test_it_bars_nobody(fleet: Fleet, harm: Harm, who: str) -> None:
    harm(fleet.leader_db if who == "leader" else fleet.replica_db)
    assert fleet.publish().outcome is Outcome.PUBLISHED
    assert fleet.follow().outcome is Outcome.APPLIED
    assert config_differences(fleet.replica_db, fleet.leader_db) == []
    assert fleet.follow().outcome is Outcome.NOTHING


@pytest.mark.parametrize("harm", HARMLESS.values(), ids=HARMLESS)
def test_a_drill_does_without_it(fleet: Fleet, harm: Harm, tmp_path: Path) -> None:
    harm(fleet.leader_db)
    folder = tmp_path / "scratch"
    folder.mkdir()
    with fleet.leader.store.scratch(folder) as made, made.read() as reader:
        assert set(reader.schema.tables) >= {*TABLES, *HISTORY}


READ_ALL_THE_SAME: dict[str, tuple[Harm, str]] = {
    "a trigger without its table": (
        by_hand("CREATE TRIGGER odd AFTER UPDATE ON tag BEGIN INSERT INTO nowhere VALUES (1); END"),
        ""),
    "an index by a collation": (by_hand("CREATE INDEX odd ON tag (name COLLATE theirs)"), "tag"),
    "an index by a function": (by_hand("CREATE INDEX odd ON tag (theirs(name))"), "tag"),
    "a column by a function": (by_hand("ALTER TABLE tag ADD COLUMN odd AS (theirs(name))"), ""),
}  # fmt: skip


@pytest.mark.parametrize(("harm", "word"), READ_ALL_THE_SAME.values(), ids=list(READ_ALL_THE_SAME))
def test_what_bars_only_writing_is_published(fleet: Fleet, harm: Harm, word: str) -> None:
    harm(fleet.leader_db)
    result = fleet.publish()
    assert result.outcome is Outcome.PUBLISHED
    assert word in " ".join(result.warnings)
    assert len(set(result.warnings)) == len(result.warnings)
    assert fleet.follow().outcome is Outcome.APPLIED


@pytest.mark.parametrize("how", ["COLLATE theirs", "theirs(name)"])
def test_what_bars_writing_is_found_before_kuma_stops(fleet: Fleet, how: str) -> None:
    how = f"(name {how})" if how.startswith("COLLATE") else f"({how})"
    by_hand(f"CREATE INDEX odd ON tag {how}")(fleet.replica_db)
    fleet.publish()
    stops = fleet.kuma.log.count("stop")
    with pytest.raises(DatabaseError, match="written to Kuma's table tag"):
        fleet.follow()
    assert fleet.kuma.log.count("stop") == stops


@pytest.mark.parametrize("table", ["heartbeat", "notes"])
def test_damage_outside_is_told_and_bars_no_publish(fleet: Fleet, table: str) -> None:
    """Just then a copy of what is whole is worth most. Nothing is written beside it."""
    for path in (fleet.leader_db, fleet.replica_db):
        edit(path, "CREATE TABLE notes (note TEXT)", "CREATE INDEX by_note ON notes (note)",
             "INSERT INTO notes SELECT name FROM monitor")  # fmt: skip
        overwrite(path, pages_of(path, table)[0], seed=1)
    result = fleet.publish()
    assert result.outcome is Outcome.PUBLISHED
    assert "outside of what is replicated" in " ".join(result.warnings)
    with pytest.raises(DatabaseCorrupt):
        fleet.follow()


# --- rows -----------------------------------------------------------------------------------------


def redefined(table: str, old: str, new: str, *between: str) -> Harm:
    """Statements under a definition that was changed for them only."""

    def harm(path: Path) -> None:
        (was,) = query(path, f"SELECT sql FROM sqlite_master WHERE name = '{table}'")[0]
        assert old in was, was
        for sql, statements in ((was.replace(old, new), ()), (None, between), (was, ())):
            if sql is not None:
                change = ("UPDATE sqlite_master SET sql = ? WHERE name = ?", (sql, table))
                edit(path, "PRAGMA writable_schema = ON", change)
            edit(path, *statements)

    return harm


ROWS: dict[str, tuple[Harm, str]] = {
    "NULL": (
        redefined("tag", "color VARCHAR(255) NOT NULL", "color VARCHAR(255)",
                  "UPDATE tag SET color = NULL WHERE id = 2"),
        r"tag 2 .*tag\.color is empty"),
    "number as text": (
        redefined("monitor", '"weight" INTEGER', '"weight" BLOB',
                  "UPDATE monitor SET weight = '07' WHERE id = 3"),
        r"monitor 3 .*: weight"),
    "text as a number": (
        redefined("tag", "name VARCHAR(255)", "name BLOB",
                  "UPDATE tag SET name = 5 WHERE id = 2"),
        r"tag 2 .*: name"),
}  # fmt: skip


@pytest.mark.parametrize(("harm", "words"), ROWS.values(), ids=list(ROWS))
def test_a_row_that_its_table_would_refuse_is_named(fleet: Fleet, harm: Harm, words: str) -> None:
    before = contents(fleet.repository.folder)
    harm(fleet.leader_db)
    with pytest.raises(RowFault, match=words) as caught:
        fleet.publish()
    assert "away" not in caught.value.hint
    assert contents(fleet.repository.folder) == before


def test_a_value_of_one_row_twice_is_named(fleet: Fleet) -> None:
    edit(fleet.leader_db, "CREATE UNIQUE INDEX alone ON tag (name)")
    redefined("alone", "UNIQUE ", "", "UPDATE tag SET name = 'same' WHERE id IN (1, 3)")(
        fleet.leader_db
    )
    with pytest.raises(RowFault, match=r"tag 3 .*another row has the same tag\.name"):
        fleet.publish()


def test_checks_are_read_as_sqlite_does() -> None:
    columns = """a CHECK (a IN ('x', 'y)', ')')), "check" (1), [check] -- CHECK (no)
        , b cHeck/* why */((b) > 1), CONSTRAINT c CHECK (a <> 'it''s (' OR ((b)))"""
    found = list(_checks(f"CREATE TABLE t ({columns})"))
    assert found == ["a IN ('x', 'y)', ')')", "(b) > 1", "a <> 'it''s (' OR ((b))"]


def test_a_value_that_its_table_does_not_allow_is_named(fleet: Fleet) -> None:
    (was,) = query(fleet.leader_db, "SELECT sql FROM sqlite_master WHERE name = 'tag'")[0]
    narrow = was.replace("color VARCHAR(255)", "color VARCHAR(255) CHECK (color <> '#abcdef')")
    change = ("UPDATE sqlite_master SET sql = ? WHERE name = 'tag'", (narrow,))
    edit(fleet.leader_db, "PRAGMA writable_schema = ON", change)
    with pytest.raises(RowFault, match=r"tag 1 .*does not allow"):
        fleet.publish()


@pytest.mark.parametrize("harm", [harm for harm, _words in ROWS.values()], ids=list(ROWS))
def test_a_replicas_own_row_is_put_right(fleet: Fleet, harm: Harm) -> None:
    fleet.publish()
    harm(fleet.replica_db)
    assert fleet.follow().outcome is Outcome.APPLIED
    assert config_differences(fleet.replica_db, fleet.leader_db) == []


def test_a_setting_that_stays_here_bars_nothing(fleet: Fleet) -> None:
    harm = redefined("setting", "value TEXT", "value BLOB",
                     "INSERT INTO setting (key, value) VALUES ('mine', 5)")  # fmt: skip
    harm(fleet.leader_db)
    assert fleet.publish().outcome is Outcome.PUBLISHED


# --- advice ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("harm", "error"),
    [
        (lambda path: overwrite(path, pages_of(path, "tag")[0], 1), DatabaseCorrupt),
        (lambda path: edit(path, "DROP TABLE tag"), TableMissing),
    ],
    ids=["damaged", "a table is gone"],
)
def test_who_never_published_is_not_told_to_move_the_only_copy_away(
    fleet: Fleet, harm: Harm, error: type[DatabaseError]
) -> None:
    harm(fleet.leader_db)
    with pytest.raises(error) as published:
        fleet.publish()
    assert "away" in published.value.hint
    forget(fleet)
    with pytest.raises(error) as new:
        fleet.publish()
    assert "away" not in new.value.hint
    assert "newest snapshot" not in new.value.hint


@pytest.mark.skipif(shutil.which("sqlite3") is None, reason="no sqlite3 to type it with")
def test_what_is_to_be_typed_for_a_damaged_file_saves_rows(fleet: Fleet) -> None:
    """Not every sqlite3 has .recover, and one without it makes an empty file of a whole one."""
    overwrite(fleet.leader_db, pages_of(fleet.leader_db, "tag")[0], 1)
    command = DatabaseCorrupt.hint.rpartition("then: ")[2]
    subprocess.run(command, shell=True, cwd=fleet.leader_db.parent, check=True, timeout=60)
    saved = fleet.leader_db.with_name("saved.db")
    assert query(saved, "SELECT count(*) FROM monitor") == [(40,)]


def test_an_index_is_mended_where_it_is(fleet: Fleet) -> None:
    (made,) = query(fleet.leader_db, "SELECT sql FROM sqlite_master WHERE name = 'user_id'")[0]
    change = ("UPDATE sqlite_master SET sql = ? WHERE name = 'user_id'",
              (made.replace("(user_id)", "(weight)"),))  # fmt: skip
    edit(fleet.leader_db, "PRAGMA writable_schema = ON", change)
    with pytest.raises(DatabaseCorrupt, match="user_id") as caught:
        fleet.publish()
    assert "REINDEX" in caught.value.hint
    edit(fleet.leader_db, "REINDEX")
    assert fleet.publish().outcome is Outcome.PUBLISHED


def test_a_definition_that_nobody_can_read_is_named(fleet: Fleet) -> None:
    """SQLite then opens no table at all: neither for Kuma."""
    in_sqlite_master("view", "notes", "CREATE VIEW notes AS SELEC 1")(fleet.leader_db)
    with pytest.raises(DatabaseCorrupt, match=r"\(notes\)") as caught:
        fleet.publish()
    assert "away" not in caught.value.hint
