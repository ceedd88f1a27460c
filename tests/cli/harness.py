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
from types import TracebackType
from typing import Any, Self

from tests.support.kuma_server import free_port
from tests.support.tools import ROOT
from tests.support.waiting import wait_until

FAKE_KUMA = Path(__file__).with_name("fake_kuma.py")
KEPT = ("PATH", "HOME", "LANG", "COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG")


class Run:
    """One supervised instance in a folder: its script, its fake Kuma, its process."""

    def __init__(self, folder: Path, mode: str, *, database: bool = True, **environ: str) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.data.mkdir(parents=True)
        if database:
            (self.data / "kuma.db").touch()
        self.port = free_port()
        self.environ = {name: os.environ[name] for name in KEPT if name in os.environ} | {
            "PYTHONPATH": str(ROOT),
            "SCRIPT": str(folder),
            "REPLICATOR_MODE": mode,
            "REPLICATOR_INSTANCE": "tested",
            "REPLICATOR_LOG_LEVEL": "debug",
            "DATA_DIR": str(self.data),
            "RESTIC_REPOSITORY": str(folder / "repository"),
            "RESTIC_PASSWORD": "only-a-test",
            "UPTIME_KUMA_PORT": str(self.port),
            "REPLICATOR_KUMA_COMMAND": f"{sys.executable} {FAKE_KUMA} {folder} {self.port}",
            "REPLICATOR_KUMA_DIR": str(folder),
            **environ,
        }
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(15)
                raise

    def script(self, task: str, **script: Any) -> None:
        """What a task does from now on."""
        temporary = self.folder / f".{task}"
        temporary.write_text(json.dumps(script))
        temporary.replace(self.folder / f"{task}.json")

    def start(self, *arguments: str) -> Self:
        """The scripted supervisor; with arguments the real command."""
        module = ["-m", "replicator_kuma"] if arguments else ["-m", "tests.cli.supervised"]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *module, *arguments],
                env=self.environ,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stderr=log,
                stdout=log,
            )
        return self

    def send(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self, deadline: float = 20.0) -> int:
        """The exit code, once it has ended."""
        assert self.process is not None
        return self.process.wait(deadline)

    def command(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """One command of the same instance, to its end."""
        return subprocess.run(
            [sys.executable, "-m", "replicator_kuma", *arguments],
            env={**self.environ, **environ},
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )

    @contextlib.contextmanager
    def command_started(self, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """A command beside the block; it has ended after it."""
        with subprocess.Popen(
            [sys.executable, "-m", "replicator_kuma", *arguments],
            env=self.environ,
            cwd=ROOT,
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

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def until(self, call: str, times: int = 1, deadline: float = 20.0) -> None:
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

    def logged(self, text: str, deadline: float = 20.0) -> None:
        wait_until(lambda: text in self.log, f"{text!r} in the log", deadline)

    def end(self, number: int = signal.SIGTERM) -> tuple[int, float]:
        """Signal it and wait: the exit code, and how long it took."""
        began = time.monotonic()
        self.send(number)
        return self.wait(), time.monotonic() - began
