"""A leader and a replica of one fleet, one of them under `replicator run`, and who is told."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from replicator_kuma.replication.state.file import StateFile
from replicator_kuma.replication.state.state import State
from tests.adapters.notify.server import Server
from tests.monitoring.entry import HANGS
from tests.support import databases, weak_repository
from tests.support.kuma_server import free_port
from tests.support.states import edit_state
from tests.support.supervised import Running, Side
from tests.support.tools import ROOT, rest_server, restic_018
from tests.support.waiting import wait_until

BACKUP, RESTORE = "BACKUP", "RESTORE"
NAMES = {BACKUP: "leader", RESTORE: "replica"}
ENTRY = (sys.executable, "-m", "tests.monitoring.entry")
DEADLINE = 90.0
"""seconds; all situations run at the same time, perhaps on few cores"""


class Instance(Side):
    """One side of the fleet, with the stand-in for Kuma."""

    program = ENTRY

    def __init__(self, folder: Path, mode: str, fleet: Path, **environment: str) -> None:
        super().__init__(folder, NAMES[mode], mode, restic_018(), notes=folder)
        self.environment |= {
            "REPLICATOR_BACKUP_INTERVAL": "1h",
            "REPLICATOR_RESTORE_INTERVAL": "1h",
            "PYTHONPATH": str(ROOT),
            HANGS: str(fleet / "hangs"),
            "RESTIC_REPOSITORY": str(fleet / "repository"),
            **environment,
        }

    @property
    def state(self) -> State:
        return StateFile(self.data_dir / "replicator").load()

    def run(self, *arguments: str) -> None:
        """Start the supervisor, and wait until its first cycle has gone well."""
        began = time.time()
        super().run(*arguments)

        def ended() -> bool:
            last = self.state.outcome.last
            return self.ready() and last is not None and last.ok and last.at > began

        self.until(ended, "the first cycle has gone well")

    def an_hour_passes(self) -> None:
        """As if what is noted of cycles had been noted an hour before."""
        file = StateFile(self.data_dir / "replicator")
        with file.lock(wait=DEADLINE):
            state = file.load()
            assert state.outcome.last is not None
            edit_state(
                file,
                last=replace(state.outcome.last, at=state.outcome.last.at - 3600),
                last_ok_at=state.outcome.last_ok_at - 3600,
                fresh_at=state.outcome.fresh_at and state.outcome.fresh_at - 3600,
            )

    def cycle(self) -> None:
        """Ask for a cycle now; returns at once."""
        assert self.process is not None
        self.process.send_signal(signal.SIGUSR1)

    def until(self, condition: Callable[[], object], what: str) -> None:
        try:
            wait_until(condition, what, DEADLINE)
        except TimeoutError as error:
            raise AssertionError(f"{error}\n{self.log_tail()}") from error

    def ask(self, *commands: str) -> list[tuple[int, str]]:
        """Exit code and output of each command."""
        words = json.dumps([command.split() for command in commands])
        done = subprocess.run(
            [*ENTRY, "ask", words],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=True,
        )
        return [(code, out) for code, out in json.loads(done.stdout)]


class RestServer:
    """restic's REST server over a folder; it can go away, and hang."""

    def __init__(self, folder: Path) -> None:
        port = free_port()
        self.url = f"rest:http://127.0.0.1:{port}/repository/"
        self.process = subprocess.Popen(
            [rest_server(), "--no-auth", "--path", folder, "--listen", f"127.0.0.1:{port}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def close(self) -> None:
        self.process.kill()
        self.process.wait(10)


@dataclass
class Situated(Running):
    """The fleet of one situation. ``watched`` is the instance that is asked."""

    leader: Instance
    replica: Instance
    watched: Instance
    topic: str
    server: RestServer | None

    @property
    def repository(self) -> Path:
        return self.folder / "repository"

    @property
    def by_cron(self) -> Path:
        """The state directory where no supervisor has ever run (`as_cron_has_it`)."""
        return self.watched.data_dir / "by-cron"

    def as_cron_has_it(self) -> None:
        """What is noted now, without a supervisor's sign of life."""
        self.by_cron.mkdir(mode=0o700)
        shutil.copy(self.watched.data_dir / "replicator" / "state.json", self.by_cron)

    def edit(self, sql: str = "UPDATE monitor SET name = 'edited' WHERE id = 1") -> None:
        """Somebody changes the leader's configuration."""
        databases.edit(self.leader.database, sql)

    def hang(self) -> None:
        """Nobody waits long for the repository any more (`entry.Deadlines`)."""
        (self.folder / "hangs").touch()

    def fill(self, disk: Path) -> None:
        """Somebody's file takes all that is left there."""
        with (disk / "of-somebody").open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))

    def publish(self, *options: str) -> None:
        """The leader publishes what it has, from cron."""
        self.leader.command("backup", *options)


def make_template(folder: Path) -> Path:
    """A fleet whose replica has applied what its leader has published."""
    leader, replica = (Instance(folder, mode, folder) for mode in (BACKUP, RESTORE))
    databases.build(leader.database, "2.3", monitors=12)
    databases.build(replica.database, "2.3", monitors=3)
    for side in (leader, replica):
        (side.data_dir / "upload").mkdir()
        (side.data_dir / "upload" / "logo2.png").write_bytes(b"a logo")
    weak_repository.make(folder / "repository")
    leader.ask("backup")
    replica.ask("restore")
    assert replica.state.following.applied == leader.state.leading.published is not None
    return folder


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A file system of its own below ``folder``; only root may make one."""
    folder.mkdir(parents=True)
    call = ["mount", "-t", "tmpfs", "-o", "size=24m,mode=700", "tmpfs", str(folder)]
    subprocess.run(call, check=True, timeout=10)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True, timeout=10)


@contextlib.contextmanager
def made(
    template: Path,
    folder: Path,
    mode: str,
    receiver: Server,
    *,
    disk: str = "",
    served: bool = False,
    fleet: str = "default",
) -> Iterator[Situated]:
    """A world as the template, its watched instance under `run`; all ends with the block.

    ``disk`` (a folder of the template) gets a small file system; ``served``: the repository is
    behind a REST server.
    """
    with contextlib.ExitStack() as stack:
        if disk:
            stack.enter_context(small_disk(folder / disk))
        shutil.copytree(template, folder, dirs_exist_ok=True)
        more = {
            "NTFY_URL": f"{receiver.url}/{folder.name}",
            "REPLICATOR_NOTIFY": f"kuma+{receiver.url}/api/push/{folder.name}",
            "REPLICATOR_FLEET": fleet,
        }
        server = RestServer(folder) if served else None
        if server:
            stack.callback(server.close)
            more["RESTIC_REPOSITORY"] = server.url
        sides = {side: Instance(folder, side, folder, **more) for side in (BACKUP, RESTORE)}
        # only the watched one tells: what the other one says is not of this table
        other = sides[RESTORE if mode == BACKUP else BACKUP]
        del other.environment["NTFY_URL"], other.environment["REPLICATOR_NOTIFY"]
        if fleet != "default":
            shutil.rmtree(sides[mode].data_dir / "replicator")
        watched = sides[mode]
        leader, replica = sides[BACKUP], sides[RESTORE]
        with Situated(folder, leader, replica, watched, folder.name, server) as world:
            watched.run()
            yield world
