"""Remembers applies that failed and snapshots that were called bad, to limit the retries.

Two attempts are allowed, because most causes go away. After that, the same snapshot is retried
only if the visible cause has changed, if Kuma does not run anyway, or if a person asks for it.
A signal that ended Kuma at its start leaves no visible cause: the retry then waits for a time.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import time

from replicator_kuma.base.errors import (
    DatabaseError,
    KumaKilled,
    ReplicatorError,
    StateError,
    StoppedInVain,
    describe,
)
from replicator_kuma.base.text import killed_by
from replicator_kuma.base.times import when
from replicator_kuma.replication.instance import Instance
from replicator_kuma.replication.state import transitions
from replicator_kuma.replication.state.records import FailedAttempt, SnapshotRef
from replicator_kuma.replication.state.state import State

ALLOWED = 2
"""attempts (each an outage) for one snapshot before its cause has to change"""
PAUSE = 600.0
"""seconds before the third attempt, doubled each time: the cause may only seem to change"""
KILLED_PAUSE = 60.0
"""the same, after a signal ended Kuma's second start"""
_LONGEST = 86_400.0
_ROOM = 1 << 20
NOT_STARTED = "Kuma did not start on it"


def call_bad(instance: Instance, mark: SnapshotRef, why: str) -> None:
    """Note that Kuma was stopped for this snapshot in vain: only a person may retry it."""
    instance.state.change(transitions.called_bad, mark, instance.fleet, why, now=time.time())


def aim(instance: Instance, mark: SnapshotRef, policy: str) -> str:
    """The key by which attempts are counted: one snapshot with one policy."""
    name = mark.common_id(instance.fleet) or f"kept {mark.position}"
    return f"{name}:{policy}"


def require_new(instance: Instance, wanted: str) -> None:
    """Raise StoppedInVain if this apply failed before and the cause has not changed."""
    state = instance.state.load()
    failed, by_itself = state.applying.failed, instance.run.by_itself
    if failed is None or failed.aim != wanted or failed.outages < ALLOWED or not by_itself:
        return
    if failed.signal:  # Kuma died at its start: that it does not run now is no reason to try again
        if _passed(failed):
            return
        raise error_of(failed)
    if not (instance.kuma.manages and instance.kuma.running()) or _changed(instance, failed):
        return
    raise error_of(failed)


def blocked(state: State) -> FailedAttempt | None:
    """The failed apply that is not retried automatically, or not yet; None: there is none."""
    failed = state.applying.failed
    if failed is None or failed.outages < ALLOWED or (failed.signal and _passed(failed)):
        return None
    return failed


def killed(state: State, wanted: str) -> bool:
    """Whether a signal ended Kuma at the last attempt of this apply."""
    failed = state.applying.failed
    return failed is not None and failed.signal > 0 and failed.aim == wanted


def killed_sentence(state: State) -> str:
    """Says that a signal ended Kuma, and when the apply is retried; "": no signal did."""
    failed = state.applying.failed
    if failed is None or not failed.signal:
        return ""
    times = "" if failed.outages == 1 else f" ({failed.outages} times)"
    again = f"not before {when(_again_at(failed))}" if blocked(state) else "at the next cycle"
    return f"{failed.sentence}{times}; that is tried again {again}"


def error_of(failed: FailedAttempt) -> StoppedInVain:
    """The error that cycles and `doctor` show for this failure, with the cause's exit code."""
    if failed.signal:
        error = StoppedInVain(
            f"{failed.position} is not tried again before {when(_again_at(failed))}: "
            f"{failed.sentence}, {failed.outages} times",
            hint=f"{KumaKilled.hint}. To try it now: replicator restore --now",
        )
    else:
        error = StoppedInVain(
            f"Kuma is not stopped again for {failed.position}: the apply failed "
            f"{failed.outages} times after Kuma had stopped. The last cause: {failed.sentence}",
            hint=f"{failed.hint} It is tried again when the cause is gone or a new snapshot "
            "comes. To try it now: replicator restore --now".lstrip(),
        )
    error.exit_code = failed.exit_code
    return error


def note(instance: Instance, wanted: str, mark: SnapshotRef, error: Exception) -> None:
    """Remember a failed apply; call while Kuma is still stopped. Never raises."""
    with contextlib.suppress(StateError):
        ours = error if isinstance(error, ReplicatorError) else None
        failed = FailedAttempt(
            aim=wanted,
            position=str(mark.position),
            outages=1,
            at=time.time(),
            sentence=describe(error),
            hint=ours.hint if ours else "",
            exit_code=ours.exit_code if ours else 1,
            grounds=_grounds(instance),
            holders=_holders(instance),
            room=_room(instance),
        )
        instance.state.change(transitions.attempt_failed, failed)


def note_killed(instance: Instance, mark: SnapshotRef, policy: str, number: int) -> None:
    """Remember that signal ``number`` ended Kuma on these rows. Never raises."""
    with contextlib.suppress(StateError):
        failed = FailedAttempt(
            aim=aim(instance, mark, policy),
            position=str(mark.position),
            outages=1,
            at=time.time(),
            sentence=f"Uptime Kuma was {killed_by(number)} while it started on {mark.position}",
            exit_code=KumaKilled.exit_code,
            signal=number,
        )
        instance.state.change(transitions.attempt_failed, failed)


def _again_at(failed: FailedAttempt) -> float:
    """When to retry an apply after which a signal ended Kuma; seconds since the epoch."""
    return failed.at + _pause(KILLED_PAUSE, failed.outages - ALLOWED)


def _passed(failed: FailedAttempt) -> bool:
    """Whether the retry is due; also True if the clock was set back since the failure."""
    return not failed.at <= time.time() < _again_at(failed)


def _pause(first: float, doublings: int) -> float:
    return min(first * 2.0 ** min(doublings, 20), _LONGEST)


def _changed(instance: Instance, failed: FailedAttempt) -> bool:
    """Whether the visible cause of the failure has changed."""
    passed = time.time() - failed.at
    pause = _pause(PAUSE, failed.outages - ALLOWED - 1)
    if failed.outages > ALLOWED and 0 <= passed < pause:
        return False
    gone = bool(failed.holders) and not set(failed.holders).intersection(_holders(instance))
    return gone or _grounds(instance) != failed.grounds or _room(instance) > 2 * failed.room + _ROOM


def _grounds(instance: Instance) -> str:
    """A fingerprint of how Kuma is stopped and of the database's schema and triggers."""
    parts = [instance.setup]
    with contextlib.suppress(DatabaseError), instance.store.read() as reader:
        parts += [repr(reader.definitions()), repr(sorted(reader.schema.tables.items()))]
    return hashlib.sha256("\0".join(parts).encode(errors="replace")).hexdigest()[:16]


def _holders(instance: Instance) -> tuple[str, ...]:
    with contextlib.suppress(DatabaseError):
        ours = instance.streamed_by()  # one that is started again ends no cause
        return tuple(h.mark for h in instance.store.holders() if h.pid != ours)
    return ()


def _room(instance: Instance) -> int:
    with contextlib.suppress(OSError):
        return shutil.disk_usage(instance.data_dir).free
    return 0
