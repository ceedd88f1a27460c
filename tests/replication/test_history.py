"""What belongs to a monitor by its id only, and must not pass to another one."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from replicator_kuma.base.errors import DatabaseLocked, KumaError
from replicator_kuma.replication.instance import Instance, Outcome
from tests.support import cycles, databases
from tests.support.folder_repository import FolderRepository
from tests.support.instances import RecordingKuma


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


def test_history_set_aside_by_a_confirmed_apply_goes_before_another_one_is_set_aside(
    leader: Instance, replica: Instance, kuma: RecordingKuma
) -> None:
    """Else the way back would give a monitor what belonged to the one before it."""
    database = replica.data_dir / "kuma.db"

    def another(born: str) -> None:
        path = leader.data_dir / "kuma.db"
        databases.edit(path, f"UPDATE monitor SET created_date = '{born}' WHERE id = 5")
        cycles.lead(leader)

    def beats() -> list[int]:
        return [cycles.count(database, "heartbeat", f"monitor_id = {n}") for n in (5, -5)]

    with closing(sqlite3.connect(database, isolation_level=None)) as other:

        def lock() -> None:  # from Kuma's start until after its confirmation
            other.execute("BEGIN IMMEDIATE")

        kuma.on_start = lock
        another("2031-01-01 00:00:00")
        assert cycles.follow(replica).outcome is Outcome.APPLIED
        assert beats() == [0, 2]
        other.execute("INSERT INTO heartbeat (monitor_id, status, time) VALUES (5, 1, '2031-02')")
        other.execute("COMMIT")
        lock()
        kuma.on_start = None
        kuma.log.clear()
        another("2032-01-01 00:00:00")
        with pytest.raises(DatabaseLocked):
            cycles.follow(replica)
        assert kuma.log == [], "nothing can be set aside yet: no outage for it"
        other.execute("ROLLBACK")
    kuma.refuses_to_be_ready = [True]
    with pytest.raises(KumaError, match="runs on the rows from before"):
        cycles.follow(replica)
    assert beats() == [1, 0]
