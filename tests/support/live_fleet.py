"""A leader whose rows a test writes, and a replica whose real Kuma takes them over while it runs.

The leader's Kuma made the database and is stopped: to its publishes it makes no difference.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any, Self

from replicator_kuma.adapters.kuma.agent.client import Agent, AgentError
from tests.e2e.two_kumas import kuma_pid
from tests.support import databases, weak_repository
from tests.support.supervised import Side
from tests.support.tools import restic_018
from tests.support.waiting import wait_until

LIVE = "without a restart of Kuma"
_ENVIRONMENT = {
    "REPLICATOR_RESTORE_INTERVAL": "1h",  # a test says when
    "REPLICATOR_BACKUP_INTERVAL": "1h",
    "REPLICATOR_SHRINK_LIMIT": "off",
    "REPLICATOR_SCHEMA": "compatible",  # npm's build notes its patches on SQLite only
    "UPTIME_KUMA_DB_TYPE": "sqlite",
}


def agent(side: Side) -> Agent:
    """The agent in the process of a side's Kuma."""
    return Agent(side.data_dir / "replicator" / "agent.sock")


def all_begun(side: Side, deadline: float = 90.0) -> None:
    """Until a side's Kuma has started all of its monitors."""

    def begun() -> bool:
        side.ready()
        try:
            return agent(side).hello().phase == "ready"
        except AgentError:
            return False

    wait_until(begun, f"{side.name}: all monitors started", deadline)


class LiveFleet:
    """A context manager; ``replica`` runs and has applied the leader's first snapshot."""

    def __init__(self, folder: Path, address: str, replica: Side | None = None) -> None:
        """``address``: of the first monitor, which beats each second, id 1."""
        self.folder = folder
        weak_repository.make(folder / "repository")
        self.leader = Side(folder, "leader", "BACKUP", restic_018(), **_ENVIRONMENT)
        self.replica = replica or Side(folder, "replica", "RESTORE", restic_018())
        self.replica.environment = _ENVIRONMENT | self.replica.environment | {
            name: _ENVIRONMENT[name]
            for name in ("REPLICATOR_RESTORE_INTERVAL", "REPLICATOR_SHRINK_LIMIT")
        }  # fmt: skip
        self._address = address

    def __enter__(self) -> Self:
        try:
            self.leader.set_up(Base=self._address)
            assert self.leader.stop() == 0
            self.edit("UPDATE monitor SET interval = 1, retry_interval = 1")
            self.leader.command("backup")
            self.replica.run()
            self.replica.wait_ready()
            wait_until(lambda: self.applied(), "the first snapshot", 60)
            all_begun(self.replica)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        for side in (self.leader, self.replica):
            if side.process is not None and side.process.poll() is None:
                side.kill()

    def edit(self, *statements: str | tuple[str, Any]) -> None:
        """Change the leader's rows, in one transaction."""
        databases.edit(self.leader.database, *statements)

    def insert(self, table: str, **row: Any) -> int:
        """A row on the leader; columns that its version lacks are left out. Returns its id."""
        columns = {name for name, in self.leader.query(f"SELECT name FROM pragma_table_info('{table}')")}
        row = {name: value for name, value in row.items() if name in columns}
        with closing(databases.sqlite3.connect(self.leader.database)) as connection, connection:
            return databases.insert(connection, table, **row)

    def tables(self) -> set[str]:
        """The tables of this Kuma."""
        sql = "SELECT name FROM sqlite_master WHERE type = 'table'"
        return {name for name, in self.leader.query(sql)}

    def applied(self) -> str:
        """The position that the replica has applied and confirmed; "": none."""
        return str((self.replica.json("status")["applied"] or {}).get("position") or "")

    def publish(self) -> None:
        """Publish the leader's rows."""
        assert self.leader.json("backup")["outcome"] == "published"

    def apply(self) -> None:
        """Publish, and take it over on the running replica; a second apply has nothing to do."""
        self.publish()
        pid, said = kuma_pid(self.replica), len(self.replica.log)
        done = self.replica.json("restore", "--now")
        assert done["outcome"] == "applied", done
        assert LIVE in self.replica.log[said:], self.replica.log_tail()
        self.settled(pid)

    def settled(self, pid: int) -> None:
        """The same Kuma runs, its memory equals its rows, and there is nothing to apply."""
        assert self.replica.json("restore", "--now")["outcome"] == "nothing"
        assert kuma_pid(self.replica) == pid
        assert agent(self.replica).differ() == ()

    def restart(self) -> None:
        """End the replica and start it again, its Kuma with it."""
        assert self.replica.stop() in (0, 1)  # npm's build ends with 1 on MariaDB
        self.replica.run()
        self.replica.wait_ready()
        all_begun(self.replica)
