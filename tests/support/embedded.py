"""Instances whose MariaDB lives inside a Kuma: the stand-in `embedded_kuma`, by real services."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from replicator_kuma.adapters.database.detect import open_store
from replicator_kuma.adapters.kuma import KumaService
from replicator_kuma.adapters.kuma.child import ChildKuma
from replicator_kuma.adapters.kuma.command import CommandKuma
from replicator_kuma.adapters.kuma.embedded_mariadb import EmbeddedDatabase, EmbeddedKuma
from replicator_kuma.adapters.kuma.readiness import wait_ready
from replicator_kuma.replication.instance import Instance
from tests.support import mariadb_build
from tests.support.cycles import LOGO
from tests.support.folder_repository import FolderRepository
from tests.support.instances import RecordingKuma, make_instance
from tests.support.kuma_server import free_port, is_ready
from tests.support.mariadb import Database, Embedded
from tests.support.tools import ROOT
from tests.support.waiting import wait_until

PROGRAM = [sys.executable, str(ROOT / "tests" / "support" / "embedded_kuma.py")]
_OPTIONS = """[mariadbd]
skip-networking
innodb-flush-log-at-trx-commit=2
innodb-flush-method=nosync
innodb-buffer-pool-size=32M
innodb-log-file-size=8M
key-buffer-size=1M
aria-pagecache-buffer-size=8M
performance-schema=0
skip-log-bin
innodb-print-all-deadlocks
"""
"""In ~/.my.cnf, so that mariadbd's command line is Kuma's own."""

# Kuma as something that an operator's commands start and stop: it outlives a replicator that dies.
_SCRIPTS = {
    # of one that was killed: its number would pass for that of the new one
    "start": """
rm -f "{here}/pid"
setsid sh -c 'echo $$ > "{here}/pid"; exec {kuma}' > "{here}/out" 2>&1 < /dev/null &
while ! [ -s "{here}/pid" ]; do sleep 0.01; done
""",
    "stop": """
kill -TERM "$(cat "{here}/pid")"
while sh "{here}/status"; do sleep 0.02; done
rm "{here}/pid"
""",
    # nobody may reap what has ended: a zombie is gone too. Not by its command line: that is empty
    # for a moment while a program replaces another.
    "status": """
