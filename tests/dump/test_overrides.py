"""Rules for one replica: how a file is read, what is refused, and what becomes of rows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicator_kuma.adapters.database.sqlite.store import SqliteStore
from replicator_kuma.base.errors import SettingsError
from replicator_kuma.dump.catalog import TABLES, Dangle
from replicator_kuma.dump.format import Dump
from replicator_kuma.dump.schema import Column, Schema, TableSchema
from replicator_kuma.dump.select import select
from replicator_kuma.dump.transform.overrides import Overrides
from tests.support import databases
from tests.support.databases import VERSIONS
from tests.support.dumps import dump_of
from tests.support.tools import ROOT

PAGE = ROOT / "docs" / "overrides.md"
SECRET = "correct-horse-battery"


def schema_of(database: Path) -> Schema:
    with SqliteStore(database.parent).read() as reader:
        return reader.schema


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve monitors; 1 and 11 are groups, 5 pushes; 2 and 3 have the tag `eu-only`."""
    path = databases.build(tmp_path_factory.mktemp("leader") / "kuma.db", monitors=12)
    databases.edit(
        path,
        "DELETE FROM monitor_tag WHERE tag_id IN (1, 2)",
        "UPDATE tag SET name = 'eu-only' WHERE id = 1",
        "UPDATE tag SET name = 'EU-Only' WHERE id = 2",
        "INSERT INTO monitor_tag (monitor_id, tag_id, value) VALUES (2, 1, ''), (3, 1, 'x')",
        "INSERT INTO monitor_tag (monitor_id, tag_id, value) VALUES (4, 2, '')",
        "UPDATE monitor SET description = 'z' WHERE id > 3",
        "UPDATE monitor SET description = NULL WHERE id = 1",
        "UPDATE monitor SET description = '' WHERE id = 2",
        "UPDATE monitor SET description = 'a' || char(10) || 'b*c' WHERE id = 3",
    )
    return path


@pytest.fixture(scope="module")
def schema(database: Path) -> Schema:
    return schema_of(database)


@pytest.fixture(scope="module")
def dump(database: Path, tmp_path_factory: pytest.TempPathFactory) -> Dump:
    return dump_of(database, tmp_path_factory.mktemp("dump") / "d")


def rows(database: Path, table: str) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """A table as the leader has it, by the code that reads it for a dump."""
    with SqliteStore(database.parent).read() as reader:
        chosen = select(reader.schema, table)
        return chosen.columns, list(reader.rows(chosen))


def outcome(text: str, table: str, database: Path, dump: Dump) -> dict[Any, dict[str, Any] | None]:
    """What the rules make of each row that they change, by id: its new values, None: skipped."""
    rules = Overrides.parse(text)
    rules.check(schema_of(database))
    columns, found = rows(database, table)
    change = rules.changer(table, columns, dump)
    assert change is not None
    changed: dict[Any, dict[str, Any] | None] = {}
    for row in found:
        made = change(row)
        if made is None:
            changed[row[0]] = None
        elif made != row:
            assert len(made) == len(row)
            changed[row[0]] = {
                name: new
                for name, old, new in zip(columns, row, made, strict=True)
                if (type(old), old) != (type(new), new)
            }
        else:
            assert [*map(type, made)] == [*map(type, row)]
    return changed


def rule(table: str = "monitor", where: str = "", then: str = "skip = true") -> str:
    asked = f"where = {{ {where} }}\n" if where else ""
    return f'[[rule]]\ntable = "{table}"\n{asked}{then}\n'


def matched(where: str, database: Path, dump: Dump, table: str = "monitor") -> set[Any]:
    """The ids of rows that a `where` matches."""
    return set(outcome(rule(table, where), table, database, dump))


# --- reading a file ---------------------------------------------------------------------------


def test_a_file_without_rules_has_no_rules_and_no_digest() -> None:
    for text in ("", "# nothing yet\n", "rule = []\n"):
        found = Overrides.parse(text)
        assert found == Overrides()
        assert found.digest == ""


