"""The start of `replicator run`: recovers interrupted work, runs a first cycle, starts Kuma.

All repository calls before Kuma's first start share one budget of 30 seconds. No error of a
cycle or of the recovery prevents Kuma's start (docs/architecture.md, rule 5).
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Protocol

from replicator_kuma.adapters.kuma.supervised import SupervisedKuma
from replicator_kuma.adapters.notify import Kind
from replicator_kuma.base.errors import (
    DatabaseMigrating,
    DatabaseMissing,
    DatabaseUnreachable,
    Interrupted,
    KumaError,
    KumaKilled,
    ReplicatorError,
    TableMissing,
    describe,
)
from replicator_kuma.base.events import as_event
from replicator_kuma.base.times import lasting
from replicator_kuma.config.settings import Settings, kuma_address
from replicator_kuma.daemon.jobs import Jobs
from replicator_kuma.replication import other_processes
from replicator_kuma.replication.actions import OwnCycle
from replicator_kuma.replication.apply import after_live
from replicator_kuma.replication.apply.recovery import resolve_before_start
from replicator_kuma.replication.apply.revert import revert
from replicator_kuma.replication.apply.unconfirmed import confirm_started
from replicator_kuma.replication.instance import CycleResult, Instance, Progress, Run

logger = logging.getLogger(__name__)

START_BUDGET = 30.0
DB_TYPE = "UPTIME_KUMA_DB_TYPE"


class Budget:
    """Seconds that all repository calls in a block share; ends the calls once they are spent."""

    def __init__(
        self, interrupted: Callable[[], bool], clock: Callable[[], float] = time.monotonic
    ):
        self._interrupted = interrupted
        self._clock = clock
        self._end: float | None = None

    def interrupts(self) -> bool:
        """Whether the budget is spent; the repository asks this while it waits."""
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


class History(Protocol):
    """What Litestream does at the start of a run."""

    def prepare(self, instance: Instance) -> bool:
        """Restore a lost database; returns whether it did. Raises what bars Kuma's start."""

    def start(self) -> None:
        """Begin to stream."""


