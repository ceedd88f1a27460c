"""Delivers messages: those of the chosen kinds, to one service each, changes summed up."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial, reduce

from replicator_kuma.adapters.notify import Change, Kind, Message, Service
from replicator_kuma.adapters.notify.outbox import CAPACITY, RETRY_DELAYS, TIMEOUT, Outbox
from replicator_kuma.base.times import when
from replicator_kuma.dump.plan import Summary

CHANGES_EVERY = 60.0
"""Seconds between two messages of one kind that tell of changes."""


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


class Delivery(Outbox):
    """A notifier that hands messages of the kinds ``tell`` to one service.

    Changes of one kind are told every ``changes_every`` seconds at most: what comes in between
    waits, and is summed up. ``newest_only``: a message replaces all earlier ones.
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
        super().__init__(
            service,
            "notification",
            "notifications",
            capacity=capacity,
            timeout=timeout,
            retry_delays=retry_delays,
        )
        self._service = service
        self._instance = instance
        # a failed drill is a failure: its snapshot cannot be recovered from
        self._tell = {*tell, *((Kind.DRILLS,) if Kind.FAILURES in tell else ())}
        self._newest_only = newest_only
        self._changes_every = changes_every
        self._waiting: dict[Kind, list[_Told]] = {}
        self._due: dict[Kind, float] = {}
        """when a message of a kind may tell of changes again, on the monotonic clock"""

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
        if change is None:
            self._submit(lambda: self._queue_up(kind, title, message, urgent=urgent))
            return
        told = _Told(time.time(), title, message, change)

        def wait() -> None:
            self._waiting.setdefault(kind, []).append(told)
            self._refill()

        self._submit(wait)

    def _queue_up(self, kind: Kind, title: str, text: str, *, urgent: bool = False) -> None:
        name = self._instance
        message = Message(f"{name}: {title}", text, urgent=urgent, kind=kind, instance=name)
        self._put(partial(self._service.request, message), replaces=self._newest_only)

    def _refill(self, *, ends: bool = False) -> float | None:
        """Queue the changes that are due, or all if it ``ends``."""
        now = time.monotonic()
        for kind, waiting in self._waiting.items():
            if waiting and (ends or now >= self._due.get(kind, now)):
                self._due[kind] = now + self._changes_every
                told, waiting[:] = [*waiting], []
                self._queue_up(kind, *_summed(told))
        return min((self._due[kind] - now for kind, w in self._waiting.items() if w), default=None)
