"""Rows between schemas of Kuma: each ordered pair of those in tests/schemas."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from replicator_kuma.adapters.database.sqlite.store import SqliteStore
from replicator_kuma.base.errors import SchemaMismatch
from replicator_kuma.dump.catalog import TABLES
from replicator_kuma.dump.schema import Column, Schema, TableSchema
from replicator_kuma.dump.select import select
from replicator_kuma.dump.transform.evolution import Evolution, Lost, TableMap
from replicator_kuma.dump.values import Value
from tests.support.databases import VERSIONS, build, create, insert, quoted, schema_sql

PAIRS = list(itertools.permutations(VERSIONS, 2))
UP = [("1.23", "2.0"), ("1.23", "2.3"), ("2.0", "2.3")]
NEEDED: Mapping[str, Mapping[str, Any]] = {
    "user": {"username": "u"},
    "setting": {"key": "entryPage"},
    "proxy": {"user_id": 1, "protocol": "http", "host": "h", "port": 1, "auth": 0},
    "docker_host": {"user_id": 1},
    "remote_browser": {"name": "n", "url": "u"},
    "notification": {"user_id": 1},
    "tag": {"name": "n", "color": "c"},
    "status_page": {"slug": "s", "title": "t", "icon": "i", "theme": "auto"},
    "status_page_cname": {"status_page_id": 1, "domain": "d"},
    "group": {"name": "n"},
    "incident": {"title": "t", "content": "c"},
    "maintenance": {"title": "t", "description": "d"},
    "api_key": {"key": "k", "name": "n", "user_id": 1},
    "monitor": {"name": "m", "type": "http"},
    "monitor_notification": {"monitor_id": 1, "notification_id": 1},
    "monitor_tag": {"monitor_id": 1, "tag_id": 1},
    "monitor_group": {"monitor_id": 1, "group_id": 1},
    "monitor_maintenance": {"monitor_id": 1, "maintenance_id": 1},
    "maintenance_status_page": {"status_page_id": 1, "maintenance_id": 1},
}
"""The columns of a row that have no default."""


@pytest.fixture(scope="module")
def schemas(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Schema]:
    found = {}
    for version in VERSIONS:
        folder = tmp_path_factory.mktemp("schema")
        create(folder / "kuma.db", version)
        with SqliteStore(folder).read() as reader:
            found[version] = reader.schema
    return found


class Way:
    """From one version's schema to another's, in compatible mode unless told otherwise."""

    def __init__(self, theirs: Schema, ours: Schema, *, compatible: bool = True) -> None:
        self.theirs, self.ours = theirs, ours
        self.evolution = Evolution(theirs.migrations, ours, compatible=compatible)

    def map(self, table: str) -> TableMap:
        columns = [select(schema, table).columns for schema in (self.theirs, self.ours)]
        return self.evolution.table(table, *columns)

    def carry(self, table: str, row: Mapping[str, Value]) -> dict[str, Value]:
        """A row by columns, on the other side. What is not named is NULL."""
        make = self.map(table).row
        assert make is not None
        made = make(tuple(row.get(c) for c in select(self.theirs, table).columns))
        return dict(zip(select(self.ours, table).columns, made, strict=True))

    def new(self, table: str, **row: Value) -> dict[str, Value]:
        """A row that has the leader's defaults beside what is named, on the other side."""
        return self.carry(table, fresh(self.theirs, table) | row)


@pytest.fixture
def way(schemas: Mapping[str, Schema]) -> Any:
    def make(theirs: str, ours: str, *, compatible: bool = True) -> Way:
        return Way(schemas[theirs], schemas[ours], compatible=compatible)

    return make


def version_of(schema: Schema) -> str:
    columns = schema.tables["monitor"].columns
    return "2.3" if "save_response" in columns else "2.0" if "snmp_oid" in columns else "1.23"


@cache
def _database(version: str) -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript(schema_sql(version))
    return connection


def fresh(schema: Schema, table: str) -> dict[str, Value]:
    """A row with every default, as the database itself fills them in."""
    connection = _database(version_of(schema))
    connection.execute("BEGIN")
    try:
        where = insert(connection, table, **NEEDED[table])
        cursor = connection.execute(f"SELECT * FROM {quoted(table)} WHERE rowid = ?", (where,))
        names = [item[0] for item in cursor.description]
        return dict(zip(names, cursor.fetchone(), strict=True))
    finally:
        connection.execute("ROLLBACK")


