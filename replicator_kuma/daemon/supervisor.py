"""`replicator run`: runs Kuma and the schedule of one instance until a signal or Kuma's end.

The main loop never waits for anything: the worker runs the cycles, a watch polls Kuma. Signal
handlers set a plain flag, since an Event set in a handler can deadlock.

Long because one place decides when `run` ends, whoever wants it to.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import schedule

from replicator_kuma.adapters.kuma.child import ChildKuma
from replicator_kuma.adapters.kuma.process import exit_status, signal_of
from replicator_kuma.adapters.kuma.readiness import PROBE_TIMEOUT, Readiness, probe, taken
from replicator_kuma.adapters.kuma.supervised import SupervisedKuma
from replicator_kuma.adapters.notify import Kind
from replicator_kuma.base.errors import (
    AlreadyRunning,
    DatabaseMigrating,
    KumaError,
    ReplicatorError,
    StateError,
    describe,
)
from replicator_kuma.base.events import as_event
from replicator_kuma.base.state_directory import unusable
from replicator_kuma.base.text import killed_by
from replicator_kuma.base.threads import within
from replicator_kuma.config import same_settings
from replicator_kuma.config.build import build, signal_topic
from replicator_kuma.config.settings import Mode, Settings, kuma_address
from replicator_kuma.daemon import heartbeat
from replicator_kuma.daemon.bell import Bell
from replicator_kuma.daemon.change_watch import ChangeWatch
from replicator_kuma.daemon.control import ControlServer
from replicator_kuma.daemon.jobs import Jobs
from replicator_kuma.daemon.maintenance import Maintenance, maintenance_jobs
from replicator_kuma.daemon.push import Push
from replicator_kuma.daemon.request import Request
from replicator_kuma.daemon.schedule import Timetable
from replicator_kuma.daemon.side_processes import SideProcesses
from replicator_kuma.daemon.side_service import SideService
from replicator_kuma.daemon.startup import Budget, Startup
from replicator_kuma.daemon.wake import Asked, Wake
from replicator_kuma.daemon.worker import Job, Worker
from replicator_kuma.replication import other_processes
from replicator_kuma.replication.actions import OwnCycle
from replicator_kuma.replication.apply import after_live
from replicator_kuma.replication.instance import Progress, Run
from replicator_kuma.replication.state.file import LOCK_FLAGS, acquire

logger = logging.getLogger(__name__)

SLICE = 0.05
LONGEST_WAIT = 1.0
"""seconds in which the main loop looks at everything, should nobody ring"""
WATCH_EVERY = 15.0
AFTER_KUMA = 0.7
"""seconds for a running job once Kuma is gone: with it the whole exit stays below 1 s"""
AFTER_JOB = 15.0
"""the same if Kuma is not our child: a job that stopped Kuma first starts it again"""
AFTER_ALL = 0.2
"""seconds for unsent messages after that: Kuma's stop has given them time already"""
AFTER_OWN_END = 2.0
"""the same if Kuma ended by itself: nobody waits for us"""
A_LOOK = 0.5
"""seconds that `doctor` may hold the lock to test it"""
AN_ANSWER = 1.0
"""seconds for the database to show whether Kuma migrates; without an answer, Kuma is ended"""
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


Question = Callable[[Mapping[str, Any]], dict[str, Any]]
"""answers a client's request that changes nothing (its options): at once, beside any job"""
CheckUp = Callable[[Callable[[], bool]], None]
"""logs the problems that it finds; calls its argument to see whether the run is ending"""


class Watch:
    """Polls Kuma in its own thread, since an answer may be slow."""

    def __init__(self, look: Callable[[], Readiness | None], every: float) -> None:
        self._look = look
        self._every = every
        self._wake = threading.Event()
        self.kuma = ""
        self.bad_since = 0.0

    def start(self) -> None:
        threading.Thread(target=self._run, name="watch", daemon=True).start()

    def stop(self) -> None:
        self._wake.set()

    def _run(self) -> None:
        while not self._wake.is_set():
            self.note(self._look())
            # Until Kuma is up its state changes fast.
            self._wake.wait(self._every if self.kuma == "ready" else min(1.0, self._every))

    def note(self, state: Readiness | None) -> None:
        self.kuma = "stopped" if state is None else state.name.lower()
        if state in (Readiness.READY, Readiness.SETUP, Readiness.MIGRATING):
            self.bad_since = 0.0
        else:
            self.bad_since = self.bad_since or time.monotonic()


