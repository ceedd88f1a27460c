"""Litestream as the supervisor sees it: made ready, noted in the ledger, given time at the end."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

from replicator_kuma.adapters.kuma.supervised import SupervisedKuma
from replicator_kuma.adapters.litestream.child import Child
from replicator_kuma.base.errors import SettingsError
from replicator_kuma.base.state_directory import unusable
from replicator_kuma.config.build import build_replica
from replicator_kuma.config.settings import Settings
from replicator_kuma.daemon.history import FOLDER, Stream, tell_unsent
from replicator_kuma.daemon.jobs import Jobs
from replicator_kuma.daemon.startup import DB_TYPE
from replicator_kuma.daemon.worker import Job, Worker
from replicator_kuma.replication.instance import Instance, Progress

EVERY = 10.0
"""seconds between two attempts to note what is new"""


class SideProcesses:
    """What runs beside Kuma in processes of its own; does nothing where nothing is to run."""

    def __init__(self, settings: Settings, instance: Instance, kuma: SupervisedKuma) -> None:
        self._settings = settings
        self._instance = instance
        self._kuma = kuma
        self._noted_at = -EVERY
        self.stream: Stream | None = None
        """Litestream, once `prepare` has made it ready"""

    def prepare(self, folder: Path) -> None:
        """Make ready what is to run, with its files in the state directory, ``folder``.

        Raises HistoryError, SettingsError, StateError.
        """
        if self._settings.history is None:
            return
        if not self._kuma.owned:
            raise SettingsError(
                f"REPLICATOR_LITESTREAM_URL is set, and REPLICATOR_KUMA={self._kuma.name}: nobody "
                "else who starts Kuma waits until its history is restored",
                hint="Let `replicator run` start Kuma, or unset REPLICATOR_LITESTREAM_URL.",
            )
        own = folder / FOLDER
        try:
            own.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise unusable(f"cannot make {own}", error) from error
        replica = build_replica(self._settings, own)
        assert replica is not None
        chosen = bool(self._settings.kuma_environment.get(DB_TYPE))
        child = Child(replica, self._settings.history_stop)
        self.stream = stream = Stream(replica, child, chosen=chosen)
        self._instance.committed = stream.committed
        self._instance.streamed_by = lambda: stream.pid

    def tick(self, worker: Worker, jobs: Jobs) -> None:
        """Let the worker note what is new, which has the instance's lock for that."""
        stream, now = self.stream, time.monotonic()
        if stream is None or not stream.news or now - self._noted_at < EVERY:
            return
        job = Job("history", partial(self._note, stream, jobs), scheduled=True)
        if worker.submit(job, only_if_idle=True):
            self._noted_at = now

    def _note(self, stream: Stream, jobs: Jobs, _progress: Progress) -> None:
        with jobs.locked():
            stream.note(self._instance)

    def beat(self) -> dict[str, Any]:
        """How it is, as members of a heartbeat."""
        return self.stream.beat() if self.stream is not None else {}

    def end(self) -> None:
        """Give it the time to send what is left, once Kuma has ended; tell what was not sent."""
        if self.stream is None:
            return
        if unsent := self.stream.stop():
            tell_unsent(self._instance, unsent)
