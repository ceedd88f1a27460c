"""Runs one program under a deadline, and leaves no process or descriptor behind.

One thread waits for output, errors and the end of the process in one `select`. So there is no
deadlock, memory is bounded, and no descriptor leaks.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import IO

from replicator_kuma.base import core_dumps
from replicator_kuma.base.processes import pids, stat_of
from replicator_kuma.base.state_directory import handed_on

_CHUNK = 1 << 16
_STDERR_KEPT = 1 << 16
# How often to check a silent program: it may have ended while a grandchild holds its pipes
# (as ssh's ControlPersist does), or a signal may ask us to stop.
_SLICE = 0.2
# Seconds after SIGINT, on which restic removes its lock (0.14 only on this signal); then SIGKILL.
_GRACE = 1.0


class Deadline:
    """A number of seconds that several steps share."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    @property
    def remaining(self) -> float:
        return max(0.0, self._end - time.monotonic())


class Stop(Enum):
    """Why we ended a program."""

    DEADLINE = "deadline"
    HOPELESS = "hopeless"
    INTERRUPTED = "interrupted"
    FLOOD = "flood"


@dataclass(frozen=True)
class Ended:
    """How a program ended. Its code means nothing when ``stopped`` says that we ended it."""

    code: int
    stderr: str
    stopped: Stop | None = None

    @property
    def succeeded(self) -> bool:
        return self.code == 0 and self.stopped is None


