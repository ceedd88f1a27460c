"""The Kuma of a supervisor."""

from __future__ import annotations

import signal
from collections.abc import Mapping

from replicator_kuma.adapters.kuma import KumaService
from replicator_kuma.adapters.kuma.child import ChildKuma
from replicator_kuma.adapters.kuma.process import wait_until
from replicator_kuma.base.errors import SettingsError


class SupervisedKuma:
    """The service that the cycles get; it remembers whether a job is stopping or starting Kuma.

    During such a job, a missing Kuma is normal; at other times Kuma has ended by itself. Once
    the supervisor ends, nothing starts its child again.
    """

    def __init__(self, service: KumaService, child: ChildKuma | None = None) -> None:
        """``child`` is ``service`` itself, if Kuma is our child."""
        self._service = service
        self.child = child
        self.name = service.name
        self.manages = service.manages
        self.owned = service.owned
        self.in_hand = True
        self.leaving = False
        self.started = False
        self.stopped_by_us = False
        self.first_start: Mapping[str, str] = {}
        """extra environment variables for the next start only"""

    @property
    def pid(self) -> int | None:
        return self._service.pid

    def running(self) -> bool:
        return self._service.running()

    def ended_with(self) -> int | None:
        return self._service.ended_with()

    def stop(self) -> None:
        self.in_hand = True
        self.stopped_by_us = True
        self._service.stop()

    def require_child(self) -> ChildKuma:
        """The child that a drill may kill; raises SettingsError if Kuma is not our child."""
        if self.child is None:
            raise SettingsError(
                "only a Kuma that replicator run has as its child is killed by a drill, and "
                f"REPLICATOR_KUMA={self.name}",
                hint="Kill it by hand, and look how long it takes.",
            )
        return self.child

    def kill(self) -> None:
        """End Kuma by SIGKILL and wait for its end; raises SettingsError as `require_child`."""
        child = self.require_child()
        self.in_hand = True
        self.stopped_by_us = True
        child.signal(signal.SIGKILL)
        wait_until(lambda: not child.running(), None)

    def start(self) -> None:
        if self.child is None:
            self._service.start()
        elif not self.leaving:
            self.child.start(self.first_start, lambda: self.leaving)
            self.first_start = {}
        self.started = True
        self.stopped_by_us = self.leaving and self.stopped_by_us
