"""One action under the instance's lock, and how it ended: noted in the state, told once."""

from __future__ import annotations

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
from replicator_kuma.replication import freshness
from replicator_kuma.replication.apply import checkpoints
from replicator_kuma.replication.instance import CycleResult, Instance, Run
from replicator_kuma.replication.state.records import Last
from replicator_kuma.replication.state.state import State

FLAPPING = 3600.0
"""seconds after a recovery in which one failure alone is not told"""
HELD_BACK = ""
"""stands among what was told for a failure that was not"""

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
            hold = instance.state.load().hold
            spare = hold.kept if hold is not None else 0
            if not checkpoints.make_room(instance.state.folder, error, spare):
                raise


def _bring_back(instance: Instance, how: Run) -> None:
    """A signal may end a cycle while Kuma is stopped; a Kuma that is not our child starts again.

    (Our child would only be stopped once more: its supervisor is ending.)
    """
    kuma = instance.kuma
    if not (how.interrupted() and kuma.manages and kuma.name != "child"):
        return
    if instance.state.load().stopped_by_me:
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
        try:
            _failed(instance, role, error, clock())
        except (StateError, OSError, MemoryError):
            _tell_failure(instance, role, error)
        if error is raised:
            raise
        raise error from raised


def _failed(instance: Instance, role: str, error: Exception, now: float) -> None:
    state = instance.state.load()
    last = Last(
        at=now,
        ok=False,
        sentence=describe(error),
        error=type(error).__name__,
        exit_code=error.exit_code if isinstance(error, ReplicatorError) else 1,
        hint=error.hint if isinstance(error, ReplicatorError) else "",
    )
    since = state.failing_since or now
    # the next success must be one of the repository too, not of what was known before
    told = _told(state)
    tell = last.error not in told and not _flaps(state, error, now)
    kinds = (*told, last.error) if tell else told or (HELD_BACK,)
    instance.state.update(
        last=last,
        failing_since=since,
        role=role,
        verified_at=0.0,
        told=kinds,
        **freshness.noted_failure(state, error),
    )
    if tell:
        _tell_failure(instance, role, error)


def _flaps(state: State, error: Exception, now: float) -> bool:
    """Whether what goes by has come again soon after it went: it has to fail twice in a row.

    (What fails now and then would be two messages each time.)
    """
    begins = not state.failing_since
    goes_by = isinstance(error, ReplicatorError) and error.retryable
    return begins and goes_by and 0 <= now - state.recovered_at < FLAPPING


def _told(state: State) -> tuple[str, ...]:
    """The kinds of failure that somebody was told of since cycles last went well.

    (A fence behind a flapping network is told once, not each time that the network is back.)
    """
    if state.last is None or (state.last.ok and not state.failing_since):
        return ()
    return state.told or (state.last.error,)


def _tell_failure(instance: Instance, role: str, error: Exception) -> None:
    """Once a kind: where the state cannot be written, this process itself remembers it."""
    if instance.told != type(error).__name__:
        instance.told = type(error).__name__
        hint = f"\n{error.hint}" if isinstance(error, ReplicatorError) and error.hint else ""
        instance.notifier.send(
            Kind.FAILURES, _title(role, "fails"), describe(error) + hint, urgent=True
        )


def _succeeded(instance: Instance, role: str, result: CycleResult, now: float) -> None:
    state = instance.state.load()
    last = Last(at=now, ok=True, sentence=result.sentence, outcome=result.outcome.value)
    noted = {
        "last": last,
        "last_ok_at": now,
        "role": role,
        "waits_until": result.waits_until,
        **freshness.noted(state, result.outcome.value, now),
    }
    if result.waits_until and state.failing_since:
        # what failed was not tried again: the apply that is put off may fail as before
        instance.state.update(**noted)
        return
    told = bool(instance.told) or any(kind != HELD_BACK for kind in _told(state))
    recovered_at = now if told else state.recovered_at
    instance.state.update(
        **noted,
        failing_since=0.0,
        recovered_at=recovered_at,
        told=(),
    )
    if told:
        instance.told = ""
        instance.notifier.send(Kind.FAILURES, _title(role, "works again"), result.sentence)


def _title(role: str, what: str) -> str:
    return f"{'backup' if role == 'BACKUP' else 'restore'} {what}"
