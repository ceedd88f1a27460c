"""What every store promises: the one conformance suite, over each engine.

SQLite, MariaDB over TCP, and MariaDB embedded in the data directory (tests.support.engines.py).
What only one of them has is in test_sqlite.py and test_mariadb.py.
"""

from __future__ import annotations

import threading
from typing import Any

import pytest

from replicator_kuma.adapters.database import Store
from replicator_kuma.base.errors import (
    DatabaseLocked,
    DatabaseMigrating,
    DatabaseMissing,
    DatabaseUnset,
    SnapshotRefused,
)
from replicator_kuma.dump.catalog import HISTORY, TABLES, Dangle
from replicator_kuma.dump.format import write_tables
from replicator_kuma.dump.select import select
from tests.adapters.database.conftest import column, rows
from tests.support import nasty
from tests.support.engines import Engine

TAG = ("id", "name", "color")


@pytest.fixture
def store(engine: Engine) -> Store:
    engine.build(monitors=12, heartbeats=4)
    return engine.store()


# ------------------------------------------------------------------ reading


def test_it_says_what_it_is(store: Store, engine: Engine) -> None:
    assert store.engine == ("sqlite" if engine.name == "sqlite" else "mariadb")
    assert store.embedded == (engine.name == "embedded")


def test_rows_come_in_the_columns_and_order_of_the_select(store: Store, engine: Engine) -> None:
    with store.read() as reader:
        for table in TABLES:
            chosen = select(reader.schema, table)
            columns = ", ".join(f'"{c}"' for c in chosen.columns)
            keys = ", ".join(f"'{key}'" for key in chosen.values or ())
            where = f'WHERE "key" IN ({keys})' if keys else ""
            expected = engine.query(f'SELECT {columns} FROM "{table}" {where}')
            assert sorted(map(repr, rows(reader, table))) == sorted(map(repr, expected))
            found = [row[: len(chosen.order)] for row in rows(reader, table)]
            assert found == sorted(found)


def test_rows_come_in_order_whatever_their_order_on_disk(store: Store, engine: Engine) -> None:
    engine.edit(
        "UPDATE tag SET id = id + 100 WHERE id < 6",
        "DELETE FROM setting WHERE \"key\" = 'entryPage'",
        "INSERT INTO setting (\"key\", value) VALUES ('entryPage', '1'), ('checkBeta', '2')",
        "UPDATE monitor_tag SET id = 1000 - id",
    )
    with store.read() as reader:
        assert column(reader, "tag", "id") == [*range(6, 13), *range(101, 106)]
        keys = column(reader, "setting", "key")
        assert keys == ["checkBeta", "entryPage", "keepDataPeriodDays", "steamAPIKey"]
        links = [row[:2] for row in rows(reader, "monitor_tag")]
        assert links == sorted(links)


def test_rows_by_key(store: Store) -> None:
    with store.read() as reader:
        assert [row[0] for row in rows(reader, "monitor", [3, 999, 1])] == [1, 3]
        assert [row[0] for row in rows(reader, "setting", ["entryPage", "jwtSecret"])] == [
            "entryPage",
            "jwtSecret",
        ]  # by key even what is not chosen: the caller asks for what it wrote
        assert rows(reader, "tag", []) == []


def test_count_and_schema(store: Store) -> None:
    with store.read() as reader:
        assert reader.count("monitor") == 12
        assert set(TABLES) < set(reader.schema.tables)
        assert len(reader.schema.migrations) == 48
        assert ("slug",) in reader.schema.tables["status_page"].unique
        assert ("username",) in reader.schema.tables["user"].unique
        assert ("id",) not in reader.schema.tables["tag"].unique


def test_a_schema_tells_types_and_rules_of_columns(store: Store) -> None:
    with store.read() as reader:
        found = reader.schema.tables["monitor"].columns
        assert found["name"].type == "varchar(150)"
        assert (found["name"].notnull, found["active"].notnull) == (False, True)
        assert (found["name"].default or "null").lower() == "null"
        assert (found["interval"].default or "").strip("'\"") == "20"
        assert reader.schema.tables["user"].columns["username"].notnull


