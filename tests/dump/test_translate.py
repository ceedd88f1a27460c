"""A leader's dump in the terms of one instance: what comes over, what stays, what is refused."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from replicator_kuma.adapters.database.sqlite.store import SqliteStore
from replicator_kuma.base.errors import SettingsError, SnapshotMisfit, SnapshotRefused
from replicator_kuma.dump.catalog import SETTINGS, TABLES
from replicator_kuma.dump.format import Dump, write_tables
from replicator_kuma.dump.manifest import MANIFEST, Manifest, write_manifest
from replicator_kuma.dump.parse import parsed
from replicator_kuma.dump.plan import plan
from replicator_kuma.dump.schema import Schema
from replicator_kuma.dump.transform.overrides import Overrides
from replicator_kuma.dump.transform.policy import Policy
from replicator_kuma.dump.transform.translate import Terms, Translated, translate
from tests.support.databases import build, edit, insert
from tests.support.dumps import dump_of, rewrite

Edit = str | tuple[str, tuple[Any, ...]]


@dataclass
class Case:
    """A leader and a replica, and what the one makes of the other's dump."""

    folder: Path
    policy: Policy = field(default_factory=Policy)
    arrived: Mapping[str, frozenset[int]] = field(default_factory=dict)
    count: int = 0

    def __post_init__(self) -> None:
        self.leader = build(self.folder / "leader" / "kuma.db", monitors=24)
        self.replica = build(self.folder / "replica" / "kuma.db", monitors=24)
        for path in (self.leader, self.replica):
            (path.parent / "upload").mkdir()
            (path.parent / "upload" / "logo2.png").write_bytes(path.parent.name.encode())

    def dump(self, path: Path) -> Dump:
        self.count += 1
        return dump_of(path, self.folder / f"{path.parent.name}-dump-{self.count}")

    @property
    def schema(self) -> Schema:
        with SqliteStore(self.replica.parent).read() as reader:
            return replace(reader.schema, settings=self.policy.settings)

    def run(self, wanted: Dump | None = None, live: Dump | None = None) -> Translated:
        wanted = wanted or self.dump(self.leader)
        terms = Terms(
            self.schema,
            SqliteStore(self.replica.parent).representation,
            self.policy,
            self.arrived,
        )
        self.count += 1
        folder = self.folder / f"translated-{self.count}"
        return translate(wanted, live or self.dump(self.replica), terms, folder)

    def rules(self, text: str) -> None:
        self.policy = replace(self.policy, overrides=Overrides.parse(text))


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def rows(dump: Dump, table: str) -> list[dict[str, Any]]:
    names = dump.columns(table)
    if dump.manifest.tables[table].runtime:
        names += dump.columns(table, "runtime")
    return [dict(zip(names, row, strict=True)) for row in parsed(dump, table)]


def as_engine(dump: Dump, engine: str) -> Dump:
    """The same dump as if a leader on another engine had written it."""
    path = dump.folder / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), "engine": engine}))
    return Dump.open(dump.folder)


def test_a_dump_that_needs_nothing_is_used_as_it_came(case: Case) -> None:
    wanted = case.dump(case.leader)
    translated = case.run(wanted)
    assert translated.dump is wanted
    assert (translated.notes, dict(translated.arrived)) == ((), {})


def test_a_rule_that_hits_nothing_leaves_the_dump_as_it_came(case: Case) -> None:
    case.rules('[[rule]]\ntable = "monitor"\nwhere = { type = "nothing" }\nset = { active = 0 }')
    wanted = case.dump(case.leader)
    assert case.run(wanted).dump is wanted


def test_what_comes_out_is_a_whole_dump(case: Case) -> None:
    case.rules('[[rule]]\ntable = "monitor"\nwhere = { type = "http" }\nset = { active = 0 }')
    dump = case.run().dump
    dump.verify()
    assert Dump.open(dump.folder).manifest == dump.manifest
    assert (dump.folder / "files" / "upload" / "logo2.png").read_bytes() == b"leader"
    assert {row["active"] for row in rows(dump, "monitor") if row["type"] == "http"} == {0}


# --- rules that leave rows out --------------------------------------------------------------