def test_the_digest_is_of_what_the_rules_mean_and_not_of_how_they_are_written() -> None:
    plain = rule(where='type = "push", active = true', then='set = { active = false, name = "x" }')
    other = (
        "# paused here\n\n[[rule]]\nset = {name='x', active=0}\n\ntable = 'monitor'\n"
        "where.active = [1, 1]\nwhere.type = ['push']\n"
    )
    digest = Overrides.parse(plain).digest
    assert re.fullmatch("[0-9a-f]{16}", digest)
    assert Overrides.parse(other).digest == digest
    either = [Overrides.parse(rule(where=f"type = {w}")) for w in ("['a', 'b']", "['b', 'a']")]
    assert either[0].digest == either[1].digest


@pytest.mark.parametrize(
    "other",
    [
        rule("proxy", 'host = "a"', "set = { port = 1 }") + rule("tag"),
        rule("tag") + rule("tag", 'name = "a"', 'set = { name = "b" }'),
        rule("tag", 'name = "a"', 'set = { name = "b" }'),
        rule("tag", 'name = "a*"', 'set = { name = "b" }') + rule("tag"),
        rule("tag", 'name = "a"', 'set = { name = "c" }') + rule("tag"),
        rule("tag", "", 'set = { name = "b" }') + rule("tag"),
        rule("tag", 'name = "a"', 'set = { name = "b" }') + rule("tag", "id = 1"),
        rule("tag", 'name = "a"') + rule("tag"),
        rule("tag", 'color = "a"', 'set = { name = "b" }') + rule("tag"),
    ],
)
def test_rules_that_mean_something_else_have_another_digest(other: str) -> None:
    text = rule("tag", 'name = "a"', 'set = { name = "b" }') + rule("tag")
    assert Overrides.parse(other).digest != Overrides.parse(text).digest


def test_text_in_quotes_is_not_a_number_and_a_whole_number_is_one() -> None:
    digests = {Overrides.parse(rule(where=f"port = {w}")).digest for w in ("80", "'80'", "80.5")}
    assert len(digests) == 3
    assert Overrides.parse(rule(where="port = 80.0")).digest in digests


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (rule() + "wher = { type = 'push' }", "rule 1: unknown key 'wher'; did you mean where?"),
        (rule() + "whatever = 1", "rule 1: unknown key 'whatever'"),
        ("rules = []", "unknown key 'rules'; did you mean rule?"),
        ("[[rules]]\ntable = 'tag'", "unknown key 'rules'; did you mean rule?"),
        ("[rule]\ntable = 'tag'", "rule is no list of rules: write [[rule]] above each"),
        ("rule = [1]", "rule is no list of rules: write [[rule]] above each"),
        (rule("monitr"), "rule 1: 'monitr' is not a table of Uptime Kuma; did you mean monitor?"),
        (rule("xyz"), "'xyz' is not a table of Uptime Kuma; choose from: user, setting, proxy,"),
        (rule("heartbeat"), "rule 1: 'heartbeat' belongs to the instance and is never replicated"),
        ("[[rule]]\nskip = true", "rule 1: no table: expected the name of one"),
        ("[[rule]]\ntable = 1\nskip = true", "rule 1: table is no text"),
        ("[[rule]]\ntable = 'tag'", "rule 1: neither set nor skip = true: expected one of them"),
        (rule() + "set = { active = true }", "rule 1: set and skip = true: expected one of them"),
        (rule(then="skip = false"), "rule 1: skip has another value than true: leave it out"),
        (rule(then="skip = 1"), "rule 1: skip has another value than true: leave it out"),
        (rule(then="set = {}"), "rule 1: set is empty: expected columns"),
        (rule(then="set = 5"), "rule 1: set is no table of columns: expected { column = value }"),
        (rule() + "where = 'push'", "rule 1: where is no table of columns"),
        (rule("user", 'username = "x"'), "cannot be skipped: a replica needs its users"),
        (rule("setting", 'key = "x"'), "cannot be skipped: REPLICATOR_SETTINGS says which"),
        (rule(where="type = []"), "rule 1: where.type is an empty list"),
        (rule(where="type = [['a']]"), "rule 1: where.type is none of what a column can hold"),
        (rule(where="type = { a = 1 }"), "rule 1: where.type is none of what a column can hold"),
        (rule(where="created_date = 2030-01-01"), "where.created_date is none of what a column"),
        (rule(then="set = { name = ['a'] }"), "rule 1: set.name is none of what a column can"),
        (rule(then="set = { expires = 07:32:00 }"), "rule 1: set.expires is none of what a"),
        (rule(then="set = { timeout = nan }"), "rule 1: set.timeout is none of what a column"),
        (rule(then="set = { timeout = -inf }"), "rule 1: set.timeout is none of what a column"),
        (rule(where="port = 9223372036854775808"), "where.port is an integer of more than 64"),
        ("[[rule]\n", "it is no TOML: "),
        (rule() + "skip = true", "it is no TOML: "),
    ],
)
def test_what_is_refused_in_a_file_is_told_with_the_rule_s_number(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=re.escape(problem)) as caught:
        Overrides.parse(text)
    assert "problems" not in str(caught.value), "it is the only one"