def test_engines_agree_on_the_fingerprint_of_a_schema(store: Store) -> None:
    """Else a snapshot of the one would not be for the other."""
    with store.read() as reader:
        assert reader.schema.fingerprint == "27e89a40ad78d19b"


def test_all_that_a_reader_yields_is_of_one_instant(store: Store, engine: Engine) -> None:
    """Kuma goes on writing meanwhile, and neither waits for the other."""
    with store.read() as reader:
        before = write_tables(None, reader, TABLES)
        count = reader.count("heartbeat")
        engine.edit(
            "UPDATE monitor SET name = 'changed meanwhile'",
            "DELETE FROM tag",
            "INSERT INTO heartbeat (monitor_id, status, time) VALUES (1, 1, '2025-01-01 00:00:00')",
        )
        assert write_tables(None, reader, TABLES) == before
        assert reader.count("heartbeat") == count
        assert len(rows(reader, "tag", [1, 2])) == 2
    with store.read() as reader:
        assert write_tables(None, reader, TABLES) != before
        assert reader.count("heartbeat") == count + 1


def test_a_reader_is_of_the_instant_at_which_it_was_made(store: Store, engine: Engine) -> None:
    """Not of its first row: counts and rows of one dump are of one time."""
    with store.read() as reader:
        engine.edit("DELETE FROM tag")
        assert reader.count("tag") == 12


def test_a_reader_never_waits_for_a_writer(store: Store, engine: Engine) -> None:
    with engine.held("UPDATE monitor SET name = 'not committed'"), store.read() as reader:
        assert "not committed" not in column(reader, "monitor", "name")
        assert reader.count("monitor") == 12


def test_a_reader_never_writes(store: Store, engine: Engine) -> None:
    with engine.held():  # as Kuma has it open: what there is stays as it is
        before = engine.writes()
        with store.read() as reader:
            for table in TABLES:
                reader.dangling(select(reader.schema, table))
            write_tables(None, reader, TABLES)
        store.check()
        store.fingerprint()
        assert engine.writes() == before


def test_many_rows_stream(store: Store, engine: Engine) -> None:
    """A reader may stop in the middle of a table and ask for another one."""
    with store.read() as reader:
        first = reader.rows(select(reader.schema, "monitor"))
        assert next(first)[0] == 1
        assert len(rows(reader, "tag")) == 12
        assert reader.count("user") == 1
        assert [row[0] for row in first] == list(range(2, 13))


# ------------------------------------------------------------------ writing


def test_a_writer_commits_at_the_end_of_its_block(store: Store, engine: Engine) -> None:
    with store.write() as writer:
        writer.upsert("tag", TAG, frozenset(), [(50, "new", "#fff")])
        assert engine.query("SELECT 1 FROM tag WHERE id = 50") == []
        assert writer.count("tag") == 13
    assert engine.query("SELECT name FROM tag WHERE id = 50") == [("new",)]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, DatabaseUnset])
def test_a_writer_that_raises_leaves_nothing(
    store: Store, engine: Engine, error: type[BaseException]
) -> None:
    before = {table: engine.rowset(table) for table in (*TABLES, *HISTORY)}

    def change() -> None:
        with store.write() as writer:
            writer.upsert("tag", TAG, frozenset(), [(50, "new", "#fff")])
            writer.park_history([4])
            writer.make_room("status_page", [(1, ["slug"])])
            writer.delete("monitor", [1, 2, 3])
            for table in TABLES:
                writer.sweep(select(writer.schema, table))
            raise error("stop")

    with pytest.raises(error):
        change()
    assert {table: engine.rowset(table) for table in (*TABLES, *HISTORY)} == before


