"""What belongs to a monitor by its id only, and must not pass to another one."""

from __future__ import annotations

from pathlib import Path

from replicator_kuma.cycle import Outcome
from tests.support import cycles, databases
from tests.support.folder_repository import FolderRepository


def test_history_of_no_monitor_does_not_become_that_of_a_new_one(
    tmp_path: Path, repository: FolderRepository
) -> None:
    leader = cycles.instance(tmp_path / "leader", repository, name="leader")
    replica = cycles.instance(tmp_path / "replica", repository, name="replica")
    cycles.fill(leader.data_dir, monitors=12)
    databases.create(replica.data_dir / "kuma.db")
    database = replica.data_dir / "kuma.db"
    # Another program left heartbeats of a monitor that is gone; the leader has one of that id.
    databases.edit(
        database,
        "PRAGMA foreign_keys = OFF",
        "INSERT INTO heartbeat (monitor_id, status, time, msg) VALUES (3, 1, '2030-01-01', 'old')",
    )
    cycles.lead(leader)
    assert cycles.follow(replica).outcome is Outcome.APPLIED
    assert cycles.count(database, "monitor", "id = 3") == 1
    assert cycles.count(database, "heartbeat") == 0
