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

# A shell's codes for "not executable", "not found", "ended by a signal", and ssh's own 255.
_FIRST_BROKEN = 126
# A start command that reaches another host, where Kuma does not inherit our environment.
_STATUS = "REPLICATOR_KUMA_STATUS_COMMAND must end with 0 (Kuma runs) or 1 (it does not)."
_ELSEWHERE = re.compile(r"\b(ssh|docker|podman)\b")


class CommandKuma(Tools):
    """Commands for `sh`, each of which must return by itself.

    ``status`` ends with 0 while Kuma's process is there and with 1 to 125 when it is not;
    stop() then waits until it says so. Without it nobody can tell: Kuma counts as running,
    except between our own stop and start, and the stop command must not return before Kuma has
    ended. Messages never show a command: it may hold a secret.
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
        """What the status command says, True where there is none; raises KumaError."""
        if self._status is None:
            return not self._stopped_by_us
        what = "The status command of Uptime Kuma"
        finished = self._shell(self._status, what, ASK_DEADLINE)
        if finished.code < 0 or finished.code >= _FIRST_BROKEN:
            raise failure(what, finished, hint=_STATUS)
        return finished.code == 0

    def ended_with(self) -> int | None:
        """None: the status command tells only that Kuma is gone."""
        return None

    def stop(self) -> None:
        """Run the stop command, then wait until the status command tells that Kuma is gone.

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

        Its output goes where ours goes: it may leave Kuma behind in the background, which
        writes to it for as long as it lives.
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
        """A sentence where the start command was not given SSH_AUTH_SOCK, and may need it."""
        if "SSH_AUTH_SOCK" not in (self._environment or {}) or _ELSEWHERE.search(self._start):
            return ""
        return " It has SSH_AUTH_SOCK only where its line itself has the word ssh."

    def _shell(self, line: str, what: str, deadline: float, *, starts: bool = False) -> Finished:
        environment = self._environment
        if starts and environment is not None and not _ELSEWHERE.search(line):
            # what is left behind is a Kuma: keys of ssh are none of its business
            environment = {k: v for k, v in environment.items() if k != "SSH_AUTH_SOCK"}
        return run(
            ["sh", "-c", line],
            what,
            deadline=deadline,
            capture=not starts,
            end_late=False,
            environment=environment,
        )
