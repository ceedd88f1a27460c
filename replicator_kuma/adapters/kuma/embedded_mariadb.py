"""The MariaDB that lives inside Kuma: what a Kuma that is gone leaves of it, and one of our own.

Kuma's Docker image can run mariadbd as a child of its node process (server/embedded-mariadb.js).
It ends it by SIGINT, which mariadbd 10.11 does not hear: each Kuma that ends leaves its mariadbd
behind, and where no container ends with it, that one keeps the data directory from the next.
Processes are told by what they are, never by an id alone. SIGTERM is all that they ever get, and
only once they are up: one that hears it while it starts (10.11, in init_slave) hangs for good.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pwd
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from replicator_kuma.adapters.kuma import KumaService
from replicator_kuma.adapters.kuma.process import wait_until
from replicator_kuma.base import core_dumps
from replicator_kuma.base.errors import KumaError
from replicator_kuma.base.folders import Folder, Owner, give
from replicator_kuma.base.os_errors import unnamed_file
from replicator_kuma.base.processes import arguments_of, pids, stat_of
from replicator_kuma.base.sockets import vouched_socket
from replicator_kuma.base.times import lasting

PROGRAM = "mariadbd"
ANOTHER = 10.0
"""how long a Kuma that is about to end may take until it counts as another one"""
LIMIT = 600.0
_NAMES = {"mariadbd", "mysqld"}
_SOCKETS = ("run/mariadb.sock", "run/mariadb/mysqld.sock")
"""below the data directory; the second is that of builds before 2.0"""
_OURS = {"mariadb.sock", "mysqld.pid", "mariadb.sock.lock"}
"""what lies in the folder of the socket"""
_GREETING = 0.2
"""seconds that a look waits for a server's first byte; one that still starts has none"""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Running:
    """A mariadbd that works on the data directory."""

    pid: int
    left: bool
    """The Kuma that started it is gone."""


def _log_wait(what: str, seconds: float) -> None:
    logger.info("%s for %s: waiting.", what, lasting(seconds))