def test_upsert_updates_and_keeps(store: Store, engine: Engine) -> None:
    engine.edit("UPDATE monitor SET dns_last_result = 'mine'")
    columns = ("id", "name", "dns_last_result")
    with store.write() as writer:
        new = [(1, "changed", "theirs"), (77, "added", "theirs")]
        writer.upsert("monitor", columns, frozenset({"dns_last_result"}), new)
    found = engine.query("SELECT id, name, dns_last_result FROM monitor WHERE id IN (1, 77)")
    assert found == [(1, "changed", "mine"), (77, "added", "theirs")]


def test_no_upsert_costs_history_or_links(store: Store, engine: Engine) -> None:
    """REPLACE, and DELETE with INSERT, would take them along by the tables' own rules."""
    kept = (*HISTORY, "monitor_tag", "monitor_notification", "monitor_group", "group", "api_key")
    before = {table: engine.rowset(table) for table in kept}
    assert all(before.values())
    with store.write() as writer:
        for table in ("user", "tag", "notification", "status_page", "monitor"):
            chosen = select(writer.schema, table)
            everything = list(writer.rows(chosen))
            writer.upsert(table, chosen.columns, frozenset(), everything)
    assert {table: engine.rowset(table) for table in kept} == before


def test_rows_come_in_any_order_children_before_parents(store: Store, engine: Engine) -> None:
    with store.write() as writer:
        new = [(90, "child", 91), (91, "parent", None)]
        writer.upsert("monitor_tag", ("id", "monitor_id", "tag_id"), frozenset(), [(900, 90, 99)])
        writer.upsert("monitor", ("id", "name", "parent"), frozenset(), new)
        writer.upsert("tag", TAG, frozenset(), [(99, "n", "#000")])
        assert writer.broken_references(["monitor", "monitor_tag"]) == []
    assert engine.query("SELECT parent FROM monitor WHERE id = 90") == [(91,)]
    assert engine.query("SELECT monitor_id, tag_id FROM monitor_tag WHERE id = 900") == [(90, 99)]


def test_a_deleted_row_takes_nothing_along(store: Store, engine: Engine) -> None:
    """History goes only once Kuma is ready with the new rows."""
    before = {table: engine.rowset(table) for table in (*HISTORY, "monitor_tag", "monitor")}
    with store.write() as writer:
        writer.delete("monitor", iter([1, 2, 999]))
        writer.delete("user", [1])
        writer.delete("setting", ["entryPage", "absent"])
        writer.delete("tag", [])
    for table in (*HISTORY, "monitor_tag"):
        assert engine.rowset(table) == before[table], table
    assert [row[0] for row in engine.rowset("monitor")] == list(range(3, 13))
    assert engine.query("SELECT count(*) FROM monitor WHERE user_id = 1") == [(10,)]
    assert engine.query("SELECT count(*) FROM setting WHERE \"key\" = 'entryPage'") == [(0,)]


def test_upsert_of_a_setting_goes_by_key(store: Store, engine: Engine) -> None:
    sql = "SELECT id FROM setting WHERE \"key\" = 'entryPage'"
    before = engine.query(sql)
    with store.write() as writer:
        writer.upsert(
            "setting",
            ("key", "type", "value"),
            frozenset(),
            [("entryPage", "general", '"other"'), ("checkBeta", "general", "true")],
        )
        writer.delete("setting", ["steamAPIKey"])
    assert engine.query(sql) == before
    found = engine.query('SELECT "key", value FROM setting WHERE type = \'general\' ORDER BY "key"')
    assert found == [("checkBeta", "true"), ("entryPage", '"other"'), ("keepDataPeriodDays", "180")]


