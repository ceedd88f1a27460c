"""The replicator beside an Uptime Kuma that it neither starts nor stops, as docs/sidecar.md has it.

The two processes share folders only: Kuma's data, the agent's file and the agent's socket. The
tests stand in an order, and each goes on from the one before.
"""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from replicator_kuma.adapters.kuma.agent.client import Agent
from replicator_kuma.adapters.kuma.agent.launch import FILE
from tests.support import databases
from tests.support.kuma_server import (
    KumaClient,
    is_ready,
    kuma_command,
    kuma_environment,
)
from tests.support.live_kuma import UP, Web
from tests.support.mariadb import new_short_folder
from tests.support.openers import opened
from tests.support.supervised import USER, Side
from tests.support.tools import kuma_dir, restic_018
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.kuma, pytest.mark.restic]


class SideCar:
    """A Kuma on a disk of its own, and the replicator beside it; a leader without a process."""

    def __init__(self, folder: Path, web: Web) -> None:
        self.web = web
        self.run = new_short_folder()
        self.agent_file = folder / "agent" / FILE.name
        self.socket = self.run / "agent.sock"
        self.log = folder / "kuma.log"
        self.leader = Side(folder, "leader", "BACKUP", restic_018())
        self.replica = Side(
            folder,
            "replica",
            "RESTORE",
            restic_018(),
            REPLICATOR_KUMA="none",
            REPLICATOR_AGENT_SOCKET=str(self.socket),
        )
        self.kuma: subprocess.Popen[bytes] | None = None

    def install(self) -> None:
        """What the one-shot service does."""
        self.replica.command("agent", "--install", str(self.agent_file.parent))

    def start_kuma(self, *, agent: bool = True) -> None:
        """Start Kuma as its own container would, and wait until it answers."""
        environment = kuma_environment(self.replica.data_dir, self.replica.port)
        environment["UPTIME_KUMA_DB_TYPE"] = "sqlite"
        if agent:
            environment["NODE_OPTIONS"] = f"--require {self.agent_file}"
            environment["REPLICATOR_AGENT_SOCKET"] = str(self.socket)
        with self.log.open("ab") as log:
            self.kuma = subprocess.Popen(
                kuma_command(), cwd=kuma_dir(), env=environment, stdout=log, stderr=log
            )
        wait_until(self.up, f"Kuma is ready: {self.log}", 90)
        if agent:
            wait_until(lambda: Agent(self.socket).hello().reads, "the agent is ready", 30)

    def up(self) -> bool:
        assert self.kuma is not None
        assert self.kuma.poll() is None, self.log.read_text()[-2000:]
        return is_ready(self.replica.url)

    def stop_kuma(self) -> None:
        if self.kuma is not None:
            self.kuma.send_signal(signal.SIGTERM)
            self.kuma.wait(60)
            self.kuma = None

    def close(self) -> None:
        if self.replica.process is not None:
            self.replica.kill()
        if self.kuma is not None:
            self.kuma.kill()
            self.kuma.wait(30)
        shutil.rmtree(self.run, ignore_errors=True)

    # ------------------------------------------------------------- the leader

    def found_leader(self) -> None:
        """Make the leader's database out of this Kuma's empty one, with a user and a monitor."""
        with (
            closing(sqlite3.connect(self.replica.database)) as source,
            closing(sqlite3.connect(self.leader.database)) as copy,
        ):
            source.backup(copy)
        databases.edit(
            self.leader.database,
            ("INSERT INTO user (id, username, password, active) VALUES (1, ?, ?, 1)", [USER, ""]),
        )
        self.add("first")

    def add(self, name: str) -> None:
        """Add a monitor on the leader, and publish."""
        with closing(sqlite3.connect(self.leader.database)) as connection, connection:
            databases.insert(
                connection,
                "monitor",
                name=name,
                type="http",
                url=f"{self.web.url}/{name}",
                interval=20,
                active=1,
                user_id=1,
                accepted_statuscodes_json='["200-299"]',
            )
        self.leader.command("backup")

    # ------------------------------------------------------------- the replica

    def beats(self, name: str) -> int:
        """The good beats of a monitor."""
        sql = (
            "SELECT count(*) FROM heartbeat JOIN monitor ON monitor.id = monitor_id "
            f"WHERE name = '{name}' AND status = {UP}"
        )
        return int(self.replica.query(sql)[0][0])

    def names(self) -> set[str]:
        return {name for (name,) in self.replica.query("SELECT name FROM monitor")}

    def changes(self) -> dict[str, Any]:
        """What `status` says of changes."""
        found: dict[str, Any] = self.replica.json("status")["changes"]
        return found

    def doctor(self) -> list[str]:
        """What `doctor` says of changes."""
        found = json.loads(self.replica.command("doctor", "--json", check=False).stdout)
        told = [one for one in found["findings"] if one["check"] == "changes"]
        return [f"{one['level']} {one['message']} {one['hint']}" for one in told]


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory, kuma_folder: Path) -> Iterator[SideCar]:
    with closing(Web()) as web, closing(SideCar(tmp_path_factory.mktemp("car"), web)) as made:
        yield made


