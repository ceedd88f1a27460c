"""The supervisor's heartbeat: a small file that the container's health check reads.

Unhealthy means that *this container* is broken: its loop or a job is stuck, or Kuma does not come
back. An unreachable repository, a fenced leader and a failing cycle cause notifications instead.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

from replicator_kuma.base import state_directory
from replicator_kuma.base.folders import Folder
from replicator_kuma.base.times import when

NAME = "supervisor.json"
LOCK = "supervisor.lock"
ENDED = "supervisor.ended"
START = "start"
"""the job that starts Kuma; it may go on after the cycle inside it has ended"""
WORKS = "works"
"""said of the change watch"""
EVERY = 5.0
STALE = 60.0
KUMA_PATIENCE = 300.0
JOB_PATIENCE = 2 * 3600.0
ROOM = 4096
"""bytes that a heartbeat takes on a disk"""


@dataclass(frozen=True)
class Beat:
    """What the supervisor does now. Times are of the monotonic clock, unless noted."""

    pid: int
    monotonic: float
    kuma: str = ""
    """ready, starting, migrating, setup, other, stopped"""
    kuma_bad_since: float = 0.0
    """since when Kuma does not answer; 0 while it answers or migrates"""
    job: str = ""
    job_since: float = 0.0
    next_cycle: float = 0.0
    """seconds since the epoch"""
    step: str = ""
    """what the job does now, in words"""
    hints: str = ""
    """a replica's stream of hints: up or down; "" where it reads none"""
    hints_since: float = 0.0
    hints_why: str = ""
    """why it is down"""
    history: str = ""
    """streams, begins, behind or down: Litestream; "" where none runs"""
    history_sent_at: float = 0.0
    """up to when its store has all, in seconds since the epoch; 0: not yet"""
    history_why: str = ""
    """why it could not send"""
    history_restarts: int = 0
    history_pid: int = 0
    change_watch: str = ""
    """`WORKS`, or why it does not; empty where there is none"""


_KINDS = {
    field.name: (int, float) if field.type == "float" else str if field.type == "str" else int
    for field in dataclasses.fields(Beat)
}


def write(folder: Path, beat: Beat) -> None:
    """Replace the file, without a sync: after a power loss it is useless. Raises OSError.

    On a full disk the file that is there is written over: a supervisor that goes on would seem to
    have ended after a minute.
    """
    text = json.dumps(dataclasses.asdict(beat)).encode()
    with Folder.open(folder) as here:
        try:
            here.write(NAME, lambda file: file.write(text), durable=False)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            found = here.stat(NAME)
            here.write_over(NAME, text.ljust(found.st_size if found is not None else 0))


def remove(folder: Path) -> None:
    """Remove the file after an orderly end, so that the supervisor does not seem to run."""
    with contextlib.suppress(OSError):
        (folder / NAME).replace(folder / ENDED)
        os.utime(folder / ENDED)


def seen_at(folder: Path) -> float:
    """When a supervisor last wrote a heartbeat here, or ended; 0: none has ever run.

    Seconds since the epoch. Raises nothing.
    """
    times = [0.0]
    with contextlib.suppress(OSError):
        here = state_directory.below(folder)
        with here or contextlib.nullcontext():
            found = [here.stat(name) for name in (NAME, ENDED)] if here else []
            times += [one.st_mtime for one in found if one is not None]
    return max(times)


def read(folder: Path) -> Beat | None:
    """The last heartbeat; None if there is none, or it cannot be read."""
    try:
        text = state_directory.read(folder, NAME)
        if text is None:
            return None
        found = json.loads(text)
        known = {name: found[name] for name in found if name in _KINDS}
        if not all(isinstance(value, _KINDS[name]) for name, value in known.items()):
            return None
        return Beat(**known)
    except (OSError, ValueError, TypeError, RecursionError):
        return None


def lost(folder: Path) -> bool:
    """Whether the last supervisor was killed, or crashed with its machine.

    An orderly end removes the file. A living supervisor holds its lock (process ids mean nothing
    across containers). False if that cannot be known. Raises nothing.
    """
    if read(folder) is None:
        return False
    with contextlib.suppress(OSError):
        with contextlib.ExitStack() as stack:
            here = state_directory.below(folder)
            file = stack.enter_context(here).open_file(LOCK) if here is not None else None
            if file is None:
                return not alive(read(folder))
            fcntl.flock(stack.enter_context(file), fcntl.LOCK_SH | fcntl.LOCK_NB)
        return True
    return False


def without_a_word(folder: Path) -> str | None:
    """That the supervisor before this one was killed, in words; None: it ended in order.

    Call with its lock, before the first `write`.
    """
    beat = read(folder)
    if beat is None:
        return None
    seen = when(seen_at(folder))
    return f"replicator run (process {beat.pid}) ended without a word; last sign of life {seen}"


def alive(beat: Beat | None, now: float | None = None) -> bool:
    """Whether the heartbeat is fresh. One from the future was written before a reboot."""
    moment = time.monotonic() if now is None else now
    return beat is not None and 0 <= moment - beat.monotonic <= STALE


def trouble(beat: Beat | None, now: float | None = None) -> str | None:
    """Why this container is broken; None when it is healthy."""
    moment = time.monotonic() if now is None else now
    if beat is None:
        return "replicator run is not running here, and no cycle has ended since it did"
    if not alive(beat, moment):
        return "the supervisor gives no sign of life"
    if beat.kuma_bad_since and moment - beat.kuma_bad_since > KUMA_PATIENCE:
        return f"Uptime Kuma does not come back ({beat.kuma})"
    if beat.job and beat.kuma != "migrating" and moment - beat.job_since > JOB_PATIENCE:
        return f"the job {beat.job!r} does not end"
    return None