def test_values_come_back_as_they_went_in(store: Store, engine: Engine) -> None:
    """Texts that hurt, NULL apart from '' and from "null", numbers exactly."""
    texts = [*nasty.TEXTS, None, "NULL", "%", "%%s", "a'b\\'c", "\\", "x" * 60_000]
    numbers = [0.1, 48 * 0.8, 5e-324, 1.7976931348623157e308, -0.1, 1e15 + 0.3, 2.0**53, 1 / 3]
    columns = ("id", "description", "timeout", "interval")
    new = [
        (1000 + n, text, numbers[n % len(numbers)], n - 2**31)
        for n, text in enumerate(texts)
    ]  # fmt: skip
    with store.write() as writer:
        writer.upsert("monitor", columns, frozenset(), new)
    with store.read() as reader:
        at = [select(reader.schema, "monitor").columns.index(c) for c in columns]
        found = [tuple(row[n] for n in at) for row in rows(reader, "monitor", [r[0] for r in new])]
        assert list(map(repr, found)) == list(map(repr, new))
    assert engine.query("SELECT id, description FROM monitor WHERE id >= 1000 ORDER BY id") == [
        row[:2] for row in new
    ]


def test_rules_of_a_table_refuse_without_a_value(store: Store, engine: Engine) -> None:
    before = {table: engine.rowset(table) for table in ("user", "monitor")}
    cases: tuple[tuple[str, tuple[str, ...], tuple[Any, ...]], ...] = (
        ("user", ("id", "username"), (9, "admin")),
        ("user", ("id", "username"), (9, None)),
        ("monitor", ("id", "snmp_version", "name"), (9, "S3CRET", "S3CRET")),
    )
    for table, columns, row in cases:
        with pytest.raises(SnapshotRefused, match=table) as caught, store.write() as writer:
            writer.upsert(table, columns, frozenset(), [row])
        assert "S3CRET" not in str(caught.value)
        assert "admin" not in str(caught.value)
        assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert {table: engine.rowset(table) for table in before} == before


def test_unique_values_give_way(store: Store, engine: Engine) -> None:
    columns = ("id", "slug", "title", "icon", "theme")
    with store.write() as writer:
        writer.make_room("status_page", [(1, ["slug"]), (2, ["slug"])])
        new = [(1, "internal", "", "", ""), (2, "public", "", "", "")]
        writer.upsert("status_page", columns, frozenset(), new)
    found = engine.query("SELECT id, slug FROM status_page ORDER BY id")
    assert found == [(1, "internal"), (2, "public")]


def test_what_a_writer_has_read_stays_until_its_end(store: Store, engine: Engine) -> None:
    """It reads again before it writes: nobody's change may fall between and be lost."""
    changes = ("UPDATE tag SET name = 'mine' WHERE id = 3", "DELETE FROM tag WHERE id = 4",
               "INSERT INTO tag (name, color) VALUES ('added', '#000')")  # fmt: skip
    with store.write() as writer:
        write_tables(None, writer, TABLES)
        for change in changes:
            assert engine.refused(change), change
        writer.upsert("tag", TAG, frozenset(), [(3, "theirs", "#fff")])
    for change in changes:
        assert not engine.refused(change), change
    assert engine.query("SELECT name FROM tag WHERE id = 3") == [("theirs",)]


def test_a_writer_sees_the_rows_as_they_are(store: Store, engine: Engine) -> None:
    """What was committed before it began is there, and what it wrote itself."""
    with store.read() as reader:  # an older view elsewhere is not its own
        engine.edit("UPDATE tag SET name = 'committed' WHERE id = 1")
        with store.write() as writer:
            writer.upsert("tag", TAG, frozenset(), [(2, "own", "#fff")])
            assert column(writer, "tag", "name")[:2] == ["committed", "own"]
        assert column(reader, "tag", "name")[:2] != ["committed", "own"]


def test_a_writer_waits_for_another_one(store: Store, engine: Engine) -> None:
    """Kuma's writes are short: a lock that soon goes is no error."""
    with engine.held("UPDATE tag SET name = 'not committed' WHERE id = 3"):
        done = list[str]()
        error = list[BaseException]()

        def write() -> None:
            try:
                with store.write() as writer:
                    writer.upsert("tag", TAG, frozenset(), [(3, "theirs", "#fff")])
                done.append("done")
            except BaseException as caught:
                error.append(caught)

        thread = threading.Thread(target=write)
        thread.start()
        thread.join(0.3)
        assert thread.is_alive(), error
        assert done == []
    thread.join(60)
    assert (done, error) == (["done"], [])
    assert engine.query("SELECT name FROM tag WHERE id = 3") == [("theirs",)]