def common(way: Way) -> list[str]:
    return [name for name in TABLES if name in way.theirs.tables and name in way.ours.tables]


# --- equal schemas, strict mode ---------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("compatible", [False, True])
def test_equal_schemas_leave_every_row_as_it_is(way: Any, version: str, compatible: bool) -> None:
    same = way(version, version, compatible=compatible)
    assert [same.map(name) for name in common(same)] == [TableMap(None)] * len(common(same))


@pytest.mark.parametrize(("theirs", "ours"), PAIRS)
def test_strict_mode_takes_equal_columns_only(way: Any, theirs: str, ours: str) -> None:
    strict = way(theirs, ours, compatible=False)
    for name in common(strict):
        columns = [select(schema, name).columns for schema in (strict.theirs, strict.ours)]
        if columns[0] == columns[1]:
            assert strict.map(name) == TableMap(None, checked=True)
        else:
            with pytest.raises(SchemaMismatch, match=f"the snapshot's {name} has other columns"):
                strict.map(name)
    with pytest.raises(SchemaMismatch, match="monitor has other columns"):
        strict.map("monitor")


# --- every pair -------------------------------------------------------------------------------


@pytest.mark.parametrize(("theirs", "ours"), PAIRS)
def test_a_new_row_of_one_version_arrives_as_a_new_row_of_the_other(
    way: Any, theirs: str, ours: str
) -> None:
    """Only where Kuma's own migration gave another value than the default it is that one."""
    across = way(theirs, ours)
    for name in common(across):
        expected = fresh(across.ours, name)
        if (name, theirs) == ("monitor", "1.23"):
            expected["json_path_operator"] = "=="
        made = across.new(name)
        now = {"created_date", "modified_date"}
        assert {c: v for c, v in made.items() if c not in now} == {
            c: v for c, v in expected.items() if c in made and c not in now
        }, name


@pytest.mark.parametrize(("theirs", "ours"), PAIRS)
def test_the_other_database_takes_every_row_that_came_over(
    way: Any, theirs: str, ours: str, tmp_path: Path
) -> None:
    """NOT NULL, CHECK and UNIQUE of the replica hold."""
    across = way(theirs, ours)
    build(tmp_path / "kuma.db", theirs, monitors=30)
    target = create(tmp_path / "there" / "kuma.db", ours)
    written = 0
    with SqliteStore(tmp_path).read() as reader, closing(sqlite3.connect(target)) as connection:
        connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
        connection.execute("DELETE FROM setting")
        for name in common(across):
            make, columns = across.map(name).row, select(across.ours, name).columns
            assert make is not None
            names = ", ".join(map(quoted, columns))
            marks = ", ".join("?" * len(columns))
            for row in reader.rows(select(reader.schema, name)):
                made = [
                    v.encode("utf-8", "surrogateescape") if isinstance(v, str) and _odd(v) else v
                    for v in make(tuple(row))
                ]
                connection.execute(f"INSERT INTO {quoted(name)} ({names}) VALUES ({marks})", made)
                written += 1
    assert written > 100


def _odd(text: str) -> bool:
    return any("\ud800" <= letter <= "\udfff" for letter in text)


@pytest.mark.parametrize(("older", "newer"), UP)
def test_up_and_down_again_every_row_is_what_it_was(
    way: Any, older: str, newer: str, tmp_path: Path
) -> None:
    up, down = way(older, newer), way(newer, older)
    build(tmp_path / "kuma.db", older, monitors=30)
    seen = 0
    with SqliteStore(tmp_path).read() as reader:
        for name in common(up):
            there, back = up.map(name).row, down.map(name).row
            assert there is not None
            assert back is not None
            for row in reader.rows(select(reader.schema, name)):
                assert back(there(tuple(row))) == tuple(row), name
                seen += 1
    assert seen > 100


@pytest.mark.parametrize(("newer", "older"), [("2.0", "1.23"), ("2.3", "1.23"), ("2.3", "2.0")])
def test_a_chosen_value_that_the_older_kuma_has_no_column_for_is_lost_by_name(
    way: Any, newer: str, older: str
) -> None:
    down, tried = way(newer, older), 0
    for name in common(down):
        kept = set(select(down.ours, name).columns) | {"last_start_date"}
        for column in set(select(down.theirs, name).columns) - kept:
            if not column.startswith("analytics"):
                with pytest.raises(Lost, match=f"does not know {column}, and it is set$"):
                    down.new(name, **{column: "s3cret-choice"})
                tried += 1
    assert tried >= 15


