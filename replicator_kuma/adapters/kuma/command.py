"""Uptime Kuma by the operator's own commands (pm2, supervisorctl, ssh, a script)."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping

from replicator_kuma.adapters.kuma.process import (
    ASK_DEADLINE,
    STOP_DEADLINE,
    Finished,
    Tools,
    failure,
    run,
    wait_until,
)
from replicator_kuma.base.errors import KumaError
from replicator_kuma.base.times import lasting

START_DEADLINE = 120.0
POLL = 0.2

# From here on: a shell's "not executable", "not found", "ended by a signal"; ssh's 255.
_FIRST_BROKEN = 126
# Start commands that reach another host, where Kuma does not inherit our environment.
_STATUS = "REPLICATOR_KUMA_STATUS_COMMAND must end with 0 (Kuma runs) or 1 (it does not)."
_ELSEWHERE = re.compile(r"\b(ssh|docker|podman)\b")


class CommandKuma(Tools):
    """Commands for `sh`, each of which must return by itself.

    ``status`` exits with 0 while Kuma's process exists, and with 1 to 125 if it does not; stop()
    waits for that. Without ``status``, Kuma counts as running, except between our own stop and
    start; then the stop command must not return before Kuma has ended. Messages never show a
    command: it may hold a secret.
    """

    name = "command"

    def __init__(
        self,
        stop: str,
        start: str,
        status: str | None = None,
        *,
        stop_deadline: float = STOP_DEADLINE,
        start_deadline: float = START_DEADLINE,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(environment)
        self._stop = stop
        self._start = start
        self._status = status
        self._stop_deadline = stop_deadline
        self._start_deadline = start_deadline
        self._clock = clock
        self._sleep = sleep
        self._stopped_by_us = False

    def running(self) -> bool:
        """Whether the status command says that Kuma runs; True without one; raises KumaError."""
        if self._status is None:
            return not self._stopped_by_us
        what = "The status command of Uptime Kuma"
        finished = self._shell(self._status, what, ASK_DEADLINE)
        if finished.code < 0 or finished.code >= _FIRST_BROKEN:
            raise failure(what, finished, hint=_STATUS)
        return finished.code == 0

    def ended_with(self) -> int | None:
        """None: the status command shows only that Kuma has ended, not how."""
        return None

    def stop(self) -> None:
        """Run the stop command, then wait until the status command says that Kuma has ended.

        Raises KumaError.
        """
        if not self.running():
            return
        what = "The stop command of Uptime Kuma"
        end = self._clock() + self._stop_deadline
        finished = self._shell(self._stop, what, self._stop_deadline)
        if finished.code != 0:
            raise failure(
                what,
                finished,
                hint="REPLICATOR_KUMA_STOP_COMMAND must end with 0 once Kuma has ended. Try it by "
                "hand, as the user that runs the replicator.",
            )
        left = max(0.0, end - self._clock())
        if self._status is not None and not wait_until(
            lambda: not self.running(), left, poll=POLL, clock=self._clock, sleep=self._sleep
        ):
            raise KumaError(
                f"Uptime Kuma has not ended within {lasting(self._stop_deadline)}",
                hint="It is left alone, it may be migrating. Look at its log.",
            )
        self._stopped_by_us = True

    def start(self) -> None:
        """Run the start command; raises KumaError.

        Its output goes where ours goes: the command may leave Kuma in the background, and that
        Kuma goes on writing there.
        """
        if self._status is not None and self.running():
            return
        what = "The start command of Uptime Kuma"
        finished = self._shell(self._start, what, self._start_deadline, starts=True)
        if finished.code != 0:
            hint = (
                "Kuma is stopped. Start it by hand, or mend REPLICATOR_KUMA_START_COMMAND: the "
                "next cycle (or the command, run again) starts Kuma by it."
            )
            raise failure(what, finished, hint=hint + self._withheld())
        self._stopped_by_us = False

    def _withheld(self) -> str:
        """A sentence if the start command lacks SSH_AUTH_SOCK but may need it; else ""."""
        if "SSH_AUTH_SOCK" not in (self._environment or {}) or _ELSEWHERE.search(self._start):
            return ""
        return " It has SSH_AUTH_SOCK only where its line itself has the word ssh."

    def _shell(self, line: str, what: str, deadline: float, *, starts: bool = False) -> Finished:
        environment = self._environment
        if starts and environment is not None and not _ELSEWHERE.search(line):
            # the command leaves a Kuma behind, which must not get keys of ssh
            environment = {k: v for k, v in environment.items() if k != "SSH_AUTH_SOCK"}
        return run(
            ["sh", "-c", line],
            what,
            deadline=deadline,
            capture=not starts,
            end_late=False,
            environment=environment,
        )
