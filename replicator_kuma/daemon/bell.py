"""Wakes the supervisor's main loop, from any thread and from a signal, without a lock."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Iterator


class Bell:
    """A pipe: whoever has something for the main loop writes a byte into it."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._read, select.POLLIN)

    def ring(self) -> None:
        """End the wait that goes on, or the next one."""
        with contextlib.suppress(BlockingIOError):  # it is full, so it rings already
            os.write(self._write, b"\0")

    def wait(self, seconds: float) -> None:
        """Until somebody rings, a signal comes or the time is over."""
        if self._poll.poll(max(0.0, seconds) * 1000):
            with contextlib.suppress(BlockingIOError):
                os.read(self._read, 65536)

    @contextlib.contextmanager
    def rung_by_signals(self) -> Iterator[None]:
        """Have each signal that has a handler ring, also that of a child's end.

        Python's own code writes the byte: a handler in Python sets a plain flag and nothing else.
        """
        before = signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        former = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(former)
            signal.signal(signal.SIGCHLD, before)