def test_what_is_lost_is_told_without_its_value(way: Any) -> None:
    with pytest.raises(Lost) as lost:
        way("2.0", "1.23").new("monitor", rabbitmq_password="s3cret")
    assert "s3cret" not in str(lost.value)
    assert "rabbitmq_password" in str(lost.value)


def test_the_monitor_that_a_page_of_kuma_makes_is_no_choice(way: Any) -> None:
    """What the page for a new monitor puts into columns, seen in rows of 2.0.2, 2.3.2 and 2.5."""
    page: dict[str, Value] = {
        "location": "world",
        "ping_count": 3,
        "domain_expiry_notification": 1,
        "mqtt_websocket_path": "",
        "rabbitmq_nodes": "[]",
        "rabbitmq_username": "",
        "rabbitmq_password": "",
        "system_service_name": "",
        "json_path_operator": "==",
    }
    for older in ("1.23", "2.0"):
        assert way("2.3", older).new("monitor", **page)["type"] == "http"


def test_what_kuma_itself_wrote_is_no_choice(way: Any) -> None:
    assert way("2.0", "1.23").new("maintenance", last_start_date="2031-05-01 10:00:00")


def test_a_2_3_monitor_that_keeps_responses_is_lost_on_2_0(way: Any) -> None:
    with pytest.raises(Lost, match="does not know response_max_length, save_response, and"):
        way("2.3", "2.0").new("monitor", save_response=1, response_max_length=4096)


@pytest.mark.parametrize(("theirs", "ours"), PAIRS)
def test_notes_name_what_is_filled_and_what_is_left_out(way: Any, theirs: str, ours: str) -> None:
    across = way(theirs, ours)
    notes = across.map("monitor").notes
    filled = set(across.ours.tables["monitor"].columns) - set(
        across.theirs.tables["monitor"].columns
    )
    dropped = set(across.theirs.tables["monitor"].columns) - set(
        across.ours.tables["monitor"].columns
    )
    assert [note.split(",")[0] for note in notes] == [
        *(["monitor: filled"] * bool(filled)),
        *(["monitor: left out"] * bool(dropped)),
    ]
    for column in filled | dropped:
        assert any(f"{column}" in note for note in notes), column
    if (theirs, ours) == ("1.23", "2.0"):
        assert "conditions '[]'" in notes[0]
        assert "json_path_operator '=='" in notes[0]


# --- renamed columns --------------------------------------------------------------------------

ANALYTICS = [("1.23", "2.3"), ("2.0", "2.3")]


@pytest.mark.parametrize(("older", "newer"), ANALYTICS)
def test_googles_tag_becomes_an_id_with_a_type_and_back(way: Any, older: str, newer: str) -> None:
    up, down = way(older, newer), way(newer, older)
    made = up.new("status_page", google_analytics_tag_id="G-12345")
    assert (made["analytics_id"], made["analytics_type"]) == ("G-12345", "google")
    assert down.carry("status_page", made)["google_analytics_tag_id"] == "G-12345"
    assert any("analytics_id with analytics_type google" in n for n in up.map("status_page").notes)
    assert any("google_analytics_tag_id" in note for note in down.map("status_page").notes)


@pytest.mark.parametrize(("older", "newer"), ANALYTICS)
@pytest.mark.parametrize("empty", [None, ""])
def test_a_page_without_a_tag_has_no_type_and_comes_back(
    way: Any, older: str, newer: str, empty: str | None
) -> None:
    up, down = way(older, newer), way(newer, older)
    made = up.new("status_page", google_analytics_tag_id=empty)
    assert (made["analytics_id"], made["analytics_type"]) == (empty, None)
    assert down.carry("status_page", made)["google_analytics_tag_id"] == empty


@pytest.mark.parametrize(("older", "newer"), ANALYTICS)
@pytest.mark.parametrize(
    ("chosen", "column"),
    [
        ({"analytics_id": "site", "analytics_type": "umami"}, "analytics_type"),
        ({"analytics_id": None, "analytics_type": "matomo"}, "analytics_type"),
        ({"analytics_id": "G-1", "analytics_type": None}, "analytics_type"),
        (
            {
                "analytics_id": "G-1",
                "analytics_type": "google",
                "analytics_script_url": "https://example.test/a.js",
            },
            "analytics_script_url",
        ),
    ],
)
def test_analytics_other_than_googles_are_lost_in_the_old_schema(
    way: Any, older: str, newer: str, chosen: dict[str, Value], column: str
) -> None:
    with pytest.raises(Lost, match=column):
        way(newer, older).new("status_page", **chosen)


