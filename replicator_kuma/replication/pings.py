"""Pings: whether this instance is in sync, told at the end of each cycle.

A ping says success exactly where `status --fresh` would say `fresh` right after a cycle that went
well. A cycle that waits says neither success nor failure: the receiver's own time runs out if it
goes on.
"""

from __future__ import annotations

import logging
import time

from replicator_kuma.adapters.notify import CycleEnd
from replicator_kuma.base.errors import (
    AlreadyRunning,
    Interrupted,
    ReplicatorError,
    StateError,
    describe,
)
from replicator_kuma.replication.freshness import Verdict, judge
from replicator_kuma.replication.instance import CycleResult, Instance, Outcome
from replicator_kuma.replication.state.state import State

logger = logging.getLogger(__name__)

NO_END = (Interrupted, AlreadyRunning)
"""errors after which no cycle took place: the result of the one before still holds"""
_NEEDS_A_PERSON = (Verdict.FENCED, Verdict.REFUSED, Verdict.HELD)
_ANY_AGE = float("inf")


def verdict(
    state: State, leads: bool, end: CycleResult | Exception, seconds: float = 0.0
) -> CycleEnd | None:
    """What the end of a cycle says; a pure function. None: nothing, since it was no cycle.

    ``state`` is the one after it; ``leads``: it was a leader's.
    """
    if isinstance(end, Exception):
        known = end if isinstance(end, ReplicatorError) else None
        if isinstance(end, NO_END) or (known and known.refusal):
            return None
        return CycleEnd(False, describe(end), known.exit_code if known else 1, seconds)
    fresh = judge(state, leads, _ANY_AGE, time.time())
    if fresh.verdict in _NEEDS_A_PERSON:
        return CycleEnd(False, fresh.line, 0, seconds)
    if end.outcome is Outcome.WAITING:
        return CycleEnd(None, end.sentence, 0, seconds)
    return CycleEnd(True, end.sentence, 0, seconds)


def ended(
    instance: Instance, leads: bool, end: CycleResult | Exception, seconds: float = 0.0
) -> None:
    """Ping the end of a cycle; returns at once, and raises nothing."""
    try:
        told = verdict(instance.state.load(), leads, end, seconds)
    except (StateError, OSError, MemoryError) as error:
        told = CycleEnd(False, describe(error), getattr(error, "exit_code", 1), seconds)
    if told is not None:
        instance.pings.ended(told)
