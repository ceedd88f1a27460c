"""Kuma in the hands of a supervisor."""

from __future__ import annotations

from collections.abc import Mapping

from replicator_kuma.kuma import KumaService
from replicator_kuma.kuma.child import STOP_DEADLINE, ChildKuma


class HeldKuma:
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

    def stop(self) -> None:
        self.in_hand = True
        self.stopped_by_us = True
        if isinstance(self.service, ChildKuma):
            self.service.stop(STOP_DEADLINE)
        else:
            self.service.stop()

    def start(self) -> None:
        if not isinstance(self.service, ChildKuma):
            self.service.start()
        elif not self.leaving:
            self.service.start(self.first_start, lambda: self.leaving)
            self.first_start = {}
        self.started = True
        self.stopped_by_us = self.leaving and self.stopped_by_us
