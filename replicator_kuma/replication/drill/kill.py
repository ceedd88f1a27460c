"""`drill --kill`, also by REPLICATOR_DRILL=kill: ends the supervised Kuma by SIGKILL, and times it.

Only Kuma is killed, never its supervisor, which starts Kuma again at once. (After a real crash of
Kuma the supervisor ends too, and the container's runtime starts both.)
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from replicator_kuma.adapters.database import Store
from replicator_kuma.adapters.kuma.readiness import Readiness, probe
from replicator_kuma.adapters.kuma.supervised import SupervisedKuma
from replicator_kuma.adapters.notify import Kind
from replicator_kuma.base.errors import (
    AlreadyRunning,
    DatabaseLocked,
    DatabaseUnreachable,
    DrillFailed,
    Interrupted,
    KumaError,
    ReplicatorError,
)
from replicator_kuma.base.times import lasting
from replicator_kuma.replication import problems
from replicator_kuma.replication.instance import Instance, Steps
from replicator_kuma.replication.state import transitions
from replicator_kuma.replication.state.records import DRILL, KILL, Drill

POLL = 0.1


@dataclass(frozen=True)
class Killed:
    """Seconds from the signal on; ``beat`` is None where no monitor is active."""

    ready: float
    beat: float | None

    @property
    def sentence(self) -> str:
        ready = lasting(self.ready)
        if self.beat is None:
            return f"Uptime Kuma was killed, and is ready again after {ready}; no monitor is active"
        beat = lasting(self.beat)
        return f"Uptime Kuma was killed, and monitors again after {beat} (ready after {ready})"

    def as_dict(self) -> dict[str, Any]:
        """The JSON that `--json` prints (a documented contract: docs/json.md)."""
        steps = {"ready": self.ready, "beat": self.beat}
        return {
            "sentence": self.sentence,
            "seconds": round(self.beat if self.beat is not None else self.ready, 3),
            "steps": {k: None if v is None else round(v, 3) for k, v in steps.items()},
        }


def kill(instance: Instance, kuma: SupervisedKuma, url: str, patience: float) -> Killed:
    """End Kuma by SIGKILL, start it, wait until it monitors; ``patience`` seconds for each step.

    Call in the supervisor's worker, where no cycle runs now. Raises AlreadyRunning and KumaError
    before anything is done (another replicator works, an apply is unconfirmed, Kuma is not
    ready), SettingsError if Kuma is not our child; DrillFailed, told and noted.
    """
    with instance.state.lock():
        try:
            killed = _drill(instance, kuma, url, patience)
        except DrillFailed as failed:
            also = partial(transitions.killed, failed=_record(failed))
            with contextlib.suppress(ReplicatorError):
                problems.work_ended(instance, KILL, failed, DRILL, Kind.DRILLS, also=also)
            raise
        end = killed.sentence
        problems.work_ended(instance, KILL, end, DRILL, Kind.DRILLS, also=transitions.killed)
    return killed


def steps(instance: Instance, kuma: SupervisedKuma, url: str, patience: float) -> Steps:
    """`kill` as a maintenance job, under the lock; returns its sentence, raises as `kill`.

    A failure is noted here, and told by the caller.
    """
    yield  # a cycle that is due goes first
    try:
        killed = _drill(instance, kuma, url, patience)
    except DrillFailed as failed:
        with contextlib.suppress(ReplicatorError):
            instance.state.change(transitions.killed, _record(failed))
        raise
    instance.state.change(transitions.killed)
    return killed.sentence


def _drill(instance: Instance, kuma: SupervisedKuma, url: str, patience: float) -> Killed:
    _require_quiet(instance, kuma, url)
    try:
        return _kill(instance, kuma, patience)
    except Interrupted:
        raise
    except ReplicatorError as error:
        failed = f"Uptime Kuma was killed for a drill: {error}"
        raise DrillFailed(failed, hint=error.hint) from error


def _record(failed: DrillFailed) -> Drill:
    return Drill(time.time(), False, str(failed), failed_at="kill")


def _require_quiet(instance: Instance, kuma: SupervisedKuma, url: str) -> None:
    if not kuma.require_child().running():
        raise KumaError("Uptime Kuma is not running")
    if instance.state.load().applying.pending is not None:
        raise AlreadyRunning(
            "an apply is not confirmed yet: Kuma is not killed in the middle of it",
            hint="See how far it is (replicator status), and run the drill again then.",
        )
    if probe(url) is not Readiness.READY:
        # a Kuma that is killed in a migration would never start again
        raise KumaError("Uptime Kuma is not ready, so it is not killed", hint="Try again later.")


def _kill(instance: Instance, kuma: SupervisedKuma, patience: float) -> Killed:
    store = instance.store
    before = newest_beat(store)  # a database inside Kuma answers only while Kuma runs
    instance.step("killing Uptime Kuma")
    began = time.monotonic()
    kuma.kill()
    if not store.embedded:
        before = newest_beat(store)
    instance.run.progress("starting Uptime Kuma")
    kuma.start()
    instance.wait_ready()
    ready = time.monotonic() - began
    beat = None
    if before is not None:
        instance.run.progress("waiting for a heartbeat")
        _wait_beat(instance, before, patience)
        beat = time.monotonic() - began
    store.check()
    return Killed(ready, beat)


def newest_beat(store: Store) -> int | None:
    """The highest heartbeat id of an active monitor, 0: none yet; None: no monitor is active.

    Kuma assigns ids in order: a newer beat has a higher id, whatever the clocks say.
    Raises DatabaseError.
    """
    with store.read() as reader:
        if not reader.query("SELECT id FROM monitor WHERE active = 1 LIMIT 1"):
            return None
        found = reader.query(
            "SELECT max(h.id) FROM heartbeat h JOIN monitor m ON m.id = h.monitor_id "
            "WHERE m.active = 1"
        )
    return int(found[0][0] or 0)


def _wait_beat(instance: Instance, before: int, patience: float) -> None:
    until = time.monotonic() + patience
    while not _beats(lambda: newest_beat(instance.store), before):
        if instance.run.interrupted():
            raise Interrupted("asked to end while waiting for a heartbeat")
        if time.monotonic() >= until:
            raise KumaError(f"it is ready, but has monitored nothing for {lasting(patience)}")
        time.sleep(POLL)


def _beats(newest: Callable[[], int | None], before: int) -> bool:
    """Whether there is a newer beat; False while the database is busy or not up yet."""
    try:
        found = newest()
    except (DatabaseLocked, DatabaseUnreachable):
        return False
    return found is None or found > before
