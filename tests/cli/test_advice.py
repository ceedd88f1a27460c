"""What an error says to do is true for who reads it: a leader, a replica, one that is promoted."""

from __future__ import annotations

import shutil

import pytest

from tests.cli.conftest import Done, World
from tests.support.cycles import rename


@pytest.fixture
def fleet(world: World) -> World:
    """A leader and a replica that has applied its first snapshot."""
    assert world.on_leader("init").code == 0
    for done in (world.on_leader("backup"), world.on_replica("restore", "--now", "--force")):
        assert done.code == 0, done.err
    return world


def empty(world: World) -> None:
    """The repository is there, and its snapshots are gone."""
    shutil.rmtree(world.repository.folder)
    world.repository.init()


def hint(done: Done, code: int) -> str:
    assert done.code == code, done
    return done.err.partition("\n")[2]


def test_snapshots_that_are_gone_and_what_leads_out(fleet: World) -> None:
    """Exit 10: only the leader is told to promote, and doing so ends it for both."""
    empty(fleet)
    for call in (("restore",), ("restore", "--now", "--force"), ("diff",)):
        said = hint(fleet.on_replica(*call), 10)
        assert said.startswith("This replica keeps its rows."), call
        assert "run on the leader: replicator promote --force" in said
    leaders = hint(fleet.on_leader("backup"), 10)
    assert "with the rows that are here: replicator promote --force" in leaders
    assert "replica" not in leaders.replace("replicator", "")
    found = fleet.on_replica("doctor").out
    assert "run on the leader: replicator promote --force" in found
    assert fleet.on_leader("promote", "--force").code == 0
    assert fleet.on_replica("restore").code == 0


def test_a_replica_that_is_promoted_into_nothing_is_told_of_itself(fleet: World) -> None:
    empty(fleet)
    said = hint(fleet.on_replica("promote"), 10)
    assert "the rows that are here: replicator promote --force" in said
    assert "on the leader" not in said
    assert fleet.on_replica("promote", "--force").code == 0


def test_a_repository_that_is_gone_and_what_leads_out(fleet: World) -> None:
    """Exit 8: `init` alone is no way out for a fleet that has published."""
    shutil.rmtree(fleet.repository.folder)
    for call in ("restore", "snapshots", "diff", "log", "drill"):
        said = hint(fleet.on_replica(call), 25 if call == "drill" else 8)
        assert said.startswith("This replica keeps its rows."), call
        assert "run on the leader: replicator init, then: replicator promote --force" in said
    for line in ("backup", "snapshots", "housekeeping", "housekeeping --dry-run"):
        said = hint(fleet.on_leader(*line.split()), 8)
        assert said.startswith("This fleet has published before."), line
        assert said.rstrip().endswith("replicator init, then: replicator promote --force")
    said = hint(fleet.on_replica("promote"), 8)
    assert "on the leader" not in said
    assert "replicator init, then: replicator promote --force" in said
    assert "replicator init, then" in fleet.on_leader("doctor").out
    assert fleet.on_leader("init").code == 0
    assert fleet.on_leader("promote", "--force").code == 0
    rename(fleet.leader / "kuma.db", 1, "goes on")
    assert fleet.on_leader("backup").code == 0
    assert fleet.on_replica("restore").code == 0


def test_a_repository_that_was_never_made(world: World) -> None:
    assert "first start: replicator init" in hint(world.on_leader("backup"), 8)
    said = hint(world.on_replica("restore"), 8)
    assert "init" not in said
    assert "look at the leader's log" in said
    assert world.on_leader("init").code == 0
    assert world.on_leader("backup").code == 0
    assert world.on_replica("restore", "--force").code == 0


def test_a_restore_on_the_leader(fleet: World) -> None:
    said = hint(fleet.on_leader("restore", "--now"), 3)
    assert "replicator rollback POSITION" in said
    rename(fleet.leader / "kuma.db", 1, "a mistake")
    assert fleet.on_leader("backup").code == 0
    assert fleet.on_leader("rollback", "1.1", "--force").code == 0
