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
from tests.support.fleet import Fleet

KEY = "SELECT 1 FROM setting WHERE key = 'databasePatchedFiles'"


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path)


def filled(fleet: Fleet, version: str) -> Fleet:
    """Two instances of one version, and something new on the leader."""
    for path in (fleet.leader_db, fleet.replica_db):
        build(path, version, monitors=3)
    edit(fleet.leader_db, "UPDATE monitor SET name = 'renamed' WHERE id = 2")
    return fleet


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
    fleet: Fleet, version: str, who: str
) -> None:
    filled(fleet, version)
    for side, path in (("leader", fleet.leader_db), ("replica", fleet.replica_db)):
        if who in (side, "both"):
            named(path, f"{side}-{LEFT[version]}")
    result = fleet.replicate()
    assert result.outcome is Outcome.APPLIED
    assert config_differences(fleet.replica_db, fleet.leader_db) == []
    assert fleet.follow().outcome is Outcome.NOTHING
    assert fleet.kuma.log.count("stop") == 1


def test_names_that_are_gone_are_no_other_schema(fleet: Fleet) -> None:
    filled(fleet, "2.3")
    edit(fleet.replica_db, "DELETE FROM knex_migrations WHERE name LIKE '%add-rss-title%'")
    assert fleet.replicate().outcome is Outcome.APPLIED


@pytest.mark.parametrize("who", ["leader", "replica"])
@pytest.mark.parametrize("step", ["gamedig-v4-to-v5", "remove-line-notify", "fix-5721"])
def test_a_migration_that_changes_rows_is_another_schema(fleet: Fleet, step: str, who: str) -> None:
    filled(fleet, "2.3")
    path = fleet.replica_db if who == "leader" else fleet.leader_db
    edit(path, f"DELETE FROM knex_migrations WHERE name LIKE '%{step}%'")
    with pytest.raises(SchemaMismatch, match=step):
        fleet.replicate()
    assert fleet.kuma.log.count("stop") == 0


def test_columns_are_told_from_the_tags(fleet: Fleet) -> None:
    filled(fleet, "2.3")
    edit(fleet.leader_db, "ALTER TABLE tag ADD COLUMN later TEXT")
    named(fleet.leader_db, "2030-01-01-later.js")
    fleet.publish()
    fleet.repository.calls.clear()
    with pytest.raises(SchemaMismatch):
        fleet.follow()
    assert fleet.repository.calls == ["snapshots"]


@pytest.mark.parametrize("columns", [False, True])
def test_what_0_3_0_published_is_asked_itself(fleet: Fleet, columns: bool) -> None:
    """Its tags say nothing of columns."""
    filled(fleet, "2.3")
    named(fleet.leader_db, "by hand")
    if columns:
        edit(fleet.leader_db, "ALTER TABLE tag ADD COLUMN later TEXT")
    fleet.publish()
    for note in fleet.repository.folder.glob("*.json"):
        raw = json.loads(note.read_text())
        assert any(tag.startswith("columns=") for tag in raw["tags"])
        raw["tags"] = [tag for tag in raw["tags"] if not tag.startswith("columns=")]
        note.write_text(json.dumps(raw))
    if columns:
        with pytest.raises(SchemaMismatch, match=r"1 migration.* 'by hand'"):
            fleet.follow()
    else:
        assert fleet.follow().outcome is Outcome.APPLIED


def test_a_column_by_hand_is_no_other_version(fleet: Fleet) -> None:
    """To install the version that both have would help nobody."""
    filled(fleet, "2.3")
    edit(fleet.leader_db, "ALTER TABLE tag ADD COLUMN mine TEXT")
    with pytest.raises(SchemaMismatch, match=r"tag has other columns: \['mine'\]") as caught:
        fleet.replicate()
    assert "Install" not in caught.value.hint
    assert "REPLICATOR_SCHEMA=compatible" in caught.value.hint
    fleet.replica.policy = lambda: Policy(compatible=True)
    assert fleet.follow().outcome is Outcome.APPLIED


def test_rows_that_only_a_loosened_table_takes_are_not_published(fleet: Fleet) -> None:
    filled(fleet, "2.3")
    named(fleet.leader_db, "loosened by hand")
    edit(
        fleet.leader_db,
        "CREATE TABLE loose AS SELECT * FROM tag",
        "DROP TABLE tag",
        "CREATE TABLE tag (id INTEGER PRIMARY KEY, name TEXT, color TEXT, created_date TEXT)",
        "INSERT INTO tag SELECT id, name, color, created_date FROM loose",
        "DROP TABLE loose",
        "UPDATE tag SET color = NULL WHERE id = 1",
    )
    with pytest.raises(RowFault, match=r"tag\.color is empty"):
        fleet.publish()


def test_apart_is_symmetric_and_knows_what_it_does_not_know() -> None:
    some, more = ("a", "b"), ("a", "b", "2030-01-01-new.js")
    data = (*some, "2026-01-02-0713-gamedig-v4-to-v5.js")
    assert not apart(some, more)
    assert not apart(more, some)
    assert apart(some, data)
    assert apart(data, some)