# --- values that changed their meaning ----------------------------------------------------------


@pytest.mark.parametrize(
    ("newer", "older", "kinds"),
    [
        ("2.0", "1.23", ["snmp", "rabbitmq", "smtp", "manual"]),
        ("2.3", "1.23", ["snmp", "globalping", "system-service", "websocket-upgrade"]),
        ("2.3", "2.0", ["globalping", "system-service", "websocket-upgrade", "sip-options"]),
    ],
)
def test_a_monitor_of_a_type_that_the_older_kuma_lacks_is_lost(
    way: Any, newer: str, older: str, kinds: list[str]
) -> None:
    down = way(newer, older)
    for kind in kinds:
        with pytest.raises(Lost, match=f"type '{kind}' is not known"):
            down.new("monitor", type=kind)


def test_a_type_that_both_know_comes_over(way: Any) -> None:
    assert way("2.3", "2.0").new("monitor", type="snmp")["type"] == "snmp"
    assert way("2.0", "2.3").new("monitor", type="manual")["type"] == "manual"


def test_a_form_body_is_lost_on_1_23_and_known_to_2_0(way: Any) -> None:
    assert way("2.3", "2.0").new("monitor", http_body_encoding="form")
    with pytest.raises(Lost, match="http_body_encoding 'form'"):
        way("2.0", "1.23").new("monitor", http_body_encoding="form")


@pytest.mark.parametrize(("theirs", "ours"), PAIRS)
@pytest.mark.parametrize("game", ["minecraft", "tf2", "teamfortress2", "mumble"])
def test_a_game_comes_over_where_it_has_one_name_on_both_sides(
    way: Any, theirs: str, ours: str, game: str
) -> None:
    across = way(theirs, ours)
    if game == "minecraft" or "2.3" not in (theirs, ours):
        assert across.new("monitor", type="gamedig", game=game)["game"] == game
    else:
        with pytest.raises(Lost, match="game may have another name"):
            across.new("monitor", type="gamedig", game=game)


def test_a_game_that_another_type_of_monitor_keeps_says_nothing(way: Any) -> None:
    assert way("1.23", "2.3").new("monitor", type="http", game="tf2")["game"] == "tf2"


@pytest.mark.parametrize("older", ["1.23", "2.0"])
def test_line_notify_is_lost_where_kuma_has_removed_it(way: Any, older: str) -> None:
    config = '{"type":"LineNotify","lineNotifyAccessToken":"s3cret"}'
    with pytest.raises(Lost, match="LINE Notify") as lost:
        way(older, "2.3").new("notification", config=config)
    assert "s3cret" not in str(lost.value)
    assert way("1.23", "2.0").new("notification", config=config)["config"] == config


@pytest.mark.parametrize("config", [None, "no json", "[]", '"x"', "[" * 100_000, '{"type":"line"}'])
def test_other_notifications_come_over_whatever_is_in_them(way: Any, config: str | None) -> None:
    assert way("1.23", "2.3").new("notification", config=config)["config"] == config


@pytest.mark.parametrize("newer", ["2.0", "2.3"])
@pytest.mark.parametrize("start", ["02:30", "02:30:00"])
def test_an_interval_of_1_23_gets_the_cron_that_kumas_migration_gives(
    way: Any, newer: str, start: str
) -> None:
    row = {"strategy": "recurring-interval", "start_time": start, "interval_day": 3}
    up = way("1.23", newer)
    assert up.new("maintenance", cron="* * * * *", **row)["cron"] == "30 2 * * *"
    assert up.new("maintenance", cron="30 2 */3 * *", **row)["cron"] == "30 2 */3 * *"
    with pytest.raises(Lost, match="start_time"):
        up.new("maintenance", cron="* * * * *", **(row | {"start_time": None}))


def test_an_interval_of_many_days_is_lost_in_1_23(way: Any) -> None:
    row = {"strategy": "recurring-interval", "start_time": "02:30", "cron": "30 2 * * *"}
    down = way("2.0", "1.23")
    with pytest.raises(Lost, match="recurring-interval"):
        down.new("maintenance", interval_day=3, **row)
    assert down.new("maintenance", interval_day=1, **row)["cron"] == "30 2 * * *"
    assert way("2.3", "2.0").new("maintenance", interval_day=3, **row)["interval_day"] == 3


