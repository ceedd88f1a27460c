"""Which other processes have a database file open, as far as this machine's /proc tells.

A process of another pid namespace (another container), or of another machine, is not to be seen.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from replicator_kuma.plain import plain_line

_PROC = Path("/proc")
_SUFFIXES = ("", "-wal", "-shm", "-journal")
_ENGINES = frozenset({"node", "nodejs", "bun", "deno"})
"""Programs that run Kuma's server."""
_SERVER = "server/server.js"


@dataclass(frozen=True)
class Holder:
    """A process, and its begin (an id may be used again); or a connection to a server."""

    pid: int
    began: str
    command: str
    """its program's name; never its arguments, which may hold secrets"""
    maybe_kuma: bool
    kind: str = "process"
    session: int = 0
    """of a process: the id of its session"""

    def __str__(self) -> str:
        return f"{self.kind} {self.pid} ({self.command})"

    @property
    def mark(self) -> str:
        """What tells it from all others since the machine's, or the server's, start."""
        return f"{self.pid}.{self.began}"


def holders(database: Path) -> tuple[Holder, ...]:
    """Other processes that have the database, its WAL or its journal open, by process id."""
    files, inodes, real = set(), set(), os.path.realpath(database)
    for suffix in _SUFFIXES:
        with contextlib.suppress(OSError):
            found = Path(f"{real}{suffix}").stat()
            files.add((found.st_dev, found.st_ino))
            inodes.add(found.st_ino)
    names = {f"{Path(real).name}{suffix}" for suffix in _SUFFIXES}
    pids = {pid for pid in _processes() if _has_open(pid, names, files)} | set(_lockers(inodes))
    described = (_describe(pid) for pid in sorted(pids - {os.getpid()}))
    return tuple(holder for holder in described if holder is not None)


def _processes() -> Iterator[int]:
    with contextlib.suppress(OSError):
        for entry in _PROC.iterdir():
            if entry.name.isdecimal():
                yield int(entry.name)


def _has_open(pid: int, names: set[str], files: set[tuple[int, int]]) -> bool:
    """By name first: to ask a descriptor for its file may hang where that lies on a network."""
    folder = _PROC / str(pid) / "fd"
    with contextlib.suppress(OSError):  # another user's, or gone
        for descriptor in folder.iterdir():
            with contextlib.suppress(OSError):
                if descriptor.readlink().name in names:
                    found = descriptor.stat()
                    if (found.st_dev, found.st_ino) in files:
                        return True
    return False


def _lockers(inodes: set[int]) -> Iterator[int]:
    """Who holds locks on these files: the kernel's list shows other users' processes, too."""
    with contextlib.suppress(OSError):
        for line in (_PROC / "locks").read_text().splitlines():
            # 1: POSIX  ADVISORY  READ 1234 fd:01:5678 128 128
            words = line.split()
            if len(words) >= 8 and words[1] == "POSIX" and words[4].isdecimal():
                inode = words[5].rpartition(":")[2]
                if inode.isdecimal() and int(inode) in inodes and int(words[4]) > 0:
                    yield int(words[4])


def _describe(pid: int) -> Holder | None:
    """None for one that is gone, or that ends just now."""
    folder = _PROC / str(pid)
    try:
        stat = (folder / "stat").read_text()
        name, _, rest = stat.partition("(")[2].rpartition(")")
        words = rest.split()
        if words[0] in ("Z", "X"):
            return None
        arguments = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except (OSError, IndexError):
        return None
    programs = [Path(arguments[0]).name, name]
    with contextlib.suppress(OSError):
        programs.append((folder / "exe").readlink().name)
    shown = next((program for program in programs if program), "?")
    # not by a path with Kuma's name in it: a side-car is told the database's
    maybe = not _ENGINES.isdisjoint(programs) or any(a.endswith(_SERVER) for a in arguments)
    return Holder(pid, words[19], plain_line(shown[:40]), maybe, session=int(words[3]))
