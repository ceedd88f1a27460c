"""The supervisor's one worker: jobs one after another, in a thread beside the main loop.

So the main loop is free for signals whatever a job waits for, and two cycles never meet.
"""

from __future__ import annotations

import functools
import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from replicator_kuma.base.errors import AlreadyRunning, Interrupted
from replicator_kuma.replication.instance import Progress, silent

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(eq=False)
class Job:
    """``work`` gets a progress function; its result or error is for whoever waits."""

    name: str
    work: Callable[[Progress], Any]
    progress: Progress = silent
    scheduled: bool = False
    """the supervisor's own: what a person asks for stands behind it without a question"""
    maintenance: bool = False
    """a step of a maintenance job: whatever else is to be done goes before the next one"""
    done: threading.Event = field(default_factory=threading.Event)
    result: Any = None
    error: BaseException | None = None


class Worker:
    """Runs jobs in order. No job's error ends it: errors belong to the job."""

    def __init__(self, after: Callable[[], None] = lambda: None) -> None:
        self._queue: queue.Queue[Job] = queue.Queue()
        self._after = after
        self._lock = threading.Lock()
        self._pending: list[Job] = []
        self._waiting = 0
        self._closed = False
        self.current = ""
        self.step = ""
        """what the job under way said last"""
        self.since = 0.0
        self._thread = threading.Thread(target=self._run, name="worker", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def submit(self, job: Job, *, only_if_idle: bool = False) -> bool:
        """Queue a job; False, without queueing, when it should only go to an idle worker.

        A step of a maintenance job that is under way counts as none: the job comes next.
        """
        with self._lock:
            if self._closed or (
                only_if_idle and not all(each.maintenance for each in self._pending)
            ):
                return False
            self._pending.append(job)
        self._queue.put(job)
        return True

    def submit_step(self, job: Job) -> bool:
        """Queue a maintenance step where nothing else is to be done; False without queueing."""
        with self._lock:
            if self._closed or self._pending or self._waiting:
                return False
            self._pending.append(job)
        self._queue.put(job)
        return True

    def call(self, job: Job, wait: float) -> Any:
        """Run a job from another thread and return its result; raises its error.

        Another person's job is waited for ``wait`` seconds; raises AlreadyRunning after that,
        Interrupted when the supervisor ends.
        """
        deadline = time.monotonic() + wait
        with self._lock:
            self._waiting += 1
        try:
            while not self.submit(job, only_if_idle=True):
                if self._closed:
                    raise Interrupted("the supervisor is ending")
                if time.monotonic() >= deadline and not self._scheduled:
                    busy = self.current or "another job"
                    raise AlreadyRunning(f"the supervisor is busy ({busy})")
                time.sleep(0.05)
        finally:
            with self._lock:
                self._waiting -= 1
        job.done.wait()
        if job.error is not None:
            raise job.error
        return job.result

    @property
    def _scheduled(self) -> bool:
        """Whether all that is under way is the supervisor's own."""
        with self._lock:
            return all(each.scheduled for each in self._pending)

    @property
    def idle(self) -> bool:
        return not self._pending

    def close(self, timeout: float) -> bool:
        """Take no more jobs and wait for the one under way; whether it ended in time."""
        with self._lock:
            self._closed = True
        deadline = time.monotonic() + timeout
        while self._pending and time.monotonic() < deadline:
            time.sleep(0.02)
        return not self._pending

    def _tell(self, job: Job, step: str) -> None:
        self.step = step
        job.progress(step)

    def _run(self) -> None:
        while True:
            job = self._queue.get()
            self.current, self.step, self.since = job.name, "", time.monotonic()
            try:
                if self._closed:
                    raise Interrupted("the supervisor is ending")
                job.result = job.work(functools.partial(self._tell, job))
            except BaseException as error:
                job.error = error
            finally:
                self._after()
                self.current, self.step, self.since = "", "", 0.0
                with self._lock:
                    self._pending.remove(job)
                job.done.set()
