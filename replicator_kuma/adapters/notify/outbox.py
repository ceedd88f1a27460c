"""Sends requests to one target from a thread of its own: queue, retries, log, shutdown."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial

from replicator_kuma.adapters.notify import Call, Request, Result, Target, where
from replicator_kuma.adapters.notify.answers import attempted
from replicator_kuma.base.counters import COUNTED, NOTIFICATIONS
from replicator_kuma.base.events import as_event
from replicator_kuma.base.text import counted
from replicator_kuma.base.threads import started
from replicator_kuma.base.times import lasting

logger = logging.getLogger(__name__)

CAPACITY = 100
TIMEOUT = 5.0
CALL = 300.0
"""seconds for an attempt of a `Call`, which may have many recipients"""
RETRY_DELAYS = (1.0, 5.0)
SAY_EVERY = 600.0

_now = time.monotonic


class Outbox:
    """A queue of requests to one target.

    A full queue loses its oldest request. A request gets three attempts, or fewer if a newer one
    replaces it. What is lost is logged once, then every ten minutes while more gets lost, without
    any secret. ``one`` and ``many`` are what the log calls its requests.
    """

    def __init__(
        self,
        target: Target,
        one: str,
        many: str,
        *,
        capacity: int = CAPACITY,
        timeout: float = TIMEOUT,
        retry_delays: Sequence[float] = RETRY_DELAYS,
    ) -> None:
        self._target = target
        self._one, self._many = one, many
        self._capacity = capacity
        self._timeout = timeout
        self._retry_delays = tuple(retry_delays)
        self._changed = threading.Condition()
        self._queue: deque[Request | Call] = deque()
        self._thread: threading.Thread | None = None
        self._busy = False
        self._replaced = False
        """a newer request replaces the one that is on its way"""
        self._closed = False
        self._given_up = False
        self._left: Future[Result] | None = None
        """the last `Call`, which may go on"""
        self._lost = 0
        self._said_at: float | None = None

    def _submit(self, enqueue: Callable[[], object]) -> None:
        """Run ``enqueue`` under the lock, and have sent what it puts; raises nothing."""
        try:
            with self._changed:
                if self._closed:
                    return
                enqueue()
                self._changed.notify_all()
                if self._thread is None or not self._thread.is_alive():
                    name = self._target.name
                    self._thread = threading.Thread(target=self._work, name=name, daemon=True)
                    self._thread.start()
        except Exception as error:  # such as a thread that cannot start
            logger.warning(
                "A %s was lost: %s", self._one, type(error).__name__, extra=as_event("message_lost")
            )

    def _put(self, make: Callable[[], Request | Call | None], *, replaces: bool = False) -> None:
        """Queue a request, under the lock; ``replaces``: instead of all earlier ones."""
        try:
            request = make()
        except Exception as error:  # such as a title that is no text
            logger.warning(
                "A %s was lost: %s", self._one, type(error).__name__, extra=as_event("message_lost")
            )
            return
        if request is None:
            return
        if replaces:
            self._queue.clear()
            self._replaced = True
        elif len(self._queue) >= self._capacity:
            self._queue.popleft()
            self._lost += 1
        self._queue.append(request)

    def _refill(self, *, ends: bool = False) -> float | None:
        """Queue what is due, under the lock; returns the seconds until more is, None if none is.

        ``ends``: nothing can be queued later.
        """
        return None

    def begin_close(self) -> None:
        """Take no more requests; those in the queue are still sent."""
        with self._changed:
            self._refill(ends=True)
            self._closed = True
            self._changed.notify_all()

    def close(self, timeout: float = 2.0) -> None:
        """Wait at most ``timeout`` seconds until all requests are sent or lost; drop the rest."""
        self.begin_close()
        with self._changed:
            self._changed.wait_for(lambda: not (self._queue or self._busy), max(0.0, timeout))
            left = len(self._queue) + self._busy
            self._given_up = True
            self._queue.clear()
            self._changed.notify_all()
        if left:
            logger.warning(
                "%s %s not delivered before the end",
                counted(left, self._one),
                "was" if left == 1 else "were",
                extra=as_event("messages_undelivered"),
            )

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._queue:
                    if self._closed:
                        return
                    wait = self._refill()
                    if not self._queue:
                        self._changed.wait(wait)
                request = self._queue.popleft()
                self._replaced = False
                self._busy = True
            try:
                self._note(self._deliver(request))
            finally:
                with self._changed:
                    self._busy = False
                    self._changed.notify_all()

    def _deliver(self, request: Request | Call) -> str | None:
        """Send with retries; returns None, or why it failed."""
        delays = list(self._retry_delays)
        while True:
            failed, again = self._attempt(request)
            if failed is None or not again or not delays:
                return failed
            with self._changed:
                if self._changed.wait_for(self._moves_on, delays.pop(0)):
                    return failed

    def _moves_on(self) -> bool:
        return self._given_up or self._replaced

    def _attempt(self, request: Request | Call) -> Result:
        if isinstance(request, Request):
            return attempted(self._target, request, self._timeout)
        try:
            return self._called(request)
        except Exception as error:
            return type(error).__name__, False  # its text may hold the address

    def _called(self, call: Call) -> Result:
        """Make an attempt that nobody can cut, in a thread of its own, of which one may be left.

        It is not tried again: some of its recipients may have got it.
        """
        if self._left is not None and not self._left.done():
            return "the attempt before it has not ended", False
        self._left = started(f"{self._target.name} call", partial(call.attempt, self._timeout))
        try:
            return self._left.result(CALL)
        except TimeoutError:
            if self._left.done():  # its own
                raise
            return f"no whole answer within {lasting(CALL)}", False

    def _note(self, failed: str | None) -> None:
        result = "failed" if failed is not None else "sent"
        COUNTED.add(NOTIFICATIONS, target=self._target.name, result=result)
        now = _now()
        with self._changed:
            said_at, lost = self._said_at, self._lost + (failed is not None)
            say = failed is not None and (said_at is None or now - said_at >= SAY_EVERY)
            self._lost = 0 if say or failed is None else lost
            self._said_at = None if failed is None else now if say else said_at
        if say:
            text = "%s: %s (%s lost). Replication goes on."
            count = counted(lost, self._one)
            logger.warning(
                text, where(self._target), failed, count, extra=as_event("target_failed")
            )
        elif failed is None and said_at is not None:
            logger.info(
                "%s takes %s again.",
                where(self._target),
                self._many,
                extra=as_event("target_works"),
            )
