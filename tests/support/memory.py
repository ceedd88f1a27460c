"""Where the tests write: in memory, if there is room, because what dies in a test is a process.

The program makes each step durable (fsync). That takes 3 ms on a disk and nothing in memory: the
tests of the cycles then need half the time. With TMPDIR set a run writes there, and what it made
stays to be looked at.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

MEMORY = Path("/dev/shm")
_PREFIX = "rt-"
"""short: sockets have room for few letters, and the program cuts what restic says of a path"""
_ROOM = 5 * 2**30
"""A whole run writes 3 GB."""


def write_to_memory() -> Path | None:
    """Make a folder in memory this process's and its children's TMPDIR; the folder.

    None, and no change, where TMPDIR is set already or memory has too little room. A run that was
    killed leaves its folder; the next run removes it here.
    """
    if "TMPDIR" in os.environ or not os.access(MEMORY, os.W_OK):
        return None
    for left in MEMORY.glob(f"{_PREFIX}*"):
        if left.stat().st_uid == os.geteuid() and _locked(left):
            remove(left)
    if min(shutil.disk_usage(MEMORY).free, _available()) < _ROOM:
        return None
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=MEMORY))
        folder.chmod(0o711)  # some tests run programs as another user
        if _locked(folder) and folder.exists():  # another run may have taken it for a dead one's
            break
    os.environ["TMPDIR"] = str(folder)
    tempfile.tempdir = None  # it is looked up once a process
    return folder


@contextlib.contextmanager
def in_memory() -> Iterator[Path]:
    """A folder in memory where there is any: what dies in it is a process, not a machine."""
    place = MEMORY if os.access(MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="replicator-", dir=place) as folder:
        yield Path(folder)


def remove(folder: Path) -> None:
    """Remove a folder with all that tests have made in it, folders closed to us too."""
    subprocess.run(["chmod", "-R", "u+rwX", folder], check=False, capture_output=True)
    shutil.rmtree(folder, ignore_errors=True)


def _locked(folder: Path) -> bool:
    """Take a folder's lock for as long as this process lives; False: another one has it."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return False
    return True


def _available() -> int:
    """Bytes of memory that programs can still have."""
    found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    return int(found[1]) * 1024 if found else 0
