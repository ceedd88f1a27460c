"""The supervisor's only worker: runs jobs one after another, in a thread beside the main loop.

So the main loop stays free for signals, and two cycles never run at the same time.
"""

from __future__ import annotations

import functools
import logging
import queue
import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from replicator_kuma.base.errors import AlreadyRunning, Interrupted
from replicator_kuma.replication.instance import Progress, silent

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(eq=False)
class Job:
    """A job. ``work`` gets a progress function; its result or error goes to the waiting caller."""

    name: str
    work: Callable[[Progress], Any]
    progress: Progress = silent
    scheduled: bool = False
    """the supervisor's own job: a person's job waits behind it without a limit"""
    maintenance: bool = False
    """a step of a maintenance job: any other job goes before the next step"""
    like: Hashable = None
    """clients whose jobs are alike share the next one that begins; None: this is like no other"""
    followers: list[Progress] = field(default_factory=list)
    """progress functions of the clients that share it"""
    begun: bool = False
    done: threading.Event = field(default_factory=threading.Event)
    result: Any = None
    error: BaseException | None = None


class Worker:
    """Runs jobs in order. A job's error does not end the worker."""

    def __init__(self, after: Callable[[], None] = lambda: None) -> None:
        self._queue: queue.Queue[Job] = queue.Queue()
        self._after = after
        self._lock = threading.Lock()
        self._pending: list[Job] = []
        self._to_begin: dict[Hashable, Job] = {}
        """jobs that more clients may share, by `Job.like`"""
        self._waiting = 0
        self._closed = False
        self.current = ""
        self.step = ""
        """the last progress message of the running job"""
        self.since = 0.0
        self._thread = threading.Thread(target=self._run, name="worker", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def submit(self, job: Job, *, only_if_idle: bool = False) -> bool:
        """Queue a job; with ``only_if_idle``, return False if the worker is busy.

        A running step of a maintenance job counts as idle: the new job comes next. Such a step
        itself is queued only if there is no other job, and none waits.
        """
        with self._lock:
            busy = only_if_idle and not self.takes_more
            if job.maintenance:
                busy = bool(self._pending or self._waiting)
            if self._closed or busy:
                return False
            self._pending.append(job)
        self._queue.put(job)
        return True

    def call(self, job: Job, wait: float) -> Any:
        """Run a job from another thread and return its result; raises its error.

        A job like it that has not begun yet does for both. Waits at most ``wait`` seconds for
        another person's job, then raises AlreadyRunning. Raises Interrupted when the supervisor
        ends.
        """
        deadline = time.monotonic() + wait
        while True:
            with self._lock:
                shared = job if job.like is None else self._to_begin.setdefault(job.like, job)
                if shared is not job:
                    shared.followers.append(job.progress)
            if shared is job:
                self._queue_in_turn(job, deadline)
                job.done.wait()
            else:
                self._follow(shared, job, deadline)
            if shared is job or shared.begun or time.monotonic() >= deadline:
                break  # else its client had less patience
        if shared.error is not None:
            raise shared.error
        return shared.result

    def _queue_in_turn(self, job: Job, deadline: float) -> None:
        """Queue a job once no other one is there; if that takes too long it ends with an error."""
        with self._lock:
            self._waiting += 1
        while not self.submit(job, only_if_idle=True):
            if self._closed:
                job.error = Interrupted("the supervisor is ending")
            elif self._waited_enough(job, deadline):
                job.error = self._busy()
            if job.error is not None:
                self._no_longer_shared(job)
                job.done.set()
                break
            time.sleep(0.05)
        with self._lock:
            self._waiting -= 1

    def _follow(self, shared: Job, own: Job, deadline: float) -> None:
        """Wait for the end of a job that stands for our own; raises AlreadyRunning.

        Its client may wait longer for its begin than we do.
        """
        while not shared.done.wait(max(0.05, deadline - time.monotonic())):
            if not shared.begun and self._waited_enough(own, deadline):
                with self._lock:
                    shared.followers.remove(own.progress)
                raise self._busy()

    def _waited_enough(self, job: Job, deadline: float) -> bool:
        return time.monotonic() >= deadline and not self._lets_wait(job)

    def _busy(self) -> AlreadyRunning:
        return AlreadyRunning(f"the supervisor is busy ({self.current or 'another job'})")

    def _lets_wait(self, job: Job) -> bool:
        """Whether all current jobs are the supervisor's own, or like this one."""
        with self._lock:
            return all(
                each.scheduled or (job.like is not None and each.like == job.like)
                for each in self._pending
            )

    def _no_longer_shared(self, job: Job) -> None:
        with self._lock:
            if self._to_begin.get(job.like) is job:
                del self._to_begin[job.like]

    @property
    def takes_more(self) -> bool:
        """Whether a job that waits for no other would come next."""
        return all(each.maintenance for each in tuple(self._pending))

    @property
    def idle(self) -> bool:
        return not self._pending

    def close(self, timeout: float) -> bool:
        """Accept no more jobs and wait for the running one; whether it ended in time."""
        with self._lock:
            self._closed = True
        deadline = time.monotonic() + timeout
        while self._pending and time.monotonic() < deadline:
            time.sleep(0.02)
        return not self._pending

    def _tell(self, job: Job, step: str) -> None:
        self.step = step
        for progress in (job.progress, *job.followers):
            progress(step)

    def _run(self) -> None:
        while True:
            job = self._queue.get()
            self._no_longer_shared(job)
            job.begun = True
            self.current, self.step, self.since = job.name, "", time.monotonic()
            try:
                if self._closed:
                    raise Interrupted("the supervisor is ending")
                job.result = job.work(functools.partial(self._tell, job))
            except BaseException as error:
                job.error = error
            finally:
                self.current, self.step, self.since = "", "", 0.0
                with self._lock:
                    self._pending.remove(job)
                job.done.set()
                self._after()
