"""Delivers messages to one service from a thread of its own: queue, retries, log, shutdown."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import reduce

from replicator_kuma.adapters.notify import Change, Kind, Request, Service
from replicator_kuma.adapters.notify.answers import answer, failure, in_words
from replicator_kuma.base.times import when
from replicator_kuma.dump.plan import Summary

logger = logging.getLogger(__name__)

CAPACITY = 100
TIMEOUT = 5.0
RETRY_DELAYS = (1.0, 5.0)
SAY_EVERY = 600.0
CHANGES_EVERY = 60.0
"""Seconds between two messages of one kind that tell of changes."""

_now = time.monotonic


@dataclass(frozen=True)
class _Told:
    """A change whose message waits; ``at`` is seconds since the epoch."""

    at: float
    title: str
    message: str
    change: Change


def _summed(waiting: Sequence[_Told]) -> tuple[str, str]:
    """Title and text of one message for one or more changes."""
    last = waiting[-1]
    if len(waiting) == 1:
        return last.title, last.message
    found = [told.change.summary for told in waiting]
    known = [summary for summary in found if summary is not None]
    what = f": {reduce(Summary.plus, known).sentence()}" if len(known) == len(found) else ""
    since = when(waiting[0].at)
    message = f"{len(waiting)} changes since {since}{what}; now at {last.change.position}"
    return last.title, message


class Delivery:
    """A notifier that hands messages of the kinds ``tell`` to one service.

    Changes of one kind are told every ``changes_every`` seconds at most: what comes in between
    waits, and is summed up. A full queue loses its oldest message. A message gets three attempts,
    or fewer if ``newest_only`` and a newer one waits. A lost message is logged once, then every ten
    minutes while messages get lost, without any secret.
    """

    def __init__(
        self,
        service: Service,
        instance: str,
        tell: Collection[Kind] = frozenset(Kind),
        *,
        newest_only: bool = False,
        capacity: int = CAPACITY,
        timeout: float = TIMEOUT,
        retry_delays: Sequence[float] = RETRY_DELAYS,
        changes_every: float = CHANGES_EVERY,
    ) -> None:
        self._service = service
        self._instance = instance
        # a failed drill is a failure: its snapshot cannot be recovered from
        self._tell = {*tell, *((Kind.DRILLS,) if Kind.FAILURES in tell else ())}
        self._newest_only = newest_only
        self._capacity = 1 if newest_only else capacity
        self._timeout = timeout
        self._retry_delays = tuple(retry_delays)
        self._changes_every = changes_every
        self._waiting: dict[Kind, list[_Told]] = {}
        self._due: dict[Kind, float] = {}
        """when a message of a kind may tell of changes again, on the monotonic clock"""
        self._changed = threading.Condition()
        self._queue: deque[Request] = deque()
        self._thread: threading.Thread | None = None
        self._busy = False
        self._closed = False
        self._given_up = False
        self._lost = 0
        self._said_at: float | None = None

    def send(
        self,
        kind: Kind,
        title: str,
        message: str,
        *,
        urgent: bool = False,
        change: Change | None = None,
    ) -> None:
        """Queue a message of a chosen kind; its title gets the instance's name in front."""
        if kind not in self._tell:
            return
        try:
            with self._changed:
                if self._closed:
                    return
                if change is None:
                    self._queue_up(title, message, urgent=urgent)
                else:
                    waiting = self._waiting.setdefault(kind, [])
                    waiting.append(_Told(time.time(), title, message, change))
                    self._release()
                self._changed.notify_all()
                if self._thread is None or not self._thread.is_alive():
                    name = self._service.name
                    self._thread = threading.Thread(target=self._work, name=name, daemon=True)
                    self._thread.start()
        except Exception as error:  # such as a thread that cannot start
            logger.warning("A notification was lost: %s", type(error).__name__)

    def _queue_up(self, title: str, message: str, *, urgent: bool = False) -> None:
        try:
            request = self._service.request(f"{self._instance}: {title}", message, urgent=urgent)
        except Exception as error:  # such as a title that is no text
            logger.warning("A notification was lost: %s", type(error).__name__)
            return
        if len(self._queue) >= self._capacity:
            self._queue.popleft()
            self._lost += not self._newest_only
        self._queue.append(request)

    def _release(self, *, ends: bool = False) -> float | None:
        """Queue the changes that are due, or all if it ``ends``.

        Returns the seconds until others are due; None: none waits.
        """
        now = time.monotonic()
        for kind, waiting in self._waiting.items():
            if waiting and (ends or now >= self._due.get(kind, now)):
                self._due[kind] = now + self._changes_every
                told, waiting[:] = [*waiting], []
                self._queue_up(*_summed(told))
        return min((self._due[kind] - now for kind, w in self._waiting.items() if w), default=None)

    def close(self, timeout: float = 2.0) -> None:
        """Wait at most ``timeout`` seconds until all messages are sent or lost; drop the rest."""
        with self._changed:
            self._release(ends=True)
            self._closed = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not (self._queue or self._busy), max(0.0, timeout))
            left = len(self._queue) + self._busy
            self._given_up = True
            self._queue.clear()
            self._changed.notify_all()
        if left:
            logger.warning("%d notifications were not delivered before the end", left)

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._queue:
                    if self._closed:
                        return
                    wait = self._release()
                    if not self._queue:
                        self._changed.wait(wait)
                request = self._queue.popleft()
                self._busy = True
            try:
                self._note(self._deliver(request))
            finally:
                with self._changed:
                    self._busy = False
                    self._changed.notify_all()

    def _deliver(self, request: Request) -> str | None:
        """Send with retries; returns None, or why it failed."""
        delays = list(self._retry_delays)
        while True:
            failed, again = self._post(request)
            if failed is None or not again or not delays:
                return failed
            with self._changed:
                if self._changed.wait_for(self._moves_on, delays.pop(0)):
                    return failed

    def _moves_on(self) -> bool:
        return self._given_up or (self._newest_only and bool(self._queue))

    def _post(self, request: Request) -> tuple[str | None, bool]:
        """One attempt: why it failed (None: it did not), and whether a retry can help."""
        try:
            with answer("POST", request, self._timeout) as response:
                status = response.status_code
        except Exception as error:
            return failure(error, self._timeout)
        if 200 <= status < 300:
            return None, False
        return in_words(self._service, status), status == 429 or status >= 500

    def _note(self, failed: str | None) -> None:
        now = _now()
        with self._changed:
            said_at, lost = self._said_at, self._lost + (failed is not None)
            say = failed is not None and (said_at is None or now - said_at >= SAY_EVERY)
            self._lost = 0 if say or failed is None else lost
            self._said_at = None if failed is None else now if say else said_at
        where = f"{self._service.name} at {self._service.host}"
        if say:
            logger.warning(
                "%s: %s (%d notifications lost). Replication goes on.", where, failed, lost
            )
        elif failed is None and said_at is not None:
            logger.info("%s takes notifications again.", where)
