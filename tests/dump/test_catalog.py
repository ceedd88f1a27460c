"""The catalog's choices, the files that rows name, the schema gate."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from replicator_kuma.adapters.database.sqlite.store import SqliteStore
from replicator_kuma.base.errors import TableMissing
from replicator_kuma.dump.catalog import (
    LOCAL,
    SETTINGS,
    SETTINGS_NEVER,
    SETTINGS_OPTIONAL,
    TABLES,
    Dangle,
    choose,
    file_table,
    files_of,
    is_file,
)
from replicator_kuma.dump.schema import Schema, fingerprint
from replicator_kuma.dump.select import select
from replicator_kuma.dump.transform import version_names
from tests.support import compare
from tests.support.databases import VERSIONS, create


def schema_of(folder: Path, version: str) -> Schema:
    create(folder / "kuma.db", version)
    with SqliteStore(folder).read() as reader:
        return reader.schema


def test_parents_come_before_children() -> None:
    order = list(TABLES)
    for name, table in TABLES.items():
        for reference in table.references:
            assert reference.table == name or order.index(reference.table) < order.index(name)


def test_catalog_has_the_references_and_tables_of_kuma() -> None:
    """docs/kuma.md, as tests.support.compare has it, is the other opinion."""
    ours = {(n, r.column, r.table) for n, t in TABLES.items() for r in t.references}
    theirs = {r for r in compare.REFERENCES if r[0] not in compare.HISTORY}
    assert ours == theirs
    assert set(TABLES) == {*compare.REPLICATED, "setting"}
    assert set(SETTINGS) == set(compare.SETTINGS)
    runtime = {(n, c) for n, t in TABLES.items() for c in t.runtime}
    assert runtime == set(compare.RUNTIME.items())


def test_nothing_is_both_replicated_and_local() -> None:
    assert not SETTINGS & SETTINGS_OPTIONAL | (SETTINGS | SETTINGS_OPTIONAL) & SETTINGS_NEVER
    assert not set(TABLES) & LOCAL
    assert {"jwtSecret", "cloudflaredTunnelToken", "database_version"} <= SETTINGS_NEVER


@pytest.mark.parametrize("version", VERSIONS)
def test_every_table_of_a_schema_is_known(version: str, tmp_path: Path) -> None:
    schema = schema_of(tmp_path, version)
    assert schema.unknown() == ()
    assert set(schema.require(TABLES)) == set(TABLES) & set(schema.tables)
    assert set(TABLES) - set(schema.tables) == ({"remote_browser"} if version == "1.23" else set())


def test_choose_all_some_and_none() -> None:
    assert choose(None, ()) == frozenset(TABLES)
    assert choose(["user", "tag"], ["tag"]) == {"user"}
    assert choose(None, ["setting"]) == frozenset(TABLES) - {"setting"}
    with pytest.raises(ValueError, match="no table is left"):
        choose(["tag"], ["tag"])
    with pytest.raises(ValueError, match="no table is left"):
        choose([], [])


def test_choose_refuses_unknown_names_with_the_reason() -> None:
    with pytest.raises(ValueError, match="'heartbeat' belongs to the instance"):
        choose(["heartbeat"], ())
    with pytest.raises(ValueError, match="'monitors' is not a table of Uptime Kuma"):
        choose(None, ["monitors"])


@pytest.mark.parametrize("name", TABLES)
def test_choose_refuses_exactly_what_breaks_a_reference(name: str) -> None:
    needed = {t.name for t in TABLES.values() for r in t.references if r.table == name} - {name}
    if not needed:
        assert choose(None, [name]) == frozenset(TABLES) - {name}
        return
    with pytest.raises(ValueError, match=f"needs {name}: its .* refers to it") as caught:
        choose(None, [name])
    assert str(caught.value).split()[0] in needed


@pytest.mark.parametrize(
    ("table", "value", "names"),
    [
        ("status_page", "/upload/logo3.png?t=1735689600000", ("upload/logo3.png",)),
        ("status_page", "/upload/logo12.png", ("upload/logo12.png",)),
        ("status_page", "/upload/logo3.png?t=\n", ("upload/logo3.png",)),
        ("status_page", "/icon.svg", ()),
        ("status_page", "", ()),
        ("status_page", None, ()),
        ("status_page", b"/upload/logo3.png", ()),
        ("status_page", "/upload/../kuma.db", ()),
        ("status_page", "/upload/logo../x.png", ()),
        ("status_page", "/upload/logo3.png/../../db-config.json", ()),
        ("status_page", "upload/logo3.png", ()),
        ("status_page", "/upload/logo٣.png", ()),
        ("status_page", "/upload/logo" + "9" * 300 + ".png", ()),
        ("docker_host", "/var/run/docker.sock", ()),
        ("docker_host", "http://..:2375", ()),
        ("docker_host", "http://.", ()),
        ("docker_host", "http://[", ()),
        ("docker_host", "http://a/../../b", ("a",)),
        ("docker_host", "https://Docker.Example:2376", ("docker.example",)),
        ("docker_host", "tcp://user:pw@10.0.0.5:2376/x", ("10.0.0.5",)),
        ("docker_host", "https://[::1]:2376", ("[::1]",)),
        ("docker_host", "https://a b", ()),
        ("docker_host", "https://" + "a" * 300, ()),
        ("docker_host", "", ()),
        ("docker_host", 5, ()),
        ("monitor", "/upload/logo3.png", ()),
    ],
)
def test_files_of(table: str, value: object, names: tuple[str, ...]) -> None:
    if table == "docker_host":
        names = tuple(f"docker-tls/{h}/{p}.pem" for h in names for p in ("ca", "cert", "key"))
    assert files_of(table, value) == names
    assert all(is_file(name) and file_table(name) == table for name in names)


@pytest.mark.parametrize(
    "name",
    [
        "kuma.db", "db-config.json", "upload/x.png", "upload/logo1.png/x", "upload/../logo1.png",
        "upload//logo1.png", "/upload/logo1.png", "docker-tls/../ca.pem", "docker-tls/./ca.pem",
        "docker-tls/a/b/ca.pem", "docker-tls/a/id_rsa", "docker-tls//ca.pem", "upload/logo1.png\n",
        "screenshots/x.png", "", "docker-tls/A/ca.pem", "upload/logo1.PNG", "upload/logo1.png\x00",
    ],
)  # fmt: skip
def test_is_file_refuses(name: str) -> None:
    assert not is_file(name)


def test_require_names_the_missing_table(tmp_path: Path) -> None:
    schema = schema_of(tmp_path, "2.3")
    for name in TABLES:
        tables = {n: t for n, t in schema.tables.items() if n != name}
        with pytest.raises(TableMissing, match=f"no table '{name}'"):
            replace(schema, tables=tables).require(["user"])


def test_a_table_that_comes_later_may_be_missing_before_its_migration(tmp_path: Path) -> None:
    schema = schema_of(tmp_path, "2.0")
    tables = {n: t for n, t in schema.tables.items() if n != "remote_browser"}
    before = tuple(m for m in schema.migrations if "create-remote-browsers" not in m)
    assert len(before) == len(schema.migrations) - 1
    present = replace(schema, tables=tables, migrations=before).require(TABLES)
    assert "remote_browser" not in present


def test_require_names_the_missing_key_column(tmp_path: Path) -> None:
    schema = schema_of(tmp_path, "2.3")
    for name, table in TABLES.items():
        for column in {*table.key, "id"} - ({"id"} if name == "setting" else set()):
            lacking = schema.tables[name]
            columns = {c: v for c, v in lacking.columns.items() if c != column}
            broken = {**schema.tables, name: replace(lacking, columns=columns)}
            with pytest.raises(TableMissing, match=f"'{name}' has no column '{column}'"):
                replace(schema, tables=broken).require(TABLES)


def test_unknown_tables_are_reported(tmp_path: Path) -> None:
    schema = schema_of(tmp_path, "2.3")
    tables = {**schema.tables, "zebra": schema.tables["tag"], "ape": schema.tables["tag"]}
    assert replace(schema, tables=tables).unknown() == ("ape", "zebra")


def test_fingerprint_is_of_the_migrations_and_not_of_their_order() -> None:
    one, two = Schema({}, ("a", "b")), Schema({}, ("b", "a"))
    assert one.fingerprint == two.fingerprint != Schema({}, ("a", "b", "c")).fingerprint
    assert len(one.fingerprint) == 16


@pytest.mark.parametrize(
    ("version", "name"),
    [(v, n) for v in VERSIONS for n in TABLES if (v, n) != ("1.23", "remote_browser")],
)
def test_select_reads_every_column_once(version: str, name: str, tmp_path: Path) -> None:
    schema = schema_of(tmp_path, version)
    chosen = select(schema, name)
    missing = {"id"} if name == "setting" else set()
    assert sorted(chosen.columns) == sorted(set(schema.tables[name].columns) - missing)
    assert chosen.content[: len(chosen.order)] == TABLES[name].key
    table = TABLES[name]
    runtime = (table.runtime | table.quiet) & set(schema.tables[name].columns)
    assert set(chosen.runtime) == runtime | ({"id"} if TABLES[name].unkeyed else set())


def test_every_kind_of_dangling_reference_is_in_use() -> None:
    used = {r.dangle for t in TABLES.values() for r in t.references}
    assert used == set(Dangle)


def test_versions_are_named_by_their_schema(tmp_path: Path) -> None:
    names = [version_names.named(schema_of(tmp_path, v).fingerprint) for v in VERSIONS]
    assert names == ["1.23", "2.0", "2.1.1 to 2.3"]
    assert version_names.named("0" * 16) is None


def test_versions_after_those_of_the_described_schemas_are_named(tmp_path: Path) -> None:
    """By the migrations that were seen in their own databases, after their first start."""
    names = schema_of(tmp_path, "2.3").migrations
    for later, version in _LATER.items():
        names = (*names, *later)
        assert version_names.named(fingerprint(names)) == version


_LATER = {
    ("2026-05-20-0000-add-bearer-token.js", "2026-05-25-0000-add-gamedig-token.js"): "2.4",
    (
        "2026-03-27-0000-add-ntp-monitor.js",
        "2026-06-19-1411-add-rybbit-analytics-type.js",
        "2026-06-19-1412-analytics-type-to-string.js",
        "2026-07-22-0000-fix-stat-daily-overflow.js",
    ): "2.5.0",
    ("2026-08-18-0000-sqlite-only-drop-analytics-type-check.js",): "2.5.1 to 2.5.3",
}


def test_schemas_are_told_apart_in_words() -> None:
    assert version_names.describe(["a"], ["a"]) == ""
    assert version_names.describe(["a"], ["a", "b", "c"]) == ": it lacks 2 migrations up to 'c'"
    assert version_names.describe(["a", "z"], ["a"]) == ": it has 1 more, up to 'z'"
    both = version_names.describe(["a", "z"], ["a", "b"])
    assert both == ": it lacks 1 migration up to 'b' and it has 1 more, up to 'z'"


def test_no_older_kuma_is_advised_for_a_newer_database() -> None:
    older, newer = "21ca7ef615f45ffd", "27e89a40ad78d19b"
    assert "Upgrade the leader to Uptime Kuma 2.1.1 to 2.3" in version_names.advice(newer, older)
    assert "Install Uptime Kuma 2.1.1 to 2.3 here" in version_names.advice(older, newer)
    assert "unless this one is newer" in version_names.advice("0" * 16, older)