class EmbeddedDatabase:
    """The mariadbd of one data directory. Harmless where there is none (Kuma on SQLite)."""

    def __init__(
        self,
        data_dir: Path,
        environment: Mapping[str, str] | None = None,
        *,
        on_wait: Callable[[str, float], None] = _log_wait,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """``environment`` is for a mariadbd of our own; None gives it ours."""
        data_dir = data_dir.absolute()
        self.datadir = data_dir / "mariadb"
        self.sockets = tuple(data_dir / name for name in _SOCKETS)
        self._environment = environment
        self._on_wait = on_wait
        self._clock = clock
        self._sleep = sleep
        self._asked: set[int] = set()

    # --- what is there ----------------------------------------------------------------------

    def running(self) -> list[Running]:
        """Each mariadbd whose command line names this data directory and its socket.

        Not by the pid file: one that still recovers has written none yet.
        """
        if not self.datadir.is_dir():
            return []
        return [Running(pid, _is_left(pid)) for pid in list(pids()) if self._is_ours(pid)]

    def answers(self) -> bool:
        """Whether anybody listens at the socket."""
        return self.datadir.is_dir() and any(_connects(path) for path in self.sockets)

    def is_up(self) -> bool:
        """Whether a server greets at the socket: it listens long before it is up."""
        return any(_connects(path, greets=True) for path in self.sockets)

    def _is_ours(self, pid: int) -> bool:
        arguments = arguments_of(pid)
        if not arguments or Path(arguments[0]).name not in _NAMES:
            return False
        options = dict(argument.partition("=")[::2] for argument in arguments[1:])
        datadir, place = options.get("--datadir", ""), options.get("--socket", "")
        # another container's mariadbd may name the same path, and mean another folder
        folder = str(Path(place).parent)
        return _same(pid, datadir, self.datadir) and any(
            _same(pid, folder, path.parent) for path in self.sockets
        )

    # --- what is left behind ----------------------------------------------------------------

    def leftover(self) -> bool:
        """Whether a Kuma that is gone has left its mariadbd.

        A look asks that one to end, once, and as soon as it is up. Raises KumaError where it may
        not be asked.
        """
        left = {process.pid for process in self.running() if process.left}
        self._asked &= left
        for pid in sorted(left - self._asked) if left - self._asked and self.is_up() else ():
            logger.info("Uptime Kuma is gone, its MariaDB (process %d) is not: ending it", pid)
            _terminate(pid)
            self._asked.add(pid)
        return bool(left)

    def end_left(self, abandoned: Callable[[], bool] = lambda: False) -> None:
        """End what a Kuma that is gone left behind, and wait for it, or until ``abandoned()``.

        Without a limit: it writes out what it holds in memory, and is never killed.
        """
        self._await(lambda: not self.leftover() or abandoned(), "MariaDB has been ending")

    def wait_gone(self) -> None:
        """Wait until a stopped Kuma's mariadbd is gone too; raises KumaError after ten minutes.

        One in a container of its own shows only in that its socket answers.
        """
        gone = self._await(
            lambda: not self.leftover() and not self.answers(), "MariaDB has been ending", LIMIT
        )
        if not gone:
            raise KumaError(
                f"Kuma was stopped, and its MariaDB still answers after {lasting(LIMIT)}",
                hint=f"It is left alone. Look who has {self.sockets[0]} open.",
            )

    def require_free(self) -> None:
        """Raise KumaError where another Kuma, alive, has the data directory.

        A new one would wait for it forever, and the other would answer in its place.
        """
        if not self._await(lambda: not self.running(), "another Kuma has been there", ANOTHER):
            pids = ", ".join(str(process.pid) for process in self.running())
            raise KumaError(
                f"another Uptime Kuma has this data directory: its MariaDB is process {pids}",
                hint="End that Kuma (ps shows it as the parent), then start this one again.",
            )

    def _await(self, done: Callable[[], bool], what: str, limit: float | None = None) -> bool:
        say = partial(self._on_wait, what)
        return wait_until(done, limit, say, clock=self._clock, sleep=self._sleep)

    # --- one of our own ---------------------------------------------------------------------

    @contextlib.contextmanager
    def up(self) -> Iterator[None]:
        """Run mariadbd as Kuma does, but without a network, while Kuma is stopped.

        Raises KumaError where it cannot be started; it has ended when the block has.
        """
        self.end_left()
        self.require_free()
        with unnamed_file() as said:
            process = self._start(said)
            try:
                self._wait_up(process, said)
                yield
            finally:
                if process.poll() is None:
                    process.terminate()
                self._await(lambda: process.poll() is not None, "MariaDB has been ending")

    def elsewhere(self) -> contextlib.AbstractContextManager[None]:
        """Where Kuma and its MariaDB may live in a container: raises KumaError.

        A mariadbd of this host may be of another version, and would change the data for good.
        """
        raise KumaError(
            "Kuma's embedded MariaDB does not answer, and this host's mariadbd may not be that of "
            "Kuma's own container",
            hint="Look at Kuma's log, and see that Kuma gets up. Then run this again.",
        )

    def _start(self, said: IO[bytes]) -> subprocess.Popen[bytes]:
        folder = self.sockets[0].parent
        argv = [
            PROGRAM,
            f"--datadir={self.datadir}",
            f"--socket={self.sockets[0]}",
            f"--pid-file={folder / 'mysqld.pid'}",
            "--skip-networking",
        ]
        try:
            owner = self._prepare(folder.name)
            if os.geteuid() == 0:
                argv.insert(1, f"--user={_name_of(owner)}")
            logger.info("starting MariaDB without Kuma, to put its rows back")
            with core_dumps.allowed():
                return subprocess.Popen(
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=said,
                    stderr=subprocess.STDOUT,
                    env=self._environment,
                    start_new_session=True,
                )
        except OSError as error:
            raise KumaError(
                f"Kuma's embedded MariaDB does not answer, and {PROGRAM} could not be run: "
                f"{error.strerror}",
                hint="Start Kuma, and see that its MariaDB gets up.",
            ) from error

    def _prepare(self, run: str) -> int:
        """Make the folder of the socket, for the owner of the data, who is returned.

        By descriptors: no other folder may become that user's. Raises OSError.
        """
        with Folder.open(self.datadir.parent) as data, data.folder(self.datadir.name) as database:
            owner = Owner(database.owner.uid, -1)
            with data.make(run, 0o755, owner) as folder:
                if not set(folder.names()) - _OURS:
                    give(folder.descriptor, owner)
            return owner.uid

    def _wait_up(self, process: subprocess.Popen[bytes], said: IO[bytes]) -> None:
        # without a limit: it may have to recover, and must not be ended before it is up
        self._await(lambda: process.poll() is not None or self.is_up(), "MariaDB has been starting")
        if process.poll() is None:
            return
        raise KumaError(
            f"{PROGRAM} does not get up on {self.datadir}: {_last_error(said)}",
            hint="Kuma's MariaDB has the same trouble, then. Look at what it says.",
        )


class EmbeddedKuma:
    """A service whose Kuma may have its MariaDB inside: stopped only when both are gone."""

    owned = False
    pid = None

    def __init__(self, service: KumaService, database: EmbeddedDatabase) -> None:
        self._service = service
        self._database = database
        self.name = service.name
        self.manages = service.manages

    def running(self) -> bool:
        return self._service.running()

    def ended_with(self) -> int | None:
        return self._service.ended_with()

    def stop(self) -> None:
        """Stop Kuma and wait for the end of its MariaDB; raises KumaError."""
        self._service.stop()
        self._database.wait_gone()

    def start(self) -> None:
        """End what an earlier Kuma left, and start this one; raises KumaError."""
        self._database.end_left()
        self._service.start()


def _connects(path: Path, *, greets: bool = False) -> bool:
    """Whether somebody listens at a socket, or sends a first byte too."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_GREETING if greets else None)
        try:
            # by its descriptor: a volume's path on the host may be longer than a socket's may be
            with vouched_socket(path, owned=True) as place:
                connection.connect(place)
            return bool(connection.recv(1)) if greets else True
        except OSError:
            return False


def _same(pid: int, path: str, ours: Path) -> bool:
    """Whether a process means our folder by a path; its words must do where we may not look."""
    if not path.startswith("/"):
        return False
    try:
        return os.path.samestat(Path(f"/proc/{pid}/root{path}").stat(), ours.stat())
    except PermissionError:
        return Path(path) == ours
    except OSError:
        return False


def _is_left(pid: int) -> bool:
    """Whether the process has lost its parent: Kuma starts mariadbd in its own session.

    Who takes in orphans (init, a supervisor as a container's first process) has another.
    """
    child = stat_of(pid)
    if child is None or not child.parent:
        return False
    parent = stat_of(child.parent)
    return parent is None or parent.session != child.session


def _terminate(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        return
    except PermissionError as error:
        raise KumaError(
            f"an earlier Kuma has left its MariaDB (process {pid}), and this user may not end it",
            hint=f"Two cannot share a data directory. Try: sudo kill {pid}",
        ) from error


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _last_error(said: IO[bytes]) -> str:
    """The last complaint of a mariadbd in its own words."""
    said.seek(0)
    lines = [line.strip() for line in said.read().decode(errors="replace").splitlines()]
    errors = [line for line in lines if "[ERROR]" in line and "Aborting" not in line]
    return (errors or lines or ["it says nothing"])[-1][-300:]
