"""Maintenance jobs of `replicator run`, between its cycles, each in its window.

A maintenance job is a generator. At each ``yield`` a cycle may run that is due or asked for. Its
return value is the sentence that says how it ended. A new job is an action with such `steps`,
and an entry in `maintenance_jobs`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from random import Random
from typing import TYPE_CHECKING

from replicator_kuma.adapters.kuma.supervised import SupervisedKuma
from replicator_kuma.adapters.notify import Kind
from replicator_kuma.base.errors import Fenced, Interrupted, ReplicatorError, StateError, describe
from replicator_kuma.base.events import as_event
from replicator_kuma.base.windows import Window
from replicator_kuma.config.build import build_throwaway
from replicator_kuma.config.settings import Settings
from replicator_kuma.daemon.worker import Job, Worker
from replicator_kuma.replication import problems
from replicator_kuma.replication.actions import Action
from replicator_kuma.replication.drill import drill, kill
from replicator_kuma.replication.instance import Instance, Progress, Steps
from replicator_kuma.replication.leader import housekeeping
from replicator_kuma.replication.state import transitions
from replicator_kuma.replication.state.records import DRILL, JobRecord
from replicator_kuma.replication.state.state import State

if TYPE_CHECKING:
    from replicator_kuma.adapters.kuma.throwaway import ThrowAway

logger = logging.getLogger(__name__)

LOOK_EVERY = 1.0
AGAIN_AFTER = 60.0
"""seconds until a retry if a job could not begin"""
NOTES = "maintenance"
"""the name of the failure if the end of a job cannot be noted"""
TRIES = 2
"""a maintenance job that was cut off this many times waits for its next window"""


@dataclass(frozen=True)
class Drill(Action):
    """Restore a snapshot in a scratch folder: the newest one, or the named one."""

    command = "drill"

    snapshot: str | None = None
    kuma: bool = False
    """also boot a throw-away Kuma on it"""

    def run(self, instance: Instance, settings: Settings) -> drill.Drilled:
        """As a command: all steps at once, noted and told. Needs no lock; raises DrillFailed."""
        return drill.drill(instance, self.snapshot, self._throwaway(instance, settings))

    def steps(self, instance: Instance, settings: Settings) -> Steps:
        """As a maintenance job of `replicator run`, which notes and tells how it went."""
        throwaway = self._throwaway(instance, settings)
        drilled = yield from drill.steps(instance, self.snapshot, throwaway, tell=False)
        return drilled.sentence

    def _throwaway(self, instance: Instance, settings: Settings) -> ThrowAway | None:
        interrupted = instance.run.interrupted
        return build_throwaway(settings, interrupted=interrupted) if self.kuma else None


@dataclass(frozen=True)
class KillDrill(Action):
    """End Uptime Kuma by SIGKILL, and see that it monitors again: REPLICATOR_DRILL=kill."""

    command = "drill"

    kuma: SupervisedKuma

    def steps(self, instance: Instance, settings: Settings) -> Steps:
        """As a maintenance job of `replicator run`, which notes and tells how it went."""
        url, patience = settings.kuma_url, settings.ready_timeout
        return (yield from kill.steps(instance, self.kuma, url, patience))


@dataclass(frozen=True)
class Housekeeping(Action):
    """Delete a leader's old snapshots, and check a part of its repositories."""

    command = housekeeping.NAME
    leads = True

    def run(self, instance: Instance, settings: Settings, wait: float) -> housekeeping.Done:
        """As a command, by `run_now`."""
        done = housekeeping.Done()
        run_now(instance, self.command, housekeeping.steps(instance, settings.care, done), wait)
        return done

    def steps(self, instance: Instance, settings: Settings) -> Steps:
        """As a maintenance job: a fenced leader does nothing; the fence was told already."""
        try:
            return (yield from housekeeping.steps(instance, settings.care))
        except Fenced as error:
            return f"nothing was done: {error}"


@dataclass(frozen=True)
class MaintenanceJob:
    """A job. ``work`` runs under the instance's lock, which is free between its steps.

    It may raise any error: the error is logged, noted, and told once.
    """

    name: str
    window: Window
    work: Callable[[Instance], Steps]


