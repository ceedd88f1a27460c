"""`replicator run` does what a person asks for: undo, hold and rollback, with a real restic."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cli.harness import FAKE_KUMA
from tests.support import cycles, tools, weak_repository
from tests.support.kuma_server import free_port
from tests.support.supervised import Side
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.restic, pytest.mark.slow]


@dataclass
class Fleet:
    leader: Side
    replica: Side

    def name(self, side: Side) -> str:
        return cycles.name_of(side.database, 3)

    def edit(self, name: str) -> None:
        cycles.rename(self.leader.database, 3, name)

    def until(self, side: Side, name: str) -> None:
        def there() -> bool:
            assert side.process is not None
            assert side.process.poll() is None, side.log_tail()
            return self.name(side) == name and side.json("status")["unconfirmed"] is None

        wait_until(there, f"{side.name} has {name!r}", 60.0)


def side(folder: Path, name: str, mode: str) -> Side:
    port = free_port()
    made = folder / name
    made.mkdir()
    cycles.fill(made, monitors=4)
    kuma = [sys.executable, str(FAKE_KUMA), str(made), str(port)]
    return Side(folder, name, mode, tools.restic_018(), port=port, kuma=kuma)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    weak_repository.make(tmp_path / "repository")
    made = Fleet(side(tmp_path, "leader", "BACKUP"), side(tmp_path, "replica", "RESTORE"))
    sides = (made.leader, made.replica)
    try:
        for one in sides:
            one.run()
        for one in sides:
            one.wait_ready()
        for name in ("one", "two"):
            made.edit(name)
            made.until(made.replica, name)
        yield made
    finally:
        for one in sides:
            one.stop()


def test_the_way_back_of_a_fleet_that_runs(fleet: Fleet) -> None:
    leader, replica = fleet.leader, fleet.replica
    assert "put the rows from before" in replica.command("undo").stdout
    assert fleet.name(replica) == "one"
    fleet.edit("three")
    held = replica.json("status")["holding"]["position"]
    wait_until(
        lambda: f"holding {held} since" in replica.log.read_text(), "the hold in the log", 60.0
    )
    wait_until(lambda: replica.json("status")["behind"] >= 2, "the leader to publish", 60.0)
    assert fleet.name(replica) == "one"
    # a start heals to what is held, and follows nothing newer
    replica.stop()
    cycles.rename(replica.database, 3, "edited while it was down")
    replica.run()
    fleet.until(replica, "one")
    assert replica.json("status")["holding"]["position"] == held
    replica.command("restore", "--resume")
    fleet.until(replica, "three")
    assert replica.json("status")["holding"] is None
    # and the leader takes the whole fleet back
    done = leader.command("rollback", held)
    assert f"rolled back to {held}: published" in done.stdout
    assert fleet.name(leader) == "one"
    fleet.until(replica, "one")
