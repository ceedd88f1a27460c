"""Instances for tests: real databases and state, with a Kuma that only remembers what was asked."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

from replicator_kuma.adapters.database import Store
from replicator_kuma.adapters.database.sqlite.store import SqliteStore
from replicator_kuma.adapters.notify import Change, Kind
from replicator_kuma.adapters.repository import Repository
from replicator_kuma.adapters.repository.pair import Pair
from replicator_kuma.base.errors import KumaError
from replicator_kuma.dump.catalog import TABLES
from replicator_kuma.replication.instance import Instance
from replicator_kuma.replication.state.file import StateFile
from tests.support.folder_repository import FolderRepository


class RecordingKuma:
    """A Kuma service that is as it was told; ``log`` holds what was asked of it."""

    name = "recording"
    manages = True
    owned = False
    pid: int | None = None

    def __init__(self, *, running: bool = True) -> None:
        self.up = running
        self.log: list[str] = []
        self.refuses_to_be_ready: list[bool] = []
        self.on_start: Callable[[], None] | None = None
        self.on_stop: Callable[[], None] | None = None

    def running(self) -> bool:
        return self.up

    def ended_with(self) -> int | None:
        """Nobody can tell."""
        return None

    def stop(self) -> None:
        self.log.append("stop")
        self.up = False
        if self.on_stop is not None:
            self.on_stop()

    def start(self) -> None:
        self.log.append("start")
        self.up = True
        if self.on_start is not None:
            self.on_start()

    def wait_ready(self) -> None:
        self.log.append("ready?")
        if self.refuses_to_be_ready and self.refuses_to_be_ready.pop(0):
            raise KumaError("Kuma ended by itself with exit code 1")


class FileKuma(RecordingKuma):
    """Its being up is a file beside ``folder``, so that it outlives a replicator that dies.

    ``refuses`` says whether it is never ready. ``on_start`` is not called where it is up already.
    """

    name = "file"

    def __init__(self, folder: Path) -> None:
        self._file = folder.with_name(f"{folder.name}-kuma-is-up")
        self.refuses: Callable[[], bool] = lambda: False
        super().__init__(running=self.up)

    @property
    def up(self) -> bool:
        return self._file.exists()

    @up.setter
    def up(self, running: bool) -> None:
        if running and not self.up:
            self._file.touch()
        elif not running:
            self._file.unlink(missing_ok=True)

    def start(self) -> None:
        if self.up:
            self.log.append("start")
        else:
            super().start()

    def wait_ready(self) -> None:
        if not self.up or self.refuses():
            raise KumaError("Kuma ended by itself with exit code 1")


class HastyStore(SqliteStore):
    """Waits a tenth of a second for a lock instead of five."""

    def connect(self, mode: str = "rw", timeout: float = 0.1) -> sqlite3.Connection:
        return super().connect(mode, min(timeout, 0.1))


class RecordingNotifier:
    """Keeps what would have been sent."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    def send(
        self,
        kind: Kind,
        title: str,
        message: str,
        *,
        urgent: bool = False,
        change: Change | None = None,
    ) -> None:
        self.sent.append(f"{title}: {message}")

    def close(self, timeout: float = 2.0) -> None:
        return None


def sent_by(instance: Instance) -> list[str]:
    """What its notifier would have sent, now and later."""
    assert isinstance(instance.notifier, RecordingNotifier)
    return instance.notifier.sent


def make_instance(
    folder: Path,
    repository: Repository,
    *,
    name: str = "here",
    kuma: RecordingKuma | None = None,
    store: Store | None = None,
    tables: frozenset[str] = frozenset(TABLES),
) -> Instance:
    """An instance in ``folder`` (its data directory, with the state below it)."""
    service = kuma or RecordingKuma()
    folder.mkdir(parents=True, exist_ok=True)
    pair = repository if isinstance(repository, Pair) else None
    one = (repository,) if isinstance(repository, FolderRepository) else ()
    repositories = pair.repositories if pair else one
    return Instance(
        name=name,
        fleet="default",
        data_dir=folder,
        tables=tables,
        state=StateFile(folder / "replicator"),
        store=store or SqliteStore(folder),
        repository=repository,
        kuma=service,
        wait_ready=service.wait_ready,
        notifier=RecordingNotifier(),
        repositories=repositories,
        pair=pair,
    )


def place(database: Path, folder: Path, upload: Path | None = None, *, wal: bool = False) -> Path:
    """Copy a database, and an upload folder, to be an instance's; in WAL mode if asked."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / "kuma.db"
    target.unlink(missing_ok=True)
    shutil.copyfile(database, target)
    shutil.rmtree(folder / "upload", ignore_errors=True)
    if upload is not None:
        shutil.copytree(upload, folder / "upload", copy_function=shutil.copyfile)
        (folder / "upload").chmod(0o755)
    if wal:
        connection = sqlite3.connect(target)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.close()
    return target
