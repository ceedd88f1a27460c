"""A value that many ask for, and that is made at most once at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

from replicator_kuma.base.errors import MachineError
from replicator_kuma.base.threads import started
from replicator_kuma.base.times import lasting

T = TypeVar("T")


class Kept(Generic[T]):
    """Makes a value in a thread of its own when it is older than ``fresh`` seconds.

    What makes it may hang, as an agent in a Kuma that hangs does. Who asks waits at most ``wait``
    seconds, and gets the value before it where there is one that is not older than ``stale``.
    """

    def __init__(
        self,
        name: str,
        make: Callable[[], T],
        *,
        fresh: float = 1.0,
        wait: float = 1.0,
        stale: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name, self._make, self._clock = name, make, clock
        self._fresh, self._wait, self._stale = fresh, wait, stale
        self._lock = threading.Lock()
        self._making: Future[T] | None = None
        self._known: tuple[float, T] | None = None

    def get(self, wait: float | None = None) -> T:
        """The value. Raises what making it raised; MachineError if it takes too long.

        ``wait``: seconds, in place of its own. Even 0 has the value made, for who asks later.
        """
        wait = self._wait if wait is None else wait
        now = self._clock()
        with self._lock:
            known = self._known
            if known is not None and now - known[0] < self._fresh:
                return known[1]
            if self._making is None:
                self._making = started(f"http-{self._name}", self._run)
            making = self._making
        try:
            return making.result(wait)
        except TimeoutError:
            if making.done():
                raise
        if known is not None and now - known[0] < self._stale:
            return known[1]
        raise MachineError(f"the {self._name} takes longer than {lasting(wait)}")

    def _run(self) -> T:
        try:
            value = self._make()
        except BaseException:
            with self._lock:
                self._making = None
            raise
        with self._lock:
            self._known, self._making = (self._clock(), value), None
        return value
