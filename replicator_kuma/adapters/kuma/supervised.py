"""Kuma in the hands of a supervisor."""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping

from replicator_kuma.adapters.kuma import KumaService
from replicator_kuma.adapters.kuma.child import POLL, STOP_DEADLINE, ChildKuma
from replicator_kuma.base.errors import SettingsError


class SupervisedKuma:
    """The service that the cycles get: it remembers whether a job has Kuma in its hand.

    While it has, a Kuma that is not there is the job's business; at any other time it has ended
    by itself. Once the supervisor leaves, nothing starts its child again.
    """

    def __init__(self, service: KumaService) -> None:
        self.service = service
        self.name = service.name
        self.manages = service.manages
        self.in_hand = True
        self.leaving = False
        self.started = False
        self.stopped_by_us = False
        self.first_start: Mapping[str, str] = {}
        """more environment for the next start only"""

    def running(self) -> bool:
        return self.service.running()

    def ended_with(self) -> int | None:
        return self.service.ended_with()

    def stop(self) -> None:
        self.in_hand = True
        self.stopped_by_us = True
        if isinstance(self.service, ChildKuma):
            self.service.stop(STOP_DEADLINE)
        else:
            self.service.stop()

    @property
    def child_pid(self) -> int | None:
        """The process id of a Kuma that is our child; None where it is none, or never started."""
        return self.service.pid if isinstance(self.service, ChildKuma) else None

    @property
    def child(self) -> ChildKuma:
        """What a drill may kill; raises SettingsError where Kuma is no child of ours."""
        if not isinstance(self.service, ChildKuma):
            raise SettingsError(
                "only a Kuma that replicator run has as its child is killed by a drill, and "
                f"REPLICATOR_KUMA={self.name}",
                hint="Kill it by hand, and look how long it takes.",
            )
        return self.service

    def kill(self) -> None:
        """End it by SIGKILL and wait until it is gone; raises SettingsError, see `child`."""
        child = self.child
        self.in_hand = True
        self.stopped_by_us = True
        child.signal(signal.SIGKILL)
        while child.running():
            time.sleep(POLL)

    def start(self) -> None:
        if not isinstance(self.service, ChildKuma):
            self.service.start()
        elif not self.leaving:
            self.service.start(self.first_start, lambda: self.leaving)
            self.first_start = {}
        self.started = True
        self.stopped_by_us = self.leaving and self.stopped_by_us
