"""A repository and variables of replicator-kuma v1 and v2: each command says what to do instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from replicator_kuma.base.errors import EarlierRepository, SnapshotNotFound
from tests.support import weak_repository
from tests.support.databases import build
from tests.support.earlier_versions import v1_publishes, v2_publishes
from tests.support.supervised import Side
from tests.support.tools import restic_018

pytestmark = pytest.mark.restic

PUBLISH = {"v1": v1_publishes, "v2": v2_publishes}


@pytest.fixture(params=PUBLISH)
def version(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Whose repository it is; a leader and a replica of ours are pointed at it."""
    name = str(request.param)
    weak_repository.make(tmp_path / "repository")
    for side in ("leader", "replica"):
        (tmp_path / side).mkdir()
        build(tmp_path / side / "kuma.db", "1.23" if name == "v1" else "2.3", monitors=2)
    database = tmp_path / "leader" / "kuma.db"
    PUBLISH[name](database, tmp_path / "root", restic_018(), tmp_path / "repository")
    return name


def test_a_leader_publishes_nothing_there_and_every_command_says_why(
    version: str, tmp_path: Path
) -> None:
    leader = Side(tmp_path, "leader", "BACKUP", restic_018())
    theirs = f"the repository holds snapshots of replicator-kuma {version} (the last one by leader"
    refused = leader.command("backup", check=False)
    assert refused.returncode == EarlierRepository.exit_code
    assert theirs in refused.stderr
    assert "Set RESTIC_REPOSITORY to a place of its own" in refused.stderr
    assert len(list((tmp_path / "repository" / "snapshots").iterdir())) == 1
    assert theirs in leader.command("init").stdout
    status = leader.command("status").stdout
    assert f"newest:        none in this fleet; {theirs}" in status
    assert "docs/moving.md" in status
    doctor = leader.command("doctor", check=False)
    assert doctor.returncode == EarlierRepository.exit_code
    assert f"FAIL newest snapshot: {theirs}" in doctor.stdout


def test_a_replica_waits_and_every_command_says_for_what(version: str, tmp_path: Path) -> None:
    replica = Side(tmp_path, "replica", "RESTORE", restic_018(), REPLICATOR_KUMA="none")
    theirs = f"the repository holds snapshots of replicator-kuma {version} (the last one by leader"
    before = (tmp_path / "replica" / "kuma.db").read_bytes()
    waits = replica.command("restore", "-v").stdout
    assert "no snapshot yet: waiting for its leader" in waits
    for said in (waits, *(replica.command(name).stdout for name in ("status", "snapshots"))):
        assert theirs in said
        assert "docs/moving.md" in said
    doctor = replica.command("doctor", check=False).stdout
    assert f"WARN newest snapshot: this fleet has no snapshot yet; {theirs}" in doctor
    diff = replica.command("diff", check=False)
    assert diff.returncode == SnapshotNotFound.exit_code
    assert theirs in diff.stderr
    assert (tmp_path / "replica" / "kuma.db").read_bytes() == before


def test_who_means_it_goes_on_in_the_same_repository(tmp_path: Path) -> None:
    weak_repository.make(tmp_path / "repository")
    leader = Side(tmp_path, "leader", "BACKUP", restic_018(), REPLICATOR_KUMA="none")
    build(leader.database, "2.3", monitors=2)
    v2_publishes(leader.database, tmp_path / "root", restic_018(), tmp_path / "repository")
    assert leader.command("backup", check=False).returncode == EarlierRepository.exit_code
    leader.command("promote", "--force")
    assert [row["position"] for row in leader.json("snapshots")] == ["1.1"]
    assert "nothing changed since 1.1" in leader.command("backup", "-v").stdout


def test_variables_that_only_they_knew_are_named_with_what_to_set(tmp_path: Path) -> None:
    old = {
        "SQLITE_DATABASE": "/app/data/kuma.db",
        "RESTORE_LOCAL_ENTITY_REPLICATION": "true",
        "REPLICAOTOR_DEV": "1",
    }
    leader = Side(tmp_path, "leader", "BACKUP", restic_018())
    said = leader.command("doctor", check=False, **old).stdout
    assert "WARN settings: SQLITE_DATABASE does nothing here: v2 read its database there; " in said
    mode = "it is a value: REPLICATOR_MODE=RESTORE_LOCAL_ENTITY_REPLICATION"
    assert f"WARN settings: RESTORE_LOCAL_ENTITY_REPLICATION does nothing here: {mode}" in said
    assert "WARN settings: REPLICAOTOR_DEV does nothing here: nothing replaces it" in said


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("REPLICATOR_MODE", "SECONDARY", "v1 and v2 took any other value, and none, for RESTORE"),
        ("REPLICATOR_MODE", "backup", "v1 and v2 took any other value, and none, for RESTORE"),
        ("REPLICATOR_MODE", "", "v1 and v2 took any other value, and none, for RESTORE"),
        ("NTFY_URL", "ntfy.sh/topic", "begins with https:// (or http://), which v1 and v2 went"),
    ],
)
def test_values_that_they_took_otherwise_are_refused_with_what_to_write(
    name: str, value: str, said: str, tmp_path: Path
) -> None:
    side = Side(tmp_path, "replica", "RESTORE", restic_018())
    refused = side.command("restore", check=False, **{name: value})
    assert refused.returncode == 3
    assert said in refused.stderr
