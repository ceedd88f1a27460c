"""The MariaDB embedded in Kuma: ends the one that an ended Kuma left, and runs one of our own.

Kuma's Docker image can run mariadbd as a child of its node process (server/embedded-mariadb.js).
Kuma sends it SIGINT, which mariadbd 10.11 ignores. So each Kuma that ends leaves its mariadbd
behind; unless the container ends too, that mariadbd blocks the data directory for the next Kuma.
Processes are recognized by their command line, never by an id alone. They only ever get SIGTERM,
and only once they are up: a mariadbd 10.11 that gets it at its start (init_slave) hangs for good.
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
from replicator_kuma.base.events import as_event
from replicator_kuma.base.folders import Folder, Owner, give
from replicator_kuma.base.os_errors import unnamed_file
from replicator_kuma.base.processes import arguments_of, pids, stat_of
from replicator_kuma.base.sockets import vouched_socket
from replicator_kuma.base.times import lasting

PROGRAM = "mariadbd"
ANOTHER = 10.0
"""seconds after which a Kuma that should be ending counts as another one"""
LIMIT = 600.0
_NAMES = {"mariadbd", "mysqld"}
_SOCKETS = ("run/mariadb.sock", "run/mariadb/mysqld.sock")
"""below the data directory; builds before 2.0 use the second"""
_OURS = {"mariadb.sock", "mysqld.pid", "mariadb.sock.lock"}
"""our files in the folder of the socket"""
_GREETING = 0.2
"""seconds to wait for a server's first byte; a server that still starts sends none"""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Running:
    """A mariadbd that uses the data directory."""

    pid: int
    left: bool
    """The Kuma that started it is gone."""


def _log_wait(what: str, seconds: float) -> None:
    logger.info("%s for %s: waiting.", what, lasting(seconds), extra=as_event("mariadb_waits"))


class EmbeddedDatabase:
    """The mariadbd of one data directory. Harmless if there is none (Kuma on SQLite)."""

    def __init__(
        self,
        data_dir: Path,
        environment: Mapping[str, str] | None = None,
        *,
        on_wait: Callable[[str, float], None] = _log_wait,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """``environment`` is for a mariadbd of our own; None: it gets our environment."""
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

        The pid file is not used: a mariadbd that still recovers has not written it yet.
        """
        if not self.datadir.is_dir():
            return []
        return [Running(pid, _is_left(pid)) for pid in list(pids()) if self._is_ours(pid)]

    def answers(self) -> bool:
        """Whether a process listens at the socket."""
        return self.datadir.is_dir() and any(_connects(path) for path in self.sockets)

    def is_up(self) -> bool:
        """Whether a server sends its greeting at the socket: it listens long before it is up."""
        return any(_connects(path, greets=True) for path in self.sockets)

    def _is_ours(self, pid: int) -> bool:
        arguments = arguments_of(pid)
        if not arguments or Path(arguments[0]).name not in _NAMES:
            return False
        options = dict(argument.partition("=")[::2] for argument in arguments[1:])
        datadir, place = options.get("--datadir", ""), options.get("--socket", "")
        # another container's mariadbd may have the same path, but another folder
        folder = str(Path(place).parent)
        return _same(pid, datadir, self.datadir) and any(
            _same(pid, folder, path.parent) for path in self.sockets
        )

    # --- what is left behind ----------------------------------------------------------------

    def leftover(self) -> bool:
        """Whether an ended Kuma has left its mariadbd.

        Each call also asks that mariadbd to end, once, as soon as it is up. Raises KumaError if we
        may not signal it.
        """
        left = {process.pid for process in self.running() if process.left}
        self._asked &= left
        for pid in sorted(left - self._asked) if left - self._asked and self.is_up() else ():
            logger.info(
                "Uptime Kuma is gone, its MariaDB (process %d) is not: ending it",
                pid,
                extra=as_event("mariadb_ended"),
            )
            _terminate(pid)
            self._asked.add(pid)
        return bool(left)

    def end_left(self, abandoned: Callable[[], bool] = lambda: False) -> None:
        """End the mariadbd that an ended Kuma left; wait for its end, or until ``abandoned()``.

        Waits without a limit: mariadbd flushes its memory to disk, and is never killed.
        """
        self._await(lambda: not self.leftover() or abandoned(), "MariaDB has been ending")

    def wait_gone(self) -> None:
        """Wait until a stopped Kuma's mariadbd is gone too; raises KumaError after ten minutes.

        A mariadbd in another container is seen only by its answering socket.
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
        """Raise KumaError if another living Kuma uses the data directory.

        A new Kuma would wait for it forever, and the other Kuma would answer in its place.
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

        Raises KumaError if it cannot be started. It is ended at the end of the block.
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
        """The replacement of `up` if Kuma may run in a container: raises KumaError.

        A mariadbd of this host may have another version, and would change the data for good.
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
            logger.info(
                "starting MariaDB without Kuma, to put its rows back",
                extra=as_event("mariadb_started"),
            )
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
        """Create the socket's folder for the owner of the data; returns the owner's user id.

        Uses descriptors, so that no other folder can change its owner. Raises OSError.
        """
        with Folder.open(self.datadir.parent) as data, data.folder(self.datadir.name) as database:
            owner = Owner(database.owner.uid, -1)
            with data.make(run, 0o755, owner) as folder:
                if not set(folder.names()) - _OURS:
                    give(folder.descriptor, owner)
            return owner.uid

    def _wait_up(self, process: subprocess.Popen[bytes], said: IO[bytes]) -> None:
        # no limit: mariadbd may have to recover, and must not be ended before it is up
        self._await(lambda: process.poll() is not None or self.is_up(), "MariaDB has been starting")
        if process.poll() is None:
            return
        raise KumaError(
            f"{PROGRAM} does not get up on {self.datadir}: {_last_error(said)}",
            hint="Kuma's MariaDB has the same trouble, then. Look at what it says.",
        )


class EmbeddedKuma:
    """A service whose Kuma may embed its MariaDB: it is stopped only once both are gone."""

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
        """End the MariaDB that an earlier Kuma left, and start Kuma; raises KumaError."""
        self._database.end_left()
        self._service.start()


def _connects(path: Path, *, greets: bool = False) -> bool:
    """Whether a process listens at a socket; with ``greets``, whether it sends a byte."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_GREETING if greets else None)
        try:
            # by its descriptor: a volume's path on the host may be too long for a socket
            with vouched_socket(path, owned=True) as place:
                connection.connect(place)
            return bool(connection.recv(1)) if greets else True
        except OSError:
            return False


def _same(pid: int, path: str, ours: Path) -> bool:
    """Whether a process's path is our folder; if we may not look, the path's text decides."""
    if not path.startswith("/"):
        return False
    try:
        return os.path.samestat(Path(f"/proc/{pid}/root{path}").stat(), ours.stat())
    except PermissionError:
        return Path(path) == ours
    except OSError:
        return False


def _is_left(pid: int) -> bool:
    """Whether the process has lost its parent: Kuma starts mariadbd in Kuma's own session.

    The process that adopts orphans (init, a container's first process) has another session.
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
    """The last error line of a mariadbd."""
    said.seek(0)
    lines = [line.strip() for line in said.read().decode(errors="replace").splitlines()]
    errors = [line for line in lines if "[ERROR]" in line and "Aborting" not in line]
    return (errors or lines or ["it says nothing"])[-1][-300:]