def test_a_monitor_that_is_left_out_takes_its_links_along(case: Case) -> None:
    case.rules('[[rule]]\ntable = "monitor"\nwhere = { id = [1, 11] }\nskip = true')
    translated = case.run()
    dump = translated.dump
    assert len(rows(dump, "monitor")) == 22
    for link in ("monitor_tag", "monitor_notification", "monitor_group", "monitor_maintenance"):
        assert {row["monitor_id"] for row in rows(dump, link)}.isdisjoint({1, 11}), link
    kept = [row for row in rows(case.dump(case.leader), "monitor") if row["parent"] in (1, 11)]
    assert kept, "the test needs children of the groups that go"
    assert not [row for row in rows(dump, "monitor") if row["parent"] in (1, 11)]
    assert {row["id"] for row in kept} <= {row["id"] for row in rows(dump, "monitor")}
    assert translated.notes == ("2 rows of monitor left out by REPLICATOR_OVERRIDES",)


def test_rules_that_leave_out_every_monitor_are_a_mistake(case: Case) -> None:
    case.rules('[[rule]]\ntable = "monitor"\nskip = true')
    with pytest.raises(SettingsError, match=r"leave out every monitor \(24\)"):
        case.run()


def test_a_child_before_its_group_loses_its_reference_too(case: Case) -> None:
    edit(case.leader, "UPDATE monitor SET parent = 21 WHERE id = 2")
    case.rules('[[rule]]\ntable = "monitor"\nwhere = { id = 21 }\nskip = true')
    dump = case.run().dump
    assert {row["id"]: row["parent"] for row in rows(dump, "monitor")}[2] is None


def test_a_status_page_that_is_left_out_takes_what_only_it_has_along(case: Case) -> None:
    case.rules('[[rule]]\ntable = "status_page"\nwhere = { id = 2 }\nskip = true')
    dump = case.run().dump
    for table in ("status_page_cname", "group", "incident", "maintenance_status_page"):
        assert {row["status_page_id"] for row in rows(dump, table)} == {1}, table
    groups = {row["id"] for row in rows(dump, "group")}
    assert {row["group_id"] for row in rows(dump, "monitor_group")} == groups
    assert dump.manifest.files == {}, "its logo is named by nobody any more"
    dump.verify()


def test_a_proxy_that_is_left_out_leaves_monitors_without_one(case: Case) -> None:
    edit(case.leader, "UPDATE monitor SET proxy_id = 1 WHERE id = 8")
    case.rules('[[rule]]\ntable = "proxy"\nskip = true')
    dump = case.run().dump
    assert rows(dump, "proxy") == []
    assert {row["proxy_id"] for row in rows(dump, "monitor")} == {None}


def test_rules_may_make_rows_refer_to_what_is_there(case: Case) -> None:
    edit(case.leader, "UPDATE monitor SET proxy_id = 1 WHERE id = 8")
    case.rules('[[rule]]\ntable = "monitor"\nwhere = { proxy_id = 1 }\nset = { proxy_id = 2 }')
    dump = case.run().dump
    assert {row["proxy_id"] for row in rows(dump, "monitor")} == {2, None}


@pytest.mark.parametrize("rule", ["proxy_id = 99", "parent = 999"])
def test_rules_may_not_make_rows_refer_to_nothing(case: Case, rule: str) -> None:
    case.rules(f'[[rule]]\ntable = "monitor"\nwhere = {{ id = 5 }}\nset = {{ {rule} }}')
    with pytest.raises(SettingsError, match="there is no such"):
        case.run()


# --- settings -------------------------------------------------------------------------------


def test_a_key_that_only_the_replica_chose_stays_its_own(case: Case) -> None:
    case.policy = Policy(settings=SETTINGS | {"primaryBaseURL"})
    edit(case.replica, "UPDATE setting SET value = '\"mine\"' WHERE key = 'primaryBaseURL'")
    live = live_with(case, case.policy.settings)
    found = {row["key"]: row["value"] for row in rows(case.run(live=live).dump, "setting")}
    assert found["primaryBaseURL"] == '"mine"'
    assert found["entryPage"] == '"dashboard"'


def test_a_key_that_only_the_leader_chose_does_not_come(case: Case) -> None:
    case.policy = Policy(settings=SETTINGS - {"steamAPIKey"})
    edit(case.replica, "UPDATE setting SET value = 'mine' WHERE key = 'steamAPIKey'")
    live = live_with(case, case.policy.settings)
    keys = {row["key"] for row in rows(case.run(live=live).dump, "setting")}
    assert keys == {"keepDataPeriodDays", "entryPage"}


