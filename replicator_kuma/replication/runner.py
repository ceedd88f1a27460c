"""One action under the instance's lock, and how it ended: noted in the state, told once."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

from replicator_kuma.adapters.notify import Kind
from replicator_kuma.base.errors import (
    AlreadyRunning,
    CacheFull,
    Interrupted,
    ReplicatorError,
    StateError,
    describe,
)
from replicator_kuma.base.os_errors import refusal
from replicator_kuma.replication import freshness, problems
from replicator_kuma.replication.apply import checkpoints
from replicator_kuma.replication.instance import CycleResult, Instance, Run
from replicator_kuma.replication.state import transitions
from replicator_kuma.replication.state.records import CYCLE, Last
from replicator_kuma.replication.state.state import State

_NO_END = (Interrupted, AlreadyRunning)
"""the cycle did not take place: what the one before said still holds"""


Work = Callable[[Instance, Run], CycleResult]


def run(instance: Instance, role: str, work: Work, how: Run, wait: float = 0.0) -> CycleResult:
    """One action under the instance's lock, its end noted; raises what it raises.

    AlreadyRunning when the lock is not free within ``wait`` seconds.
    """
    try:
        with instance.state.lock(wait):
            try:
                # inside: what is wrong with the database's login is how this cycle ended
                return recorded(instance, role, lambda: _with_room(instance, work, how))
            finally:
                _bring_back(instance, how)
    except (OSError, MemoryError) as raised:
        if error := refusal(raised):
            raise error from raised
        raise


def _with_room(instance: Instance, work: Work, how: Run) -> CycleResult:
    """The cycle; where restic's cache is full, rows kept from before older applies make room."""
    while True:
        try:
            return work(instance.look_for_store(), how)
        except CacheFull as error:
            hold = instance.state.load().following.hold
            spare = hold.kept if hold is not None else 0
            if not checkpoints.make_room(instance.state.folder, error, spare):
                raise


def _bring_back(instance: Instance, how: Run) -> None:
    """A signal may end a cycle while Kuma is stopped; a Kuma that is not our child starts again.

    (Our child would only be stopped once more: its supervisor is ending.)
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
    """Run one cycle and note its end; raises what it raises, MachineError for what is no bug.

    Notifies when cycles begin to fail, fail in another way than before, and work again. What was
    told is in the state, so that a replicator that restarts does not tell it twice. Within an
    hour of a recovery what goes by itself has to fail twice in a row.
    """
    try:
        result = cycle()
        _succeeded(instance, role, result, clock())
        return result
    except _NO_END:
        raise
    except Exception as raised:
        if isinstance(raised, ReplicatorError) and raised.refusal:
            raise
        error = refusal(raised) or raised
        # A disk that is full fails the cycle and this note: the first error is the one to show.
        with contextlib.suppress(StateError, OSError, MemoryError):
            _failed(instance, role, error, clock())
        if error is raised:
            raise
        raise error from raised


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
        fresh_at, refused = freshness.after_failure(state, error)
        return transitions.cycle_failed(state, last, role, fresh_at=fresh_at, refused=refused)

    name = _name(role)
    problems.work_ended(
        instance, CYCLE, error, name, Kind.FAILURES, flaps=True, also=noted, now=now
    )


def _succeeded(instance: Instance, role: str, result: CycleResult, now: float) -> None:
    last = Last(at=now, ok=True, sentence=result.sentence, outcome=result.outcome.value)
    waits = result.waits_until

    def noted(state: State) -> State:
        fresh_at, refused = freshness.after_success(state, last.outcome, now)
        return transitions.cycle_succeeded(
            state, last, role, waits_until=waits, fresh_at=fresh_at, refused=refused
        )

    if waits and instance.state.load().failing_since:
        # what failed was not tried again: the apply that is put off may fail as before
        instance.state.change(noted)
        return
    name, end = _name(role), result.sentence
    problems.work_ended(instance, CYCLE, end, name, Kind.FAILURES, also=noted, now=now)


def _name(role: str) -> str:
    return "backup" if role == "BACKUP" else "restore"