@pytest.mark.usefixtures("impatient")
def test_a_lock_that_stays_is_an_error_of_its_own(store: Store, engine: Engine) -> None:
    change = "UPDATE tag SET name = 'not committed' WHERE id = 3"
    with engine.held(change), pytest.raises(DatabaseLocked), store.write() as writer:
        writer.upsert("tag", TAG, frozenset(), [(3, "theirs", "#fff")])
    assert engine.query("SELECT count(*) FROM tag WHERE name = 'theirs'") == [(0,)]


# ------------------------------------------------------------------ history


def held(engine: Engine, monitor: int) -> list[int]:
    counts = (f"SELECT count(*) FROM {t} WHERE monitor_id = {monitor}" for t in HISTORY)
    return [int(engine.query(sql)[0][0]) for sql in counts]


def test_history_is_set_aside_and_given_back(store: Store, engine: Engine) -> None:
    everything = {table: engine.rowset(table) for table in HISTORY}
    before, other = held(engine, 3), held(engine, 4)
    assert all(before)
    with store.write() as writer:
        writer.park_history(iter([3]))
    assert (held(engine, 3), held(engine, 4)) == ([0] * 6, other)
    beat = "INSERT INTO heartbeat (monitor_id, status, time) VALUES (3, 0, '2030-01-01 00:00:00')"
    engine.edit(beat)
    with store.write() as writer:
        writer.unpark_history(iter([3]))
    assert {table: engine.rowset(table) for table in HISTORY} == everything


LATER = "INSERT INTO heartbeat (monitor_id, status, time) VALUES (3, 0, '2030-01-01 00:00:00')"


def test_history_that_is_set_aside_stays_when_its_id_means_another_monitor_again(
    store: Store, engine: Engine
) -> None:
    """Two applies that Kuma has not confirmed: the way back leads before both of them."""
    everything = {table: engine.rowset(table) for table in HISTORY}
    with store.write() as writer:
        writer.park_history([3])
    aside = {table: engine.rowset(table) for table in HISTORY}
    engine.edit(LATER)
    with store.write() as writer:
        writer.park_history([3])
    assert {table: engine.rowset(table) for table in HISTORY} == aside
    with store.write() as writer:
        writer.unpark_history([3])
    assert {table: engine.rowset(table) for table in HISTORY} == everything


def test_history_in_one_table_only_is_set_aside_for_all_of_them(
    store: Store, engine: Engine
) -> None:
    engine.edit(*[f"DELETE FROM {t} WHERE monitor_id = 3" for t in HISTORY if t != "stat_daily"])
    before = held(engine, 3)
    with store.write() as writer:
        writer.park_history([3])
    engine.edit(LATER)
    with store.write() as writer:
        writer.park_history([3])
        writer.unpark_history([3])
    assert held(engine, 3) == before


def test_history_comes_back_to_a_monitor_that_was_gone_meanwhile(
    store: Store, engine: Engine
) -> None:
    """Another monitor in the first apply, none in the second: the way back adds the former one."""
    before, other = held(engine, 3), held(engine, 4)
    with store.write() as writer:
        writer.park_history([3, 4])
    engine.edit(LATER, "DELETE FROM monitor WHERE id = 4")
    with store.write() as writer:
        writer.unpark_history([])
    assert (held(engine, 3), held(engine, 4)) == (before, [0] * 6)
    assert store.purge_history() == sum(other)


