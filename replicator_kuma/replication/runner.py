"""Runs one action under the instance's lock; notes how it ended, and tells it once."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from functools import partial

from replicator_kuma.adapters.notify import Kind
from replicator_kuma.base.counters import CHANGES, COUNTED, CYCLE_ERRORS, CYCLE_SECONDS, CYCLES
from replicator_kuma.base.errors import (
    CacheFull,
    ReplicatorError,
    StateError,
    describe,
)
from replicator_kuma.base.os_errors import refusal
from replicator_kuma.replication import freshness, pings, problems
from replicator_kuma.replication.apply import checkpoints
from replicator_kuma.replication.instance import CycleResult, Instance, Run
from replicator_kuma.replication.state import transitions
from replicator_kuma.replication.state.records import CYCLE, Last
from replicator_kuma.replication.state.state import State

LEADER = "BACKUP"
"""the REPLICATOR_MODE of a leader"""

Work = Callable[[Instance, Run], CycleResult]


def run(
    instance: Instance,
    role: str,
    work: Work,
    how: Run,
    wait: float = 0.0,
    *,
    own: bool = False,
) -> CycleResult:
    """Run one action under the instance's lock and note its end; raises what the action raises.

    Raises AlreadyRunning if the lock is not free within ``wait`` seconds. ``own``: it is what the
    instance does by itself, so that its begin is pinged too; the end always is.
    """
    try:
        with instance.state.lock(wait):
            try:
                # inside: a wrong login for the database has to be noted as this cycle's end
                cycle = partial(_with_room, instance, work, how)
                return _pinged(instance, role, partial(recorded, instance, role, cycle), own)
            finally:
                _bring_back(instance, how)
    except (OSError, MemoryError) as raised:
        if error := refusal(raised):
            raise error from raised
        raise


def _pinged(
    instance: Instance, role: str, cycle: Callable[[], CycleResult], own: bool
) -> CycleResult:
    """Run the cycle, and ping its begin and its end as it was noted."""
    leads, began = role == LEADER, time.monotonic()
    if own:
        instance.pings.begun()
    try:
        result = cycle()
    except Exception as error:
        pings.ended(instance, leads, error, time.monotonic() - began)
        raise
    pings.ended(instance, leads, result, time.monotonic() - began)
    return result


def _with_room(instance: Instance, work: Work, how: Run) -> CycleResult:
    """Run the cycle; if restic's cache has no room, delete what can be spared and retry."""
    while True:
        try:
            return work(instance.look_for_store(), how)
        except CacheFull as error:
            hold = instance.state.load().following.hold
            spare = hold.kept if hold is not None else 0
            folder = instance.state.folder
            if not checkpoints.make_room(folder, error, spare):
                raise


def _bring_back(instance: Instance, how: Run) -> None:
    """Start Kuma again if a signal ended the cycle while Kuma was stopped.

    (Not if Kuma is our child: its supervisor is ending and would stop it again.)
    """
    kuma = instance.kuma
    if not (how.interrupted() and kuma.manages and not kuma.owned):
        return
    if instance.state.load().applying.stopped_by_me:
        instance.start_kuma()


def recorded(
    instance: Instance,
    role: str,
    cycle: Callable[[], CycleResult],
    clock: Callable[[], float] = time.time,
) -> CycleResult:
    """Run one cycle and note its end; raises its errors, MachineError for faults of the machine.

    Notifies when cycles begin to fail, fail in another way, and work again. The state notes what
    was told, so that a restarted replicator does not repeat it. Within an hour of a recovery, a
    failure that may pass is told only if it occurs twice in a row.
    """
    began = time.monotonic()
    try:
        result = cycle()
        _succeeded(instance, role, result, clock())
        _count(result, began)
        return result
    except pings.NO_END:
        raise
    except Exception as raised:
        if isinstance(raised, ReplicatorError) and raised.refusal:
            raise
        error = refusal(raised) or raised
        _count(error, began)
        # A full disk fails the cycle and also this note: show the first error.
        with contextlib.suppress(StateError, OSError, MemoryError):
            _failed(instance, role, error, clock())
        if error is raised:
            raise
        raise error from raised


def _count(end: CycleResult | Exception, began: float) -> None:
    """Count a cycle's end, for `/metrics`."""
    COUNTED.set(CYCLE_SECONDS, time.monotonic() - began)
    if isinstance(end, Exception):
        COUNTED.add(CYCLES, outcome="failed")
        COUNTED.add(CYCLE_ERRORS, kind=type(end).__name__)
        return
    COUNTED.add(CYCLES, outcome=end.outcome.value)
    if end.changes is None:
        return
    for action in ("added", "changed", "replaced", "deleted"):
        found = sum(getattr(counts, action) for counts in end.changes.tables.values())
        if found:
            COUNTED.add(CHANGES, found, action=action)


def _failed(instance: Instance, role: str, error: Exception, now: float) -> None:
    known = error if isinstance(error, ReplicatorError) else None
    last = Last(
        at=now,
        ok=False,
        sentence=describe(error),
        error=type(error).__name__,
        exit_code=known.exit_code if known else 1,
        hint=known.hint if known else "",
    )

    def noted(state: State) -> State:
        return transitions.cycle_ended(state, last, role, freshness.after_failure(state, error))

    kind, name = Kind.FAILURES, _name(role)
    problems.work_ended(instance, CYCLE, error, name, kind, flaps=True, also=noted, now=now)


def _succeeded(instance: Instance, role: str, result: CycleResult, now: float) -> None:
    last = Last(at=now, ok=True, sentence=result.sentence, outcome=result.outcome.value)
    waits = result.waits_until

    def noted(state: State) -> State:
        fresh = freshness.after_success(state, last.outcome, now)
        return transitions.cycle_ended(state, last, role, fresh, waits_until=waits)

    if waits and instance.state.load().failing_since:
        # the failed apply was put off, not retried: it may still fail
        instance.state.change(noted)
        return
    name, end = _name(role), result.sentence
    problems.work_ended(instance, CYCLE, end, name, Kind.FAILURES, also=noted, now=now)


def _name(role: str) -> str:
    return "backup" if role == LEADER else "restore"
