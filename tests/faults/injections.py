"""The faults: each is begun at a phase, lasts to the end of the cycle, and is mended then."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from replicator_kuma.adapters.kuma.readiness import wait_ready
from replicator_kuma.base.errors import KumaError
from tests.faults.fast_restic import KINDS
from tests.faults.world import LEADER, PHASES, REPLICA, World, hear
from tests.support import cycles, databases
from tests.support.kuma_page import Stage, stage
from tests.support.openers import opened

Injection = Callable[[World], AbstractContextManager[None]]
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_EFFECTS = ("os.mkdir", "os.rename", "os.link", "os.truncate")
_HOUR = 3600.0


@dataclass(frozen=True)
class Fault:
    """``inject`` makes it at the phase's begin; what it yields to is the rest of the cycle."""

    name: str
    inject: Injection
    kills: bool = False
    """it ends the process, and so the cycle runs in one of its own"""
    mounts: bool = False
    """it needs file systems of its own, and so root"""


@dataclass(frozen=True)
class Point:
    """A fault at a phase of a role's cycle."""

    role: str
    phase: str
    fault: Fault

    @property
    def key(self) -> str:
        return f"{self.role}-{self.phase}-{self.fault.name}"


class NotMet(AssertionError):
    """The fault was there, and the cycle did not come across it."""


# --- the repository -----------------------------------------------------------------------------

_CALLS = {
    (LEADER, "observe"): "snapshots",
    (LEADER, "publish"): "backup",
    (LEADER, "note"): "snapshots",
    (REPLICA, "observe"): "snapshots",
    (REPLICA, "fetch"): "dump",
}
"""Where a cycle needs an answer of the repository."""


def _restic(call: str, kind: str) -> Injection:
    @contextlib.contextmanager
    def inject(world: World) -> Iterator[None]:
        world.repository.fail(call, kind)
        try:
            yield
        finally:
            if not world.repository.mend():
                raise NotMet(f"no {call} has met the fault")

    return inject


@contextlib.contextmanager
def _no_restic(world: World) -> Iterator[None]:
    program = world.repository.program
    program.rename(program.with_name("gone"))
    try:
        yield
    finally:
        program.with_name("gone").rename(program)


# --- the machine --------------------------------------------------------------------------------


def _refusing(below: Callable[[World], Path], code: int, *names: str) -> Injection:
    """Each write below a folder fails, by way of Python's audit events.

    Files that are written by their folder's descriptor are known by how their names begin.
    """

    @contextlib.contextmanager
    def inject(world: World) -> Iterator[None]:
        folder = str(below(world))

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            if event == "open":
                path, _mode, flags = arguments
                writes = isinstance(flags, int) and flags & _WRITES
            else:
                path, writes = (arguments[0] if arguments else ""), event in _EFFECTS
            if writes and isinstance(path, str | os.PathLike):
                name = os.fspath(path)
                if isinstance(name, str) and name.startswith((folder, *names)):
                    raise OSError(code, os.strerror(code), name)

        forget = hear(hook)
        try:
            yield
        finally:
            forget()

    return inject


def _full(below: Callable[[World], Path]) -> Injection:
    """A file takes all that is left of a small file system."""

    @contextlib.contextmanager
    def inject(world: World) -> Iterator[None]:
        filler = below(world) / "upload-of-somebody"
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
        try:
            yield
        finally:
            filler.unlink()

    return inject


@contextlib.contextmanager
def _data_read_only(world: World) -> Iterator[None]:
    remount(world.data, "ro")
    try:
        yield
    finally:
        remount(world.data, "rw")


def remount(folder: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(folder)], check=True, timeout=10)


@contextlib.contextmanager
def _no_descriptors(_world: World) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
    # numbers below the highest may be free: they are taken, so that nothing more is opened
    taken = []
    with contextlib.suppress(OSError):
        while True:
            taken.append(os.open("/dev/null", os.O_RDONLY))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in taken:
            os.close(descriptor)


@contextlib.contextmanager
def _no_memory(world: World) -> Iterator[None]:
    """One allocation fails, at the first thing that the phase does with a file or a process."""
    left = [1]

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in ("open", "sqlite3.connect", "subprocess.Popen", *_EFFECTS) or not left:
            return
        if str(world.folder) in str(arguments[0]) and not world.kuma.reads:
            left.clear()
            raise MemoryError

    forget = hear(hook)
    try:
        yield
    finally:
        forget()


