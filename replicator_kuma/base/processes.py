"""Other processes in this machine's /proc, which of them listen at a TCP port, and a child's end.

A process of another pid namespace (another container) or machine is not visible.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

from replicator_kuma.base.text import plain_line

PROC = Path("/proc")
_ENGINES = frozenset({"node", "nodejs", "bun", "deno"})
"""Programs that run Kuma's server."""
_SERVER = "server/server.js"
_TITLE = "uptime-kuma"
"""the process title of a running Kuma, which replaces its arguments"""
_LISTEN = "0A"
"""a socket's state in /proc/net/tcp; other states, such as TIME_WAIT, block no listener"""


@dataclass(frozen=True)
class Process:
    """A process; or a connection to a server, for which the server gives ``began``."""

    pid: int
    began: str
    """start time in clock ticks since the machine's start: process ids are reused"""
    command: str
    """its program's name; never its arguments, which may hold secrets"""
    maybe_kuma: bool
    """the program can run Kuma's server"""
    session: int = 0
    """the id of its session"""
    serves_kuma: bool = False
    """the process is Kuma's server, by its command line or title"""
    kind: str = "process"

    def __str__(self) -> str:
        return f"{self.kind} {self.pid} ({self.command})"

    @property
    def mark(self) -> str:
        """A text that is unique among all processes since the machine's (or server's) start."""
        return f"{self.pid}.{self.began}"


@dataclass(frozen=True)
class Listener:
    """A listener at a port; ``process`` is None if this user may not see it."""

    user: int
    """the id of the user who made the socket"""
    process: Process | None

    def __str__(self) -> str:
        if self.process is not None:
            return str(self.process)
        try:
            name = pwd.getpwuid(self.user).pw_name
        except KeyError:
            name = str(self.user)
        return f"a process of user {name} that this user may not see"


def pids() -> Iterator[int]:
    """The ids of all processes that can be seen."""
    with contextlib.suppress(OSError):
        for entry in PROC.iterdir():
            if entry.name.isdecimal():
                yield int(entry.name)


class Stat(NamedTuple):
    """The kernel's data about a process."""

    name: str
    state: str
    parent: int
    session: int
    began: str
    """see `Process`"""


def stat_of(pid: int) -> Stat | None:
    """The data of a process; None if there is none, or it is not visible here."""
    try:
        text = (PROC / str(pid) / "stat").read_text(errors="replace")
        # pid (name) state parent group session …; the name may hold spaces and parentheses
        name, _, rest = text.partition("(")[2].rpartition(")")
        words = rest.split()
        return Stat(name, words[0], int(words[1]), int(words[3]), words[19])
    except (OSError, ValueError, IndexError):
        return None


def arguments_of(pid: int) -> list[str]:
    """A process's command line; empty if the process has ended."""
    try:
        raw = (PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return []
    return [os.fsdecode(part) for part in raw.split(b"\0") if part]


def describe(pid: int) -> Process | None:
    """The process; None if it has ended or is just ending."""
    stat, arguments = stat_of(pid), arguments_of(pid)
    if stat is None or stat.state in ("Z", "X"):
        return None
    programs = [Path(arguments[0].strip()).name if arguments else "", stat.name]
    with contextlib.suppress(OSError):
        programs.append((PROC / str(pid) / "exe").readlink().name)
    shown = next((program for program in programs if program), "?")
    # a path with Kuma's name proves nothing: a side-car's arguments name the database
    serves = _TITLE in programs or any(a.endswith(_SERVER) for a in arguments)
    maybe = serves or not _ENGINES.isdisjoint(programs)
    return Process(pid, stat.began, plain_line(shown[:40]), maybe, stat.session, serves)


def began_before(first: Process, second: Process) -> bool:
    """Whether a process is older than another."""
    return (int(first.began), first.pid) < (int(second.began), second.pid)


def belongs_to(process: Process, root: int) -> bool:
    """Whether a process is ``root`` itself, in its session, or a descendant of it."""
    seen = set[int]()
    pid = process.pid
    if process.session == root:
        return True
    while pid > 1 and pid not in seen:
        if pid == root:
            return True
        seen.add(pid)
        stat = stat_of(pid)
        pid = 0 if stat is None else stat.parent
    return False


def listeners(host: str, port: int, first: int | None = None) -> tuple[Listener, ...]:
    """The listeners that a connection to this host and port of this machine can reach.

    Empty for another machine's host, and in another network namespace. Reads only /proc, process
    ``first`` before all others.
    """
    wanted = {address for address in _addresses(host, port) if _is_ours(address)}
    found: dict[int, int] = {}
    for name in ("tcp", "tcp6") if wanted else ():
        with contextlib.suppress(OSError):
            for line in (PROC / "self" / "net" / name).read_text().splitlines()[1:]:
                # 0: 0100007F:0BB9 00000000:0000 0A 0:0 00:0 0 1000 0 77, some of it with more zeros
                words = line.split()
                address, _, number = words[1].rpartition(":")
                if words[3] == _LISTEN and int(number, 16) == port and _takes(address, wanted):
                    found[int(words[9])] = int(words[7])
    owners = _owners(set(found), first)
    return tuple(
        Listener(user, describe(owners[inode]) if inode in owners else None)
        for inode, user in sorted(found.items())
    )


def other_kuma(host: str, port: int, child: int) -> Process | None:
    """A Kuma older than our child that answers at the child's address; None: none is visible.

    (A proxy in front of our child is no Kuma, although node may run it. A younger Kuma may belong
    to our child, in a container that it has started.)
    """
    ours = describe(child)
    if ours is None:
        return None
    found = [one.process for one in listeners(host, port, child) if one.process is not None]
    if any(belongs_to(one, child) for one in found):
        return None
    return next((one for one in found if one.serves_kuma and began_before(one, ours)), None)


def end_child(process: subprocess.Popen[bytes], grace: float) -> None:
    """Ask a child to end by SIGTERM, kill it after ``grace`` seconds, and wait for its end.

    Only the child itself is signalled. Harmless if it has ended.
    """
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(grace)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _addresses(host: str, port: int) -> set[str]:
    """The addresses of a host, in the form of `ipaddress`."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return set()
    return {str(address[0]).partition("%")[0] for *_rest, address in found}


def _is_ours(address: str) -> bool:
    """Whether an address belongs to this machine: only then it can be bound."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True


def _takes(word: str, wanted: set[str]) -> bool:
    """Whether a socket bound to ``word`` (as in /proc) gets connections to ``wanted``."""
    raw = bytes.fromhex(word)  # each four bytes are a number in this machine's byte order
    if sys.byteorder == "little":
        raw = b"".join(raw[at : at + 4][::-1] for at in range(0, len(raw), 4))
    bound = ip_address(raw)
    mapped = bound.ipv4_mapped if bound.version == 6 else None
    return bound.is_unspecified or str(mapped or bound) in wanted


def _owners(inodes: set[int], first: int | None) -> dict[int, int]:
    """The process of each socket inode, as far as this user may see."""
    names = {f"socket:[{inode}]": inode for inode in inodes}
    found: dict[int, int] = {}
    for pid in itertools.chain([first] if first is not None else [], pids()):
        if len(found) == len(inodes):
            break
        with contextlib.suppress(OSError):  # another user's process, or an ended one
            for descriptor in (PROC / str(pid) / "fd").iterdir():
                with contextlib.suppress(OSError):
                    if (inode := names.get(str(descriptor.readlink()))) is not None:
                        found.setdefault(inode, pid)
    return found
