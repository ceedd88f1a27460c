"""A leader and a replica on one folder repository, and cycles of them."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from replicator_kuma.adapters.database.sqlite.store import SqliteStore
from replicator_kuma.replication.instance import CycleResult, Instance
from replicator_kuma.replication.leader.cycle import Leader
from replicator_kuma.replication.replica.cycle import cycle as restore_cycle
from tests.support.folder_repository import FolderRepository
from tests.support.instances import RecordingKuma, make_instance


class HastyStore(SqliteStore):
    """Waits a tenth of a second for a lock instead of five."""

    def connect(self, mode: str = "rw", timeout: float = 0.1) -> sqlite3.Connection:
        return super().connect(mode, min(timeout, 0.1))


@dataclass
class Pair:
    """Put databases at ``leader_db`` and ``replica_db``, then run cycles."""

    folder: Path

    def __post_init__(self) -> None:
        self.repository = FolderRepository(self.folder / "repository")
        self.repository.folder.mkdir(parents=True, exist_ok=True)
        self.kuma = RecordingKuma()
        self.leader = self._instance("leader", RecordingKuma())
        self.replica = self._instance("replica", self.kuma)

    def _instance(self, name: str, kuma: RecordingKuma) -> Instance:
        folder = self.folder / name
        return make_instance(
            folder, self.repository, name=name, kuma=kuma, store=HastyStore(folder)
        )

    @property
    def leader_db(self) -> Path:
        return self.leader.data_dir / "kuma.db"

    @property
    def replica_db(self) -> Path:
        return self.replica.data_dir / "kuma.db"

    def publish(self, *, allow_shrink: bool = True) -> CycleResult:
        with self.leader.state.lock():
            return Leader(self.leader).cycle(allow_shrink=allow_shrink, verify=True)

    def follow(self, *, reconcile: bool = True) -> CycleResult:
        with self.replica.state.lock():
            return restore_cycle(self.replica, reconcile=reconcile)

    def replicate(self) -> CycleResult:
        """What the leader has now, on the replica."""
        self.publish()
        return self.follow()
