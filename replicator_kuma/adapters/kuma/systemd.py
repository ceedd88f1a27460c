"""Uptime Kuma as a unit of systemd on this host."""

from __future__ import annotations

import signal
from collections.abc import Mapping

from replicator_kuma.adapters.kuma.process import (
    ASK_DEADLINE,
    STOP_DEADLINE,
    Tools,
    exit_status,
    failure,
)
from replicator_kuma.base.errors import KumaError

START_DEADLINE = 300.0

# A unit that is starting or stopping counts as running: nothing may write beside it.
_THERE = {"active", "activating", "deactivating", "reloading", "refreshing"}
_GONE = {"inactive", "failed", "maintenance"}
_NO_SUCH_UNIT = 4
# CLD_EXITED; CLD_KILLED and CLD_DUMPED, with the signal as the status
_EXITED, _KILLED = {"1", "exited"}, {"2", "killed", "3", "dumped"}


class SystemdKuma(Tools):
    """A unit by its name.

    systemd itself kills a unit after its TimeoutStopSec (90 s by default): a unit whose Kuma
    may migrate needs TimeoutStopSec=infinity.
    """

    name = "systemd"
    hint = "Check the unit's name and the right to manage it. Try: systemctl status"

    def __init__(
        self,
        unit: str,
        *,
        systemctl: str = "systemctl",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(environment)
        self._unit = unit
        self._systemctl = systemctl

    def running(self) -> bool:
        """Whether the unit is active, starting or stopping; raises KumaError."""
        what = f"systemctl is-active {self._unit}"
        argv = [self._systemctl, "is-active", "--", self._unit]
        finished = self._run(argv, what, ASK_DEADLINE)
        # The exit code is 3 for all states but "active": only the word tells them apart.
        state = finished.output.strip()
        if state in _THERE:
            return True
        if finished.code != _NO_SUCH_UNIT and state in _GONE:
            return False
        if finished.code == _NO_SUCH_UNIT or state == "unknown":
            raise KumaError(f"systemd knows no unit {self._unit}", hint=self.hint)
        raise failure(what, finished, hint=self.hint)

    def ended_with(self) -> int | None:
        """The exit status of a unit that has ended; None if systemd shows none."""
        asked = "--property=Result,ExecMainCode,ExecMainStatus"
        argv = [self._systemctl, "show", asked, "--", self._unit]
        finished = self._run(argv, f"systemctl show {self._unit}", ASK_DEADLINE)
        told = dict(line.partition("=")[::2] for line in finished.output.splitlines())
        if told.get("Result") == "oom-kill":  # of any process: systemd itself ends the others
            return exit_status(-signal.SIGKILL)
        code, status = told.get("ExecMainCode", ""), told.get("ExecMainStatus", "")
        if not status.isdecimal() or code not in {*_EXITED, *_KILLED}:
            return None
        return exit_status(-int(status)) if code in _KILLED else int(status)

    def stop(self) -> None:
        self._call("stop", STOP_DEADLINE)

    def start(self) -> None:
        self._call("start", START_DEADLINE)

    def _call(self, verb: str, deadline: float) -> None:
        argv = [self._systemctl, "--no-ask-password", verb, "--", self._unit]
        self._do(argv, f"systemctl {verb} {self._unit}", deadline)