def test_the_extremes_of_64_bits_are_numbers() -> None:
    Overrides.parse(rule(where="port = [9223372036854775807, -9223372036854775808]"))


def test_all_problems_of_a_file_come_at_once() -> None:
    text = rule("monitr") + rule() + rule("user") + "typo = 1\n" + rule(then="set = { a = [] }")
    with pytest.raises(ValueError, match="4 problems:") as caught:
        Overrides.parse(text)
    lines = [line.strip() for line in str(caught.value).splitlines()[1:]]
    assert [line[:7] for line in lines] == ["rule 1:", "rule 3:", "rule 3:", "rule 4:"]


# --- against a schema -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (rule(where='typ = "push"'), "rule 1: monitor has no column 'typ'; did you mean type?"),
        (rule(where='tags = "eu"'), "rule 1: monitor has no column 'tags'; did you mean tag?"),
        (
            rule(then="set = { actve = false }"),
            "monitor has no column 'actve'; did you mean active",
        ),
        (rule("proxy", 'tag = "eu"'), "rule 1: proxy has no column 'tag'"),
        (rule(then='set = { tag = "x" }'), "rule 1: monitor has no column 'tag'"),
        (rule(then="set = { id = 5 }"), "set.id: it tells which row this is"),
        (rule("monitor_tag", then="set = { id = 5 }"), "set.id: it tells which row this is"),
        (rule("monitor_tag", then="set = { tag_id = 5 }"), "set.tag_id: it tells which row"),
        (rule("monitor_tag", "id = 5"), "where.id: Kuma writes this column by itself"),
        (rule("status_page_cname", then="set = { status_page_id = 1 }"), "set.status_page_id: it"),
        (rule("setting", then='set = { key = "x" }'), "set.key: it tells which row this is"),
        (rule("setting", then="set = { id = 1 }"), "set.id: it tells which row this is"),
        (rule("setting", "id = 1", 'set = { value = "x" }'), "rule 1: setting has no column 'id'"),
        (rule(then='set = { dns_last_result = "x" }'), "set.dns_last_result: Kuma writes this"),
        (rule(where='dns_last_result = "x"'), "where.dns_last_result: Kuma writes this column"),
        (rule("status_page", then='set = { modified_date = "x" }'), "set.modified_date: Kuma"),
        (rule("user", then='set = { twofa_last_token = "1" }'), "set.twofa_last_token: Kuma"),
        (rule(where="tag = 5"), "rule 1: where.tag is the name of a tag: write it in quotes"),
        (rule(where='tag = ["a", true]'), "where.tag is the name of a tag: write it in quotes"),
        (rule(where='active = "1"'), "where.active is a number (boolean): write it without quotes"),
        (rule(where='port = "80*"'), "where.port is a number (integer): write it without quotes"),
        (rule(where="keyword = 404"), "where.keyword is text (varchar(255)): write it in quotes"),
        (rule(then='set = { active = "no" }'), "set.active is a number (boolean): write it with"),
        (rule(then="set = { name = true }"), "set.name is text (varchar(150)): write it in quot"),
        (
            rule("maintenance", then="set = { start_date = 5 }"),
            "set.start_date is text (datetime): write",
        ),
        (rule(then='set = { created_date = "2030-01-01" }'), "set.created_date: another date"),
    ],
)
def test_what_a_schema_does_not_have_is_refused(text: str, problem: str, schema: Schema) -> None:
    with pytest.raises(SettingsError, match=re.escape(problem)) as caught:
        Overrides.parse(text).check(schema)
    assert "problems" not in str(caught.value)
    assert caught.value.exit_code == 3
    assert "REPLICATOR_OVERRIDES" in caught.value.hint


