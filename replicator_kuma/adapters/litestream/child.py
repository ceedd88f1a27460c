"""`litestream replicate` as a child of `replicator run`."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from replicator_kuma.adapters.litestream import client, configuration
from replicator_kuma.adapters.litestream.client import Progress
from replicator_kuma.adapters.litestream.program import NAME, error_of, message_of
from replicator_kuma.adapters.litestream.restore import Replica
from replicator_kuma.base import core_dumps
from replicator_kuma.base.errors import HistoryError
from replicator_kuma.base.folders import Folder
from replicator_kuma.base.processes import end_child, stat_of
from replicator_kuma.base.state_directory import handed_on, unusable

CONFIGURATION = "litestream.json"
_PID = "pid"
_CLOSED = "litestream shut down"
"""the last word of its log at an orderly end"""
_NOT_CLOSED = "failed to close database"
"""said before, if the last upload failed"""
_GONE = "no such file or directory"
_MARGIN = 2.0
"""seconds beyond its own limit in which it has to end"""
_LONGEST_LINE = 1 << 14
_GRACE = 5.0
"""seconds that a Litestream which an earlier `run` left behind gets to end"""

log = logging.getLogger(__name__)


class Child:
    """One process of Litestream at a time, in its own session: only we end it."""

    def __init__(self, replica: Replica, last: float = 5.0) -> None:
        """``last``: seconds in which it tries to send the rest at its end."""
        self._replica = replica
        self._last = last
        self._reader: threading.Thread | None = None
        self._said = ""
        self._unsent = False
        self._stuck = False
        self._process: subprocess.Popen[bytes] | None = None
        self._socket = replica.folder / configuration.SOCKET
        self._meta = replica.folder / configuration.META
        self.last_error = ""
        """the last error in its log"""

    @property
    def pid(self) -> int | None:
        """Its process id; None before the first start and after its end."""
        return self._process.pid if self._process is not None and self.running() else None

    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it; raises HistoryError, StateError."""
        replica, folder = self._replica, self._replica.folder
        text = configuration.text(replica.database, replica.place, folder, self._last).encode()
        try:
            with Folder.open(folder) as ours:
                ours.write(CONFIGURATION, lambda file: file.write(text), durable=False)
                ours.remove(configuration.SOCKET)
        except OSError as error:
            raise unusable(f"cannot write in {folder}", error) from error
        file = str(folder / CONFIGURATION)
        arguments = [str(replica.program), "replicate", "-no-expand-env", "-config", file]
        try:
            with core_dumps.forbidden():
                process = subprocess.Popen(
                    arguments,
                    env=dict(replica.environment),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    pass_fds=handed_on(arguments),
                    start_new_session=True,
                )
        except OSError as error:
            raise HistoryError(f"{replica.program} could not be run: {error.strerror}") from error
        self._process, self.last_error = process, ""
        self._said, self._unsent, self._stuck = "", False, False
        assert process.stderr is not None
        self._reader = threading.Thread(
            target=self._listen, args=(process.stderr,), name="litestream-log", daemon=True
        )
        self._reader.start()
        self._note(process.pid)

    def _listen(self, stream: IO[bytes]) -> None:
        """Read its log to the end: a full pipe would stop it."""
        with stream:
            while line := stream.readline(_LONGEST_LINE):
                text = line.decode(errors="replace").strip()
                self._said = message_of(text)
                self._unsent = self._unsent or self._said == _NOT_CLOSED
                if error := error_of(text) or ("" if text.startswith("{") else text[:400]):
                    self.last_error = error
                    self._stuck = self._stuck or self._misses(text)
                    log.debug("litestream: %s", error)

    def _misses(self, line: str) -> bool:
        """Whether its log tells of a file that the store lacks, and that it keeps no more."""
        return f"open ltx file {self._meta}/" in line and _GONE in line

    @property
    def stuck(self) -> bool:
        """Whether it will never send anything again: see `begin_anew`."""
        return self._stuck

    def begin_anew(self) -> None:
        """End it, and forget what it kept of the database: the next one sends a full copy.

        It keeps what it has read for five minutes after the upload, and sends a store all that
        this one lacks. A store that is another one, or was emptied, lacks more than it has kept.
        Its own `auto-recover` forgets too, but counts transactions from one again: a store that
        has more of them takes none. A new process asks the store first.
        """
        if self._process is not None:
            end_child(self._process, 0.0)
        shutil.rmtree(self._meta, ignore_errors=True)

    def progress(self) -> Progress:
        """See `client.progress`; raises NoAnswer."""
        return client.progress(self._socket, self._replica.database)

    def end(self) -> bool:
        """Let it send the rest and end; whether it did. Harmless if it does not run."""
        sent = False
        if self._process is not None:
            ran = self.running()
            end_child(self._process, self._last + _MARGIN)
            if self._reader is not None:
                self._reader.join(1.0)
            sent = ran and self._said == _CLOSED and not self._unsent
        with contextlib.suppress(OSError):
            (self._replica.folder / _PID).unlink(missing_ok=True)
        return sent

    def _note(self, pid: int) -> None:
        """Note which process it is: a `run` that is killed leaves it behind."""
        stat = stat_of(pid)
        text = f"{pid} {stat.began if stat else ''}".encode()
        with contextlib.suppress(OSError), Folder.open(self._replica.folder) as ours:
            ours.write(_PID, lambda file: file.write(text), durable=False)


def end_left(folder: Path, ended: Callable[[int], None] = lambda _pid: None) -> None:
    """End the Litestream that a killed `run` left behind: two would write to one replica.

    ``ended`` is told its process id. Never raises.
    """
    with contextlib.suppress(OSError, ValueError):
        pid, _, began = (folder / _PID).read_text().partition(" ")
        number, until, told = int(pid), time.monotonic() + _GRACE, False
        while (stat := stat_of(number)) is not None and stat.began == began and stat.name == NAME:
            if stat.state in ("Z", "X"):
                break
            os.kill(number, signal.SIGTERM if time.monotonic() < until else signal.SIGKILL)
            if not told:
                ended(number)
            told = True
            time.sleep(0.1)
        (folder / _PID).unlink(missing_ok=True)
