"""Cycles of instances in tests: databases to start from, edits as Kuma makes them, what is seen."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from replicator_kuma.adapters.repository import Label, Position, Snapshot
from replicator_kuma.dump.manifest import PATCH
from replicator_kuma.replication.instance import CycleResult, Hint, Instance, Run
from replicator_kuma.replication.leader.cycle import Leader
from replicator_kuma.replication.leader.promote import promote
from replicator_kuma.replication.leader.rollback import rollback
from replicator_kuma.replication.replica.cycle import cycle as restore_cycle
from replicator_kuma.replication.replica.cycle import go_to, resume
from replicator_kuma.replication.state.file import StateFile
from replicator_kuma.replication.state.records import Pending, SnapshotRef
from replicator_kuma.replication.state.state import State
from replicator_kuma.replication.undo import undo
from tests.support import databases
from tests.support.dumps import edit_manifest
from tests.support.folder_repository import FolderRepository
from tests.support.instances import HastyStore, RecordingKuma, make_instance

LOGO = b"\x89PNG one"
MARK = SnapshotRef(Position(1, 7), "d" * 64, "5" * 16, "a" * 64, "writer", "leader", 20, 99)
PENDING = Pending(MARK, "b" * 64, "c" * 64, (("upload/logo2.png", "e" * 64), ("upload/x", None)))


class HookedKuma(RecordingKuma):
    """Runs ``on_stop`` while it stops: what a user does in the last moment."""

    on_stop: Callable[[], None] | None = None

    def stop(self) -> None:
        hook, self.on_stop = self.on_stop, None
        if hook is not None:
            hook()
        super().stop()


class UnmanagedKuma(RecordingKuma):
    """Nobody said how to stop it."""

    name = "none"
    manages = False


def db(instance: Instance) -> Path:
    """Kuma's database in SQLite."""
    return instance.data_dir / "kuma.db"


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


def another(
    folder: Path, like: Instance, repository: FolderRepository, *, state: bool = False
) -> Instance:
    """A copy of an instance's disk, without its state unless asked; the folder's name is its."""
    ignored = shutil.ignore_patterns() if state else shutil.ignore_patterns("replicator")
    shutil.copytree(like.data_dir, folder, ignore=ignored)
    return instance(folder, repository, name=folder.name)


def lead(leader: Instance, *, allow_shrink: bool = False, verify: bool = False) -> CycleResult:
    with leader.state.lock():
        return Leader(leader).cycle(allow_shrink=allow_shrink, verify=verify)


def follow(
    replica: Instance,
    *,
    reconcile: bool = False,
    allow_shrink: bool = False,
    hint: Hint | None = None,
) -> CycleResult:
    with replica.state.lock():
        told = replica.under(Run(hint=hint)) if hint else replica
        return restore_cycle(told, reconcile=reconcile, allow_shrink=allow_shrink)


def go_back(there: Instance, number: int | None = None, *, hold: bool = True) -> CycleResult:
    with there.state.lock():
        return undo(there, number, hold=hold)


def roll_back_to(
    leader: Instance, snapshot: str | None = None, *, at: float | None = None, force: bool = False
) -> CycleResult:
    with leader.state.lock():
        return rollback(leader.under(Run(force=force)), snapshot, at)


def hold_at(
    replica: Instance, snapshot: str | None = None, *, at: float | None = None
) -> CycleResult:
    with replica.state.lock():
        return go_to(replica, snapshot, at)


def go_on(replica: Instance) -> CycleResult:
    with replica.state.lock():
        return resume(replica)


def take_over(there: Instance, *, force: bool = False) -> CycleResult:
    with there.state.lock():
        return promote(there.under(Run(force=force)))


def add_monitor(database: Path, number: int, *, born: str = "2030-01-01 00:00:00") -> None:
    """A monitor with a tag, an alert and heartbeats, as a user makes one."""
    row = {"id": number, "name": f"added {number}", "user_id": 1, "created_date": born}
    with closing(sqlite3.connect(database)) as connection, connection:
        databases.insert(connection, "monitor", type="http", url="https://x.example", **row)
        databases.insert(connection, "monitor_tag", monitor_id=number, tag_id=1, value="v")
        databases.insert(connection, "monitor_notification", monitor_id=number, notification_id=1)
        for minute in range(3):
            time = f"2030-01-01 00:0{minute}:00"
            databases.insert(connection, "heartbeat", monitor_id=number, status=1, time=time)


def delete_monitor(database: Path, number: int) -> None:
    """As Kuma does, with foreign keys on: what belongs to it goes too."""
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("DELETE FROM monitor WHERE id = ?", (number,))


def left_behind(instance: Instance) -> list[str]:
    """What must not outlive a cycle: dumps, rows from before, staged files."""
    state = instance.state.folder
    stays = ("state.json", "lock", "kept", "published", "last-read")
    odd = [p for p in state.iterdir() if p.name not in stays]
    halves = [p for p in state.glob("kept/*") if not p.name.isdecimal()]
    ours = (p for name in (".replicator*", ".*.tmp") for p in instance.data_dir.rglob(name))
    staged = [p for p in ours if state not in p.parents]
    return sorted(str(p) for p in [*odd, *halves, *staged])


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


def spoil_newest(repository: FolderRepository) -> None:
    """The newest snapshot's tables are not what its manifest says, and it has no patch."""
    spoil(repository.folder / repository.snapshots("default")[-1].id)


def spoil(snapshot: Path) -> None:
    """The same of any snapshot's folder."""
    with (snapshot / "tables" / "tag.jsonl").open("a") as file:
        file.write("[]\n")
    edit_manifest(snapshot, lambda raw: raw.pop(PATCH, None))


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


def mark(position: tuple[int, int], *, writer: str = "me", digest: str = "d1") -> SnapshotRef:
    return SnapshotRef.of(snapshot(position, writer=writer, digest=digest))


def state_of(folder: Path) -> State:
    return StateFile(folder / "replicator").load()


def publish(leader: Instance, name: str, monitor: int = 3) -> None:
    """One change on the leader, published: a monitor's name."""
    rename(db(leader), monitor, name)
    lead(leader)


def step(leader: Instance, replica: Instance, name: str) -> None:
    """As `publish`, and applied."""
    publish(leader, name)
    follow(replica)
