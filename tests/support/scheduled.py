"""One maintenance job of an instance, at a clock that the test sets."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from replicator_kuma.base.windows import Window
from replicator_kuma.daemon.maintenance import Maintenance, MaintenanceJob, record_of
from replicator_kuma.daemon.worker import Worker
from replicator_kuma.replication.instance import Instance, Steps
from replicator_kuma.replication.state.records import JobRecord
from tests.support.waiting import wait_until

NOON = datetime(2026, 5, 5, 12)


class Scheduled:
    """``until`` ticks until a condition holds; ``now`` is what the clock shows."""

    def __init__(
        self, instance: Instance, name: str, work: Callable[[Instance], Steps], window: str
    ) -> None:
        self.instance, self.name, self.now = instance, name, NOON
        self.work, self.window = work, Window.parse(window)
        self.start()

    def start(self) -> None:
        """As after a restart: nothing is remembered but the state file."""
        if hasattr(self, "worker"):  # two would share the lock of one process
            wait_until(lambda: self.worker.idle, "the worker before to be between two steps")
        self.worker = Worker()
        self.worker.start()
        job = MaintenanceJob(self.name, self.window, self.work)
        lock = self.instance.state.lock
        self.jobs = Maintenance((job,), self.instance, self.worker, lock, lambda: self.now)

    @property
    def noted(self) -> JobRecord:
        return record_of(self.instance.state.load(), self.name)

    def go_to(self, seconds: float) -> None:
        self.now = datetime.fromtimestamp(seconds)

    def until(self, condition: Callable[[], object], what: str) -> None:
        def there() -> bool:
            self.jobs.tick()
            return bool(condition())

        wait_until(there, what, 60, 0.005)

    def once(self) -> None:
        """To its next minute, and through it."""
        if not self.noted.due:
            self.until(lambda: self.noted.due, "it is planned")
        ended = self.noted.at
        self.go_to(self.noted.due)
        self.until(lambda: self.noted.at != ended and self.worker.idle, "it has run")