class Child:
    """A running program as a context; ``read`` streams its output. OSError if it cannot start.

    It runs in its own session, without a terminal. We end the whole session when the deadline
    passes, when ``interrupted`` says so, or when ``hopeless`` finds in its errors that waiting
    is useless.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        deadline: Deadline,
        *,
        cwd: Path | None = None,
        interrupted: Callable[[], bool] = lambda: False,
        hopeless: Callable[[str], bool] = lambda _text: False,
        ended: Callable[[float], None] = lambda _seconds: None,
    ) -> None:
        """``ended`` gets the seconds that the context took, at its end."""
        self._began, self._ended = time.monotonic(), ended
        self._deadline = deadline
        self._interrupted = interrupted
        self._hopeless = hopeless
        self._stopped: Stop | None = None
        self._errors = _Tail()
        self._ready: bytes | None = None
        self._lost = False
        # Before the program: a lack of descriptors must not leave a program running.
        self._selector = selectors.DefaultSelector()
        try:
            with core_dumps.forbidden():
                self._process = subprocess.Popen(
                    list(arguments),
                    env=dict(environment),
                    cwd=cwd,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    bufsize=0,
                    start_new_session=True,
                    pass_fds=handed_on([*arguments, *environment.values()]),
                )
        except BaseException:
            self._selector.close()
            raise
        for stream in self._streams():
            self._selector.register(stream, selectors.EVENT_READ)

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self._process.returncode is None:
                self._kill()
        finally:
            self._selector.close()
            for stream in self._streams():
                stream.close()
            self._ended(time.monotonic() - self._began)

    def read(self, size: int = _CHUNK) -> bytes:
        """Some output, at most ``size`` bytes; b"" at its end, or if it was stopped."""
        while self._ready is None and self._open(self._stdout):
            self._pump(size)
        chunk, self._ready = self._ready, None
        return chunk or b""

    def finish(self) -> Ended:
        """Wait for its end, and return how it ended; drops the rest of its output."""
        while self._selector.get_map():
            self._pump(_CHUNK)
        pause = 0.001
        while self._process.returncode is None and not self._should_stop():
            if self._exited():
                self._process.wait()
            else:
                # Rare: the program closed its pipes but still runs.
                time.sleep(pause)
                pause = min(2 * pause, 0.05)
        return Ended(self._code(), self._errors.text(self._stopped is not None), self._stopped)

    def stop(self, reason: Stop) -> None:
        """End the program now; only the first reason is kept."""
        self._stopped = self._stopped or reason
        if self._process.returncode is None:
            self._kill()
        for stream in self._streams():
            self._forget(stream)

    @property
    def _stdout(self) -> IO[bytes]:
        assert self._process.stdout is not None
        return self._process.stdout

    def _streams(self) -> list[IO[bytes]]:
        return [stream for stream in (self._process.stdout, self._process.stderr) if stream]

    def _open(self, stream: IO[bytes]) -> bool:
        return stream in (key.fileobj for key in self._selector.get_map().values())

    def _forget(self, stream: IO[bytes]) -> None:
        with contextlib.suppress(KeyError):
            self._selector.unregister(stream)

    def _pump(self, size: int) -> None:
        """Wait for at most one event, and read its data."""
        if self._should_stop():
            return
        events = self._selector.select(min(_SLICE, self._deadline.remaining))
        for key, _mask in events:
            chunk = os.read(key.fd, size)
            if not chunk:
                self._selector.unregister(key.fileobj)
            elif key.fileobj is self._stdout:
                self._ready = chunk
            else:
                self._errors.add(chunk)
                if self._hopeless(self._errors.text()):
                    self.stop(Stop.HOPELESS)
                    return
        # It may have written between the look at its pipes and its end: so look again.
        if not events and self._exited() and not self._selector.select(0):
            # Another process holds the pipes; all output of the program has been read.
            for stream in self._streams():
                self._forget(stream)

    def _should_stop(self) -> bool:
        if self._stopped is None and self._interrupted():
            self.stop(Stop.INTERRUPTED)
        elif self._stopped is None and not self._deadline.remaining:
            self.stop(Stop.DEADLINE)
        return self._stopped is not None

    def _exited(self) -> bool:
        # WNOWAIT leaves it a zombie: no other process gets its id while we signal.
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        try:
            return os.waitid(os.P_PID, self._process.pid, flags) is not None
        except ChildProcessError:
            self._lost = True
            return True

    def _code(self) -> int:
        # If other code here collected the exit code, it is unknown, not 0 as Popen says.
        code = self._process.returncode
        return -1 if self._lost or code is None else code

    def _kill(self) -> None:
        group = self._process.pid
        _signal_group(group, signal.SIGINT)
        end = time.monotonic() + _GRACE
        while not self._exited() and time.monotonic() < end:
            time.sleep(0.02)
        for member in _session(group):
            with contextlib.suppress(OSError):
                os.kill(member, signal.SIGKILL)
        _signal_group(group, signal.SIGKILL)
        self._process.wait()


@dataclass(frozen=True)
class Output:
    """What a program printed, and how it ended."""

    stdout: bytes
    ended: Ended


def capture(child: Child, limit: int) -> Output:
    """All output of a program; stops it (FLOOD) if the output exceeds ``limit`` bytes."""
    taken = bytearray()
    with child:
        while chunk := child.read():
            taken += chunk
            if len(taken) > limit:
                child.stop(Stop.FLOOD)
        return Output(bytes(taken), child.finish())


class _Tail:
    """Keeps the last lines of the added text, in bounded memory."""

    def __init__(self) -> None:
        self._kept = bytearray()
        self._cut = False

    def add(self, chunk: bytes) -> None:
        self._kept += chunk
        if len(self._kept) > _STDERR_KEPT:
            del self._kept[:-_STDERR_KEPT]
            self._cut = True

    def text(self, stopped: bool = False) -> str:
        # Half a line could show half a secret, which the mask would not recognise.
        whole = self._kept.partition(b"\n")[2] if self._cut else self._kept
        if stopped:
            whole = whole.rpartition(b"\n")[0]
        return whole.decode("utf-8", "replace")


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(OSError):
        os.killpg(group, number)


def _session(leader: int) -> list[int]:
    """Processes of a session: restic gives ssh and rclone their own process groups.

    Empty if no descriptor is left to look for them: the main group is ended in any case.
    """
    found = ((pid, stat_of(pid)) for pid in list(pids()))
    return [pid for pid, stat in found if stat is not None and stat.session == leader]