def maintenance_jobs(settings: Settings, kuma: SupervisedKuma) -> tuple[MaintenanceJob, ...]:
    """The maintenance jobs of `replicator run`, which has ``kuma``, each with its window."""
    planned = (
        (_drill(settings, kuma), settings.drill_schedule),
        (Housekeeping(), settings.housekeeping),
    )
    return tuple(
        MaintenanceJob(action.command, window, partial(action.steps, settings=settings))
        for action, window in planned
        if action.leads in (None, settings.leads)
    )


def _drill(settings: Settings, kuma: SupervisedKuma) -> Drill | KillDrill:
    return KillDrill(kuma) if settings.drill == "kill" else Drill(kuma=settings.drill == "kuma")


def due(noted: JobRecord, window: Window, now: datetime, random: Random) -> float:
    """When a maintenance job is due, in seconds since the epoch (0: never).

    A noted time stays, unless the window has changed, or a wrong clock has put it off.
    """
    same, latest = noted.window == str(window), window.latest(now)
    if same and latest is not None and 0 < noted.due <= latest.timestamp():
        return noted.due
    chosen = window.next(now, random)
    return chosen.timestamp() if chosen else 0.0


def following(noted: JobRecord, window: Window, now: datetime, random: Random) -> float:
    """When it is due next: in a window that has not begun and was not used before."""
    chosen = window.next(max(now, datetime.fromtimestamp(noted.due, now.tzinfo)), random)
    return chosen.timestamp() if chosen else 0.0


def record_of(state: State, name: str) -> JobRecord:
    """The record of a maintenance job; a job that was never planned has only its name."""
    return next((noted for noted in state.upkeep.jobs if noted.name == name), JobRecord(name, ""))


def note(instance: Instance, noted: JobRecord) -> None:
    """Write a maintenance job's record to the state; raises StateError. Call under the lock."""
    instance.state.change(transitions.job_noted, noted)


@dataclass
class _Running:
    job: MaintenanceJob
    steps: Steps
    began: float


class Maintenance:
    """Runs jobs one after another, step by step, while the worker has nothing else to do."""

    def __init__(
        self,
        jobs: Sequence[MaintenanceJob],
        instance: Instance,
        worker: Worker,
        locked: Callable[[], AbstractContextManager[None]],
        clock: Callable[[], datetime] = datetime.now,
    ) -> None:
        self._all = jobs
        self._instance = instance
        self._worker = worker
        self._locked = locked
        self._clock = clock
        self._random = Random()
        self._due: dict[str, float] = {}
        self._planned = not jobs
        self._running: _Running | None = None
        self._look_at = 0.0

    def tick(self) -> None:
        """Give the worker a step if one is due. The main loop calls it; it never waits."""
        if self._running is None:
            if time.monotonic() < self._look_at or not self._all:
                return
            self._look_at = time.monotonic() + LOOK_EVERY
            if self._planned and not self._wanted():
                return
        name = self._running.job.name if self._running else "jobs"
        self._worker.submit(Job(name, self._step, scheduled=True, maintenance=True))

    def _wanted(self) -> bool:
        """Whether a job is due, or a clock that was set back has put one off."""
        now = self._clock()
        for job in self._all:
            at, latest = self._due.get(job.name, 0.0), job.window.latest(now)
            if at and latest and (at <= now.timestamp() or at > latest.timestamp()):
                return True
        return False

    def _step(self, _progress: Progress) -> None:
        """In the worker: plan, begin or continue a job. Raises nothing."""
        try:
            with self._locked():
                if self._running is None:
                    self._plan()
                    self._running = self._begin()
                if self._running is not None:
                    self._go_on(self._running)
        except Interrupted:
            self._put_off()
        except StateError as error:
            self._put_off()
            # the state cannot be written: only this process knows that a message was sent
            stuck = partial(self._stuck, error)
            problems.tell_once(self._instance, NOTES, type(error).__name__, stuck)
        else:
            if self._instance.told.pop(NOTES, ""):
                works = "how jobs end can be noted again"
                self._instance.notifier.send(Kind.FAILURES, f"{NOTES} works again", works)

    def _stuck(self, error: StateError) -> None:
        _say(NOTES, error)
        message = problems.with_hint(error)
        self._instance.notifier.send(Kind.FAILURES, f"{NOTES} fails", message, urgent=True)

    def _put_off(self) -> None:
        self._running = None
        self._look_at = time.monotonic() + AGAIN_AFTER

    def _plan(self) -> None:
        """Note when each job is due, so that another start does not choose again."""
        state = self._instance.state.load()
        for job in self._all:
            noted = record_of(state, job.name)
            at = due(noted, job.window, self._clock(), self._random)
            if at != noted.due or noted.window != str(job.window):
                note(self._instance, replace(noted, window=str(job.window), due=at, tries=0))
            self._due[job.name] = at
        self._planned = True

    def _begin(self) -> _Running | None:
        state, now = self._instance.state.load(), self._clock().timestamp()
        for job in self._all:
            noted = record_of(state, job.name)
            if not 0 < noted.due <= now:
                continue
            if noted.tries >= TRIES:
                unfinished = f"did not come to its end in {noted.tries} attempts"
                self._end(job, now, ReplicatorError(unfinished, hint="Look at the log."))
                return None
            note(self._instance, replace(noted, tries=noted.tries + 1))
            return _Running(job, job.work(self._instance), now)
        return None

    def _go_on(self, running: _Running) -> None:
        try:
            self._instance.step(running.job.name)
            next(running.steps)
        except StopIteration as end:
            self._end(running.job, running.began, str(end.value))
        except Interrupted:
            raise
        except Exception as error:  # a maintenance job must not fail the worker
            self._end(running.job, running.began, error)

    def _end(self, job: MaintenanceJob, began: float, end: str | Exception) -> None:
        """Note and log how the job ended, and when it is due next."""
        self._running = None
        before, now = record_of(self._instance.state.load(), job.name), self._clock()
        after = ended(before, end, began, now.timestamp())
        after = replace(after, due=following(before, job.window, now, self._random), tries=0)
        # kept here first: if it cannot be noted, the job must not begin again at once
        self._due[job.name] = after.due
        _say(job.name, end)
        _note_end(self._instance, job.name, end, after)