[ -s "{here}/pid" ] || exit 1
grep -q '^State:[[:space:]]*[^ZX[:space:]]' "/proc/$(cat "{here}/pid")/status"
""",
}


@dataclass
class Inside:
    """A data directory of a Kuma with MariaDB inside."""

    data_dir: Path
    port: int = 0

    def __post_init__(self) -> None:
        self.port = self.port or free_port()
        self.notes = self.data_dir / "kuma"
        self.notes.mkdir(parents=True, exist_ok=True)
        home = self.data_dir / "home"
        home.mkdir(exist_ok=True)
        (home / ".my.cnf").write_text(_OPTIONS)
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = {
            "PATH": f"{os.environ['PATH']}:/usr/sbin",
            "HOME": str(home),
            # a mariadbd that starts deletes the temporary tables of all others in its folder
            "TMPDIR": str(home),
            "DATA_DIR": f"{self.data_dir}/",
            "UPTIME_KUMA_PORT": str(self.port),
        }
        self.server = Embedded(self.data_dir)
        self.database = Database(self.server, "kuma", self.data_dir)
        self.patience = 30.0
        """seconds that an instance waits for it"""
        self._children: list[ChildKuma] = []

    # --- what it does -----------------------------------------------------------------------

    def behave(self, **behaviour: Any) -> None:
        """From its next start on."""
        (self.notes / "behaviour.json").write_text(json.dumps(behaviour))

    @property
    def calls(self) -> list[str]:
        path = self.notes / "calls"
        return path.read_text().splitlines() if path.exists() else []

    @property
    def starts(self) -> int:
        return sum(call.startswith("start ") for call in self.calls)

    @property
    def pid(self) -> int:
        """Of the Kuma that was started last."""
        return int([call for call in self.calls if call.startswith("start ")][-1].split()[1])

    @property
    def mariadbd(self) -> int:
        """The process id of the mariadbd that Kuma started last."""
        found = [call for call in self.calls if call.startswith("mariadbd ")]
        return int([call.split()[1] for call in found if "ended" not in call][-1])

    def memory(self) -> dict[int, str]:
        """What Kuma read at its start: id and name of each monitor."""
        raw = json.loads((self.notes / "memory.json").read_text())
        return {int(number): name for number, name in raw.items()}

    def beats(self) -> list[tuple[int, str]]:
        """(monitor, text) of each heartbeat that Kuma tried to write."""
        lines = (self.notes / "beats").read_text().splitlines()
        return [(int(number), text) for number, _, text in (line.partition(" ") for line in lines)]

    def ready(self) -> bool:
        return is_ready(self.url)

    # --- services ---------------------------------------------------------------------------

    def child(self) -> ChildKuma:
        database = self.embedded()
        service = ChildKuma(PROGRAM, self.data_dir, self.environment, database=database)
        self._children.append(service)
        return service

    def by_command(self) -> KumaService:
        """Stopped and started by an operator's commands."""
        variables = [f"{name}={value}" for name, value in self.environment.items()]
        kuma = shlex.join(["env", *variables, *PROGRAM])
        commands = {}
        for name, script in _SCRIPTS.items():
            (self.notes / name).write_text(script.format(here=self.notes, kuma=kuma))
            commands[name] = shlex.join(["sh", str(self.notes / name)])
        service = CommandKuma(commands["stop"], commands["start"], commands["status"])
        return EmbeddedKuma(service, self.embedded())

    def embedded(self) -> EmbeddedDatabase:
        return EmbeddedDatabase(self.data_dir, self.environment)

    def instance(self, repository: FolderRepository, kuma: KumaService) -> Instance:
        made = make_instance(
            self.data_dir,
            repository,
            name=self.data_dir.name,
            store=open_store(self.data_dir),
            kuma=RecordingKuma(),
        )
        made.kuma = kuma
        made.wait_ready = lambda: wait_ready(
            self.url, kuma.running, self.patience, ended_with=kuma.ended_with
        )
        made.database_up = self.embedded().up
        return made

    # --- the end ----------------------------------------------------------------------------

    def end(self) -> None:
        """End what this test started here, Kuma first: it would start its MariaDB again."""
        by_command = self.notes / "pid"
        pids = [int(by_command.read_text())] if by_command.exists() else []
        for pid in [*pids, *([self.pid] if self.calls else [])]:
            _kill(pid, signal.SIGKILL)
        for child in self._children:
            wait_until(lambda c=child: not c.running(), "Kuma is gone")  # type: ignore[misc]
        database = self.embedded()
        wait_until(lambda: not database.leftover() and not database.running(), "its MariaDB ended")


def _kill(pid: int, number: signal.Signals) -> None:
    """Only a process that is the stand-in."""
    with contextlib.suppress(OSError):
        if "embedded_kuma" in Path(f"/proc/{pid}/cmdline").read_text():
            os.kill(pid, number)


def make_template(folder: Path, **sizes: Any) -> Path:
    """A data directory with rows, as a Kuma that has ended left it; to be copied."""
    with Embedded(folder) as server:
        mariadb_build.build(server.kuma(), **sizes)
        (folder / "upload").mkdir()
        (folder / "upload" / "logo2.png").write_bytes(LOGO)
    return folder


@contextlib.contextmanager
def copied(template: Path, target: Path) -> Iterator[Inside]:
    """A Kuma of its own on a copy of a template; it ends with the block."""
    shutil.copytree(template, target)
    made = Inside(target)
    try:
        yield made
    finally:
        made.end()
