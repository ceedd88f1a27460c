"""What the supervisor's worker does: it brings Kuma up, and runs the cycles of its role.

Every repository call before Kuma's first start shares one budget of 30 seconds, and no error of a
cycle or of the recovery keeps Kuma from being started (docs/architecture.md, rule 5).
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from replicator_kuma.adapters.kuma.supervised import SupervisedKuma
from replicator_kuma.adapters.notify import Kind
from replicator_kuma.base.errors import (
    AlreadyRunning,
    DatabaseMigrating,
    DatabaseUnreachable,
    Interrupted,
    KumaError,
    KumaKilled,
    ReplicatorError,
    RepositoryUnreachable,
    SettingsError,
    StateError,
    TableMissing,
    describe,
)
from replicator_kuma.base.times import lasting
from replicator_kuma.config import same_settings
from replicator_kuma.config.settings import Mode, Settings, kuma_address
from replicator_kuma.daemon.failure_log import FailureLog
from replicator_kuma.daemon.request import Request
from replicator_kuma.replication import other_processes, restart_cooldown, runner
from replicator_kuma.replication.actions import Backup, Cycle, OwnCycle, Restore
from replicator_kuma.replication.apply.recovery import resolve_before_start
from replicator_kuma.replication.apply.revert import revert
from replicator_kuma.replication.apply.unconfirmed import confirm_started
from replicator_kuma.replication.drill.kill import Killed
from replicator_kuma.replication.instance import CycleResult, Instance, Progress, Run

logger = logging.getLogger(__name__)

START_BUDGET = 30.0
A_MOMENT = 0.1
"""seconds after which a time that was waited for is surely over"""
DB_TYPE = "UPTIME_KUMA_DB_TYPE"


class Budget:
    """Seconds that all repository calls inside a block share; ends them when they are spent."""

    def __init__(
        self, interrupted: Callable[[], bool], clock: Callable[[], float] = time.monotonic
    ):
        self._interrupted = interrupted
        self._clock = clock
        self._end: float | None = None

    def interrupts(self) -> bool:
        """What the repository asks while it waits."""
        return self._interrupted() or self.spent()

    def spent(self) -> bool:
        return self._end is not None and self._clock() >= self._end

    @contextlib.contextmanager
    def limit(self, seconds: float) -> Iterator[None]:
        self._end = self._clock() + seconds
        try:
            yield
        finally:
            self._end = None


class Jobs:
    """The jobs of one supervised instance, each under the instance's lock."""

    def __init__(
        self,
        settings: Settings,
        instance: Instance,
        kuma: SupervisedKuma,
        budget: Budget,
    ) -> None:
        self._settings = settings
        self._instance = instance
        self._kuma = kuma
        self._how, self._interrupted = instance.run, instance.run.interrupted
        self._budget = budget
        self._failures = FailureLog()
        self._leader = settings.mode is Mode.BACKUP
        self._schema: object = None
        """of Kuma's database before its first start, until it is ready"""
        self._ready = False
        self.again_at: float | None = None
        """when a snapshot that waits may be applied, by time.monotonic; None: none waits"""
        self._owed = False
        """what waits is the start's: it reconciles once its time has come"""
        self._waited = False
        """the last cycle has told that a snapshot waits"""
        self.up = False
        """Kuma's start is behind us, however it went"""
        self.until_next: Callable[[], float | None] = lambda: None
        """seconds until the next cycle; None while none is planned"""

    # --- actions ----------------------------------------------------------------------------

    def cycle(self, *, reconcile: bool = False) -> OwnCycle:
        """What this instance does by itself, in its role."""
        return Backup(reconcile=reconcile) if self._leader else Restore(reconcile=reconcile)

    def scheduled(self, action: OwnCycle, progress: Progress) -> CycleResult | None:
        """What nobody waits for: its error is logged here and goes no further; None then.

        What the start would have put right, and left because Kuma had just been restarted, it does.
        """
        if self._owed and self._may_reconcile():
            action = replace(action, reconcile=True)
        return self._quietly(action, replace(self._how, progress=progress, at_start=self._owed))

    def handle(self, request: Request, progress: Progress) -> CycleResult | Killed:
        """What a client asked for; raises what the action raises."""
        self._check_same(request)
        action, how = request.action, replace(self._how, progress=progress, force=request.force)
        done = ", done by the supervisor that runs here,"
        action.fits(self._settings.role, self._instance.state, done)
        if isinstance(action, Cycle):
            return self._run(action, how)
        url, patience = self._settings.kuma_url, self._settings.ready_timeout
        found = action.run(self._instance.under(how), self._kuma, url, patience)
        logger.info("%s", found.sentence)
        return found

    def _run(self, action: Cycle, how: Run) -> CycleResult:
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
            self._owed = self._owed and self.again_at is not None
        self._tell(result)
        return result

    def _tell(self, result: CycleResult) -> None:
        waits = bool(result.waits_until)
        if not waits:  # what failed before may have been an apply, and is not tried again yet
            self._failures.succeeded()
        quiet = result.outcome.value == "nothing" or (waits and self._waited)
        self._waited = waits
        logger.log(logging.DEBUG if quiet else logging.INFO, "%s", result.sentence)
        for warning in result.warnings:
            logger.warning("%s", warning)

    def _quietly(self, action: Cycle, how: Run) -> CycleResult | None:
        try:
            return self._run(action, how)
        except Interrupted:
            logger.info("the cycle was interrupted; the next one goes on")
        except Exception as error:  # a job must never raise: schedule would run it in a hot loop
            self._failures.failed(error, self._then(error))
        return None

    def _then(self, error: Exception) -> str:
        """What comes after a failure to reach the repository: nothing that anybody has to do."""
        if not (self._ready and isinstance(error, RepositoryUnreachable)):
            return ""
        left = self.until_next()
        again = f", next try in {lasting(left)}" if left is not None else ""
        return f"monitoring goes on{again}"

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
                if self._interrupted():
                    raise Interrupted("stopped by a signal while waiting for the lock")
                try:
                    stack.enter_context(self._instance.state.lock(wait=0.5))
                    break
                except AlreadyRunning:
                    if not said:
                        logger.info("waiting for another replicator that works on this instance")
                    said = True
            yield

    # --- the start --------------------------------------------------------------------------

    def bring_up(self, progress: Progress) -> None:
        """Finish what was interrupted, start Kuma, and bring its rows up to date.

        Raises only where Kuma could not be started at all.
        """
        how = replace(self._how, progress=progress, at_start=True)
        try:
            with self.locked():
                settled = self._bring_up(how)
            self._kuma.in_hand = False
            if not settled:
                self._quietly(self.cycle(reconcile=self._may_reconcile()), how)
        except Interrupted:
            logger.info("the start was interrupted")
        finally:
            self._owed = self.again_at is not None
            self.up = True

    def _bring_up(self, how: Run) -> bool:
        self._require_alone()
        self._attempt("recovery", lambda: resolve_before_start(self._instance))
        if self._instance.store.embedded:
            # its tables can be reached only once it runs; the cycle that comes then confirms
            self._kuma.start()
            self._confirm_ready()
            return False
        has_database = self._has_database()
        first: CycleResult | None = None
        # A replica gets its rows before Kuma shows the old ones. A leader is heard first,
        # unless its disk was lost: then the repository has what it was.
        self._schema = self._look_schema()  # the cycle may start Kuma
        if has_database != self._leader:
            first = self._cycle_before_start(how)
        if not has_database and (not self._leader or (first and first.position)):
            self._kuma.first_start = self._without_setup_page()
        self._kuma.start()
        self._confirm_ready()
        return first is not None and has_database

    def _require_alone(self) -> None:
        """Raise KumaError where our child would be a second Kuma, or find its port taken."""
        if self._kuma.name != "child" or self._kuma.running():
            return
        own, everywhere = kuma_address(self._settings.kuma_environment)
        where = other_processes.MaintainedRepository(own, everywhere, self._settings.kuma_url)
        other_processes.require_alone(self._instance, where)

    def _cycle_before_start(self, how: Run) -> CycleResult | None:
        """Only what the repository can give within its budget: Kuma must not wait for it."""
        try:
            with self._budget.limit(START_BUDGET):
                try:
                    return self._run(self.cycle(reconcile=self._may_reconcile()), how)
                except Interrupted:
                    if self._interrupted() or not self._budget.spent():
                        raise
            logger.warning(
                "the repository gave no answer within %g s: Uptime Kuma starts first", START_BUDGET
            )
        except Interrupted:
            raise
        except Exception as error:
            self._failures.failed(error)
        return None

    def _may_reconcile(self) -> bool:
        """A snapshot on which Kuma did not start is tried again by a person only.

        To reconcile is to try it: a start must not, or each restart were another outage.
        """
        with contextlib.suppress(StateError):
            state = self._instance.state.load()
            if state.vain is not None and state.vain.signal:
                return False  # it may have ended Kuma before this start, and outside of a cycle
            tried = state.bad or state.vain is not None
            return not tried or state.last is None or state.last.ok
        return True

    def _has_database(self) -> bool:
        try:
            return self._instance.store.exists()
        except ReplicatorError as error:
            self._failures.failed(error)
            return True

    def schema_changed(self) -> bool:
        """Whether a Kuma that is not ready yet has changed its schema since its first start.

        Raises DatabaseMigrating where the database itself says that it is under way.
        """
        if self._ready:
            return False
        try:
            changed = self._look_schema(raises=True) != self._schema
        except DatabaseUnreachable:  # nor would it answer another question
            return False
        return self._unfinished() if self._instance.store.embedded else changed

    def _unfinished(self) -> bool:
        """Whether tables inside Kuma are only being made: how they were before, nobody could see.

        (Its migrations say themselves that they are under way.)
        """
        try:
            with self._instance.store.read() as reader:
                reader.schema.require(self._instance.tables)
        except TableMissing:
            return True
        except ReplicatorError as error:
            logger.debug("cannot look at the tables: %s", error)
        return False

    def _look_schema(self, *, raises: bool = False) -> object:
        store = self._instance.store
        try:
            if not store.exists():
                return None
            with store.read() as reader:
                return reader.schema
        except (DatabaseMigrating, DatabaseUnreachable) as error:
            if raises:
                raise
            logger.debug("cannot look at the schema: %s", error)
        except ReplicatorError as error:
            logger.debug("cannot look at the schema: %s", error)
        return self._schema

    def _without_setup_page(self) -> Mapping[str, str]:
        """2.x asks on an empty data directory which database to use; a replica has no visitors.

        Where one is chosen already it stays: the variable would win over db-config.json.
        """
        chosen = self._settings.kuma_environment.get(DB_TYPE)
        named = (self._settings.data_dir / "db-config.json").exists()
        return {} if chosen or named else {DB_TYPE: "sqlite"}

    def _confirm_ready(self) -> None:
        try:
            self._instance.wait_ready()
        except KumaError as error:
            self._not_ready(error)
            return
        self._ready = True
        logger.info("Uptime Kuma is ready")
        if not self._instance.store.embedded:
            self._attempt("confirmation", lambda: confirm_started(self._instance))

    def _not_ready(self, error: KumaError) -> None:
        from replicator_kuma.adapters.kuma.readiness import NotReady, Readiness

        if isinstance(error, NotReady) and error.state is Readiness.SETUP:
            logger.info("Uptime Kuma waits on its set-up page")
            return
        try:
            # Always raises: either Kuma runs again on the old rows, or nothing can be put back.
            revert(self._instance, error)
        except Interrupted:
            raise
        except Exception as end:  # a state that cannot be read: Kuma is there and may get up yet
            self._failures.failed(end)
            killed = isinstance(end, KumaKilled)
            title = "Uptime Kuma was killed" if killed else "Uptime Kuma does not come back"
            self._instance.notifier.send(Kind.FAILURES, title, describe(end), urgent=True)

    def _attempt(self, what: str, step: Callable[[], object]) -> None:
        """A step whose failure must not keep Kuma from running."""
        try:
            step()
        except Interrupted:
            raise
        except Exception as error:
            logger.error("%s failed", what)
            self._failures.failed(error)