class Supervisor:
    """One run, from the first lock to the exit code."""

    def __init__(
        self,
        settings: Settings,
        service: SupervisedKuma,
        check_up: CheckUp = lambda _interrupted: None,
        beside: Sequence[SideService] = (),
        questions: Mapping[str, Question] = MappingProxyType({}),
    ) -> None:
        """``check_up`` logs problems of this instance, once Kuma runs; ``questions`` by command."""
        self._settings = settings
        self._kuma = service
        self._check_up = check_up
        self._beside = beside
        self._questions = questions
        self._leaving = False
        self._asked = False
        self._bell = Bell()
        self._wake = Wake(self._bell.ring)
        self._signals: list[int] = []
        run = Run(interrupted=lambda: self._leaving)
        budget = Budget(run.interrupted)
        self._instance = build(
            settings, service=service, run=run, repository_interrupted=budget.interrupts
        )
        self._jobs = Jobs(settings, self._instance, service)
        self._change_watch: ChangeWatch | None = None
        if settings.leads or settings.strategy.heals:
            free = self._jobs.database_free
            self._change_watch = ChangeWatch(self._instance, free, self._edited)
        # what is edited after this look, and not read by the first cycle, calls for another one
        look = self._change_watch.look if self._change_watch else lambda: None
        self._startup = Startup(settings, self._instance, service, self._jobs, budget, look)
        self._worker = Worker(after=self._let_go)
        self._maintenance = Maintenance(
            maintenance_jobs(settings, service), self._instance, self._worker, self._jobs.locked
        )
        self._watch = Watch(self._look, WATCH_EVERY)
        self._scheduler = schedule.Scheduler()
        self._timetable: Timetable | None = None
        self._jobs.until_next = lambda: self._timetable.left if self._timetable else None
        self._beat_at = 0.0
        self._push: Push | None = None
        topic = None if settings.leads else signal_topic(settings)
        if topic is not None:
            self._push = Push(topic, self._instance, self._wake.ask)
            self._jobs.ended = self._push.looked
        self._side = SideProcesses(settings, self._instance, service)
        self._fatal: BaseException | None = None
        self._killed: str | None = None  # that the run before this one was, in words

    def run(self) -> int:
        """Run until a signal or Kuma's end; returns the exit code.

        Raises AlreadyRunning if another supervisor uses this state directory, StateError if the
        directory cannot be used, KumaError if Kuma cannot be started at all, HistoryError if its
        history cannot be restored, and what a side service raises that cannot begin.
        """
        self._instance.state.prepare()
        self._side.prepare(self._folder)
        self._startup.history = self._side.stream
        with (
            self._alone(),
            self._handlers(),
            self._bell.rung_by_signals(),
            self._door(),
            self._side_services(),
        ):
            self._killed = heartbeat.without_a_word(self._folder)
            role = "leader" if self._settings.mode is Mode.BACKUP else "replica"
            own = self._settings
            logger.info(
                "%s of fleet %s, instance %s",
                role,
                own.fleet,
                own.instance,
                extra=as_event("run_begins"),
            )
            self._watch.start()
            if self._push is not None:
                self._push.stream.start()
            self._worker.start()
            self._worker.submit(Job(heartbeat.START, self._bring_up, scheduled=True))
            try:
                return self._loop()
            finally:
                self._leaving = True
                self._watch.stop()
                if self._push is not None:
                    self._push.stream.stop()
                if self._change_watch is not None:
                    self._change_watch.stop()
                self._side.end()
                with contextlib.suppress(StateError):
                    heartbeat.remove(self._folder)
                self._instance.say_the_rest(AFTER_ALL if self._asked else AFTER_OWN_END)

    def _bring_up(self, progress: Progress) -> None:
        try:
            self._startup.bring_up(progress)
            if not self._leaving:
                self._tell_of_a_kill()
                self._check_up(lambda: self._leaving)
        except Exception as error:
            if not self._kuma.started:
                self._fatal = error
                return
            # Kuma runs: if we ended now, it would be left behind
            bug = None if isinstance(error, ReplicatorError) else error
            logger.error(
                "the start did not end well: %s",
                describe(error),
                exc_info=bug,
                extra=as_event("start_failed"),
            )

    def _tell_of_a_kill(self) -> None:
        if self._killed is not None:  # it could not say so itself
            again = f"{self._killed}. It was killed, or its machine. It runs again."
            logger.warning("%s", again, extra=as_event("run_was_killed"))
            self._instance.notifier.send(Kind.FAILURES, "runs again after a kill", again)

    def _let_go(self) -> None:
        self._kuma.in_hand = False
        self._bell.ring()

    # --- the loop ---------------------------------------------------------------------------

    def _loop(self) -> int:
        while True:
            if self._ending():
                return self._leave()
            if self._kuma_ended():
                return self._follow_kuma()
            if self._fatal is not None:
                raise self._fatal
            if self._startup.over:
                self._on_schedule()
                self._maintenance.tick()
                self._side.tick(self._worker, self._jobs)
            self._beat()
            self._bell.wait(self._idle())

    def _idle(self) -> float:
        """Seconds in which there is nothing to do, unless somebody rings."""
        until = [LONGEST_WAIT]
        if self._timetable is not None:
            until.append(self._timetable.left)
        if self._jobs.again_at is not None and self._worker.idle:
            until.append(self._jobs.again_at - time.monotonic())
        return max(0.0, min(until))

    def _ending(self) -> bool:
        while self._signals:
            if self._signals.pop(0) != signal.SIGUSR1:
                return True
            self._wake.ask()
        # A running cycle may have read the rows already: the requested one comes after it, when
        # the worker rings.
        if self._wake.asked and self._worker.takes_more:
            asked = self._wake.take()
            if not self._hand_over(self._jobs.cycle(), asked):
                self._wake.ask(asked.hint, edited=asked.edited)
        return False

    def _on_schedule(self) -> None:
        if self._timetable is None:
            if self._change_watch is not None:
                self._change_watch.start()
            name = f"{self._settings.fleet} {self._settings.instance}"
            self._timetable = Timetable(self._settings.interval, name)
            self._cycles = self._scheduler.every().second.do(self._scheduled_cycle)
        if self._push is not None:
            self._timetable.every(self._push.interval(self._settings.interval))
        self._timetable.hold(self._cycles, datetime.now())
        self._scheduler.run_pending()
        again = self._jobs.again_at
        if again is not None and time.monotonic() >= again:
            self._hand_over(self._jobs.cycle())

    def _scheduled_cycle(self) -> None:
        if self._timetable is not None:
            self._timetable.advance()
        self._hand_over(self._jobs.cycle())

    def _edited(self) -> None:
        self._wake.ask(edited=True)

    def _hand_over(self, action: OwnCycle, asked: Asked = Asked()) -> bool:  # noqa: B008
        """Give the worker an action that nobody waits for: the schedule's or a signal's.

        False if another job still runs: then the action is skipped.
        """
        job = Job("cycle", partial(self._jobs.scheduled, action, asked), scheduled=True)
        return self._worker.submit(job, only_if_idle=True)

    def _beat(self) -> None:
        now = time.monotonic()
        if now - self._beat_at < heartbeat.EVERY:
            return
        self._beat_at = now
        beat = heartbeat.Beat(
            pid=os.getpid(),
            monotonic=now,
            kuma=self._watch.kuma,
            kuma_bad_since=self._watch.bad_since,
            job=self._worker.current,
            job_since=self._worker.since,
            step=self._worker.step,
            next_cycle=self._next_cycle(),
            **(self._push.stream.beat() if self._push is not None else {}),
            **self._side.beat(),
            change_watch=self._change_watch.state if self._change_watch else "",
        )
        # Without its folder Kuma goes on; the health check reports it.
        with contextlib.suppress(OSError, StateError):
            heartbeat.write(self._folder, beat)

    def _next_cycle(self) -> float:
        """Seconds since the epoch; 0: none is scheduled yet."""
        upcoming, again = self._scheduler.next_run, self._jobs.again_at
        if upcoming is None:
            return 0.0
        regular = float(upcoming.timestamp())
        if again is None:
            return regular
        return min(regular, time.time() + max(0.0, again - time.monotonic()))

    @property
    def _folder(self) -> Path:
        """The state directory; raises StateError."""
        return self._instance.state.folder

    def _look(self, timeout: float = PROBE_TIMEOUT) -> Readiness | None:
        try:
            if self._kuma.manages and not self._kuma.running():
                return None
            return probe(self._settings.kuma_url, timeout)
        except ReplicatorError as error:
            logger.debug("cannot look at Uptime Kuma: %s", error)
            return Readiness.OTHER

    # --- the end ----------------------------------------------------------------------------

    def _kuma_ended(self) -> bool:
        """Whether our child ended by itself, not by a job."""
        child = self._kuma.child
        if child is None or not self._kuma.started or self._kuma.in_hand:
            return False
        # Checked again after the look at the process: a job may just have stopped it.
        return not child.running() and not self._kuma.in_hand

    def _follow_kuma(self) -> int:
        child = self._kuma.child
        code = exit_status(child.exit_code or 0) if child else 0
        if self._kuma.stopped_by_us:
            code = KumaError.exit_code
            logger.error(
                "Uptime Kuma was stopped and could not be started again",
                extra=as_event("kuma_ended"),
            )
        else:
            killed = signal_of(code)
            how = killed_by(killed) if killed else f"ended by itself, with exit code {code}"
            logger.error(
                "Uptime Kuma %s", f"was {how}" if killed else how, extra=as_event("kuma_ended")
            )
            with contextlib.suppress(StateError):
                after_live.kuma_ended(self._instance, code)
            # the child's own address: a proxy may listen at the other one
            own, _everywhere = kuma_address(self._settings.kuma_environment)
            if not killed and taken(own):
                # Some versions of Kuma exit with 0 then, and nothing would start it again.
                code = code or KumaError.exit_code
                logger.error(
                    "%s", other_processes.taken_words(own), extra=as_event("kuma_elsewhere")
                )
        self._interrupt()
        self._worker.close(AFTER_KUMA)
        if child:
            self._end_leftover(child)
        return code

    def _leave(self) -> int:
        logger.info("asked to end", extra=as_event("run_ends"))
        self._asked = True
        self._interrupt()
        child = self._kuma.child
        if child is None:
            self._worker.close(AFTER_JOB)
            return 0
        self._end_child(child)
        self._worker.close(AFTER_KUMA)
        # A job that was about to start Kuma may have been faster than our flag.
        self._end_child(child)
        return exit_status(child.exit_code or 0)

    def _interrupt(self) -> None:
        self._leaving = True
        self._kuma.leaving = True

    def _end_child(self, child: ChildKuma) -> None:
        """Forward the signal to Kuma and wait without a limit; never while Kuma migrates."""
        asked: int | None = None
        said = False
        until = time.monotonic() + self._settings.ready_timeout
        while child.running():
            if asked != child.pid:
                if self._migrates(time.monotonic() < until):
                    if not said:
                        logger.warning(
                            "Uptime Kuma migrates its database: waiting for its end",
                            extra=as_event("kuma_migrates"),
                        )
                    said = True
                else:
                    asked = child.pid
                    child.signal(signal.SIGTERM)
            self._beat()
            time.sleep(SLICE)
        self._end_leftover(child)

    def _end_leftover(self, child: ChildKuma) -> None:
        """Wait for the end of Kuma's embedded MariaDB: the container's end would kill it."""
        try:
            while child.leftover():
                self._beat()
                time.sleep(SLICE)
        except KumaError as error:
            logger.error("%s", describe(error), extra=as_event("kuma_stop_failed"))

    def _migrates(self, patient: bool) -> bool:
        """Whether Kuma is migrating: if it is ended then, it never starts again.

        Only in the last part of a migration Kuma answers. Before, the tables show it. If they
        changed since the start, but nothing shows a running migration, True while ``patient``.
        """
        state = self._look(0.5)
        if state is not Readiness.STARTING:
            return state is Readiness.MIGRATING
        try:
            return within(AN_ANSWER, self._startup.schema_changed, False) and patient
        except DatabaseMigrating:
            return True

    # --- what surrounds it ------------------------------------------------------------------

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the lock of one supervisor a state directory; the kernel frees it at our end."""
        try:
            descriptor = os.open(self._folder / heartbeat.LOCK, LOCK_FLAGS, 0o600)
        except OSError as error:
            raise unusable(f"cannot open the lock in {self._folder}", error) from error
        try:
            try:
                acquire(descriptor, A_LOOK)
            except AlreadyRunning:
                raise AlreadyRunning(
                    "another supervisor works on this instance", hint="Try: replicator status"
                ) from None
            yield
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def _handlers(self) -> Iterator[None]:
        with contextlib.ExitStack() as back:
            for number in (*_ENDING, signal.SIGUSR1):
                back.callback(signal.signal, number, signal.signal(number, self._on_signal))
            yield

    def _on_signal(self, number: int, _frame: object) -> None:
        self._signals.append(number)

    @contextlib.contextmanager
    def _door(self) -> Iterator[None]:
        with contextlib.closing(ControlServer(self._folder, self._handle)) as server:
            server.start()
            yield

    @contextlib.contextmanager
    def _side_services(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for service in self._beside:
                stack.callback(service.stop)
                service.start()
            yield

    def _handle(
        self, command: str, options: Mapping[str, Any], progress: Progress
    ) -> dict[str, Any]:
        if command == same_settings.COMMAND:
            return same_settings.answer(self._settings, options)
        if (question := self._questions.get(command)) is not None:
            return question(options)
        request = Request.of(command, options)

        def work(tell: Progress) -> dict[str, Any]:
            return self._jobs.handle(request, tell).as_dict()

        # many who want the instance's own cycle now get one
        alike = replace(request, wait=None) if isinstance(request.action, OwnCycle) else None
        job = Job(command, work, progress, like=alike)
        result: dict[str, Any] = self._worker.call(job, request.wait or 0.0)
        return result