def test_purge_takes_what_belongs_to_nobody(store: Store, engine: Engine) -> None:
    kept = [f"SELECT * FROM {t} WHERE monitor_id NOT IN (5, 777) ORDER BY id" for t in HISTORY]
    engine.edit("DELETE FROM monitor WHERE id = 5")
    before = [engine.query(sql) for sql in kept]
    with store.write() as writer:
        writer.park_history([5])
    for monitor in (5, 777):
        engine.edit(
            "INSERT INTO heartbeat (monitor_id, status, time) "
            f"VALUES ({monitor}, 1, '2025-01-01 00:00:00')"
        )
    orphans = 4 + 5 + 2
    assert store.purge_history() == orphans
    assert store.purge_history() == 0
    assert [engine.query(sql) for sql in kept] == before
    assert sum(held(engine, 5)) + sum(held(engine, 777)) == 0


def test_purge_takes_the_links_of_no_monitor_too(store: Store, engine: Engine) -> None:
    links = ("monitor_tag", "monitor_notification", "monitor_group", "monitor_maintenance")
    left = {t: engine.rowset(t) for t in links}
    engine.edit("DELETE FROM monitor WHERE id = 1", *[f"DELETE FROM {t} WHERE monitor_id = 1"
                                                      for t in HISTORY])  # fmt: skip
    assert store.purge_history() == 0  # links are no history
    for table in links:
        there = engine.query(f"SELECT count(*) FROM {table} WHERE monitor_id = 1")
        assert there == [(0,)], table
        assert len(left[table]) > len(engine.rowset(table)), table


# ------------------------------------------------------------------ looks


def test_broken_references_are_told(store: Store) -> None:
    with store.write() as writer:
        writer.upsert("monitor_tag", ("id", "monitor_id", "tag_id"), frozenset(), [(999, 1, 888)])
        assert writer.broken_references(["tag", "monitor"]) == []
        assert writer.broken_references(["monitor_tag"]) == ["monitor_tag row 999 → tag"]
        writer.delete("tag", range(1, 13))
        assert len(writer.broken_references(["monitor_tag"])) == 10


def test_triggers_are_named_with_their_tables(store: Store, engine: Engine) -> None:
    with store.read() as reader:
        before = reader.definitions()
        assert reader.triggers() == []
    engine.trigger()
    with store.read() as reader:
        assert [table for _name, table in reader.triggers()] == ["tag"]
        assert reader.definitions() != before


def test_a_fingerprint_that_is_the_same_says_that_rows_are(store: Store, engine: Engine) -> None:
    """Empty says nothing; else each change of rows, alone, is another fingerprint."""
    seen = [store.fingerprint()]
    for change in (
        "UPDATE tag SET color = '#123456' WHERE id = 1",
        "DELETE FROM monitor_tag WHERE id = 1",
        "INSERT INTO tag (name, color) VALUES ('added', '#000')",
        "UPDATE setting SET value = '7' WHERE \"key\" = 'keepDataPeriodDays'",
    ):
        engine.edit(change)
        seen.append(store.fingerprint())
    told = [found for found in seen if found]
    assert len(told) == len(set(told))


def test_a_writer_sees_the_fingerprint_that_a_change_made(store: Store, engine: Engine) -> None:
    before = store.fingerprint()
    engine.edit("UPDATE tag SET color = '#123456' WHERE id = 1")
    with store.write() as writer:
        assert not before or writer.fingerprint() != before


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE knex_migrations_lock SET is_locked = 1",
        "UPDATE setting SET value = '\"migrating\"' WHERE \"key\" = 'migrateAggregateTableState'",
    ],
)
def test_a_migration_under_way_is_told_and_nothing_read(
    store: Store, engine: Engine, change: str
) -> None:
    engine.edit(change)
    for call in (store.read, store.write):
        with pytest.raises(DatabaseMigrating), call():
            pass