def live_with(case: Case, settings: frozenset[str]) -> Dump:
    """The replica's dump as an instance writes it that chose these keys."""
    folder = case.folder / "live-with"
    folder.mkdir()
    with SqliteStore(case.replica.parent, settings=settings).read() as reader:
        schema = reader.schema
        entries, _named = write_tables(folder, reader, schema.require(TABLES))
    manifest = Manifest("sqlite", schema.fingerprint, schema.migrations, entries, {}, settings)
    write_manifest(folder, manifest)
    return Dump(folder, manifest)


# --- local entities -------------------------------------------------------------------------


def proxies(
    case: Case, leader: set[int], replica: set[int], arrived: set[int] | None
) -> Translated:
    case.policy = Policy(local=frozenset({"proxy"}))
    case.arrived = {} if arrived is None else {"proxy": frozenset(arrived)}
    for path, ids in ((case.leader, leader), (case.replica, replica)):
        statements: list[Edit] = ["UPDATE monitor SET proxy_id = NULL", "DELETE FROM proxy"]
        for number in ids:
            statements.append(
                (
                    "INSERT INTO proxy (id, user_id, protocol, host, port, auth, created_date) "
                    "VALUES (?, 1, 'http', ?, 1, 0, '2025-01-01')",
                    (number, path.parent.name),
                )
            )
        edit(path, *statements)
    if leader:
        edit(case.leader, ("UPDATE monitor SET proxy_id = ? WHERE id = 6", (min(leader),)))
    return case.run()


@pytest.mark.parametrize(
    ("leader", "replica", "arrived", "there", "remembered"),
    [
        ({1, 2}, set(), set(), {1: "leader", 2: "leader"}, {1, 2}),
        ({1, 2}, {1, 2}, {1, 2}, {1: "replica", 2: "replica"}, {1, 2}),
        ({2}, {1, 2}, {1, 2}, {2: "replica"}, {2}),
        ({1, 2}, {2}, {1, 2}, {2: "replica"}, {1, 2}),
        ({1}, {1, 7}, {1}, {1: "replica", 7: "replica"}, {1}),
        ({1, 7}, {1, 7}, {1}, {1: "replica", 7: "replica"}, {1}),
        ({1, 2}, {1, 7}, None, {1: "replica", 2: "leader", 7: "replica"}, {2}),
    ],
    ids=[
        "new ones come",
        "what came is the replica's own",
        "what the leader deleted goes",
        "what was deleted here does not come again",
        "what was made here stays",
        "another one under its id does not replace it, and has not come",
        "without memory nothing goes, and what differs was never the leader's",
    ],
)
def test_local_entities(
    case: Case,
    leader: set[int],
    replica: set[int],
    arrived: set[int] | None,
    there: dict[int, str],
    remembered: set[int],
) -> None:
    translated = proxies(case, leader, replica, arrived)
    found = {row["id"]: row["host"] for row in rows(translated.dump, "proxy")}
    assert found == there
    assert set(translated.arrived["proxy"]) == remembered
    used = {row["proxy_id"] for row in rows(translated.dump, "monitor")} - {None}
    assert used <= set(there)
    translated.dump.verify()


# --- what an enemy sends --------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: [b'["name","id","color","created_date"]\n', *lines[1:]],
        lambda lines: [b'["id","color","created_date","\\ud800"]\n', *lines[1:]],
        lambda lines: [b'["id","color","created_date","a b\\n"]\n', *lines[1:]],
        lambda lines: [lines[0], lines[2], lines[1], *lines[3:]],
        lambda lines: [*lines, lines[-1]],
        lambda lines: [lines[0], lines[1].replace(b"[1,", b"[1.5,", 1), *lines[2:]],
        lambda lines: [lines[0], lines[1].replace(b"[1,", b'["1",', 1), *lines[2:]],
        lambda lines: [lines[0], b"[1]\n", *lines[2:]],
        lambda lines: [lines[0], b'{"a":1}\n', *lines[2:]],
        lambda lines: [lines[0], b"\xff\n", *lines[2:]],
    ],
    ids=[
        "key",
        "surrogate",
        "line end",
        "order",
        "twice",
        "float id",
        "text id",
        "short",
        "object",
        "no ASCII",
    ],
)
def test_rows_that_no_leader_writes_are_refused(
    case: Case, change: Callable[[list[bytes]], list[bytes]]
) -> None:
    case.rules('[[rule]]\ntable = "tag"\nset = { color = "red" }')
    wanted = rewrite(case.dump(case.leader), "tag", change)
    with pytest.raises(SnapshotRefused):
        case.run(wanted)