@contextlib.contextmanager
def _asked_to_end(world: World) -> Iterator[None]:
    world.asked_to_end = True
    try:
        yield
    finally:
        world.asked_to_end = False


@contextlib.contextmanager
def _killed(_world: World) -> Iterator[None]:
    os.kill(os.getpid(), signal.SIGKILL)
    yield


def _clock(hours: float) -> Injection:
    @contextlib.contextmanager
    def inject(_world: World) -> Iterator[None]:
        real = time.time
        time.time = lambda: real() + hours * _HOUR
        try:
            yield
        finally:
            time.time = real

    return inject


# --- the database -------------------------------------------------------------------------------


@contextlib.contextmanager
def _locked(world: World) -> Iterator[None]:
    with contextlib.closing(sqlite3.connect(world.database, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield


@contextlib.contextmanager
def _as_it_was(world: World) -> Iterator[None]:
    """Afterwards somebody puts back the database as it was when the fault came."""
    kept = world.folder / "kept.db"
    shutil.copyfile(world.database, kept)
    try:
        yield
    finally:
        for suffix in ("-journal", "-wal", "-shm"):
            Path(f"{world.database}{suffix}").unlink(missing_ok=True)
        shutil.copyfile(kept, world.database)


@contextlib.contextmanager
def _gone(world: World) -> Iterator[None]:
    with _as_it_was(world):
        world.database.unlink()
        yield


@contextlib.contextmanager
def _damaged(world: World) -> Iterator[None]:
    with _as_it_was(world):
        size = world.database.stat().st_size
        with world.database.open("r+b") as file:
            for page in range(4096 * 3, size, 4096):
                file.seek(page)
                file.write(b"\xa5" * 2048)
        yield


@contextlib.contextmanager
def _migrating(world: World) -> Iterator[None]:
    databases.edit(world.database, "UPDATE knex_migrations_lock SET is_locked = 1")
    try:
        yield
    finally:
        databases.edit(world.database, "UPDATE knex_migrations_lock SET is_locked = 0")


def _script(before: str, after: str = "") -> Injection:
    """Somebody's script has changed the database's schema; ``after`` takes it back."""

    @contextlib.contextmanager
    def inject(world: World) -> Iterator[None]:
        with contextlib.nullcontext() if after else _as_it_was(world):
            for script in (before, after):
                with contextlib.closing(sqlite3.connect(world.database)) as connection:
                    connection.executescript(script)
                if script is before:
                    yield

    return inject


_ON_A_MISSING_TABLE = _script(
    "CREATE TRIGGER odd AFTER UPDATE ON monitor BEGIN INSERT INTO gone VALUES (1); END",
    "DROP TRIGGER odd",
)
_WITHOUT_ITS_KEY = _script(
    "CREATE TABLE made AS SELECT * FROM monitor; DROP TABLE monitor; "
    "ALTER TABLE made RENAME TO monitor"
)


@contextlib.contextmanager
def _read_elsewhere(world: World) -> Iterator[None]:
    """Another program reads for ever, while Kuma has its port."""
    world.listens = world.kuma.running
    with opened(world.database):
        yield


@contextlib.contextmanager
def _edited(world: World) -> Iterator[None]:
    """Somebody presses Save on this very instance."""
    cycles.rename(world.database, 2, "in the last moment")
    yield


# --- Kuma ---------------------------------------------------------------------------------------


def _raises() -> None:
    raise KumaError("the command ended with exit code 1")


def _kuma(part: str, does: Callable[[World], Callable[[], None]]) -> Injection:
    @contextlib.contextmanager
    def inject(world: World) -> Iterator[None]:
        before = getattr(world.kuma, part)
        setattr(world.kuma, part, does(world))
        try:
            yield
        finally:
            setattr(world.kuma, part, before)

    return inject


def _ends_on_new_rows(world: World) -> Callable[[], None]:
    def look() -> None:
        if cycles.name_of(world.database, 3) == "two":
            raise KumaError("Kuma ended by itself with exit code 1")

    return look


@contextlib.contextmanager
def _still_open(world: World) -> Iterator[None]:
    """Its process says that it has ended; something still has its database open."""
    with contextlib.closing(sqlite3.connect(world.database, isolation_level=None)) as other:
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM monitor").fetchall()
        yield


def _answers(open_stage: Callable[[Stage], None], patience: float = 0.3) -> Injection:
    """The real wait for readiness, at a server that is no ready Kuma."""

    @contextlib.contextmanager
    def inject(world: World) -> Iterator[None]:
        with stage() as server:
            open_stage(server)
            wait = lambda: wait_ready(server.url, world.kuma.running, patience, poll=0.02)  # noqa: E731
            with _kuma("before_ready", lambda _world: wait)(world):
                yield

    return inject


def _migrates_for_a_while(server: Stage) -> None:
    """404 at the first looks, then Kuma's own page."""
    from tests.support.kuma_page import ENTRY, MIGRATING

    class Asked(list[str]):
        def append(self, path: str) -> None:
            super().append(path)
            if len(self) > 25:
                server.answer = ENTRY

    server.asked = Asked()
    server.open(MIGRATING)


# --- all of them --------------------------------------------------------------------------------

_STATE = (".state.json.",)
_EVERYWHERE = (
    Fault("state: disk full", _full(lambda w: w.state), mounts=True),
    Fault("state: read-only", _refusing(lambda w: w.state / "", errno.EROFS, *_STATE)),
    Fault("state: I/O error", _refusing(lambda w: w.state / "", errno.EIO, *_STATE)),
    Fault("scratch: disk full", _refusing(lambda w: w.instance.work, errno.ENOSPC)),
    Fault("data: disk full", _full(lambda w: w.data), mounts=True),
    Fault("data: read-only", _data_read_only, mounts=True),
    Fault("too many open files", _no_descriptors),
    Fault("out of memory", _no_memory),
    Fault("SIGTERM", _asked_to_end),
    Fault("SIGKILL", _killed, kills=True),
    Fault("clock: 6 h forth", _clock(6)),
    Fault("clock: 6 h back", _clock(-6)),
    Fault("database: locked", _locked),
    Fault("database: damaged", _damaged),
    Fault("database: gone", _gone),
    Fault("database: migrating", _migrating),
    Fault("database: edited", _edited),
)

_REPLICA = (
    Fault("database: trigger on a missing table", _ON_A_MISSING_TABLE),
    Fault("database: table without its key", _WITHOUT_ITS_KEY),
    Fault("database: a reader that stays", _read_elsewhere),
)
_UNTIL_WRITTEN = ("observe", "fetch", "plan", "stop", "apply")

_KUMA = {
    "stop": (
        Fault("Kuma: stop fails", _kuma("before_stop", lambda _world: _raises)),
        Fault("Kuma: does not stop", _still_open),
    ),
    "start": (
        Fault("Kuma: start fails", _kuma("before_start", lambda _world: _raises)),
        Fault("Kuma: dies on the new rows", _kuma("before_ready", _ends_on_new_rows)),
        Fault("Kuma: dies at once", _kuma("before_ready", lambda _world: _raises)),
        Fault("Kuma: garbage", _answers(lambda s: s.open((200, "\x00\xff<html>")))),
        Fault("Kuma: error page", _answers(lambda s: s.open((502, "bad gateway")))),
        Fault("Kuma: never answers", _answers(lambda _server: None)),
        Fault("Kuma: migrates at its start", _answers(_migrates_for_a_while)),
    ),
}


def points() -> list[Point]:
    """Each fault at each phase at which it can come."""
    found = []
    for role, phases in PHASES.items():
        for phase in phases:
            faults = list(_EVERYWHERE)
            if call := _CALLS.get((role, phase)):
                faults += [Fault(f"restic: {kind}", _restic(call, kind)) for kind in KINDS]
                faults.append(Fault("restic: not installed", _no_restic))
            if role == REPLICA:
                faults += _REPLICA if phase in _UNTIL_WRITTEN else ()
                faults += _KUMA.get(phase, ())
            found += [Point(role, phase, fault) for fault in faults]
    return found


def need_mounts(point: Point) -> None:
    """Skip where only root could make the fault."""
    if point.fault.mounts and os.geteuid() != 0:
        pytest.skip("only root may mount what this fault needs")
