"""Uptime Kuma as a child of `replicator run`."""

from __future__ import annotations

import logging
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from replicator_kuma.adapters.kuma.embedded_mariadb import EmbeddedDatabase
from replicator_kuma.adapters.kuma.process import STOP_DEADLINE, exit_status, spawn, wait_until
from replicator_kuma.base.errors import KumaError
from replicator_kuma.base.events import as_event
from replicator_kuma.base.times import lasting

logger = logging.getLogger(__name__)


Launch = Callable[[Sequence[str], Mapping[str, str]], tuple[Sequence[str], Mapping[str, str]]]


def _log_wait(seconds: float) -> None:
    after = lasting(seconds)
    logger.info(
        "Uptime Kuma has not ended yet, %s after it was asked to: waiting.",
        after,
        extra=as_event("kuma_ends_slowly"),
    )


class ChildKuma:
    """One Uptime Kuma process at a time; stdout and stderr are those of the replicator.

    It runs in its own session. A container's init signals the whole process group of the
    replicator, and Kuma must not get that signal: it would end before the supervisor stops it in
    order, or in the middle of a migration, which it does not survive.
    """

    name = "child"
    owned = True
    manages = True

    def __init__(
        self,
        command: Sequence[str],
        cwd: Path | str,
        environment: Mapping[str, str],
        *,
        database: EmbeddedDatabase | None = None,
        launch: Launch = lambda command, environment: (command, environment),
        on_wait: Callable[[float], None] = _log_wait,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """``launch`` makes the command and environment of a start out of these."""
        self._launch = launch
        self._command = list(command)
        self._cwd = cwd
        self._environment = dict(environment)
        self._database = database
        self._on_wait = on_wait
        self._clock = clock
        self._sleep = sleep
        self._process: subprocess.Popen[bytes] | None = None
        self._asked_to_end = False

    @property
    def pid(self) -> int | None:
        """The process id of the last start(); None before the first."""
        return None if self._process is None else self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while Kuma runs and before its first start; -n if signal n ended it."""
        return None if self._process is None else self._process.poll()

    def running(self) -> bool:
        """Whether the process exists; the call also reaps one that has ended."""
        return self._process is not None and self._process.poll() is None

    def ended_with(self) -> int | None:
        """The exit status of a child that has ended; None before, and if we asked it to end."""
        code = self.exit_code
        return None if code is None or self._asked_to_end else exit_status(code)

    def leftover(self) -> bool:
        """Whether the MariaDB of an ended Kuma still runs; the call asks it to end, once.

        Raises KumaError.
        """
        return self._database is not None and not self.running() and self._database.leftover()

    def start(
        self,
        extra_environment: Mapping[str, str] | None = None,
        abandoned: Callable[[], bool] = lambda: False,
    ) -> None:
        """Start Kuma and return at once; harmless when it runs.

        First waits for the end of a MariaDB that an earlier Kuma left; if ``abandoned()``, nothing
        is started. ``extra_environment`` is for this start only: UPTIME_KUMA_DB_TYPE on an empty
        data directory. Raises KumaError if the command cannot be run, or if another Kuma uses the
        data directory.
        """
        if self.running():
            return
        if self._database is not None:
            self._database.end_left(abandoned)
            if abandoned():
                return
            self._database.require_free()
        wanted = {**self._environment, **(extra_environment or {})}
        command, environment = self._launch(self._command, wanted)
        self._process = spawn(
            command,
            f"Uptime Kuma could not be started in {self._cwd}",
            "Check REPLICATOR_KUMA_COMMAND (or what stands after `replicator run --`) and "
            "REPLICATOR_KUMA_DIR, the folder of Kuma's program.",
            cwd=self._cwd,
            env=environment,
        )
        self._asked_to_end = False

    def stop(self, timeout: float = STOP_DEADLINE) -> None:
        """Send SIGTERM and wait until the process has ended; harmless if there is none.

        Calls ``on_wait`` once a minute. Raises KumaError after ``timeout`` seconds; the process
        goes on, it is never killed. The caller makes sure that Kuma is not migrating. Also ends
        the MariaDB that Kuma leaves.
        """
        process = self._process
        if process is not None and process.poll() is None:
            if not self._asked_to_end:
                self.signal(signal.SIGTERM)
            gone, clock, sleep = lambda: process.poll() is not None, self._clock, self._sleep
            if not wait_until(gone, timeout, self._on_wait, clock=clock, sleep=sleep):
                raise KumaError(
                    f"Uptime Kuma (process {process.pid}) has not ended within {lasting(timeout)}",
                    hint="It is left alone, it may be migrating. Look at its log.",
                )
        if self._database is not None:
            self._database.end_left()

    def signal(self, signum: int) -> None:
        """Forward a signal to Kuma's process, and only to it; harmless when it is gone."""
        if self._process is None:
            return
        if signum in (signal.SIGTERM, signal.SIGINT, signal.SIGKILL):
            # Each of these ends Kuma: a later stop() only waits, it does not ask again.
            self._asked_to_end = True
        self._process.send_signal(signum)