def test_all_that_a_schema_does_not_have_comes_at_once(schema: Schema) -> None:
    text = rule(where='typ = "a", prt = 5') + rule() + rule(then="set = { id = 1, xyz = 2 }")
    with pytest.raises(SettingsError, match="4 problems:") as caught:
        Overrides.parse(text).check(schema)
    assert re.findall(r"rule \d", str(caught.value)) == ["rule 1", "rule 1", "rule 3", "rule 3"]


def test_a_table_that_an_old_kuma_lacks_is_refused(tmp_path: Path) -> None:
    old = schema_of(databases.create(tmp_path / "kuma.db", "1.23"))
    with pytest.raises(SettingsError, match="rule 1: this Kuma has no table remote_browser"):
        Overrides.parse(rule("remote_browser")).check(old)


def test_a_column_called_tag_is_a_column(schema: Schema, dump: Dump) -> None:
    """No Kuma has one yet; one that comes is not to be out of reach."""
    monitor = schema.tables["monitor"]
    columns = {**monitor.columns, "tag": Column("tag", "integer")}
    later = Schema({**schema.tables, "monitor": TableSchema(columns)}, ("new",))
    rules = Overrides.parse(rule(where="tag = 5"))
    rules.check(later)
    change = rules.changer("monitor", ("id", "tag"), dump)
    assert change is not None
    assert change((1, 5)) is None
    assert change((2, 6)) == (2, 6)


def test_no_message_holds_a_value_of_the_file(schema: Schema) -> None:
    texts = [
        rule(then=f"set = {{ name = ['{SECRET}'], pasword = '{SECRET}', active = '{SECRET}' }}"),
        rule(then=f"set = {{ pasword = '{SECRET}', active = '{SECRET}', id = '{SECRET}' }}"),
        rule(then=f"set = {{ dns_last_result = '{SECRET}' }}", where=f"port = '{SECRET}'"),
        rule("proxy", f"usrname = '{SECRET}'", f"set = {{ password = '{SECRET}' }}") + "skip = 5",
        rule("proxy", then=f"set = {{ password = '{SECRET}' ]"),
    ]
    for text in texts:
        with pytest.raises((ValueError, SettingsError)) as caught:
            Overrides.parse(text).check(schema)
        assert SECRET not in str(caught.value)
    good = Overrides.parse(
        rule("proxy", f"host = '{SECRET}'", f"set = {{ password = '{SECRET}' }}")
    )
    assert SECRET not in repr(good)


# --- rows -------------------------------------------------------------------------------------


def test_a_table_without_a_rule_has_no_changer(dump: Dump) -> None:
    assert Overrides.parse(rule()).changer("proxy", ("id",), dump) is None
    assert Overrides().changer("monitor", ("id",), dump) is None


def test_where_takes_globs_numbers_booleans_and_lists(database: Path, dump: Dump) -> None:
    everything = {row[0] for row in rows(database, "monitor")[1]}
    cases = {
        "": everything,
        'type = "push"': {5},
        'type = "PUSH"': set(),
        'type = "pus"': set(),
        'type = "p*"': {2, 3, 5, 10},
        'type = "*p*", hostname = "host1?.example"': {10, 11},
        'type = "?ttp"': {8},
        'type = ["push", "http"]': {5, 8},
        'hostname = "host[12].example"': {1, 2},
        'hostname = "host[!1-9].example"': set(),
        "active = false": {7},
        "active = 0": {7},
        "active = true": everything - {7},
        "id = [3, 4.0, true]": {1, 3, 4},
        "timeout = 48": {2, 4, 6, 8, 10, 12},
        "timeout = 38.400000000000006": {1, 3, 5, 7, 9, 11},
        'id = 3, type = "push"': set(),
    }
    found = {where: matched(where, database, dump) for where in cases}
    assert found == cases


def test_a_glob_takes_line_ends_and_a_literal_star_in_brackets(database: Path, dump: Dump) -> None:
    assert matched(r'description = "a*c"', database, dump) == {3}
    assert matched(r'description = "*b[*]c"', database, dump) == {3}
    assert matched(r'description = "*b[?]c"', database, dump) == set()
    assert matched(r'description = "a\nb?c"', database, dump) == {3}


