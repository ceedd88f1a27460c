"""Starts supervisors and commands for tests, and reads what they noted."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from tests.support.supervised import REPLICATOR, Side
from tests.support.tools import ROOT
from tests.support.waiting import wait_until

KEPT = ("PATH", "HOME", "LANG", "COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG")


class Run(Side):
    """One supervised instance in a folder: its script, its fake Kuma, its process."""

    program = (sys.executable, "-m", "tests.cli.supervised")

    def __init__(self, folder: Path, mode: str, *, database: bool = True, **environ: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(folder, "data", mode, Path("restic"), notes=folder)
        self.folder = folder
        if database:
            self.database.touch()
        kuma = self.environment["REPLICATOR_KUMA_COMMAND"]
        self.environment = {name: os.environ[name] for name in KEPT if name in os.environ} | {
            "REPLICATOR_KUMA_COMMAND": kuma,
            "REPLICATOR_KUMA_DIR": str(folder),
            "PYTHONPATH": str(ROOT),
            "SCRIPT": str(folder),
            "REPLICATOR_MODE": mode,
            "REPLICATOR_INSTANCE": "tested",
            "REPLICATOR_LOG_LEVEL": "debug",
            "DATA_DIR": str(self.data_dir),
            "RESTIC_REPOSITORY": str(folder / "repository"),
            "RESTIC_PASSWORD": "only-a-test",
            "UPTIME_KUMA_PORT": str(self.port),
            **environ,
        }

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_error: object) -> None:
        try:
            self.stop(15)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def script(self, task: str, **script: Any) -> None:
        """What a task does from now on."""
        temporary = self.folder / f".{task}"
        temporary.write_text(json.dumps(script))
        temporary.replace(self.folder / f"{task}.json")

    @contextlib.contextmanager
    def held(self, task: str, **script: Any) -> Iterator[None]:
        """What a task does from now on; it does not end before the block ends."""
        released = self.folder / f"{task}.released"
        released.unlink(missing_ok=True)
        self.script(task, hold=60, **script)
        try:
            yield
        finally:
            released.touch()

    def start(self, *arguments: str) -> Self:
        """The scripted supervisor; with arguments the real command."""
        self.run(*arguments)
        return self

    def send(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self, deadline: float = 20.0) -> int:
        """The exit code, once it has ended."""
        assert self.process is not None
        return self.process.wait(deadline)

    def command(
        self, *arguments: str, check: bool = False, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """As `Side.command`; it may fail."""
        return super().command(*arguments, check=check, **environment)

    @contextlib.contextmanager
    def command_started(self, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """A command beside the block; it has ended after it."""
        with subprocess.Popen(
            [*REPLICATOR, *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
        ) as process:
            yield process
            process.wait(60)

    @property
    def calls(self) -> list[str]:
        """What was noted so far, without times."""
        return [line.partition(" ")[2] for line in self._lines()]

    def _lines(self) -> list[str]:
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def at(self, call: str) -> float:
        """When a call was noted last, on the monotonic clock."""
        return [float(line.split(" ")[0]) for line in self._lines() if line.endswith(call)][-1]

    def until(self, call: str, times: int = 1, deadline: float = 60.0) -> None:
        """Wait until something was noted that often."""

        def there() -> bool:
            assert self.process is not None
            if self.process.poll() is not None and self.calls.count(call) < times:
                raise AssertionError(f"ended before {call!r}: {self.calls}\n{self.log}")
            return self.calls.count(call) >= times

        try:
            wait_until(there, f"{call!r} {times} times", deadline)
        except TimeoutError as error:
            raise AssertionError(f"{error}: {self.calls}\n{self.log}") from error

    def logged(self, text: str, deadline: float = 60.0) -> None:
        wait_until(lambda: text in self.log, f"{text!r} in the log", deadline)

    def end(self, number: int = signal.SIGTERM) -> tuple[int, float]:
        """Signal it and wait: the exit code, and how long it took."""
        began = time.monotonic()
        self.send(number)
        return self.wait(), time.monotonic() - began
