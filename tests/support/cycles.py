"""Cycles of instances in tests: databases to start from, edits as Kuma makes them, what is seen."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from replicator_kuma.cycle import CycleResult, Instance
from replicator_kuma.leader import Leader
from replicator_kuma.promote import promote
from replicator_kuma.replica import Replica
from replicator_kuma.repository import Label, Position, Snapshot
from replicator_kuma.state import Mark, Pending, State, StateFile
from tests.support import databases
from tests.support.folder_repository import FolderRepository
from tests.support.instances import RecordingKuma, make_instance
from tests.support.pairs import HastyStore

LOGO = b"\x89PNG one"
MARK = Mark(Position(1, 7), "d" * 64, "5" * 16, "a" * 64, "writer", "leader", 20, 99)
PENDING = Pending(MARK, "b" * 64, "c" * 64, (("upload/logo2.png", "e" * 64), ("upload/x", None)))


def fill(folder: Path, *, monitors: int = 12, heartbeats: int = 2, wal: bool = False) -> Path:
    """A leader's database with its logo in an instance's folder."""
    database = databases.build(
        folder / "kuma.db", monitors=monitors, heartbeats=heartbeats, wal=wal
    )
    (folder / "upload").mkdir(exist_ok=True)
    (folder / "upload" / "logo2.png").write_bytes(LOGO)
    return database


def instance(
    folder: Path, repository: FolderRepository, *, name: str, kuma: RecordingKuma | None = None
) -> Instance:
    """An instance that does not wait long for locks."""
    return make_instance(folder, repository, name=name, kuma=kuma, store=HastyStore(folder))


def lead(leader: Instance, *, allow_shrink: bool = False, verify: bool = False) -> CycleResult:
    with leader.state.lock():
        return Leader(leader).cycle(allow_shrink=allow_shrink, verify=verify)


def follow(
    replica: Instance, *, reconcile: bool = False, snapshot: str | None = None
) -> CycleResult:
    with replica.state.lock():
        return Replica(replica).cycle(reconcile=reconcile, snapshot=snapshot)


def take_over(there: Instance, *, force: bool = False) -> CycleResult:
    with there.state.lock():
        return promote(there, force=force)


def rename(database: Path, monitor: int, name: str) -> None:
    databases.edit(database, ("UPDATE monitor SET name = ? WHERE id = ?", (name, monitor)))


def name_of(database: Path, monitor: int) -> str:
    return str(databases.query(database, "SELECT name FROM monitor WHERE id = ?", (monitor,))[0][0])


def count(database: Path, table: str, where: str = "1") -> int:
    return int(databases.query(database, f'SELECT count(*) FROM "{table}" WHERE {where}')[0][0])


def copy_of(database: Path, name: str = "as-it-was.db") -> Path:
    """A database as it is now, what its WAL holds included; beside its data directory."""
    target = database.parent.with_name(f"{database.parent.name}-{name}")
    target.unlink(missing_ok=True)
    with closing(sqlite3.connect(database)) as live, closing(sqlite3.connect(target)) as copy:
        live.backup(copy)
    return target


def positions(repository: FolderRepository, fleet: str = "default") -> list[str]:
    """What the repository lists, oldest first; not counted as a call."""
    found = [str(s.position) for s in repository.snapshots(fleet)]
    repository.calls.pop()
    return found


def snapshot(
    position: tuple[int, int],
    *,
    writer: str = "me",
    leader: str = "here",
    digest: str = "d1",
    name: str = "",
    monitors: int = 0,
    time: str = "2031-01-01T00:00:00Z",
) -> Snapshot:
    """A listed snapshot for pure tests."""
    label = Label("default", Position(*position), digest, "s1", writer, leader, 0, monitors)
    return Snapshot(name or f"{position[0]}-{position[1]}-{writer}", label, time)


def mark(position: tuple[int, int], *, writer: str = "me", digest: str = "d1") -> Mark:
    return Mark.of(snapshot(position, writer=writer, digest=digest))


def state_of(folder: Path) -> State:
    return StateFile(folder / "replicator").load()