def test_an_empty_column_matches_nothing_and_empty_text_only_itself(
    database: Path, dump: Dump
) -> None:
    assert matched('description = ""', database, dump) == {2}
    assert 1 not in matched('description = "*"', database, dump)
    assert 2 in matched('description = "*"', database, dump)
    assert 1 not in matched("parent = [0, 1, 11]", database, dump)


def test_a_tag_is_the_name_of_one_of_a_monitor_s_tags(database: Path, dump: Dump) -> None:
    assert matched('tag = "eu-only"', database, dump) == {2, 3}
    assert matched('tag = "EU-*"', database, dump) == {4}
    assert matched('tag = "[eE]*"', database, dump) == {2, 3, 4}
    assert matched('tag = ["eu-only", "nobody"], id = [1, 3]', database, dump) == {3}
    assert matched('tag = "nobody"', database, dump) == set()


def test_a_tag_of_a_leader_that_publishes_no_tags_is_an_error(
    database: Path, tmp_path: Path
) -> None:
    """A skip that silently matched nothing would let the monitors in."""
    tables = [name for name in TABLES if name not in ("tag", "monitor_tag")]
    bare = dump_of(database, tmp_path / "bare", tables)
    with pytest.raises(SettingsError, match="the leader publishes no tag"):
        Overrides.parse(rule(where='tag = "eu-only"')).changer("monitor", ("id",), bare)


def test_set_changes_only_what_it_names(database: Path, dump: Dump) -> None:
    then = "set = { active = false, interval = 60, timeout = 1.5 }"
    assert outcome(rule(where='type = "push"', then=then), "monitor", database, dump) == {
        5: {"active": 0, "interval": 60, "timeout": 1.5}
    }


def test_a_value_that_is_there_already_keeps_its_type(database: Path, dump: Dump) -> None:
    """48 beside the leader's 48.0 would be a change that is none."""
    text = rule(where="id = 2", then="set = { timeout = 48, active = true }")
    assert outcome(text, "monitor", database, dump) == {}


def test_rules_see_the_leader_s_values_and_a_later_set_wins(database: Path, dump: Dump) -> None:
    text = (
        rule(where='type = "push"', then='set = { type = "http", interval = 61 }')
        + rule(where='type = "http"', then="set = { port = 1 }")
        + rule(where='type = "p*"', then="set = { interval = 62 }")
    )
    found = outcome(text, "monitor", database, dump)
    assert found[5] == {"type": "http", "interval": 62}
    assert found[8] == {"port": 1}
    assert {key for key in found if found[key] == {"interval": 62}} == {2, 3, 10}


def test_a_skip_wins_over_what_stands_before_and_after_it(database: Path, dump: Dump) -> None:
    change = rule(then='set = { name = "x" }')
    skip = rule(where="id = 5")
    for text in (skip + change, change + skip, change + skip + change):
        found = outcome(text, "monitor", database, dump)
        assert found.pop(5) is None
        assert {str(made) for made in found.values()} == {"{'name': 'x'}"}


def test_rules_reach_settings_links_and_rows_with_blobs(database: Path, dump: Dump) -> None:
    text = rule("setting", 'key = "entry*"', """set = { value = '"statusPage-public"' }""")
    assert outcome(text, "setting", database, dump) == {
        "entryPage": {"value": '"statusPage-public"'}
    }
    assert set(outcome(rule("monitor_notification"), "monitor_notification", database, dump)) == {
        row[0] for row in rows(database, "monitor_notification")[1]
    }
    change = Overrides.parse(rule("tag", 'name = "*"')).changer("tag", ("id", "name"), dump)
    assert change is not None
    assert change((1, b"raw")) == (1, b"raw")
    assert change((1, "not \udce9 UTF-8")) is None


@given(st.text(st.characters(exclude_categories=["Cs"])), st.text(alphabet="ab*?[]!-\n\\{}"))
def test_text_with_its_special_characters_in_brackets_matches_only_itself(
    text: str, other: str
) -> None:
    glob = re.sub(r"([*?[])", r"[\1]", text)
    quoted = "".join(f"\\U{ord(character):08x}" for character in glob)
    change = Overrides.parse(rule("tag", f'name = "{quoted}"')).changer("tag", ("name",), None)  # type: ignore[arg-type]
    assert change is not None
    assert change((text,)) is None
    assert (change((other,)) is None) == (other == text)


