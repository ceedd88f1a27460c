"""`replicator run` over a Kuma with MariaDB inside: real processes, a real restic."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import tools, weak_repository
from tests.support.cycles import state_of
from tests.support.embedded import PROGRAM, Inside, copied
from tests.support.mariadb import Database, Server, short_folder
from tests.support.mariadb_build import build
from tests.support.supervised import Running, Side
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.restic, pytest.mark.slow]


@dataclass
class Fleet(Running):
    """``rows`` are the leader's; ``inside`` is the replica's Kuma."""

    rows: Database
    inside: Inside

    def publish(self, name: str) -> None:
        self.rows.edit(("UPDATE monitor SET name = ? WHERE id = 3", (name,)))
        self.leader.command("backup")

    def knows(self, name: str) -> bool:
        """Whether the replica's Kuma has read it, and its replicator knows so."""
        state = state_of(self.replica.data_dir)
        return (
            self.replica.ready()
            and self.inside.memory()[3] == name
            and (state.applying.pending, state.applying.stopped_by_me) == (None, False)
        )

    def until(self, name: str) -> None:
        wait_until(lambda: self.knows(name), f"Kuma knows {name}", 60.0)


@pytest.fixture
def fleet(embedded: Path, mariadb: Server) -> Iterator[Fleet]:
    restic = tools.restic_018()
    with short_folder() as folder, copied(embedded, folder / "replica") as inside:
        leader = Side(folder, "leader", "BACKUP", restic)
        rows = build(mariadb.database("a4_run", leader.data_dir), monitors=7)
        weak_repository.make(folder / "repository")
        own = {name: inside.environment[name] for name in ("PATH", "HOME", "TMPDIR")}
        replica = Side(folder, "replica", "RESTORE", restic, port=inside.port, kuma=PROGRAM)
        replica.environment |= own
        with Fleet(folder, leader, replica, rows, inside) as made:
            made.publish("first")
            yield made


def test_it_applies_once_kuma_is_up_and_whenever_there_is_news(fleet: Fleet) -> None:
    fleet.replica.run()
    fleet.until("first")
    assert fleet.inside.starts == 2
    fleet.publish("second")
    fleet.until("second")
    assert fleet.inside.starts == 3
    assert fleet.replica.stop() == 0
    assert fleet.inside.embedded().running() == []
    fleet.replica.run()
    wait_until(lambda: fleet.inside.starts == 4 and fleet.replica.ready(), "it is up again")
    fleet.until("second")
    assert fleet.inside.starts == 4
    log = fleet.replica.log
    assert "ERROR" not in log
    assert "WARNING" not in log


def test_a_kuma_that_is_killed_leaves_no_mariadb(fleet: Fleet) -> None:
    fleet.replica.run()
    fleet.until("first")
    os.kill(fleet.inside.pid, signal.SIGKILL)
    assert fleet.replica.process is not None
    assert fleet.replica.process.wait(30) == 137
    assert fleet.inside.embedded().running() == []


def test_a_supervisor_killed_with_its_kuma_comes_back(fleet: Fleet) -> None:
    fleet.replica.run()
    fleet.until("first")
    left = fleet.inside.mariadbd
    fleet.replica.kill()
    assert [process.pid for process in fleet.inside.embedded().running()] == [left]
    fleet.publish("second")
    fleet.replica.run()
    fleet.until("second")
    assert (
        not Path(f"/proc/{left}/cmdline").exists() or not Path(f"/proc/{left}/cmdline").read_bytes()
    )


@pytest.mark.parametrize("with_mariadb", [False, True], ids=["its MariaDB lives", "it is gone"])
def test_rows_on_which_kuma_does_not_start_are_taken_back(fleet: Fleet, with_mariadb: bool) -> None:
    fleet.replica.run()
    fleet.until("first")
    query = "SELECT count(*) FROM monitor WHERE name = 'second'"
    fleet.inside.behave(refuses=query, how="exit", with_mariadb=with_mariadb)
    fleet.publish("second")
    wait_until(
        lambda: state_of(fleet.replica.data_dir).applying.bad, "the snapshot is called bad", 60.0
    )
    fleet.until("first")
    fleet.publish("third")
    fleet.until("third")
    assert fleet.replica.stop() == 0
