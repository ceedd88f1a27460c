"""The jobs of the supervisor's worker: actions of one instance, each under its lock."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from replicator_kuma.adapters.kuma.supervised import SupervisedKuma
from replicator_kuma.base.errors import (
    AlreadyRunning,
    Interrupted,
    RepositoryUnreachable,
    SettingsError,
    StateError,
)
from replicator_kuma.base.events import as_event
from replicator_kuma.base.times import lasting
from replicator_kuma.config import same_settings
from replicator_kuma.config.settings import Settings
from replicator_kuma.daemon.failure_log import FailureLog
from replicator_kuma.daemon.request import Request
from replicator_kuma.daemon.wake import Asked
from replicator_kuma.replication import restart_cooldown, runner
from replicator_kuma.replication.actions import Backup, Cycle, OwnCycle, Restore
from replicator_kuma.replication.drill.kill import Killed
from replicator_kuma.replication.instance import CycleResult, Hint, Instance, Progress, Run

logger = logging.getLogger(__name__)

A_MOMENT = 0.1
"""seconds added to a wait, so that its time is surely over"""


class Jobs:
    """The jobs of one supervised instance, each under the instance's lock."""

    def __init__(self, settings: Settings, instance: Instance, kuma: SupervisedKuma) -> None:
        self._settings = settings
        self._instance = instance
        self._kuma = kuma
        self.failures = FailureLog()
        self.ready = False
        """Kuma has been ready since its start"""
        self.again_at: float | None = None
        """when the waiting snapshot may be applied, by time.monotonic; None: none waits"""
        self.owed = False
        """the start left a snapshot waiting: the later cycle has to reconcile"""
        self.database_free = threading.RLock()
        """held while a job works on the database"""
        self._waited = False
        """the last cycle has logged that a snapshot waits"""
        self.until_next: Callable[[], float | None] = lambda: None
        """seconds until the next cycle; None while none is planned"""
        self.ended: Callable[[Hint | None, CycleResult | None], None] = lambda _hint, _result: None
        """gets the end of each cycle: the hint that it had, its result or None"""

    def cycle(self, *, reconcile: bool = False) -> OwnCycle:
        """The automatic action of this instance, according to its role."""
        return Backup(reconcile=reconcile) if self._settings.leads else Restore(reconcile=reconcile)

    def scheduled(self, action: OwnCycle, asked: Asked, progress: Progress) -> CycleResult | None:
        """Run an action that nobody waits for, `quietly`.

        If the start put off its reconcile because Kuma had just restarted, this one reconciles.
        """
        if self.owed and self.may_reconcile():
            action = replace(action, reconcile=True)
        how = replace(self._instance.run, progress=progress, at_start=self.owed, **asked._asdict())
        return self.quietly(action, how)

    def handle(self, request: Request, progress: Progress) -> CycleResult | Killed:
        """Run what a client asked for; raises what the action raises."""
        self._check_same(request)
        action, done = request.action, ", done by the supervisor that runs here,"
        action.fits(self._settings.role, self._instance.state, done)
        how = replace(
            self._instance.run, progress=progress, force=request.force, restart=request.restart
        )
        if isinstance(action, Cycle):
            return self.run(action, how)
        url, patience = self._settings.kuma_url, self._settings.ready_timeout
        found = action.run(self._instance.under(how), self._kuma, url, patience)
        logger.info("%s", found.sentence, extra=as_event("kuma_restarted"))
        return found

    def run(self, action: Cycle, how: Run) -> CycleResult:
        """Run one action under the lock; note and log its end. Raises what the action raises."""
        planned, self.again_at = self.again_at, None
        result: CycleResult | None = None
        try:
            with self.locked():
                role = action.role(self._settings.role)
                result = runner.run(self._instance, role, action.run, how, own=action.own)
            if result.waits_until:
                seconds = min(max(result.waits_until - time.time(), 0.0), restart_cooldown.LONGEST)
                self.again_at = time.monotonic() + seconds + A_MOMENT
        except Exception:
            # the snapshot still waits; a time that has passed is not planned again
            if planned is not None and planned > time.monotonic():
                self.again_at = planned
            raise
        finally:
            self.owed = self.owed and self.again_at is not None
            self.ended(how.hint, result)
        self._tell(result)
        return result

    def _tell(self, result: CycleResult) -> None:
        waits = bool(result.waits_until)
        if not waits:  # while a snapshot waits, nothing was retried
            self.failures.succeeded()
        quiet = result.outcome.value == "nothing" or (waits and self._waited)
        self._waited = waits
        at = str(result.position) if result.position else None
        logger.log(
            logging.DEBUG if quiet else logging.INFO,
            "%s",
            result.sentence,
            extra=as_event("cycle", outcome=result.outcome.value, position=at),
        )
        for warning in result.warnings:
            logger.warning("%s", warning, extra=as_event("cycle_warning"))

    def quietly(self, action: Cycle, how: Run) -> CycleResult | None:
        """The same, but errors are logged, not raised; returns None then."""
        try:
            return self.run(action, how)
        except Interrupted:
            logger.info(
                "the cycle was interrupted; the next one goes on",
                extra=as_event("cycle_interrupted"),
            )
        except Exception as error:  # a job must never raise: schedule would run it in a hot loop
            self.failures.failed(error, self._then(error))
        return None

    def _then(self, error: Exception) -> str:
        """The words after a failure to reach the repository: when the next attempt comes."""
        if not (self.ready and isinstance(error, RepositoryUnreachable)):
            return ""
        left = self.until_next()
        again = f", next try in {lasting(left)}" if left is not None else ""
        return f"monitoring goes on{again}"

    def may_reconcile(self) -> bool:
        """Whether the start may reconcile: not if that retries a snapshot on which Kuma failed.

        Only a person may retry it. Else each restart of the container would be another outage.
        """
        with contextlib.suppress(StateError):
            state = self._instance.state.load()
            if state.applying.failed is not None and state.applying.failed.signal:
                return False  # it may have ended Kuma before this start, outside of a cycle
            tried = state.applying.bad or state.applying.failed is not None
            return not tried or state.outcome.last is None or state.outcome.last.ok
        return True

    def _check_same(self, request: Request) -> None:
        """Raise an error if a client's settings differ: it means another instance."""
        fleet, mode = self._settings.fleet, self._settings.role
        for name, ours, theirs in (("fleet", fleet, request.fleet), ("mode", mode, request.mode)):
            if theirs not in (None, ours):
                raise SettingsError(
                    f"the supervisor that runs here has {name} {ours}, not {theirs}",
                    hint=same_settings.HINT,
                )

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the instance's lock; wait for it, since a one-shot command may hold it."""
        with contextlib.ExitStack() as stack:
            said = False
            while True:
                if self._instance.run.interrupted():
                    raise Interrupted("stopped by a signal while waiting for the lock")
                try:
                    stack.enter_context(self._instance.state.lock(wait=0.5))
                    break
                except AlreadyRunning:
                    if not said:
                        logger.info(
                            "waiting for another replicator that works on this instance",
                            extra=as_event("lock_waits"),
                        )
                    said = True
            stack.enter_context(self.database_free)
            yield
