"""A leader whose rows a test writes, and a replica whose real Kuma takes them over while it runs.

The leader's Kuma made the database and is stopped: to its publishes it makes no difference.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Self

from replicator_kuma.adapters.kuma.agent.client import Agent, AgentError
from replicator_kuma.adapters.kuma.agent.versions import proved
from tests.e2e.two_kumas import kuma_pid
from tests.support import databases, weak_repository
from tests.support.supervised import Side
from tests.support.tools import kuma_dir, kuma_version, restic_018
from tests.support.waiting import wait_until

LIVE = "without a restart of Kuma"
ENVIRONMENT = {
    "REPLICATOR_RESTORE_INTERVAL": "1h",  # a test says when
    "REPLICATOR_BACKUP_INTERVAL": "1h",
    "REPLICATOR_SHRINK_LIMIT": "off",
    "REPLICATOR_SCHEMA": "compatible",  # npm's build notes its patches on SQLite only
    "UPTIME_KUMA_DB_TYPE": "sqlite",
}


def agent(side: Side) -> Agent:
    """The agent in the process of a side's Kuma."""
    own = side.data_dir / "replicator" / "agent.sock"
    return Agent(Path(side.environment.get("REPLICATOR_AGENT_SOCKET") or own))


def applied(side: Side) -> str:
    """The position that a side has applied and confirmed; "": none."""
    return str((side.json("status")["applied"] or {}).get("position") or "")


def begun(side: Side) -> bool:
    """Whether a side's Kuma has started all of its monitors."""
    try:
        return agent(side).hello().phase == "ready"
    except AgentError:
        return False


def all_begun(side: Side, deadline: float = 90.0) -> None:
    """Wait until `begun`; fails the caller if the supervisor has ended."""
    wait_until(lambda: side.ready() and begun(side), f"{side.name}: all started", deadline)


class Leader(Side):
    """A leader whose Kuma is stopped; a context manager, with its first snapshot published."""

    def __init__(self, folder: Path, address: str) -> None:
        """``address``: of the first monitor, id 1, which beats each second."""
        weak_repository.make(folder / "repository")
        super().__init__(folder, "leader", "BACKUP", restic_018())
        self.environment |= ENVIRONMENT
        self._address = address

    def __enter__(self) -> Self:
        with ending(self):
            self.set_up(Base=self._address)
            assert self.stop() == 0
        self.edit("UPDATE monitor SET interval = 1, retry_interval = 1")
        self.command("backup")
        return self

    def __exit__(self, *_error: object) -> None:
        end(self)  # a test may have started it

    def edit(self, *statements: str | tuple[str, Any]) -> None:
        """Change its rows, in one transaction."""
        databases.edit(self.database, *statements)

    def insert(self, table: str, **row: Any) -> int:
        """Add a row, without columns that its version lacks; returns its id."""
        columns = {name for (name,) in self.query(f"SELECT name FROM pragma_table_info('{table}')")}
        row = {name: value for name, value in row.items() if name in columns}
        with closing(sqlite3.connect(self.database)) as connection, connection:
            return databases.insert(connection, table, **row)

    def tables(self) -> set[str]:
        """The tables of this Kuma."""
        return {n for (n,) in self.query("SELECT name FROM sqlite_master WHERE type = 'table'")}

    def publish(self) -> str:
        """Publish its rows; their position."""
        done = self.json("backup")
        assert done["outcome"] == "published", done
        return str(done["position"])


class LiveFleet:
    """A context manager; ``replica`` runs and has applied the leader's first snapshot."""

    def __init__(self, folder: Path, address: str, replica: Side | None = None) -> None:
        """``address``: of the first monitor, see `Leader`."""
        self.folder = folder
        self.leader = Leader(folder, address)
        self.replica = replica or Side(folder, "replica", "RESTORE", restic_018())
        self.replica.environment |= ENVIRONMENT
        if (self.replica.data_dir / "db-config.json").exists():
            self.replica.environment.pop("UPTIME_KUMA_DB_TYPE")  # on the engine that it names

    def __enter__(self) -> Self:
        with self.leader, ending(self.replica):
            self.replica.run()
            self.replica.wait_ready()
            wait_until(lambda: applied(self.replica), "the first snapshot", 60)
            all_begun(self.replica)
            if not proved(kuma_version(kuma_dir())):
                # an empty replica's first apply needs a restart, which `live` would not allow
                self.replica.environment["REPLICATOR_APPLY"] = "live"
                self.restart()
        return self

    def __exit__(self, *_error: object) -> None:
        end(self.replica)

    def apply(self) -> None:
        """Publish, and take it over on the running replica; a second apply has nothing to do."""
        self.leader.publish()
        said = len(self.replica.log)
        live(self.replica, "restore", "--now")
        assert LIVE in self.replica.log[said:], self.replica.log_tail()
        assert self.replica.json("restore", "--now")["outcome"] == "nothing"

    def restart(self) -> None:
        """End the replica and start it again, its Kuma with it."""
        assert self.replica.stop() in (0, 1)  # npm's build ends with 1 on MariaDB
        self.replica.run()
        self.replica.wait_ready()
        all_begun(self.replica)


def live(side: Side, *command: str) -> None:
    """Run a command that changes rows; the running Kuma takes them over, and goes on."""
    pid = kuma_pid(side)
    side.command(*command)
    assert kuma_pid(side) == pid, side.log_tail()
    assert agent(side).differ() == ()


def end(side: Side) -> None:
    """End a side that runs, with all that it has started."""
    if side.process is not None and side.process.poll() is None:
        side.kill()


@contextlib.contextmanager
def ending(side: Side) -> Iterator[None]:
    """End a side if the block fails."""
    try:
        yield
    except BaseException:
        end(side)
        raise
