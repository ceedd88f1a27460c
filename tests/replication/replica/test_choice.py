"""An instance that does not replicate all tables."""

from __future__ import annotations

from pathlib import Path

from replicator_kuma.dump import catalog
from replicator_kuma.replication.instance import Outcome
from tests.support import cycles, databases
from tests.support.folder_repository import FolderRepository


def test_links_that_are_not_replicated_go_with_their_monitor(
    tmp_path: Path, repository: FolderRepository
) -> None:
    leader = cycles.instance(tmp_path / "leader", repository, name="leader")
    replica = cycles.instance(tmp_path / "replica", repository, name="replica")
    for side in (leader, replica):
        cycles.fill(side.data_dir, monitors=12)
    replica.tables = catalog.choose(None, {"notification", "monitor_notification"})
    database = replica.data_dir / "kuma.db"
    kept = cycles.count(database, "monitor_notification", "monitor_id <> 3")
    assert cycles.count(database, "monitor_notification", "monitor_id = 3")
    databases.edit(
        leader.data_dir / "kuma.db", "PRAGMA foreign_keys = ON", "DELETE FROM monitor WHERE id = 3"
    )
    cycles.lead(leader)
    assert cycles.follow(replica).outcome is Outcome.APPLIED
    assert cycles.count(database, "monitor_notification", "monitor_id = 3") == 0
    assert cycles.count(database, "monitor_notification") == kept
