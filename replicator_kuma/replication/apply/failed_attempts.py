"""Applies that failed, and snapshots that were called bad: remembered, not repeated for ever.

Two attempts are allowed, because most causes go away. Then the same snapshot is tried again only
if what could be seen of the cause has changed, if Kuma does not run anyway, or if a person says
so. Where a signal ended Kuma while it started, nothing can be seen: then only time passes.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import time
from dataclasses import replace

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
from replicator_kuma.replication.snapshot_ids import identity
from replicator_kuma.replication.state.records import Bad, FailedAttempt, Pending, SnapshotRef
from replicator_kuma.replication.state.state import State

ALLOWED = 2
"""outages for the same snapshot before its cause has to change"""
PAUSE = 600.0
"""seconds before a third one, doubled each time: a cause that only seems to change"""
KILLED_PAUSE = 60.0
"""the same, after a second start that a signal ended"""
_LONGEST = 86_400.0
_ROOM = 1 << 20
NOT_STARTED = "Kuma did not start on it"


def suspect_fields(state: State, pending: Pending, snapshot: str) -> dict[str, object]:
    """Suspect a snapshot when Kuma was late on the old rows, too; the second time, call it bad.

    The first time something else may be the cause: a port, a disk. If Kuma's start takes longer
    than the replicator waits, each new attempt would be an outage for nothing. An undo is not
    tried again.
    """
    if pending.undoes:
        return {"hold": state.hold and replace(state.hold, mark=state.applied, kept=0)}
    if state.suspect == snapshot:
        return {**bad_fields(state, snapshot, pending.mark, NOT_STARTED), "suspect": ""}
    return {"suspect": snapshot}


def bad_fields(state: State, snapshot: str, mark: SnapshotRef, why: str) -> dict[str, object]:
    """The state's fields with one more bad snapshot; the last twenty are remembered."""
    bad = (*(known for known in state.bad if known != snapshot), snapshot)[-20:]
    return {"bad": bad, "bad_why": Bad(str(mark.position), time.time(), why)}


def call_bad(instance: Instance, mark: SnapshotRef, why: str) -> None:
    """Remember a snapshot for which Kuma was stopped in vain: only a person tries it again."""
    if snapshot := identity(instance.fleet, mark):  # the rows of an undo are no snapshot's
        instance.state.update(**bad_fields(instance.state.load(), snapshot, mark, why))


def forgiven(state: State, snapshot: str) -> dict[str, object]:
    """The state's fields once Kuma was ready on a snapshot's rows: its failures are forgotten.

    ``snapshot`` is its common id.
    """
    return {
        "bad": tuple(known for known in state.bad if known != snapshot),
        "suspect": "" if state.suspect == snapshot else state.suspect,
        "vain": None,
    }


def aim(instance: Instance, mark: SnapshotRef, policy: str) -> str:
    """The key of attempts that count together: one snapshot, and one policy."""
    name = identity(instance.fleet, mark) or f"kept {mark.position}"
    return f"{name}:{policy}"


def require_new(instance: Instance, wanted: str) -> None:
    """Raise StoppedInVain where this apply has failed so before and its cause has not changed."""
    state = instance.state.load()
    vain = state.vain
    if vain is None or vain.aim != wanted or vain.outages < ALLOWED or not instance.run.by_itself:
        return
    if vain.signal:  # Kuma died at its start: that it does not run now is no reason to try again
        if _passed(vain):
            return
        raise error_of(vain)
    if not (instance.kuma.manages and instance.kuma.running()) or _changed(instance, vain):
        return
    raise error_of(vain)


def blocked(state: State) -> FailedAttempt | None:
    """The failed apply that is not tried again by itself, or not yet; None: there is none."""
    vain = state.vain
    if vain is None or vain.outages < ALLOWED or (vain.signal and _passed(vain)):
        return None
    return vain


def killed(state: State, wanted: str) -> bool:
    """Whether a signal ended Kuma at the last attempt of this apply."""
    return state.vain is not None and state.vain.signal > 0 and state.vain.aim == wanted


def killed_sentence(state: State) -> str:
    """Says that a signal ended Kuma and when its rows are tried again; "" where none did."""
    vain = state.vain
    if vain is None or not vain.signal:
        return ""
    times = "" if vain.outages == 1 else f" ({vain.outages} times)"
    again = f"not before {when(_again_at(vain))}" if blocked(state) else "at the next cycle"
    return f"{vain.sentence}{times}; that is tried again {again}"


