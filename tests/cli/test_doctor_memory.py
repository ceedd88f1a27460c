"""What `replicator doctor` tells from memory: noted damage, a drill that failed."""

from __future__ import annotations

from typing import Any

import pytest

from replicator_kuma.base.errors import RepositoryDamaged
from replicator_kuma.replication.state.file import StateFile
from replicator_kuma.replication.state.records import Drill, RepositoryUpkeep
from tests.cli.conftest import World
from tests.support.states import edit_state

WHOLE = Drill(1_900_000_000.0, True, "1.1 can be recovered in 2 s", "1.1")
FAILED = Drill(1_900_000_000.0, False, "drill of 1.1 failed at fetch: a pack is gone", "1.1")


@pytest.fixture
def leader(world: World) -> StateFile:
    world.begin()
    return StateFile(world.leader / "replicator")


def found(world: World, check: str, *arguments: str) -> list[dict[str, Any]]:
    entries = world.on_leader("doctor", "--json", *arguments).json["findings"]
    return [entry for entry in entries if entry["check"] == check]


def test_damage_that_housekeeping_has_found_is_named_until_it_finds_it_whole(
    world: World, leader: StateFile
) -> None:
    [entry] = found(world, "damage")
    assert (entry["level"], entry["message"]) == ("OK", "none noted in repository")
    world.repository.damaged = True
    assert world.on_leader("housekeeping").code == RepositoryDamaged.exit_code
    done = world.on_leader("doctor")
    assert done.code == RepositoryDamaged.exit_code
    assert "FAIL damage: repository, as housekeeping found it 20" in done.out
    assert ": a pack is gone\n     Nothing is removed there until it is whole." in done.out
    world.repository.damaged = False
    assert world.on_leader("housekeeping").code == 0
    assert world.on_leader("doctor").code == 0


def test_each_of_two_repositories_is_named_and_none_that_was_taken_away(
    world: World, leader: StateFile
) -> None:
    edit_state(
        leader,
        repositories=(
            RepositoryUpkeep("repository", 5.0),
            RepositoryUpkeep("repository 2", 5.0, damaged="odd"),
        ),
    )
    assert [entry["level"] for entry in found(world, "damage")] == ["OK"]
    world.monkeypatch.setenv("REPLICATOR_REPOSITORY_2", str(world.folder / "two"))
    world.monkeypatch.setenv("REPLICATOR_PASSWORD_2", "only-a-test")
    first, second = found(world, "damage")
    assert (first["level"], first["message"]) == ("OK", "none noted in the first repository")
    assert (second["level"], second["exit_code"]) == ("FAIL", RepositoryDamaged.exit_code)
    words = "repository 2, as housekeeping found it 1970-01-01T00:00:05Z: odd"
    assert second["message"] == words


def test_a_replica_tells_of_no_damage_that_it_once_found_as_a_leader(
    world: World, leader: StateFile
) -> None:
    """It never checks again, and could not say that it is whole."""
    assert world.on_replica("restore").code == 0
    replica = StateFile(world.replica / "replicator")
    edit_state(
        replica, repositories=(RepositoryUpkeep("repository", 5.0, damaged="a pack is gone"),)
    )
    done = world.on_replica("doctor")
    assert (done.code, "damage" in done.out) == (0, False)


@pytest.mark.parametrize(
    ("failed_at", "command"),
    [
        ("fetch", "replicator drill"),
        ("start", "replicator drill --kuma"),
        ("kill", "replicator drill --kill"),
    ],
)
def test_a_drill_that_failed_is_named_until_one_goes_well(
    world: World, leader: StateFile, failed_at: str, command: str
) -> None:
    [entry] = found(world, "last drill")
    assert (entry["level"], entry["message"]) == ("OK", "none yet")
    failed = Drill(**{**vars(FAILED), "failed_at": failed_at})
    edit_state(leader, drill=failed, drill_failed=failed)
    assert world.on_leader("doctor").code == 25
    for last in (failed, WHOLE):  # another that does not get as far mends nothing
        edit_state(leader, drill=last)
        [entry] = found(world, "last drill")
        assert (entry["level"], entry["exit_code"]) == ("FAIL", 25)
        assert entry["message"] == FAILED.sentence
        assert entry["hint"].endswith(f"then: {command}")
    edit_state(leader, drill=WHOLE, drill_failed=None)
    [entry] = found(world, "last drill")
    assert (entry["level"], entry["message"]) == ("OK", WHOLE.sentence)
