"""Where connections wait that no worker serves yet.

cheroot hands each new connection to a worker, which then waits for what the client sends. A few
clients that send nothing, or a byte now and then, would hold all workers. Here one thread waits for
all of them; a worker gets a connection once the head of a request has come whole. It also cuts off
requests that take too long, and lets clients read an answer that came before they had sent all.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

MAX_HEAD = 16 * 1024
"""bytes of a request's line and headers"""
A_HEAD = 5.0
"""seconds that a client has for them"""
A_REQUEST = 10.0
"""seconds for a whole request from there: its body, the work, and reading the answer"""
A_FAREWELL = 1.0
"""seconds for a client to read an answer that came before it had sent its body"""
_TICK = 0.25
_ENDS = (b"\r\n\r\n", b"\n\n")


class Connection(Protocol):
    """A connection of cheroot."""

    socket: socket.socket

    def close(self) -> None: ...


class Head(Enum):
    """How far the head of a request has come."""

    WHOLE = 1
    """or longer than any may be: the worker refuses it"""
    PART = 2
    GONE = 3
    """the client hung up"""


def head_of(sock: socket.socket) -> Head:
    """How far the next request's head has come. Reads nothing away, and never waits."""
    try:
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        if not poll.poll(0):
            return Head.PART
        data = sock.recv(MAX_HEAD, socket.MSG_PEEK)
    except (OSError, ValueError):
        return Head.GONE
    if not data:
        return Head.GONE
    whole = len(data) >= MAX_HEAD or any(end in data for end in _ENDS)
    return Head.WHOLE if whole else Head.PART


@dataclass
class _Guest:
    connection: Connection
    until: float


class Lobby:
    """One thread and what waits there. All methods may be called by any thread, and never wait."""

    def __init__(self, ready: Callable[[Connection], None]) -> None:
        """``ready`` gets each connection whose next request can be served."""
        self._ready = ready
        self._lock = threading.Lock()
        self._waiting: dict[int, _Guest] = {}
        self._leaving: dict[int, tuple[socket.socket, float]] = {}
        self._served: dict[int, _Guest] = {}
        self._closed = False
        self._poll = select.epoll()
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poll.register(self._bell, select.EPOLLIN)

    def start(self) -> None:
        threading.Thread(target=self._run, name="http-lobby", daemon=True).start()

    def wait(self, connection: Connection) -> None:
        """Keep a connection until the head of its request is whole, for A_HEAD seconds."""
        number = connection.socket.fileno()
        with self._lock:
            if not self._closed and number >= 0:
                self._waiting[number] = _Guest(connection, time.monotonic() + A_HEAD)
                # edge-triggered: a client that sends a byte a second wakes us once a second
                self._poll.register(number, select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET)
                self._ring()
                return
        connection.close()

    def farewell(self, sock: socket.socket) -> None:
        """Close a socket once its client has read the answer, A_FAREWELL seconds from now at most.

        A socket that is closed before it was read to its end takes back the answer that is on its
        way: the client sees a reset connection and not why it was refused.
        """
        with contextlib.suppress(OSError), self._lock:
            sock.shutdown(socket.SHUT_WR)
            sock.settimeout(0)
            if not self._closed:
                self._leaving[sock.fileno()] = (sock, time.monotonic() + A_FAREWELL)
                self._poll.register(sock, select.EPOLLIN | select.EPOLLRDHUP)
                self._ring()
                return
        sock.close()

    @contextlib.contextmanager
    def serving(self, connection: Connection) -> Iterator[None]:
        """Cut the connection off if the block takes longer than A_REQUEST seconds; now, if closed.

        A worker may begin after `close`: then the bell is closed, and its number another file's.
        """
        with self._lock:
            if self._closed:
                _cut(connection)
            else:
                self._served[id(connection)] = _Guest(connection, time.monotonic() + A_REQUEST)
                self._ring()
        try:
            yield
        finally:
            with self._lock:
                self._served.pop(id(connection), None)

    def make_room(self) -> bool:
        """Close the connection that has waited longest; False: none waits."""
        with self._lock:
            number = next(iter(self._waiting), None)
            guest = self._out(number) if number is not None else None
        if guest is None:
            return False
        guest.connection.close()
        return True

    def close(self) -> None:
        """Close all that wait, and cut off all that are served."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            waiting = [guest for guest in map(self._out, list(self._waiting)) if guest]
            leaving = [sock for sock, _until in self._leaving.values()]
            self._leaving.clear()
            for guest in self._served.values():
                _cut(guest.connection)
            self._ring()
        for guest in waiting:
            guest.connection.close()
        for sock in leaving:
            sock.close()

    def _ring(self) -> None:
        os.eventfd_write(self._bell, 1)

    def _out(self, number: int) -> _Guest | None:
        """Take a connection out of those that wait. With the lock held."""
        guest = self._waiting.pop(number, None)
        if guest is not None:
            with contextlib.suppress(OSError, ValueError):
                self._poll.unregister(number)
        return guest

    def _run(self) -> None:
        while True:
            with self._lock:
                if self._closed:
                    break
                idle = not (self._waiting or self._leaving or self._served)
            for number, _event in self._poll.poll(None if idle else _TICK):
                if number == self._bell:
                    with contextlib.suppress(BlockingIOError):
                        os.eventfd_read(self._bell)
                else:
                    self._look(number)
            self._late(time.monotonic())
        self._poll.close()
        os.close(self._bell)

    def _look(self, number: int) -> None:
        with self._lock:
            leaving = self._leaving.get(number)
            if leaving is not None and not _drained(leaving[0]):
                return
            if leaving is not None:
                self._let_go(number)
                return
            guest = self._waiting.get(number)
            found = head_of(guest.connection.socket) if guest else Head.PART
            if guest is None or found is Head.PART:
                return
            self._out(number)
        if found is Head.WHOLE:
            self._ready(guest.connection)
        else:
            guest.connection.close()

    def _let_go(self, number: int) -> None:
        sock, _until = self._leaving.pop(number)
        with contextlib.suppress(OSError, ValueError):
            self._poll.unregister(number)
        sock.close()

    def _late(self, now: float) -> None:
        with self._lock:
            late = [number for number, guest in self._waiting.items() if guest.until <= now]
            guests = [guest for guest in map(self._out, late) if guest]
            for number in [n for n, (_sock, until) in self._leaving.items() if until <= now]:
                self._let_go(number)
            for guest in self._served.values():
                if guest.until <= now:
                    _cut(guest.connection)
        for guest in guests:
            guest.connection.close()


def _drained(sock: socket.socket) -> bool:
    """Read away what a client still sends; True once it has ended."""
    try:
        return not sock.recv(64 * 1024)
    except BlockingIOError:
        return False
    except OSError:
        return True


def _cut(connection: Connection) -> None:
    """End what a worker reads or writes, without closing what it still uses."""
    with contextlib.suppress(OSError):
        connection.socket.shutdown(socket.SHUT_RDWR)