def test_no_database_at_all(engine: Engine) -> None:
    store = engine.store()
    engine.remove()
    assert not store.exists()
    assert not store.in_use()
    for call in (store.read, store.write):
        with pytest.raises(DatabaseMissing), call():
            pass
    for check in (store.check, store.purge_history):
        with pytest.raises(DatabaseMissing):
            check()
    assert not store.exists()  # asking makes none
    engine.create()
    assert store.exists()
    with store.read() as reader:
        assert (reader.count("user"), reader.count("monitor")) == (0, 0)


DANGLING = (
    ("INSERT INTO monitor_tag (monitor_id, tag_id) VALUES (1, 900)", "monitor_tag", "tag_id"),
    ("INSERT INTO monitor_tag (monitor_id, tag_id) VALUES (901, 1)", "monitor_tag", "monitor_id"),
    ("UPDATE monitor SET proxy_id = 902 WHERE id = 2", "monitor", "proxy_id"),
    ("UPDATE monitor SET parent = 903 WHERE id = 2", "monitor", "parent"),
    ("UPDATE monitor SET user_id = 904 WHERE id = 2", "monitor", "user_id"),
    ("UPDATE notification SET user_id = 905 WHERE id = 2", "notification", "user_id"),
    ("INSERT INTO api_key (\"key\", name, user_id) VALUES ('k', 'n', 906)", "api_key", "user_id"),
    ('UPDATE "group" SET status_page_id = 907 WHERE id = 2', "group", "status_page_id"),
    ("UPDATE incident SET status_page_id = 908 WHERE id = 1", "incident", "status_page_id"),
    ("UPDATE maintenance SET user_id = 909", "maintenance", "user_id"),
)


@pytest.mark.parametrize(("change", "table", "name"), DANGLING)
def test_dangling_references_are_left_out_and_swept(
    store: Store, engine: Engine, change: str, table: str, name: str
) -> None:
    engine.edit(change)
    with store.read() as reader:
        chosen = select(reader.schema, table)
        found = {d.column: d for d in reader.dangling(chosen)}
        assert set(found) == {name}
        assert found[name].rows == 1
        shown, count = rows(reader, table), reader.count(table)
        at = chosen.columns.index(name)
        values = {row[at] for row in shown if row[at] is not None and row[at] >= 900}
        assert len(shown) == count - (found[name].dangle is Dangle.ROW)
        assert bool(values) == (found[name].dangle is Dangle.KEEP)
    with store.write() as writer:
        swept = writer.sweep(chosen)
    assert bool(swept) == (found[name].dangle is not Dangle.KEEP)
    with store.read() as reader:
        assert rows(reader, table) == shown
        assert reader.count(table) == len(shown)
        assert bool(reader.dangling(chosen)) == (found[name].dangle is Dangle.KEEP)


def test_a_group_of_no_status_page_takes_its_links_along(store: Store, engine: Engine) -> None:
    engine.edit('UPDATE "group" SET status_page_id = 907 WHERE id = 2')
    links = engine.query("SELECT count(*) FROM monitor_group WHERE group_id = 2")[0][0]
    assert links > 0
    with store.read() as reader:
        chosen = select(reader.schema, "monitor_group")
        (dangling,) = reader.dangling(chosen)
        assert (dangling.column, dangling.parent, dangling.rows) == ("group_id", "group", links)
        assert len(rows(reader, "monitor_group")) == reader.count("monitor_group") - links
    with store.write() as writer:
        for table in TABLES:
            writer.sweep(select(writer.schema, table))
    assert engine.query("SELECT count(*) FROM monitor_group WHERE group_id = 2") == [(0,)]
    assert engine.query('SELECT count(*) FROM "group"') == [(3,)]


def test_the_keys_of_settings_may_be_chosen_anew(store: Store) -> None:
    chosen = store.choosing({"entryPage", "jwtSecret"})
    for block in (chosen.read, chosen.write):
        with block() as reader:
            assert column(reader, "setting", "key") == ["entryPage", "jwtSecret"]
    with store.read() as reader:
        keys = column(reader, "setting", "key")
    assert keys == ["entryPage", "keepDataPeriodDays", "steamAPIKey"]
