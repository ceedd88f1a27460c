"""Uptime Kuma as a unit of systemd on this host."""

from __future__ import annotations

import signal
from collections.abc import Mapping

from replicator_kuma.adapters.kuma.exit_status import exit_status
from replicator_kuma.adapters.kuma.process import failure, run
from replicator_kuma.base.errors import KumaError

ASK_DEADLINE = 30.0
START_DEADLINE = 300.0
STOP_DEADLINE = 3600.0

# A unit that comes or goes counts as there: nobody may write beside it.
_THERE = {"active", "activating", "deactivating", "reloading", "refreshing"}
_GONE = {"inactive", "failed", "maintenance"}
_NO_SUCH_UNIT = 4
# CLD_EXITED; CLD_KILLED and CLD_DUMPED, with the signal as the status
_EXITED, _KILLED = {"1", "exited"}, {"2", "killed", "3", "dumped"}
_HINT = "Check the unit's name and the right to manage it. Try: systemctl status"


class SystemdKuma:
    """A unit by its name.

    systemd itself kills a unit after its TimeoutStopSec (90 s by default): a unit whose Kuma
    may migrate needs TimeoutStopSec=infinity.
    """

    name = "systemd"
    owned = False
    pid = None
    manages = True

    def __init__(
        self,
        unit: str,
        *,
        systemctl: str = "systemctl",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._environment = environment
        self._unit = unit
        self._systemctl = systemctl

    def running(self) -> bool:
        """Whether the unit is active or on its way; raises KumaError."""
        what = f"systemctl is-active {self._unit}"
        finished = run(
            [self._systemctl, "is-active", "--", self._unit],
            what,
            deadline=ASK_DEADLINE,
            environment=self._environment,
        )
        # The exit code is 3 for all but "active": only the word tells them apart.
        state = finished.output.strip()
        if state in _THERE:
            return True
        if finished.code != _NO_SUCH_UNIT and state in _GONE:
            return False
        if finished.code == _NO_SUCH_UNIT or state == "unknown":
            raise KumaError(f"systemd knows no unit {self._unit}", hint=_HINT)
        raise failure(what, finished, hint=_HINT)

    def ended_with(self) -> int | None:
        """The exit status of a unit that has ended; None where systemd tells none."""
        asked = "--property=Result,ExecMainCode,ExecMainStatus"
        finished = run(
            [self._systemctl, "show", asked, "--", self._unit],
            f"systemctl show {self._unit}",
            deadline=ASK_DEADLINE,
            environment=self._environment,
        )
        told = dict(line.partition("=")[::2] for line in finished.output.splitlines())
        if told.get("Result") == "oom-kill":  # of any process: systemd itself ends the others
            return exit_status(-signal.SIGKILL)
        code, status = told.get("ExecMainCode", ""), told.get("ExecMainStatus", "")
        if not status.isdecimal() or code not in {*_EXITED, *_KILLED}:
            return None
        return exit_status(-int(status)) if code in _KILLED else int(status)

    def stop(self) -> None:
        """Stop the unit and wait until it is; raises KumaError."""
        self._do("stop", STOP_DEADLINE)

    def start(self) -> None:
        """Start the unit; raises KumaError."""
        self._do("start", START_DEADLINE)

    def _do(self, verb: str, deadline: float) -> None:
        what = f"systemctl {verb} {self._unit}"
        argv = [self._systemctl, "--no-ask-password", verb, "--", self._unit]
        finished = run(argv, what, deadline=deadline, environment=self._environment)
        if finished.code != 0:
            raise failure(what, finished, hint=_HINT)