def error_of(vain: FailedAttempt) -> StoppedInVain:
    """The error that cycles and `doctor` show for it, with the exit code of the cause."""
    if vain.signal:
        error = StoppedInVain(
            f"{vain.position} is not tried again before {when(_again_at(vain))}: "
            f"{vain.sentence}, {vain.outages} times",
            hint=f"{KumaKilled.hint}. To try it now: replicator restore --now",
        )
    else:
        error = StoppedInVain(
            f"Kuma is not stopped again for {vain.position}: the apply failed {vain.outages} times "
            f"after Kuma had stopped. The last cause: {vain.sentence}",
            hint=f"{vain.hint} It is tried again when the cause is gone or a new snapshot comes. "
            "To try it now: replicator restore --now".lstrip(),
        )
    error.exit_code = vain.exit_code
    return error


def note(instance: Instance, wanted: str, mark: SnapshotRef, error: Exception) -> None:
    """Remember an apply that failed; call while Kuma is still stopped. Never raises."""
    with contextlib.suppress(StateError):
        before = instance.state.load().vain
        outages = before.outages if before is not None and before.aim == wanted else 0
        ours = error if isinstance(error, ReplicatorError) else None
        vain = FailedAttempt(
            aim=wanted,
            position=str(mark.position),
            outages=outages + 1,
            at=time.time(),
            sentence=describe(error),
            hint=ours.hint if ours else "",
            exit_code=ours.exit_code if ours else 1,
            grounds=_grounds(instance),
            holders=_holders(instance),
            room=_room(instance),
        )
        instance.state.update(vain=vain)


def note_killed(instance: Instance, mark: SnapshotRef, policy: str, number: int) -> None:
    """Remember that signal ``number`` ended Kuma on these rows. Never raises."""
    with contextlib.suppress(StateError):
        before, wanted = instance.state.load().vain, aim(instance, mark, policy)
        outages = before.outages if before is not None and before.aim == wanted else 0
        vain = FailedAttempt(
            aim=wanted,
            position=str(mark.position),
            outages=outages + 1,
            at=time.time(),
            sentence=f"Uptime Kuma was {killed_by(number)} while it started on {mark.position}",
            exit_code=KumaKilled.exit_code,
            signal=number,
        )
        instance.state.update(vain=vain)


def _again_at(vain: FailedAttempt) -> float:
    """When an apply on whose rows a signal ended Kuma is tried again; seconds since the epoch."""
    return vain.at + _pause(KILLED_PAUSE, vain.outages - ALLOWED)


def _passed(vain: FailedAttempt) -> bool:
    """Whether that time has come; it has, too, where the clock was set back since."""
    return not vain.at <= time.time() < _again_at(vain)


def _pause(first: float, doublings: int) -> float:
    return min(first * 2.0 ** min(doublings, 20), _LONGEST)


def _changed(instance: Instance, vain: FailedAttempt) -> bool:
    """Whether what could be seen of the cause is different now."""
    passed = time.time() - vain.at
    pause = _pause(PAUSE, vain.outages - ALLOWED - 1)
    if vain.outages > ALLOWED and 0 <= passed < pause:
        return False
    gone = bool(vain.holders) and not set(vain.holders).intersection(_holders(instance))
    return gone or _grounds(instance) != vain.grounds or _room(instance) > 2 * vain.room + _ROOM


def _grounds(instance: Instance) -> str:
    """A fingerprint of how Kuma is stopped, and of its database's schema and triggers."""
    parts = [instance.setup]
    with contextlib.suppress(DatabaseError), instance.store.read() as reader:
        if instance.store.engine == "sqlite":
            found = reader.query("SELECT type, name, sql FROM sqlite_master ORDER BY 1, 2")
        else:
            found = reader.query(
                "SELECT trigger_name, action_statement FROM information_schema.triggers "
                "WHERE event_object_schema = database() ORDER BY 1"
            )
        parts += [repr(found), repr(sorted(reader.schema.tables.items()))]
    return hashlib.sha256("\0".join(parts).encode(errors="replace")).hexdigest()[:16]


def _holders(instance: Instance) -> tuple[str, ...]:
    with contextlib.suppress(DatabaseError):
        return tuple(holder.mark for holder in instance.store.holders())
    return ()


def _room(instance: Instance) -> int:
    with contextlib.suppress(OSError):
        return shutil.disk_usage(instance.data_dir).free
    return 0
