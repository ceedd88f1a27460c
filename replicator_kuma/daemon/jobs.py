"""What the supervisor's worker does: the actions of one instance, each under its lock."""

from __future__ import annotations

import contextlib
import logging
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
from replicator_kuma.base.times import lasting
from replicator_kuma.config import same_settings
from replicator_kuma.config.settings import Settings
from replicator_kuma.daemon.failure_log import FailureLog
from replicator_kuma.daemon.request import Request
from replicator_kuma.replication import restart_cooldown, runner
from replicator_kuma.replication.actions import Backup, Cycle, OwnCycle, Restore
from replicator_kuma.replication.drill.kill import Killed
from replicator_kuma.replication.instance import CycleResult, Instance, Progress, Run

logger = logging.getLogger(__name__)

A_MOMENT = 0.1
"""seconds after which a time that was waited for is surely over"""


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
        """when a snapshot that waits may be applied, by time.monotonic; None: none waits"""
        self.owed = False
        """what waits is the start's: it reconciles once its time has come"""
        self._waited = False
        """the last cycle has told that a snapshot waits"""
        self.until_next: Callable[[], float | None] = lambda: None
        """seconds until the next cycle; None while none is planned"""

    def cycle(self, *, reconcile: bool = False) -> OwnCycle:
        """What this instance does by itself, in its role."""
        return Backup(reconcile=reconcile) if self._settings.leads else Restore(reconcile=reconcile)

    def scheduled(self, action: OwnCycle, progress: Progress) -> CycleResult | None:
        """An action that nobody waits for, `quietly`.

        What the start would have put right, and left because Kuma had just been restarted, it does.
        """
        if self.owed and self.may_reconcile():
            action = replace(action, reconcile=True)
        how = replace(self._instance.run, progress=progress, at_start=self.owed)
        return self.quietly(action, how)

    def handle(self, request: Request, progress: Progress) -> CycleResult | Killed:
        """What a client asked for; raises what the action raises."""
        self._check_same(request)
        action, done = request.action, ", done by the supervisor that runs here,"
        action.fits(self._settings.role, self._instance.state, done)
        how = replace(self._instance.run, progress=progress, force=request.force)
        if isinstance(action, Cycle):
            return self.run(action, how)
        url, patience = self._settings.kuma_url, self._settings.ready_timeout
        found = action.run(self._instance.under(how), self._kuma, url, patience)
        logger.info("%s", found.sentence)
        return found

    def run(self, action: Cycle, how: Run) -> CycleResult:
        """One action under the lock, noted in the state and logged; raises what it raises."""
        planned, self.again_at = self.again_at, None
        try:
            with self.locked():
                role = action.role(self._settings.role)
                result = runner.run(self._instance, role, action.run, how)
            if result.waits_until:
                seconds = min(max(result.waits_until - time.time(), 0.0), restart_cooldown.LONGEST)
                self.again_at = time.monotonic() + seconds + A_MOMENT
        except Exception:
            # what waits is still there; a time that is over comes no second time
            if planned is not None and planned > time.monotonic():
                self.again_at = planned
            raise
        finally:
            self.owed = self.owed and self.again_at is not None
        self._tell(result)
        return result

    def _tell(self, result: CycleResult) -> None:
        waits = bool(result.waits_until)
        if not waits:  # what failed before may have been an apply, and is not tried again yet
            self.failures.succeeded()
        quiet = result.outcome.value == "nothing" or (waits and self._waited)
        self._waited = waits
        logger.log(logging.DEBUG if quiet else logging.INFO, "%s", result.sentence)
        for warning in result.warnings:
            logger.warning("%s", warning)

    def quietly(self, action: Cycle, how: Run) -> CycleResult | None:
        """The same, but an error is logged and goes no further: None then."""
        try:
            return self.run(action, how)
        except Interrupted:
            logger.info("the cycle was interrupted; the next one goes on")
        except Exception as error:  # a job must never raise: schedule would run it in a hot loop
            self.failures.failed(error, self._then(error))
        return None

    def _then(self, error: Exception) -> str:
        """What comes after a failure to reach the repository: nothing that anybody has to do."""
        if not (self.ready and isinstance(error, RepositoryUnreachable)):
            return ""
        left = self.until_next()
        again = f", next try in {lasting(left)}" if left is not None else ""
        return f"monitoring goes on{again}"

    def may_reconcile(self) -> bool:
        """A snapshot on which Kuma did not start is tried again by a person only.

        To reconcile is to try it: a start must not, or each restart were another outage.
        """
        with contextlib.suppress(StateError):
            state = self._instance.state.load()
            if state.applying.failed is not None and state.applying.failed.signal:
                return False  # it may have ended Kuma before this start, and outside of a cycle
            tried = state.applying.bad or state.applying.failed is not None
            return not tried or state.outcome.last is None or state.outcome.last.ok
        return True

    def _check_same(self, request: Request) -> None:
        """A client with other settings means another instance than ours."""
        fleet, mode = self._settings.fleet, self._settings.role
        for name, ours, theirs in (("fleet", fleet, request.fleet), ("mode", mode, request.mode)):
            if theirs not in (None, ours):
                raise SettingsError(
                    f"the supervisor that runs here has {name} {ours}, not {theirs}",
                    hint=same_settings.HINT,
                )

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """The instance's lock, whenever it gets free: a one-shot command may hold it."""
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
                        logger.info("waiting for another replicator that works on this instance")
                    said = True
            yield
