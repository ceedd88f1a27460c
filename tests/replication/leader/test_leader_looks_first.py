"""What a leader publishes, each replica takes: else the leader itself says which row it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from replicator_kuma.adapters.repository import Limits
from replicator_kuma.base.errors import DatabaseError, RowFault
from replicator_kuma.dump import format as dump_format
from replicator_kuma.dump import manifest as dump_manifest
from replicator_kuma.replication.instance import Outcome
from tests.adapters.database.test_damage import contents
from tests.support.compare import config_differences
from tests.support.databases import build, create, edit
from tests.support.fleet import Fleet


def copied(table: str, *after: str) -> tuple[str, ...]:
    """Make a table as a copy by hand is: no key, no rule, no index."""
    return (
        f"CREATE TABLE copied AS SELECT * FROM {table}",
        f"DROP TABLE {table}",
        f"ALTER TABLE copied RENAME TO {table}",
        *after,
    )


FAULTS: dict[str, tuple[Sequence[str], str]] = {
    "an id twice": (
        copied("tag", "INSERT INTO tag SELECT * FROM tag WHERE id = 2"),
        r"tag 2 .* and tag 2 .*two rows have one id"),
    "an id twice with other content": (
        copied("monitor", "UPDATE monitor SET id = 2 WHERE id = 3"), r"monitor 2 .*one id"),
    "no id": (
        copied("tag", "UPDATE tag SET id = NULL WHERE id = 2"), r"tag .*tag 2.*its id is none"),
    "a text for an id": (copied("tag", "UPDATE tag SET id = 'x' WHERE id = 2"), r"its id is none"),
    "a broken number for an id": (
        copied("tag", "UPDATE tag SET id = 2.5 WHERE id = 2"), r"tag 2\.5"),
    "a setting twice": (
        copied("setting", "INSERT INTO setting (key, value) VALUES ('checkBeta', '1'), "
               "('checkBeta', '0')"),
        r"setting checkBeta.*two rows have one key"),
    "a link to nothing": (
        copied("monitor_tag", "UPDATE monitor_tag SET tag_id = NULL WHERE id = 1"),
        r"tag.*\(id 1\).*its tag_id is no number"),
    "a link's id twice": (
        copied("monitor_tag", "UPDATE monitor_tag SET id = 1 WHERE id = 2"),
        r"two rows of monitor_tag have the id 1"),
    "a link without id": (
        copied("monitor_tag", "UPDATE monitor_tag SET id = NULL WHERE id = 2"),
        r"its id is no number"),
    "nothing where something must be": (
        copied("tag", "UPDATE tag SET color = NULL WHERE id = 2"),
        r"tag 2 .*: tag\.color is empty"),
    "a name twice": (
        copied("user", "INSERT INTO user (id, username, active, twofa_status) "
               "SELECT 99, username, 1, 0 FROM user"),
        r"user 99 .*another row has the same username"),
    "a column that Kuma has not": (
        ('ALTER TABLE tag ADD COLUMN "my notes" TEXT',), r"column «my notes» of tag"),
}  # fmt: skip


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    fleet = Fleet(tmp_path)
    build(fleet.leader_db, monitors=4)
    create(fleet.replica_db)
    return fleet


@pytest.mark.parametrize(("statements", "words"), FAULTS.values(), ids=list(FAULTS))
def test_a_row_that_no_replica_takes_is_named(
    fleet: Fleet, statements: Sequence[str], words: str
) -> None:
    edit(fleet.leader_db, *statements)
    before = contents(fleet.repository.folder)
    with pytest.raises(DatabaseError, match=words) as caught:
        fleet.publish()
    assert caught.value.exit_code == 4
    assert contents(fleet.repository.folder) == before
    assert fleet.leader.state.load().leading.burned is None


def test_a_table_without_its_key_is_no_fault_of_its_rows(fleet: Fleet) -> None:
    edit(fleet.leader_db, *copied("tag"), *copied("monitor_tag"))
    assert fleet.replicate().outcome is Outcome.APPLIED
    assert config_differences(fleet.replica_db, fleet.leader_db) == []


def test_a_row_that_is_too_long_is_named(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dump_format, "MAX_LINE", 500_000)
    edit(fleet.leader_db, ("UPDATE monitor SET body = ? WHERE id = 3", ("x" * 500_000,)))
    with pytest.raises(RowFault, match=r"monitor 3 .*488\.3 KiB, most of them in body") as caught:
        fleet.publish()
    assert "xxx" not in str(caught.value)


@pytest.mark.parametrize(
    ("module", "limit", "value"),
    [(dump_manifest, "MAX_ROWS", 3), (dump_manifest, "MAX_MANIFEST", 100)],
)
def test_limits_of_a_replica_are_the_leaders_too(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, module: object, limit: str, value: int
) -> None:
    monkeypatch.setattr(module, limit, value)
    with pytest.raises(DatabaseError, match="no replica would take what is here now"):
        fleet.publish()
    assert "publish" not in fleet.repository.calls


@pytest.mark.parametrize("limits", [Limits(files=1), Limits(bytes=100)])
def test_what_a_fetch_may_bring_is_looked_at_too(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, limits: Limits
) -> None:
    monkeypatch.setattr("replicator_kuma.replication.leader.publish.Limits", lambda: limits)
    with pytest.raises(DatabaseError, match="no replica would take"):
        fleet.publish()
