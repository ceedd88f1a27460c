"""Which other processes have a database file open, as far as this machine's /proc tells.

A process of another pid namespace (another container), or of another machine, is not to be seen.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from replicator_kuma.base.processes import PROC, Process, describe, pids

_SUFFIXES = ("", "-wal", "-shm", "-journal")


def holders(database: Path) -> tuple[Process, ...]:
    """Other processes that have the database, its WAL or its journal open, by process id."""
    # not Path.resolve, which raises for a link to itself
    files, inodes, real = set(), set(), os.path.realpath(database)
    for suffix in _SUFFIXES:
        with contextlib.suppress(OSError):
            found = Path(f"{real}{suffix}").stat()
            files.add((found.st_dev, found.st_ino))
            inodes.add(found.st_ino)
    names = {f"{Path(real).name}{suffix}" for suffix in _SUFFIXES}
    found_by = {pid for pid in pids() if _has_open(pid, names, files)} | set(_lockers(inodes))
    described = (describe(pid) for pid in sorted(found_by - {os.getpid()}))
    return tuple(one for one in described if one is not None)


def _has_open(pid: int, names: set[str], files: set[tuple[int, int]]) -> bool:
    """By name first: to ask a descriptor for its file may hang where that lies on a network."""
    folder = f"{PROC}/{pid}/fd"
    # plain strings: it looks at each descriptor of the machine, and Path takes three times as long
    with contextlib.suppress(OSError):  # another user's, or gone
        for number in os.listdir(folder):  # noqa: PTH208
            try:
                if os.readlink(f"{folder}/{number}").rpartition("/")[2] in names:  # noqa: PTH115
                    found = os.stat(f"{folder}/{number}")  # noqa: PTH116
                    if (found.st_dev, found.st_ino) in files:
                        return True
            except OSError:  # closed meanwhile
                continue
    return False


def _lockers(inodes: set[int]) -> Iterator[int]:
    """Who holds locks on these files: the kernel's list shows other users' processes, too."""
    with contextlib.suppress(OSError):
        for line in (PROC / "locks").read_text().splitlines():
            # 1: POSIX  ADVISORY  READ 1234 fd:01:5678 128 128
            words = line.split()
            if len(words) >= 8 and words[1] == "POSIX" and words[4].isdecimal():
                inode = words[5].rpartition(":")[2]
                if inode.isdecimal() and int(inode) in inodes and int(words[4]) > 0:
                    yield int(words[4])
