"""`replicator run` does what a person asks for: undo, hold and rollback, with a real restic."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import cycles, tools, weak_repository
from tests.support.supervised import Running, Side
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.restic, pytest.mark.slow]


def name(side: Side) -> str:
    return cycles.name_of(side.database, 3)


def edit(fleet: Running, name: str) -> None:
    cycles.rename(fleet.leader.database, 3, name)


def until(side: Side, wanted: str) -> None:
    def there() -> bool:
        assert side.process is not None
        assert side.process.poll() is None, side.log_tail()
        return name(side) == wanted and side.json("status")["unconfirmed"] is None

    wait_until(there, f"{side.name} has {wanted!r}", 60.0)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Running]:
    weak_repository.make(tmp_path / "repository")
    restic = tools.restic_018()
    sides = [
        Side(tmp_path, name, mode, restic, notes=tmp_path / f"{name}-kuma")
        for name, mode in (("leader", "BACKUP"), ("replica", "RESTORE"))
    ]
    with Running(tmp_path, *sides) as made:
        for side in sides:
            cycles.fill(side.data_dir, monitors=4)
            side.run()
        for side in sides:
            side.wait_ready()
        for wanted in ("one", "two"):
            edit(made, wanted)
            until(made.replica, wanted)
        yield made


def test_the_way_back_of_a_fleet_that_runs(fleet: Running) -> None:
    leader, replica = fleet.leader, fleet.replica
    assert "put the rows from before" in replica.command("undo").stdout
    assert name(replica) == "one"
    edit(fleet, "three")
    held = replica.json("status")["holding"]["position"]
    wait_until(lambda: f"holding {held} since" in replica.log, "the hold in the log", 60.0)
    wait_until(lambda: replica.json("status")["behind"] >= 2, "the leader to publish", 60.0)
    assert name(replica) == "one"
    # a start heals to what is held, and follows nothing newer
    replica.stop()
    cycles.rename(replica.database, 3, "edited while it was down")
    replica.run()
    until(replica, "one")
    assert replica.json("status")["holding"]["position"] == held
    replica.command("restore", "--resume")
    until(replica, "three")
    assert replica.json("status")["holding"] is None
    # and the leader takes the whole fleet back
    done = leader.command("rollback", held)
    assert f"rolled back to {held}: published" in done.stdout
    assert name(leader) == "one"
    until(replica, "one")