class Startup:
    """Brings one supervised instance up, once."""

    def __init__(
        self,
        settings: Settings,
        instance: Instance,
        kuma: SupervisedKuma,
        jobs: Jobs,
        budget: Budget,
        look: Callable[[], None] = lambda: None,
    ) -> None:
        """``look`` is called before a first cycle that reads the rows of a running Kuma."""
        self._settings = settings
        self._look = look
        self._instance = instance
        self._kuma = kuma
        self._jobs = jobs
        self._budget = budget
        self._schema: object = None
        """the schema of Kuma's database before its first start, until Kuma is ready"""
        self.over = False
        """Kuma's start is over, with any result"""
        self.history: History | None = None
        """Litestream, if it is to run"""

    def bring_up(self, progress: Progress) -> None:
        """Recover interrupted work, start Kuma, and bring its rows up to date.

        Raises only if Kuma could not be started at all, or would begin without its history.
        """
        how = replace(self._instance.run, progress=progress, at_start=True)
        try:
            with self._jobs.locked():
                settled = self._bring_up(how)
            self._kuma.in_hand = False
            if not settled:
                self._look()
                self._jobs.quietly(self._cycle(), how)
        except Interrupted:
            logger.info("the start was interrupted", extra=as_event("start_interrupted"))
        finally:
            self._jobs.owed = self._jobs.again_at is not None
            self.over = True

    def _bring_up(self, how: Run) -> bool:
        self._require_alone()
        restored = self.history is not None and self.history.prepare(self._instance.under(how))
        self._attempt("recovery", lambda: after_live.try_again_by_start(self._instance))
        self._attempt("recovery", lambda: resolve_before_start(self._instance))
        if self._instance.store.embedded:
            # its tables are reachable only once it runs; the next cycle confirms
            self._kuma.start()
            self._confirm_ready()
            return False
        has_database = self._has_database()
        first: CycleResult | None = None
        # A replica gets new rows before Kuma shows the old ones. A leader starts Kuma first,
        # unless its disk was lost: then its rows come from the repository.
        self._schema = self._look_schema()  # the cycle may start Kuma
        # A leader whose rows were restored takes its files before Kuma shows pages without them.
        if restored or has_database != self._settings.leads:
            first = self._cycle_before_start(how)
        if not has_database and (not self._settings.leads or (first and first.position)):
            self._kuma.first_start = self._without_setup_page()
        if self.history is not None:
            self.history.start()
        self._kuma.start()
        self._confirm_ready()
        return first is not None and has_database

    def _cycle(self) -> OwnCycle:
        return self._jobs.cycle(reconcile=self._jobs.may_reconcile())

    def _require_alone(self) -> None:
        """Raise KumaError if our child would be a second Kuma, or find its port taken."""
        if not self._kuma.owned or self._kuma.running():
            return
        own, everywhere = kuma_address(self._settings.kuma_environment)
        where = other_processes.Address(own, everywhere, self._settings.kuma_url)
        other_processes.require_alone(self._instance, where)

    def _cycle_before_start(self, how: Run) -> CycleResult | None:
        """Run a cycle within the budget: Kuma must not wait for a slow repository."""
        try:
            with self._budget.limit(START_BUDGET):
                try:
                    return self._jobs.run(self._cycle(), how)
                except Interrupted:
                    if self._instance.run.interrupted() or not self._budget.spent():
                        raise
            logger.warning(
                "the repository gave no answer within %s: Uptime Kuma starts first",
                lasting(START_BUDGET),
                extra=as_event("repository_slow"),
            )
        except Interrupted:
            raise
        except Exception as error:
            if not isinstance(error, DatabaseMissing) or self._has_database():
                self._jobs.failures.failed(error)
            else:
                logger.info(
                    "there is no database yet: Uptime Kuma makes one",
                    extra=as_event("database_made"),
                )
        return None

    def _has_database(self) -> bool:
        try:
            return self._instance.store.exists()
        except ReplicatorError as error:
            self._jobs.failures.failed(error)
            return True

    def schema_changed(self) -> bool:
        """Whether a Kuma that is not ready yet has changed its schema since its first start.

        Raises DatabaseMigrating if the database itself shows a running migration.
        """
        if self._jobs.ready:
            return False
        try:
            changed = self._look_schema(raises=True) != self._schema
        except DatabaseUnreachable:  # it would not answer another query either
            return False
        return self._unfinished() if self._instance.store.embedded else changed

    def _unfinished(self) -> bool:
        """Whether Kuma is still creating its tables, whose earlier schema could not be read.

        (Its migrations themselves show that they are running.)
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
        except ReplicatorError as error:
            if raises and isinstance(error, DatabaseMigrating | DatabaseUnreachable):
                raise
            logger.debug("cannot look at the schema: %s", error)
        return self._schema

    def _without_setup_page(self) -> Mapping[str, str]:
        """The environment that skips the set-up page of 2.x, which nobody would visit on a replica.

        Empty if a database is chosen already: the variable would override db-config.json.
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
        self._jobs.ready = True
        logger.info("Uptime Kuma is ready", extra=as_event("kuma_ready"))
        if not self._instance.store.embedded:
            self._attempt("confirmation", lambda: confirm_started(self._instance))

    def _not_ready(self, error: KumaError) -> None:
        from replicator_kuma.adapters.kuma.readiness import NotReady, Readiness

        if isinstance(error, NotReady) and error.state is Readiness.SETUP:
            logger.info("Uptime Kuma waits on its set-up page", extra=as_event("kuma_unset"))
            return
        try:
            # Always raises: either Kuma runs again on the old rows, or nothing can be put back.
            revert(self._instance, error)
        except Interrupted:
            raise
        except Exception as end:  # the state cannot be read: Kuma runs, and may still become ready
            self._jobs.failures.failed(end)
            killed = isinstance(end, KumaKilled)
            title = "Uptime Kuma was killed" if killed else "Uptime Kuma does not come back"
            self._instance.notifier.send(Kind.FAILURES, title, describe(end), urgent=True)

    def _attempt(self, what: str, step: Callable[[], object]) -> None:
        """Run a step whose failure must not prevent Kuma's start."""
        try:
            step()
        except Interrupted:
            raise
        except Exception as error:
            logger.error("%s failed", what, extra=as_event("start_failed"))
            self._jobs.failures.failed(error)
