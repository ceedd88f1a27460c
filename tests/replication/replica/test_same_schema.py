"""Which two schemas are one: tables decide, and the names of migrations only where they must."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from replicator_kuma.base.errors import RowFault, SchemaMismatch
from replicator_kuma.dump.transform.kuma_versions import apart
from replicator_kuma.dump.transform.policy import Policy
from replicator_kuma.replication.instance import Outcome
from tests.support.compare import config_differences
from tests.support.databases import build, edit, query
from tests.support.pairs import Pair

KEY = "SELECT 1 FROM setting WHERE key = 'databasePatchedFiles'"


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path)


def filled(pair: Pair, version: str) -> Pair:
    """Two instances of one version, and something new on the leader."""
    for path in (pair.leader_db, pair.replica_db):
        build(path, version, monitors=3)
    edit(pair.leader_db, "UPDATE monitor SET name = 'renamed' WHERE id = 2")
    return pair


def named(path: Path, name: str) -> None:
    """Leave the name of a migration, or of a patch of 1.x, whose tables nobody can see."""
    if query(path, "SELECT 1 FROM sqlite_master WHERE name = 'knex_migrations'"):
        edit(path, f"INSERT INTO knex_migrations (name, batch) VALUES ('{name}', 1)")
        return
    if not query(path, KEY):
        edit(path, "INSERT INTO setting (key, value) VALUES ('databasePatchedFiles', '{}')")
    edit(
        path,
        f"""UPDATE setting SET value = json_set(value, '$."{name}"', json('true'))
        WHERE key = 'databasePatchedFiles'""",
    )


LEFT = {"1.23": "patch-of-a-test-build.sql", "2.0": "2030-01-01-own.js", "2.3": "by hand"}


@pytest.mark.parametrize("version", LEFT)
@pytest.mark.parametrize("who", ["leader", "replica", "both"])
def test_a_name_that_changed_no_table_is_no_other_schema(
    pair: Pair, version: str, who: str
) -> None:
    filled(pair, version)
    for side, path in (("leader", pair.leader_db), ("replica", pair.replica_db)):
        if who in (side, "both"):
            named(path, f"{side}-{LEFT[version]}")
    result = pair.replicate()
    assert result.outcome is Outcome.APPLIED
    assert config_differences(pair.replica_db, pair.leader_db) == []
    assert pair.follow().outcome is Outcome.NOTHING
    assert pair.kuma.log.count("stop") == 1


def test_names_that_are_gone_are_no_other_schema(pair: Pair) -> None:
    filled(pair, "2.3")
    edit(pair.replica_db, "DELETE FROM knex_migrations WHERE name LIKE '%add-rss-title%'")
    assert pair.replicate().outcome is Outcome.APPLIED


@pytest.mark.parametrize("who", ["leader", "replica"])
@pytest.mark.parametrize("step", ["gamedig-v4-to-v5", "remove-line-notify", "fix-5721"])
def test_a_migration_that_changes_rows_is_another_schema(pair: Pair, step: str, who: str) -> None:
    filled(pair, "2.3")
    path = pair.replica_db if who == "leader" else pair.leader_db
    edit(path, f"DELETE FROM knex_migrations WHERE name LIKE '%{step}%'")
    with pytest.raises(SchemaMismatch, match=step):
        pair.replicate()
    assert pair.kuma.log.count("stop") == 0


def test_columns_are_told_from_the_tags(pair: Pair) -> None:
    filled(pair, "2.3")
    edit(pair.leader_db, "ALTER TABLE tag ADD COLUMN later TEXT")
    named(pair.leader_db, "2030-01-01-later.js")
    pair.publish()
    pair.repository.calls.clear()
    with pytest.raises(SchemaMismatch):
        pair.follow()
    assert pair.repository.calls == ["snapshots"]


@pytest.mark.parametrize("columns", [False, True])
def test_what_0_3_0_published_is_asked_itself(pair: Pair, columns: bool) -> None:
    """Its tags say nothing of columns."""
    filled(pair, "2.3")
    named(pair.leader_db, "by hand")
    if columns:
        edit(pair.leader_db, "ALTER TABLE tag ADD COLUMN later TEXT")
    pair.publish()
    for note in pair.repository.folder.glob("*.json"):
        raw = json.loads(note.read_text())
        assert any(tag.startswith("columns=") for tag in raw["tags"])
        raw["tags"] = [tag for tag in raw["tags"] if not tag.startswith("columns=")]
        note.write_text(json.dumps(raw))
    if columns:
        with pytest.raises(SchemaMismatch, match=r"1 migration.* 'by hand'"):
            pair.follow()
    else:
        assert pair.follow().outcome is Outcome.APPLIED


def test_a_column_by_hand_is_no_other_version(pair: Pair) -> None:
    """To install the version that both have would help nobody."""
    filled(pair, "2.3")
    edit(pair.leader_db, "ALTER TABLE tag ADD COLUMN mine TEXT")
    with pytest.raises(SchemaMismatch, match=r"tag has other columns: \['mine'\]") as caught:
        pair.replicate()
    assert "Install" not in caught.value.hint
    assert "REPLICATOR_SCHEMA=compatible" in caught.value.hint
    pair.replica.policy = lambda: Policy(compatible=True)
    assert pair.follow().outcome is Outcome.APPLIED


def test_rows_that_only_a_loosened_table_takes_are_not_published(pair: Pair) -> None:
    filled(pair, "2.3")
    named(pair.leader_db, "loosened by hand")
    edit(
        pair.leader_db,
        "CREATE TABLE loose AS SELECT * FROM tag",
        "DROP TABLE tag",
        "CREATE TABLE tag (id INTEGER PRIMARY KEY, name TEXT, color TEXT, created_date TEXT)",
        "INSERT INTO tag SELECT id, name, color, created_date FROM loose",
        "DROP TABLE loose",
        "UPDATE tag SET color = NULL WHERE id = 1",
    )
    with pytest.raises(RowFault, match=r"tag\.color is empty"):
        pair.publish()


def test_apart_is_symmetric_and_knows_what_it_does_not_know() -> None:
    some, more = ("a", "b"), ("a", "b", "2030-01-01-new.js")
    data = (*some, "2026-01-02-0713-gamedig-v4-to-v5.js")
    assert not apart(some, more)
    assert not apart(more, some)
    assert apart(some, data)
    assert apart(data, some)