def test_an_empty_value_gets_the_default_where_the_replicas_column_needs_one(way: Any) -> None:
    """The npm build has two columns of Kafka without NOT NULL."""
    assert way("1.23", "2.0").new("monitor", kafka_producer_ssl=None)["kafka_producer_ssl"] == 0


def test_an_empty_value_without_a_default_is_lost(way: Any) -> None:
    with pytest.raises(Lost, match="port is empty"):
        way("2.0", "1.23").new("proxy", port=None)


# --- tables ---------------------------------------------------------------------------------------


def test_a_table_that_is_newer_than_the_leader_keeps_its_rows(way: Any) -> None:
    assert "stay as they are" in way("1.23", "2.0").evolution.absent("remote_browser")


@pytest.mark.parametrize(
    ("theirs", "table", "compatible"),
    [("1.23", "remote_browser", False), ("2.0", "remote_browser", True), ("1.23", "proxy", True)],
)
def test_a_table_that_the_leader_should_have_is_missed(
    way: Any, theirs: str, table: str, compatible: bool
) -> None:
    with pytest.raises(SchemaMismatch, match=f"does not hold table '{table}'"):
        way(theirs, "2.0", compatible=compatible).evolution.absent(table)


def test_rows_of_a_table_that_the_replica_lacks_are_named(way: Any) -> None:
    assert "remote_browser: 2 rows left out" in way("2.0", "1.23").evolution.beyond(
        "remote_browser", 2
    )
    with pytest.raises(SchemaMismatch, match="remote_browser"):
        way("2.0", "1.23", compatible=False).evolution.beyond("remote_browser", 1)
    with pytest.raises(Lost, match="does not know remote_browser"):
        way("2.0", "1.23").new("monitor", type="real-browser", remote_browser=1)


# --- schemas that nobody has seen yet -------------------------------------------------------------


def made_up(*columns: Column) -> Evolution:
    known = [Column("id", "integer", True), Column("name", "varchar(255)", True)]
    table = TableSchema({c.name: c for c in (*known, *columns)})
    return Evolution(["2023-a.js"], Schema({"tag": table}, ("2030-b.js",)), compatible=True)


def filled(column: Column) -> Value:
    evolution = made_up(column)
    row = evolution.table("tag", ("id", "name"), ("id", "name", column.name)).row
    assert row is not None
    return row((1, "n"))[2]


@pytest.mark.parametrize(
    ("kind", "default", "expected"),
    [
        ("text", "'[]'", "[]"),
        ("varchar(255)", "'it''s'", "it's"),
        ("varchar(255)", '"x"', "x"),
        ("varchar(255)", "''", ""),
        ("varchar(10)", "'0'", "0"),
        ("text", "(('x'))", "x"),
        ("boolean", "'0'", 0),
        ("tinyint(1)", "1", 1),
        ("integer", "'300'", 300),
        ("int(10) unsigned", "-5", -5),
        ("double", "0.5", 0.5),
        ("text", "NULL", None),
        ("text", "null", None),
        ("text", None, None),
        ("datetime", "current_timestamp()", None),
        ("datetime", "(DATETIME('now'))", None),
    ],
)
def test_a_declared_default_is_read_as_its_engine_writes_it(
    kind: str, default: str | None, expected: Value
) -> None:
    found = filled(Column("x", kind, default=default))
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize("default", [None, "NULL", "current_timestamp()"])
def test_a_column_that_needs_a_value_and_has_no_constant_is_refused(default: str | None) -> None:
    with pytest.raises(SchemaMismatch, match=r"tag\.x, which may not be empty"):
        filled(Column("x", "datetime", True, default))


def test_an_unknown_column_of_a_newer_leader_goes_only_where_it_is_empty() -> None:
    mapped = made_up().table("tag", ("id", "name", "colour_2"), ("id", "name"))
    assert mapped.row is not None
    assert mapped.row((1, "n", None)) == (1, "n")
    assert mapped.row((1, "n", "")) == (1, "n")
    with pytest.raises(Lost, match="does not know colour_2"):
        mapped.row((1, "n", "red"))
    assert "colour_2" in mapped.notes[0]
