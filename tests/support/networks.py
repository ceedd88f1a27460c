"""Places with a network of their own, which a test can cut: network namespaces on one switch.

Needs root and iproute2. What is started within `Network.inside` stays in that namespace, and so do
sockets and threads that are made there.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.support.tools import ToolMissingError

_CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)
_NUMBERS = itertools.count(1)
_OWN = Path("/proc/thread-self/ns/net")


class Network:
    """A switch with an address of its own, and places around it; a context manager."""

    hub = "10.99.0.254"
    """the switch's own address: what all places reach"""

    def __init__(self) -> None:
        if os.geteuid() != 0:
            raise ToolMissingError("network namespaces need root")
        self._mark = f"rk{os.getpid()}x{next(_NUMBERS)}"
        self._places = list[str]()
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Network:
        try:
            self._make("switch")
            self._in("switch", "link add name br0 type bridge")
            self._in("switch", "link set br0 up")
            self._in("switch", f"addr add {self.hub}/24 dev br0")
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        self._stack.close()

    def join(self, place: str) -> str:
        """Give a new place its cable to the switch; returns its address."""
        self._places.append(place)
        number = len(self._places)
        self._make(place)
        address = f"10.99.0.{number}"
        peer = f"{self._mark}.{place}"
        self._in("switch", f"link add name to{number} type veth peer name eth0 netns {peer}")
        self._in("switch", f"link set to{number} master br0 up")
        self._in(place, f"addr add {address}/24 dev eth0")
        self._in(place, "link set eth0 up")
        return address

    def cut(self, place: str, *, off: bool = True) -> None:
        """Pull the cable of a place, or plug it in again."""
        number = self._places.index(place) + 1
        self._in("switch", f"link set to{number} {'down' if off else 'up'}")

    @contextlib.contextmanager
    def inside(self, place: str = "switch") -> Iterator[None]:
        """This thread is in the place's network for the block."""
        with _OWN.open() as own, Path(f"/run/netns/{self._mark}.{place}").open() as other:
            _enter(other.fileno())
            try:
                yield
            finally:
                _enter(own.fileno())

    def _make(self, place: str) -> None:
        name = f"{self._mark}.{place}"
        _ip(f"netns add {name}")
        self._stack.callback(_ip, f"netns del {name}")
        self._in(place, "link set lo up")

    def _in(self, place: str, call: str) -> None:
        _ip(f"-n {self._mark}.{place} {call}")


def _enter(descriptor: int) -> None:
    if _LIBC.setns(descriptor, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _ip(call: str) -> None:
    try:
        done = subprocess.run(["ip", *call.split()], capture_output=True, text=True)
    except FileNotFoundError as error:
        raise ToolMissingError("ip (iproute2) is missing") from error
    if done.returncode:
        raise ToolMissingError(f"ip {call}: {done.stderr.strip()}")