def test_the_replicator_waits_for_a_kuma_that_has_not_started(beside: SideCar) -> None:
    """Empty disks, the replicator first."""
    beside.replica.run("run")
    beside.install()
    wait_until(
        lambda: "no snapshot yet" in beside.replica.log or "no repository" in beside.replica.log,
        "its first cycle",
        60,
    )
    assert not beside.replica.database.exists()


def test_a_kuma_without_a_user_is_filled_and_needs_one_restart(beside: SideCar) -> None:
    beside.start_kuma()
    assert Agent(beside.socket).hello().needs_setup
    beside.leader.command("init")
    beside.found_leader()
    wait_until(lambda: beside.beats("first"), "the first beat", 60)
    assert beside.kuma is not None
    assert beside.kuma.poll() is None
    wait_until(lambda: "needs one restart" in beside.replica.log, "it is told")
    assert "pages show set-up until it is restarted" in beside.changes()["restart_due"]
    assert any(line.startswith("WARN restart Kuma once: it was") for line in beside.doctor())


def test_after_that_restart_nothing_is_asked_any_more(beside: SideCar) -> None:
    beside.stop_kuma()
    beside.start_kuma()
    with KumaClient(beside.replica.url) as page:
        assert not page.needs_setup()
    assert beside.changes()["restart_due"] is None
    (said,) = beside.doctor()
    assert said.startswith("OK Kuma ")
    assert "takes them while it runs (agent " in said


def test_a_change_arrives_while_another_node_has_the_database_open(beside: SideCar) -> None:
    """A restart would be refused beside it: it might be a second Kuma."""
    with opened(beside.replica.database, name="node", wal=False):
        pid = Agent(beside.socket).hello().pid
        beside.add("second")
        wait_until(lambda: beside.beats("second"), "its first beat", 60)
    assert Agent(beside.socket).hello().pid == pid
    assert "without a restart of Kuma" in beside.replica.log_tail(5)


def test_an_agent_that_was_replaced_under_a_running_kuma_is_told(beside: SideCar) -> None:
    beside.stop_kuma()
    # an older file of the same protocol, as a volume keeps it over an upgrade
    older = beside.agent_file.read_text() + "// of another version\n"
    beside.agent_file.write_text(older)
    beside.start_kuma()
    inode = beside.agent_file.stat().st_ino
    beside.install()
    assert beside.agent_file.read_bytes() == FILE.read_bytes()
    assert beside.agent_file.stat().st_ino != inode, "by a rename: node may be reading it"
    assert any("agent of another version" in line for line in beside.doctor())
    beside.add("third")
    wait_until(lambda: beside.beats("third"), "changes go on", 60)
    beside.stop_kuma()
    beside.start_kuma()
    assert [line[:3] for line in beside.doctor()] == ["OK "]


def test_a_kuma_without_the_agent_gets_its_rows_after_a_restart(beside: SideCar) -> None:
    beside.stop_kuma()
    beside.start_kuma(agent=False)
    before = beside.names()
    beside.add("fourth")
    wait_until(lambda: "not while it runs: no agent listens" in beside.replica.log, "told", 30)
    assert beside.names() == before, "nothing is written under a Kuma that does not take it"
    assert beside.changes()["why_not_live"].startswith("no agent answers")
    told = "\n".join(beside.doctor())
    assert told.startswith("WARN they are not made while Kuma runs: no agent listens")
    assert f'REPLICATOR_AGENT_SOCKET="{beside.socket}"' in told
    beside.stop_kuma()
    beside.start_kuma()
    wait_until(lambda: beside.beats("fourth"), "its first beat", 60)


def test_kuma_first_then_a_single_command(beside: SideCar) -> None:
    """An empty disk again, without `replicator run`: cron's way."""
    assert beside.replica.stop() == 0
    beside.stop_kuma()
    shutil.rmtree(beside.replica.data_dir)
    beside.replica.data_dir.mkdir()
    beside.start_kuma()
    done = beside.replica.json("restore")
    assert done["outcome"] == "applied"
    assert "without a restart of Kuma" in done["sentence"]
    assert beside.names() == {"first", "second", "third", "fourth"}
    wait_until(lambda: beside.beats("fourth"), "all are watched", 60)
    assert beside.socket.stat().st_mode & 0o777 == 0o600
