"""Other processes as this machine's /proc shows them, and who of them listens at a TCP port.

A process of another pid namespace (another container), or of another machine, is not to be seen.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import socket
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
"""what a Kuma that is up calls itself: its arguments are gone then"""
_LISTEN = "0A"
"""a socket's state in /proc/net/tcp; TIME_WAIT and the others keep nobody from listening"""


@dataclass(frozen=True)
class Process:
    """A process; or a connection to a server, and then ``began`` is that server's word."""

    pid: int
    began: str
    """clock ticks since the machine's start: an id may be used again"""
    command: str
    """its program's name; never its arguments, which may hold secrets"""
    maybe_kuma: bool
    """it is a program that runs Kuma's server"""
    session: int = 0
    """the id of its session"""
    serves_kuma: bool = False
    """it is Kuma's server, by its command line or its title"""
    kind: str = "process"

    def __str__(self) -> str:
        return f"{self.kind} {self.pid} ({self.command})"

    @property
    def mark(self) -> str:
        """What tells it from all others since the machine's, or the server's, start."""
        return f"{self.pid}.{self.began}"


@dataclass(frozen=True)
class Listener:
    """Who listens at a port; ``process`` is None where this user may not see it."""

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
    """What the kernel tells of a process."""

    name: str
    state: str
    parent: int
    session: int
    began: str
    """see `Process`"""


def stat_of(pid: int) -> Stat | None:
    """None where there is no such process, or none that can be seen from here."""
    try:
        text = (PROC / str(pid) / "stat").read_text(errors="replace")
        # pid (name) state parent group session …; the name may hold spaces and parentheses
        name, _, rest = text.partition("(")[2].rpartition(")")
        words = rest.split()
        return Stat(name, words[0], int(words[1]), int(words[3]), words[19])
    except (OSError, ValueError, IndexError):
        return None


def arguments_of(pid: int) -> list[str]:
    """A process's command line; none where it is gone."""
    try:
        raw = (PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return []
    return [os.fsdecode(part) for part in raw.split(b"\0") if part]


def describe(pid: int) -> Process | None:
    """None for one that is gone, or that ends just now."""
    stat, arguments = stat_of(pid), arguments_of(pid)
    if stat is None or stat.state in ("Z", "X"):
        return None
    programs = [Path(arguments[0].strip()).name if arguments else "", stat.name]
    with contextlib.suppress(OSError):
        programs.append((PROC / str(pid) / "exe").readlink().name)
    shown = next((program for program in programs if program), "?")
    # not by a path with Kuma's name in it: a side-car is told the database's
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
    """Who listens where a connection to this host and port of this machine arrives.

    Empty for a host of another machine, and in another network namespace. Looks at /proc alone,
    at process ``first`` before all others.
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
    """The Kuma, older than our child, that answers at its address in its place; None: none is seen.

    (A proxy in front of our child is no Kuma, though node may run it. One that is younger may be
    our child's, in a container that it has started.)
    """
    ours = describe(child)
    if ours is None:
        return None
    found = [one.process for one in listeners(host, port, child) if one.process is not None]
    if any(belongs_to(one, child) for one in found):
        return None
    return next((one for one in found if one.serves_kuma and began_before(one, ours)), None)


def _addresses(host: str, port: int) -> set[str]:
    """The addresses of a host, in the form of `ipaddress`."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return set()
    return {str(address[0]).partition("%")[0] for *_rest, address in found}


def _is_ours(address: str) -> bool:
    """Whether an address is one of this machine: only such can be bound to."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True


def _takes(word: str, wanted: set[str]) -> bool:
    """Whether a socket bound to an address, as the kernel writes it, takes what goes to others."""
    raw = bytes.fromhex(word)  # each four bytes are a number in this machine's byte order
    if sys.byteorder == "little":
        raw = b"".join(raw[at : at + 4][::-1] for at in range(0, len(raw), 4))
    bound = ip_address(raw)
    mapped = bound.ipv4_mapped if bound.version == 6 else None
    return bound.is_unspecified or str(mapped or bound) in wanted


def _owners(inodes: set[int], first: int | None) -> dict[int, int]:
    """The process, by the inode of a socket, as far as this user may see."""
    names = {f"socket:[{inode}]": inode for inode in inodes}
    found: dict[int, int] = {}
    for pid in itertools.chain([first] if first is not None else [], pids()):
        if len(found) == len(inodes):
            break
        with contextlib.suppress(OSError):  # another user's, or gone
            for descriptor in (PROC / str(pid) / "fd").iterdir():
                with contextlib.suppress(OSError):
                    if (inode := names.get(str(descriptor.readlink()))) is not None:
                        found.setdefault(inode, pid)
    return found
