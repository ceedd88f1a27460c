"""Calls a function at a deadline, unless it was called off before: one thread for all deadlines.

A `threading.Timer` is a thread for each call: that is a third of what a call of a peer takes.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator

from replicator_kuma.base.events import as_event

IDLE = 30.0
"""seconds without a deadline after which the thread ends"""

logger = logging.getLogger(__name__)


class Watchdog:
    """Deadlines of this process. All methods may be called by any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._due: dict[object, tuple[float, Callable[[], None]]] = {}
        self._wakes_at: float | None = None
        """when the thread looks again; None: there is none"""

    @contextlib.contextmanager
    def within(self, seconds: float, late: Callable[[], None]) -> Iterator[None]:
        """Call ``late``, in another thread, if the block takes longer.

        Raises RuntimeError, before the block, if the machine gives no thread.
        """
        mark = object()
        with self._changed:
            at = time.monotonic() + seconds
            if self._wakes_at is None:
                # it waits for the lock; first, since the machine may give no thread
                threading.Thread(target=self._run, name="deadlines", daemon=True).start()
                self._wakes_at = at
            elif at < self._wakes_at:
                self._changed.notify()
            self._due[mark] = (at, late)
        try:
            yield
        finally:
            with self._changed:
                self._due.pop(mark, None)

    def _run(self) -> None:
        idle_since = time.monotonic()
        while True:
            with self._changed:
                now = time.monotonic()
                if self._due:
                    idle_since = now
                elif now - idle_since >= IDLE:
                    self._wakes_at = None
                    return
                over = [mark for mark, (at, _late) in self._due.items() if at <= now]
                late = [self._due.pop(mark)[1] for mark in over]
                self._wakes_at = min((at for at, _late in self._due.values()), default=now + IDLE)
                if not late:
                    self._changed.wait(self._wakes_at - now)
            for each in late:
                try:
                    each()
                except Exception:  # a bug there must not end all other deadlines
                    logger.exception("a deadline", extra=as_event("bug"))
