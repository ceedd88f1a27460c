"""The state on disk: one small JSON file, always replaced as a whole, and the lock beside it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Concatenate, ParamSpec

from replicator_kuma.base.errors import AlreadyRunning, StateError
from replicator_kuma.base.folders import Folder
from replicator_kuma.base.state_directory import anchored, read, unusable
from replicator_kuma.replication.state.codec import decode_state, encode_state
from replicator_kuma.replication.state.compat import put_together, set_apart
from replicator_kuma.replication.state.state import State

P = ParamSpec("P")

VERSION = 1
LOCK_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
# s; from a fork to the program that the child becomes, on a machine that is busy
A_START = 1.0


class StateFile:
    """The state on disk. ``change`` returns only when the change would survive a power loss."""

    def __init__(self, folder: Path) -> None:
        self.name = folder
        """the path as it was given: for messages and for reading"""
        self._lock_depth = self._lock_holder = 0
        self._new = State(writer=secrets.token_hex(8))

    @property
    def folder(self) -> Path:
        """The folder to work in; resolved again at each use. Raises StateError (`anchors`)."""
        return anchored(self.name)

    def prepare(self) -> None:
        """Create the folder (0700); raises StateError if that is impossible.

        Its parent has to exist: a mistyped DATA_DIR must not be created.
        """
        anchored(self.name, make=True)

    def load(self) -> State:
        """The state; if there is none yet, a new one with a new writer id.

        Raises StateError if the file exists and cannot be understood: guessing could make a
        second leader. Another user's folder may be read; nothing is ever written there.
        """
        try:
            text = read(self.name, self.path.name)
            if text is None:
                return self._new
            raw = json.loads(text)
        except OSError as error:
            raise unusable(f"cannot read {self.path}", error) from error
        except (ValueError, RecursionError) as error:
            raise StateError(f"cannot read {self.path}: {error}") from error
        try:
            if raw["version"] != VERSION:
                raise StateError(
                    f"{self.path} was written by another version of replicator-kuma",
                    hint="Install that version again, or a newer one. Do not move the file away: "
                    "it knows what this instance has published and applied.",
                )
            return decode_state(put_together(raw["state"]))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise StateError(f"cannot understand {self.path}: {error!r}") from error

    @property
    def path(self) -> Path:
        """The path of the file, for messages."""
        return self.name / "state.json"

    def exists(self) -> bool:
        return self.path.exists()

    def change(
        self, transition: Callable[Concatenate[State, P], State], *args: P.args, **kwargs: P.kwargs
    ) -> State:
        """Apply a function of `transitions` and write the result durably; returns the new state.

        An unchanged state is not written again.
        """
        before = self.load()
        after = transition(before, *args, **kwargs)
        if after != before or not self.exists():
            self.save(after)
        return after

    def save(self, state: State) -> None:
        self.prepare()
        raw = {"version": VERSION, "state": set_apart(encode_state(state))}
        text = json.dumps(raw, indent=1) + "\n"
        try:
            with Folder.open(self.folder) as folder:
                folder.write(self.path.name, lambda file: file.write(text.encode()))
        except OSError as error:
            raise unusable(f"cannot write {self.path}", error) from error

    @contextlib.contextmanager
    def lock(self, wait: float = 0.0) -> Iterator[None]:
        """Hold the instance's lock: one cycle at a time, across processes and threads.

        Raises AlreadyRunning if it is not free within ``wait`` seconds, one at least
        (see ``acquire``). The kernel frees it when the process ends, in any way. The thread that
        holds it may enter it again.
        """
        if self._lock_depth and self._lock_holder == threading.get_ident():
            self._lock_depth += 1
            try:
                yield
            finally:
                self._lock_depth -= 1
            return
        self.prepare()
        try:
            descriptor = os.open(self.folder / "lock", LOCK_FLAGS, 0o600)
        except OSError as error:
            raise unusable(f"cannot open the lock in {self.name}", error) from error
        try:
            acquire(descriptor, wait)
            self._lock_depth, self._lock_holder = 1, threading.get_ident()
            try:
                yield
            finally:
                self._lock_depth = 0
        finally:
            os.close(descriptor)


def acquire(descriptor: int, wait: float) -> None:
    """Lock an open file for this process alone; raises AlreadyRunning after ``wait`` seconds.

    It waits for a second at least. Where the holder was killed while it started a program, its
    child has the open file too, for the moment until it becomes that program.
    """
    deadline = time.monotonic() + max(wait, A_START)
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise AlreadyRunning("another replicator is working on this instance") from None
            time.sleep(0.05)


def sync(path: Path) -> None:
    """Make a file durable, or the renames in a folder (fsync of the folder itself)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
