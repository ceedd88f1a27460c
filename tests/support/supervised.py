"""Instances under the real `replicator run`, each in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Self

from tests.support import databases
from tests.support.cycles import state_of
from tests.support.kuma_server import KumaClient, free_port, is_ready, kuma_command
from tests.support.tools import ROOT, kuma_dir
from tests.support.waiting import wait_until
from tests.support.weak_repository import PASSWORD

FAKE_KUMA = ROOT / "tests" / "cli" / "fake_kuma.py"
REPLICATOR = (sys.executable, "-m", "replicator_kuma")
USER, KUMA_PASSWORD = "admin", "Replicator-tests-1"


class Side:
    """An instance's data directory and environment; ``run`` starts it, ``command`` asks it.

    It runs the real Uptime Kuma. In its place: the command ``kuma``; or a program that serves
    Kuma's page and reads nothing, which notes what it does in the folder ``notes``.
    """

    program = REPLICATOR

    def __init__(
        self,
        folder: Path,
        name: str,
        mode: str,
        restic: Path,
        *,
        port: int = 0,
        kuma: list[str] | None = None,
        notes: Path | None = None,
        **environment: str,
    ) -> None:
        self.name, self.data_dir = name, folder / name
        self.port = port or free_port()
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = folder / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.query: Callable[[str], list[tuple[Any, ...]]] = partial(databases.query, self.database)
        """asks its database; SQLite, unless a test puts another in this place"""
        if notes is not None:
            notes.mkdir(exist_ok=True)
            kuma = [sys.executable, str(FAKE_KUMA), str(notes), str(self.port)]
        self._real = kuma is None
        password = folder / "password"
        if not password.exists():
            password.write_text(PASSWORD)
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("REPLICATOR_", "RESTIC_"))},
            "REPLICATOR_MODE": mode,
            "REPLICATOR_INSTANCE": name,
            "REPLICATOR_BACKUP_INTERVAL": "1s",
            "REPLICATOR_RESTORE_INTERVAL": "1s",
            "REPLICATOR_RESTIC": str(restic),
            "RESTIC_REPOSITORY": str(folder / "repository"),
            "RESTIC_PASSWORD_FILE": str(password),
            "DATA_DIR": str(self.data_dir),
            "UPTIME_KUMA_HOST": "127.0.0.1",
            "UPTIME_KUMA_PORT": str(self.port),
            **environment,
        }
        if kuma is not None:
            self._kuma_is(kuma, self.data_dir)

    def _kuma_is(self, command: list[str], folder: Path) -> None:
        self.environment["REPLICATOR_KUMA_COMMAND"] = " ".join(command)
        self.environment["REPLICATOR_KUMA_DIR"] = str(folder)

    @property
    def database(self) -> Path:
        return self.data_dir / "kuma.db"

    @property
    def log(self) -> str:
        """What its supervisors have said."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def run(self, *arguments: str) -> None:
        """Start its supervisor; with arguments that command of the replicator."""
        if self._real:
            self._kuma_is(kuma_command(), kuma_dir())
        program = REPLICATOR if arguments else self.program
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [*program, *(arguments or ("run",))],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def ready(self) -> bool:
        """Whether its Kuma answers; fails the caller when the supervisor has ended."""
        if self.process is not None and self.process.poll() is not None:
            raise AssertionError(f"{self.name} ended: {self.log_tail()}")
        return is_ready(self.url)

    def wait_ready(self, deadline: float = 90.0) -> None:
        wait_until(self.ready, f"{self.name} to be ready", deadline)

    def page(self) -> KumaClient:
        """A page of its Kuma, logged in as the leader's user."""
        client = KumaClient(self.url)
        client.connect()
        client.login(USER, KUMA_PASSWORD)
        return client

    def set_up(self, **monitors: str) -> None:
        """Start it; a person makes the user and monitors (name and address) in its page."""
        self.run()
        self.wait_ready()
        with KumaClient(self.url) as client:
            client.setup(USER, KUMA_PASSWORD)
            client.login(USER, KUMA_PASSWORD)
            for name, address in monitors.items():
                client.add_monitor(name, address)

    def command(
        self, *arguments: str, check: bool = True, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a replicator command beside it, with its environment and what is said here."""
        done = subprocess.run(
            [*REPLICATOR, *arguments],
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(f"replicator {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done

    def json(self, *arguments: str) -> Any:
        return json.loads(self.command(*arguments, "--json").stdout)

    def log_tail(self, lines: int = 40) -> str:
        return "\n".join(self.log.splitlines()[-lines:])

    def stop(self, deadline: float = 60.0) -> int | None:
        """SIGTERM, as a container's end; the exit code, None where it never ran."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(deadline)

    def kill(self) -> None:
        """End the supervisor, and everything that it started, at once."""
        if self.process is None:
            return
        # a thread's children are listed with the thread that started them
        tasks = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        pids = [int(pid) for children in tasks for pid in children.read_text().split()]
        self.process.kill()
        self.process.wait(10)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)


@dataclass
class Running:
    """A leader, a replica and a repository, in one folder; both are killed at the block's end."""

    folder: Path
    leader: Side
    replica: Side

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        for side in (self.leader, self.replica):
            side.kill()

    def stop(self) -> list[int | None]:
        """SIGTERM for both at once; the exit codes of leader and replica."""
        with ThreadPoolExecutor() as pool:
            return list(pool.map(Side.stop, (self.leader, self.replica)))

    def positions(self) -> list[str]:
        """Of all snapshots, oldest first; asked for anew where the repository holds others."""
        there = (self.folder / "repository" / "snapshots").glob("*")
        return _positions(self.leader, frozenset(path.name for path in there))

    def wait_applied(self, position: str = "", deadline: float = 60.0) -> None:
        """Until the replica has applied, and confirmed, a position: the newest, if none is said."""

        def there() -> bool:
            wanted = position or self.positions()[-1]
            applied = state_of(self.replica.data_dir).following.applied
            # a look at the file costs less than a command, which is what a person asks
            return (
                applied is not None
                and str(applied.position) == wanted
                and bool(self.replica.json("status")["applied"]["position"] == wanted)
            )

        wait_until(there, f"the replica applies {position or 'the newest'}", deadline)


@cache
def _positions(side: Side, _there: frozenset[str]) -> list[str]:
    return [row["position"] for row in side.json("snapshots")]
