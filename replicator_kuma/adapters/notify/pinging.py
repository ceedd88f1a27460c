"""Pings one target at the begin and the end of cycles."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from replicator_kuma.adapters.notify import CycleEnd, PingService
from replicator_kuma.adapters.notify.outbox import RETRY_DELAYS, TIMEOUT, Outbox


class Pinging(Outbox):
    """Sends the pings of one target, of which only the newest end counts.

    An end that says whether this instance is in sync replaces what waits. Nothing else does: the
    end of the cycle before, which a slow server has yet to take, says more.
    """

    def __init__(
        self,
        service: PingService,
        *,
        timeout: float = TIMEOUT,
        retry_delays: Sequence[float] = RETRY_DELAYS,
    ) -> None:
        super().__init__(service, "ping", "pings", timeout=timeout, retry_delays=retry_delays)
        self._service = service

    def begun(self) -> None:
        """Queue the ping of a begin, unless another ping waits."""

        def put() -> None:
            if not self._queue:
                self._put(self._service.begun)

        self._submit(put)

    def ended(self, end: CycleEnd) -> None:
        """Queue the ping of an end."""
        make = partial(self._service.ended, end)
        self._submit(partial(self._put, make, replaces=end.ok is not None))