def test_a_key_in_another_place_is_refused_by_a_compatible_replica_too(case: Case) -> None:
    case.policy = Policy(compatible=True, local=frozenset({"proxy"}))
    wanted = case.dump(case.leader)
    names = json.loads((wanted.folder / "tables" / "proxy.jsonl").read_bytes().splitlines()[0])
    turned = [*names[1:], "id"]

    def turn(lines: list[bytes]) -> list[bytes]:
        rows_ = [json.loads(line) for line in lines[1:]]
        made = [turned, *([*row[1:-1], "x", None] for row in rows_)]
        return [(json.dumps(row, separators=(",", ":")) + "\n").encode() for row in made]

    with pytest.raises(SnapshotRefused):
        case.run(rewrite(wanted, "proxy", turn))


def test_a_setting_that_is_never_replicated_is_refused(case: Case) -> None:
    case.policy = Policy(settings=SETTINGS | {"primaryBaseURL"})
    wanted = rewrite(
        case.dump(case.leader), "setting", lambda lines: [*lines, b'["zz","x",null]\n'][:2]
    )
    wanted = rewrite(wanted, "setting", lambda lines: [lines[0], b'["jwtSecret",null,"x"]\n'])
    with pytest.raises(SnapshotRefused):
        case.run(wanted)


# --- another engine -------------------------------------------------------------------------


def test_a_live_value_that_means_the_same_stays(case: Case) -> None:
    for path, start in ((case.replica, "2031-05-01T10:00"), (case.leader, "2031-05-01 10:00:00")):
        edit(path, ("UPDATE maintenance SET start_date = ?, start_time = ?", (start, "02:00")))
    edit(case.leader, "UPDATE maintenance SET start_time = '02:00:00'")
    (case.replica.parent / "upload" / "logo2.png").write_bytes(b"leader")
    live = case.dump(case.replica)
    translated = case.run(as_engine(case.dump(case.leader), "mariadb"), live)
    row = rows(translated.dump, "maintenance")[0]
    assert (row["start_date"], row["start_time"]) == ("2031-05-01T10:00", "02:00")
    assert plan(live, translated.dump, case.folder / "plan").empty


def test_a_value_that_means_another_time_comes_over_as_the_leader_wrote_it(case: Case) -> None:
    edit(case.replica, "UPDATE maintenance SET start_date = '2031-05-01T10:00'")
    edit(case.leader, "UPDATE maintenance SET start_date = '2031-05-01 10:00:01'")
    translated = case.run(as_engine(case.dump(case.leader), "mariadb"))
    assert rows(translated.dump, "maintenance")[0]["start_date"] == "2031-05-01 10:00:01"


def test_nothing_where_a_value_is_needed_is_named_row_by_row(case: Case) -> None:
    """MariaDB's notification.user_id may be NULL, SQLite's may not."""
    wanted = rewrite(
        case.dump(case.leader),
        "notification",
        lambda lines: [lines[0], *(_null(line, lines[0], "user_id") for line in lines[1:])],
    )
    with pytest.raises(SnapshotMisfit, match=r"notification 1 «alert 1.*user_id.*may not be empty"):
        case.run(as_engine(wanted, "mariadb"))


def _null(line: bytes, head: bytes, column: str) -> bytes:
    row, names = json.loads(line), json.loads(head)
    row[names.index(column)] = None
    return (json.dumps(row, separators=(",", ":")) + "\n").encode()


def test_many_rows_that_do_not_fit_are_counted(case: Case) -> None:
    for number in range(100, 150):
        with_id = {"id": number, "name": f"n{number}", "user_id": 1, "is_default": 0}
        _insert(case.leader, "notification", with_id)
    wanted = rewrite(
        case.dump(case.leader),
        "notification",
        lambda lines: [lines[0], *(_null(line, lines[0], "user_id") for line in lines[1:])],
    )
    with pytest.raises(SnapshotMisfit, match=r"and 34 more$"):
        case.run(as_engine(wanted, "mariadb"))


def _insert(path: Path, table: str, row: dict[str, Any]) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        insert(connection, table, **row)