# --- what doctor asks -------------------------------------------------------------------------


def silent(text: str, database: Path, tables: frozenset[str] = frozenset(TABLES)) -> list[int]:
    with SqliteStore(database.parent).read() as reader:
        return list(Overrides.parse(text).silent(reader, tables))


def test_a_rule_that_matches_no_live_row_is_found(database: Path) -> None:
    text = (
        rule(where='type = "psh"', then="set = { interval = 60 }")
        + rule(where='type = "push"', then="set = { interval = 60 }")
        + rule(where='tag = "eu_only"', then="set = { interval = 60 }")
        + rule(where='tag = "eu-only", type = "p*"', then="set = { interval = 60 }")
        + rule("setting", 'key = "jwtSecret"', 'set = { value = "x" }')
        + rule("setting", 'key = "entryPage"', 'set = { value = "x" }')
        + rule("monitor_tag", "tag_id = 1", 'set = { value = "x" }')
        + rule("monitor_tag", "tag_id = 99", 'set = { value = "x" }')
    )
    assert silent(text, database) == [1, 3, 5, 8]
    assert silent(text, database, frozenset({"monitor", "tag"})) == [1, 3]


@pytest.mark.parametrize(
    "text",
    [
        rule(where='type = "gone"'),
        rule(where='type = "gone"', then='set = { type = "http" }'),
        rule(where='type = "gone"', then="set = { port = 1 }")
        + rule(where="id = 1", then='set = { type = "http" }'),
        rule(where='type = "gone"', then="set = { port = 1 }") + rule(where="id = 99"),
        rule(where="docker_host = 9", then="set = { port = 1 }") + rule("docker_host", "id = 9"),
        rule(where='tag = "gone"', then="set = { port = 1 }") + rule("tag", 'name = "gone"'),
        rule(where='tag = "gone"', then="set = { port = 1 }")
        + rule("tag", 'name = "gone"', 'set = { name = "here" }'),
        rule(where='tag = "gone"', then="set = { port = 1 }") + rule("monitor_tag", "tag_id = 9"),
        rule("incident", 'title = "gone"', 'set = { content = "x" }') + rule("status_page", "id=9"),
    ],
)
def test_what_live_rows_cannot_show_is_not_called_silent(text: str, database: Path) -> None:
    assert silent(text, database) == []


# --- the documentation ------------------------------------------------------------------------


def toml_blocks() -> list[str]:
    return re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)


def test_the_page_has_examples_and_each_stands_alone(schema: Schema) -> None:
    blocks = toml_blocks()
    assert len(blocks) >= 5
    for block in blocks:
        rules = Overrides.parse(block)
        assert rules.rules, block
        rules.check(schema)


def test_the_examples_on_the_page_can_stand_in_one_file(schema: Schema) -> None:
    Overrides.parse("\n".join(toml_blocks())).check(schema)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_first_example_on_the_page_fits_every_version(version: str, tmp_path: Path) -> None:
    Overrides.parse(toml_blocks()[0]).check(
        schema_of(databases.create(tmp_path / "kuma.db", version))
    )


def test_the_page_says_what_a_skip_takes_along_as_the_catalog_has_it() -> None:
    found = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) \|", PAGE.read_text(), re.MULTILINE)
    said = {name: (_names(goes), _names(loses)) for name, goes, loses in found}
    expected: dict[str, tuple[set[str], set[str]]] = {
        name: (set(), set()) for name in TABLES if name not in ("user", "setting")
    }
    for name, table in TABLES.items():
        for reference in table.references:
            if reference.table not in expected:
                continue
            goes, loses = expected[reference.table]
            if reference.dangle is Dangle.ROW:
                goes.add(name)
            else:
                assert reference.dangle is Dangle.NULL, "the page has no column for it"
                loses.add(f"{name}.{reference.column}")
    assert said == {name: both for name, both in expected.items() if any(both)}


def _names(cell: str) -> set[str]:
    return set(re.findall(r"`([\w.]+)`", cell))