def _say(name: str, end: str | Exception) -> None:
    if isinstance(end, ReplicatorError):
        logger.error(
            "%s failed: %s. %s",
            name,
            describe(end),
            end.hint,
            extra=as_event(
                "job_failed", job=name, error=type(end).__name__, exit_code=end.exit_code
            ),
        )
    elif isinstance(end, Exception):
        logger.error("%s failed: %s", name, describe(end), exc_info=end, extra=as_event("bug"))
    else:
        logger.info("%s: %s", name, end, extra=as_event("job_done", job=name))


def _note_end(instance: Instance, name: str, end: str | Exception, after: JobRecord) -> None:
    """Note how a maintenance job ended; tell if it begins to fail or works again."""

    def noted(state: State) -> State:
        return transitions.job_noted(state, after)

    kind = Kind.DRILLS if name == DRILL else Kind.FAILURES
    problems.work_ended(instance, name, end, name, kind, also=noted)


def run_now(instance: Instance, name: str, steps: Steps, wait: float = 0.0) -> str:
    """Run all steps of a job at once, for a command: noted and told, its window unchanged.

    Raises what the job raises; AlreadyRunning if the lock is not free within ``wait`` seconds.
    """
    began = time.time()
    while True:
        with instance.state.lock(wait):
            end: str | Exception
            try:
                instance.step(name)
                next(steps)
                continue
            except StopIteration as stop:
                end = str(stop.value)
            except Interrupted:
                raise
            except Exception as error:
                end = error
            before = record_of(instance.state.load(), name)
            _note_end(instance, name, end, ended(before, end, began, time.time()))
            if isinstance(end, Exception):
                raise end
            return end


def ended(before: JobRecord, end: str | Exception, began: float, now: float) -> JobRecord:
    """The record of a maintenance job that ended; ``end`` is its sentence or its error."""
    changed = replace(before, at=now, seconds=max(0.0, round(now - began, 1)))
    if isinstance(end, Exception):
        known = end if isinstance(end, ReplicatorError) else None
        return replace(
            changed,
            ok=False,
            sentence=describe(end),
            error=type(end).__name__,
            exit_code=known.exit_code if known else 1,
            hint=known.hint if known else "",
        )
    return replace(changed, ok=True, ok_at=now, sentence=end, error="", exit_code=0, hint="")
