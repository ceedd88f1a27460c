"""What every store promises, over each implementation (SQLite now; MariaDB joins this list)."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from replicator_kuma.database import Reader, Store
from replicator_kuma.database.sqlite import SqliteStore
from replicator_kuma.dump.catalog import HISTORY, TABLES, Dangle
from replicator_kuma.dump.format import write_tables
from replicator_kuma.dump.select import select
from replicator_kuma.errors import DatabaseMissing, DatabaseUnset, SnapshotRefused
from tests.support.databases import build, create, edit, insert, query

Factory = Callable[[Path], Store]
STORES: dict[str, Factory] = {"sqlite": SqliteStore}


@pytest.fixture(params=list(STORES.values()), ids=list(STORES))
def factory(request: pytest.FixtureRequest) -> Factory:
    made: Factory = request.param
    return made


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return build(tmp_path / "kuma.db", monitors=12, heartbeats=4, wal=True)


@pytest.fixture
def store(factory: Factory, database: Path) -> Store:
    return factory(database.parent)


def rows(reader: Reader, table: str, keys: list[Any] | None = None) -> list[tuple[Any, ...]]:
    return list(reader.rows(select(reader.schema, table), keys))


def test_rows_come_in_the_columns_and_order_of_the_select(store: Store, database: Path) -> None:
    with store.read() as reader:
        for table in TABLES:
            chosen = select(reader.schema, table)
            columns = ", ".join(f'"{c}"' for c in chosen.columns)
            order = ", ".join(f'"{c}"' for c in chosen.order)
            where = f"WHERE key IN {tuple(sorted(chosen.values))}" if chosen.values else ""
            sql = f'SELECT {columns} FROM "{table}" {where} ORDER BY {order}'
            assert sorted(map(repr, rows(reader, table))) == sorted(map(repr, query(database, sql)))
            found = [row[: len(chosen.order)] for row in rows(reader, table)]
            assert found == sorted(found)


def test_rows_by_key(store: Store) -> None:
    with store.read() as reader:
        assert [row[0] for row in rows(reader, "monitor", [3, 999, 1])] == [1, 3]
        assert [row[0] for row in rows(reader, "setting", ["entryPage", "jwtSecret"])] == [
            "entryPage",
            "jwtSecret",
        ]  # by key even what is not chosen: the caller asks for what it wrote
        assert rows(reader, "tag", []) == []


def test_count_and_setting(store: Store) -> None:
    with store.read() as reader:
        assert reader.count("monitor") == 12
        assert reader.setting("jwtSecret") == f"jwt of {Path(store.path).parent.name}"  # type: ignore[attr-defined]
        assert reader.setting("absent") is None
        assert "monitor" in reader.schema.tables
        assert len(reader.schema.migrations) == 48
        assert ("slug",) in reader.schema.tables["status_page"].unique
        assert ("username",) in reader.schema.tables["user"].unique


def test_all_that_a_reader_yields_is_of_one_instant(store: Store, database: Path) -> None:
    """Kuma goes on writing meanwhile, and neither waits for the other."""
    with store.read() as reader:
        before = write_tables(None, reader, TABLES)
        count = reader.count("heartbeat")
        with closing(sqlite3.connect(database, timeout=0, isolation_level=None)) as kuma:
            kuma.execute("UPDATE monitor SET name = 'changed meanwhile'")
            kuma.execute("DELETE FROM tag")
            insert(kuma, "heartbeat", monitor_id=1, status=1, time="2025-01-01")
            assert kuma.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[0] == 0
        assert write_tables(None, reader, TABLES) == before
        assert reader.count("heartbeat") == count
    with store.read() as reader:
        assert write_tables(None, reader, TABLES) != before
        assert reader.count("heartbeat") == count + 1


def test_a_reader_never_writes(store: Store, database: Path) -> None:
    with closing(sqlite3.connect(database)) as kuma:  # open, as Kuma has it: the WAL stays
        kuma.execute("SELECT count(*) FROM tag").fetchone()
        before = database.read_bytes()
        with store.read() as reader:
            write_tables(None, reader, TABLES)
        store.check()
        assert database.read_bytes() == before


def test_a_writer_commits_at_the_end_of_its_block(store: Store, database: Path) -> None:
    with store.write() as writer:
        writer.upsert("tag", ("id", "name", "color"), frozenset(), [(50, "new", "#fff")])
        assert query(database, "SELECT 1 FROM tag WHERE id = 50") == []
        assert writer.count("tag") == 13
    assert query(database, "SELECT name FROM tag WHERE id = 50") == [("new",)]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, DatabaseUnset])
def test_a_writer_that_raises_leaves_nothing(
    store: Store, database: Path, error: type[BaseException]
) -> None:
    def change() -> None:
        with store.write() as writer:
            writer.upsert("tag", ("id", "name", "color"), frozenset(), [(50, "new", "#fff")])
            writer.delete("monitor", [1, 2, 3])
            raise error("stop")

    with pytest.raises(error):
        change()
    assert query(database, "SELECT count(*) FROM tag") == [(12,)]
    assert query(database, "SELECT count(*) FROM monitor") == [(12,)]


def test_upsert_updates_and_keeps(store: Store, database: Path) -> None:
    edit(database, "UPDATE monitor SET dns_last_result = 'mine'")
    columns = ("id", "name", "dns_last_result")
    with store.write() as writer:
        new = [(1, "changed", "theirs"), (77, "added", "theirs")]
        writer.upsert("monitor", columns, frozenset({"dns_last_result"}), new)
    found = query(database, "SELECT id, name, dns_last_result FROM monitor WHERE id IN (1, 77)")
    assert found == [(1, "changed", "mine"), (77, "added", "theirs")]
    assert query(database, "SELECT count(*) FROM heartbeat WHERE monitor_id = 1") == [(4,)]


def test_upsert_of_a_setting_goes_by_key(store: Store, database: Path) -> None:
    before = query(database, "SELECT id FROM setting WHERE key = 'entryPage'")
    with store.write() as writer:
        writer.upsert(
            "setting",
            ("key", "type", "value"),
            frozenset(),
            [("entryPage", "general", '"other"'), ("checkBeta", "general", "true")],
        )
        writer.delete("setting", ["steamAPIKey"])
    assert query(database, "SELECT id FROM setting WHERE key = 'entryPage'") == before
    found = query(database, "SELECT key, value FROM setting WHERE type = 'general' ORDER BY key")
    assert found == [("checkBeta", "true"), ("entryPage", '"other"'), ("keepDataPeriodDays", "180")]


def test_text_that_is_no_utf8_keeps_its_bytes(store: Store, database: Path) -> None:
    """Among rows that are, before and after, so that no row comes twice or is lost."""
    odd = b"caf\xe9 \xf0\x9f".decode("utf-8", "surrogateescape")
    names = ["plain", odd, "ü", odd + "2", "x" * 5_000, b"blob\xff", odd]
    wanted = [(100 + n, name, "#fff") for n, name in enumerate(names)]
    with store.write() as writer:
        writer.upsert("tag", ("id", "name", "color"), frozenset(), wanted)
        assert writer.count("tag") == 19
    sql = "SELECT id, CAST(name AS BLOB), typeof(name) FROM tag WHERE id >= 100 ORDER BY id"
    expected = [
        (n, v.encode("utf-8", "surrogateescape") if isinstance(v, str) else v,
         "text" if isinstance(v, str) else "blob")
        for n, v, _c in wanted
    ]  # fmt: skip
    assert query(database, sql) == expected
    with store.read() as reader:
        at = select(reader.schema, "tag").columns.index("name")
        assert [row[at] for row in rows(reader, "tag")[12:]] == names
        assert [row[at] for row in rows(reader, "tag", [101, 102])] == [odd, "ü"]


def test_rules_of_a_table_refuse_without_a_value(store: Store) -> None:
    cases = (
        ("user", ("id", "username"), (9, "admin"), "UNIQUE"),
        ("user", ("id", "username"), (9, None), "NOTNULL"),
        ("monitor", ("id", "snmp_version", "name"), (9, "S3CRET", "S3CRET"), "CHECK"),
    )
    for table, columns, row, rule in cases:
        with pytest.raises(SnapshotRefused, match=rule) as caught, store.write() as writer:
            writer.upsert(table, columns, frozenset(), [row])
        assert "S3CRET" not in str(caught.value)
        assert "admin" not in str(caught.value)
        assert caught.value.__suppress_context__


def test_unique_values_give_way(store: Store, database: Path) -> None:
    columns = ("id", "slug", "title", "icon", "theme")
    with store.write() as writer:
        writer.make_room("status_page", [(1, ["slug"]), (2, ["slug"])])
        new = [(1, "internal", "", "", ""), (2, "public", "", "", "")]
        writer.upsert("status_page", columns, frozenset(), new)
    found = query(database, "SELECT id, slug FROM status_page ORDER BY id")
    assert found == [(1, "internal"), (2, "public")]


def test_history_is_set_aside_and_given_back(store: Store, database: Path) -> None:
    def held(monitor: int) -> list[int]:
        counts = (f"SELECT count(*) FROM {t} WHERE monitor_id = {monitor}" for t in HISTORY)
        return [int(query(database, sql)[0][0]) for sql in counts]

    before, other = held(3), held(4)
    assert all(before)
    with store.write() as writer:
        writer.park_history(iter([3]))
    assert (held(3), held(-3), held(4)) == ([0] * 6, before, other)
    edit(database, "INSERT INTO heartbeat (monitor_id, status, time) VALUES (3, 0, '2030')")
    with store.write() as writer:
        writer.unpark_history(iter([3]))
    assert (held(3), held(-3), held(4)) == (before, [0] * 6, other)
    assert query(database, "SELECT 1 FROM heartbeat WHERE time = '2030'") == []


def test_broken_references_are_told(store: Store) -> None:
    with store.write() as writer:
        writer.upsert("monitor_tag", ("id", "monitor_id", "tag_id"), frozenset(), [(999, 1, 888)])
        assert writer.broken_references(["tag", "monitor"]) == []
        assert writer.broken_references(["monitor_tag"]) == ["monitor_tag row 999 → tag"]
        writer.delete("tag", range(1, 13))
        assert len(writer.broken_references(["monitor_tag"])) == 10


def test_side_effects_are_triggers(store: Store, database: Path) -> None:
    with store.write() as writer:
        assert not writer.side_effects
    edit(database, "CREATE TRIGGER t AFTER UPDATE ON tag BEGIN UPDATE tag SET name = 'x'; END")
    with store.write() as writer:
        assert writer.side_effects


def test_purge_takes_what_belongs_to_nobody(store: Store, database: Path) -> None:
    sql = [f"SELECT count(*) FROM {t} WHERE monitor_id <> 5" for t in HISTORY]
    kept = [query(database, s) for s in sql]
    edit(database, "DELETE FROM monitor WHERE id = 5")
    with store.write() as writer:
        writer.park_history([5])
    for monitor in (5, 777):
        edit(database, "INSERT INTO heartbeat (monitor_id, status, time) "
                       f"VALUES ({monitor}, 1, '2025')")  # fmt: skip
    orphans = 4 + 5 + 2
    assert store.purge_history() == orphans
    assert store.purge_history() == 0
    assert [query(database, s) for s in sql] == kept


def test_no_database_at_all(factory: Factory, tmp_path: Path) -> None:
    store = factory(tmp_path / "nothing")
    assert not store.exists()
    assert not store.in_use()
    for call in (store.read, store.write):
        with pytest.raises(DatabaseMissing), call():
            pass
    for check in (store.check, store.purge_history):
        with pytest.raises(DatabaseMissing):
            check()
    assert not (tmp_path / "nothing").exists()  # asking makes none
    assert create(tmp_path / "nothing" / "kuma.db").exists()
    assert store.exists()


DANGLING = (
    ("INSERT INTO monitor_tag (monitor_id, tag_id) VALUES (1, 900)", "monitor_tag", "tag_id"),
    ("INSERT INTO monitor_tag (monitor_id, tag_id) VALUES (901, 1)", "monitor_tag", "monitor_id"),
    ("UPDATE monitor SET proxy_id = 902 WHERE id = 2", "monitor", "proxy_id"),
    ("UPDATE monitor SET parent = 903 WHERE id = 2", "monitor", "parent"),
    ("UPDATE monitor SET user_id = 904 WHERE id = 2", "monitor", "user_id"),
    ("UPDATE notification SET user_id = 905 WHERE id = 2", "notification", "user_id"),
    ("INSERT INTO api_key (key, name, user_id) VALUES ('k', 'n', 906)", "api_key", "user_id"),
    ('UPDATE "group" SET status_page_id = 907 WHERE id = 2', "group", "status_page_id"),
    ("UPDATE incident SET status_page_id = 908 WHERE id = 1", "incident", "status_page_id"),
    ("UPDATE maintenance SET user_id = 909", "maintenance", "user_id"),
)


@pytest.mark.parametrize(("change", "table", "column"), DANGLING)
def test_dangling_references_are_left_out_and_swept(
    store: Store, database: Path, change: str, table: str, column: str
) -> None:
    edit(database, change)
    with store.read() as reader:
        chosen = select(reader.schema, table)
        found = {d.column: d for d in reader.dangling(chosen)}
        assert set(found) == {column}
        assert found[column].rows == 1
        shown, count = rows(reader, table), reader.count(table)
        at = chosen.columns.index(column)
        values = {row[at] for row in shown if row[at] is not None and row[at] >= 900}
        assert len(shown) == count - (found[column].dangle is Dangle.ROW)
        assert bool(values) == (found[column].dangle is Dangle.KEEP)
    with store.write() as writer:
        writer.sweep(chosen)
    with store.read() as reader:
        assert rows(reader, table) == shown
        assert reader.count(table) == len(shown)
        assert bool(reader.dangling(chosen)) == (found[column].dangle is Dangle.KEEP)


def test_a_group_of_no_status_page_takes_its_links_along(store: Store, database: Path) -> None:
    edit(database, 'UPDATE "group" SET status_page_id = 907 WHERE id = 2')
    links = query(database, "SELECT count(*) FROM monitor_group WHERE group_id = 2")[0][0]
    assert links > 0
    with store.read() as reader:
        chosen = select(reader.schema, "monitor_group")
        (dangling,) = reader.dangling(chosen)
        assert (dangling.column, dangling.parent, dangling.rows) == ("group_id", "group", links)
        assert len(rows(reader, "monitor_group")) == reader.count("monitor_group") - links
    with store.write() as writer:
        for table in TABLES:
            writer.sweep(select(writer.schema, table))
    assert query(database, "SELECT count(*) FROM monitor_group WHERE group_id = 2") == [(0,)]
    assert query(database, 'SELECT count(*) FROM "group"') == [(3,)]
