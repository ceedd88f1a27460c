"""Several targets as one. Each has its own queue and thread: none waits for another."""

from __future__ import annotations

import time
from collections.abc import Sequence

from replicator_kuma.adapters.notify import Change, CycleEnd, Kind
from replicator_kuma.adapters.notify.delivery import Delivery
from replicator_kuma.adapters.notify.outbox import Outbox
from replicator_kuma.adapters.notify.pinging import Pinging


class SeveralNotifiers:
    """Sends each message to each service."""

    def __init__(self, deliveries: Sequence[Delivery]) -> None:
        self._all = tuple(deliveries)

    def send(
        self,
        kind: Kind,
        title: str,
        message: str,
        *,
        urgent: bool = False,
        change: Change | None = None,
    ) -> None:
        """Queue the message for each service."""
        for one in self._all:
            one.send(kind, title, message, urgent=urgent, change=change)

    def close(self, timeout: float = 2.0) -> None:
        """Give all of them together at most ``timeout`` seconds."""
        _close(self._all, timeout)


class SeveralPings:
    """Pings each target."""

    def __init__(self, pings: Sequence[Pinging]) -> None:
        self._all = tuple(pings)

    def begun(self) -> None:
        """Queue the begin of a cycle for each target."""
        for one in self._all:
            one.begun()

    def ended(self, end: CycleEnd) -> None:
        """Queue the end of a cycle for each target."""
        for one in self._all:
            one.ended(end)

    def close(self, timeout: float = 2.0) -> None:
        """Give all of them together at most ``timeout`` seconds."""
        _close(self._all, timeout)


def _close(boxes: Sequence[Outbox], timeout: float) -> None:
    until = time.monotonic() + timeout
    for box in boxes:  # first all: what one of them has yet to send goes out while another hangs
        box.begin_close()
    for box in boxes:
        box.close(until - time.monotonic())
