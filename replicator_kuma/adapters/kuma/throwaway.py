"""A throw-away Uptime Kuma on a scratch data directory: boots it, checks it, and ends it.

It listens on loopback only. It gets neither the replicator's nor the real Kuma's environment. Its
output goes to a file. The caller has deactivated all monitors in the data directory.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from replicator_kuma.adapters.kuma.process import exit_status, mask, spawn
from replicator_kuma.adapters.kuma.readiness import wait_ready
from replicator_kuma.adapters.kuma.socketio import list_monitors
from replicator_kuma.base.errors import Interrupted, KumaError, SettingsError
from replicator_kuma.base.processes import end_child
from replicator_kuma.base.state_directory import real_path

LOG = "kuma.log"
END = 30.0
"""Seconds to end after SIGTERM (Kuma needs four), before a kill: only a scratch is lost."""
_KEPT = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH")
_KEPT_PREFIX = ("NODE_", "NVM_")
_OWN_WAYS = re.compile(
    r"--(?:data-dir|port|host|cloudflared-token)\b|\b(?:DATA_DIR|UPTIME_KUMA_\w+)="
)
"""Settings that would override the environment given here: Kuma's options, other variables."""


@dataclass(frozen=True)
class Visit:
    """The input for a throw-away Kuma."""

    data_dir: Path
    token: str = field(repr=False)
    in_use: Callable[[], bool]
    """whether a process has the scratch database open: it must be this Kuma's"""


@dataclass(frozen=True)
class Shown:
    """The monitors that a throw-away Kuma showed, and the seconds from its start until then."""

    monitors: Mapping[int, str]
    seconds: float


@dataclass(frozen=True)
class ThrowAway:
    command: Sequence[str]
    cwd: Path
    environment: Mapping[str, str] = field(repr=False)
    """of the real Kuma; only general variables are taken from it"""
    timeout: float
    """seconds until it must answer, and again until it must show its monitors"""
    interrupted: Callable[[], bool] = lambda: False

    def check(self) -> None:
        """Raise SettingsError if the command does not exist, or could leave the scratch folder."""
        if found := _OWN_WAYS.search("\0".join(self.command)):
            raise SettingsError(
                f"REPLICATOR_KUMA_COMMAND has {found[0]}: a throw-away Kuma would not stay on its "
                "scratch",
                hint="Say it by a variable of the replicator's own environment: DATA_DIR, "
                "UPTIME_KUMA_PORT, UPTIME_KUMA_HOST, UPTIME_KUMA_CLOUDFLARED_TOKEN.",
            )
        if not self.cwd.is_dir() or not self._program():
            raise SettingsError(
                f"there is no Uptime Kuma here to boot: no {self.command[0]} to run in {self.cwd}",
                hint="Set REPLICATOR_KUMA_COMMAND and REPLICATOR_KUMA_DIR, or drill without it.",
            )

    def _program(self) -> bool:
        program = self.command[0]
        if os.sep in program:
            return (self.cwd / program).is_file()
        return shutil.which(program, path=self.environment.get("PATH", os.defpath)) is not None

    def monitors(self, visit: Visit) -> Shown:
        """Boot Kuma, wait until it is ready, end it; returns the monitors that it showed.

        Raises KumaError, Interrupted.
        """
        self.check()
        log = visit.data_dir.parent / LOG
        port = _free_port()
        began = time.monotonic()
        with self._running(visit.data_dir, port, log) as process:
            url = f"http://127.0.0.1:{port}"
            try:
                wait_ready(
                    url,
                    lambda: process.poll() is None,
                    self.timeout,
                    ended_with=lambda: exit_status(process.wait()),
                    interrupted=self.interrupted,
                )
                if not visit.in_use():
                    raise KumaError("the command started a Kuma on another data directory")
                found = list_monitors(url, visit.token, self.timeout)
                return Shown(found, time.monotonic() - began)
            except Interrupted:
                raise
            except KumaError as error:
                raise KumaError(f"{error}{_tail(log)}", hint=error.hint) from error

    @contextlib.contextmanager
    def _running(self, data_dir: Path, port: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            process = spawn(
                self.command,
                f"Uptime Kuma could not be started in {self.cwd}",
                "Check REPLICATOR_KUMA_COMMAND and REPLICATOR_KUMA_DIR.",
                cwd=self.cwd,
                env=scratch_environment(self.environment, data_dir, port),
                stdout=descriptor,
                stderr=descriptor,
            )
        finally:
            os.close(descriptor)
        try:
            yield process
        finally:
            end_child(process, END)  # a kill can only damage the scratch
            end_left(data_dir)  # processes that this Kuma has started


def scratch_environment(real: Mapping[str, str], data_dir: Path, port: int) -> dict[str, str]:
    """The environment of a throw-away Kuma: of the real one, only general variables."""
    kept = {k: v for k, v in real.items() if k in _KEPT or k.startswith(_KEPT_PREFIX)}
    return {
        **kept,
        "DATA_DIR": f"{real_path(data_dir)}/",
        "UPTIME_KUMA_HOST": "127.0.0.1",
        "UPTIME_KUMA_PORT": str(port),
    }


def end_left(data_dir: Path) -> None:
    """End the processes that a killed drill left on this scratch data directory."""
    mark = f"DATA_DIR={real_path(data_dir)}/".encode()
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if mark in path.read_bytes().split(b"\0"):
                os.kill(int(path.parent.name), signal.SIGKILL)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


def _tail(log: Path) -> str:
    """The end of Kuma's output, secrets masked."""
    with contextlib.suppress(OSError):
        lines = log.read_text(errors="replace").splitlines()
        if said := " / ".join(line.strip() for line in lines[-3:] if line.strip()):
            return f". It said last: {mask(said)[-300:]}"
    return ""
