"""A replica that is told of new snapshots: its stream of hints, and how often it still looks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from replicator_kuma.adapters.notify.ntfy import Ntfy
from replicator_kuma.adapters.repository import Position
from replicator_kuma.base.errors import StateError
from replicator_kuma.daemon.hint_gate import SPREAD, HintGate
from replicator_kuma.daemon.schedule import steady_part
from replicator_kuma.daemon.subscription import Subscription
from replicator_kuma.replication import push
from replicator_kuma.replication.instance import CycleResult, Hint, Instance

SAFETY = 900.0
"""seconds between two cycles at the interval while hints come"""


class Push:
    """Reads the topic of one replica's fleet, and asks for a cycle where a hint is worth one."""

    def __init__(self, topic: Ntfy, instance: Instance, ask: Callable[[Hint], None]) -> None:
        self._instance = instance
        delay = SPREAD * steady_part(f"{instance.fleet} {instance.name}")
        self._gate = HintGate(ask, self._holds, delay)
        self.stream = Subscription(topic, self._heard)

    def _heard(self, message: str) -> None:
        if (hint := push.parsed(message, self._instance.fleet)) is not None:
            self._gate.heard(hint)

    def _holds(self) -> Position | None:
        with contextlib.suppress(StateError):
            applied = self._instance.state.load().following.applied
            return applied.position if applied is not None else None
        return None

    def looked(self, hint: Hint | None, result: CycleResult | None) -> None:
        """Note the end of a cycle: whether hints can be relied on."""
        self._gate.looked(hint, result)

    def interval(self, otherwise: float) -> float:
        """Seconds from cycle to cycle: ``otherwise`` unless hints come and have been true."""
        calm = self.stream.up and self._gate.reliable
        return max(SAFETY, otherwise) if calm else otherwise
