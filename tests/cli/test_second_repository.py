"""What commands say where there are two repositories: who is away, who lags behind, which id."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace

import pytest

from replicator_kuma.base.errors import RepositoryUnreachable
from replicator_kuma.config import build as building
from replicator_kuma.daemon import heartbeat
from replicator_kuma.daemon.heartbeat import Beat
from replicator_kuma.replication.state.file import StateFile
from tests.cli.conftest import World
from tests.support.databases import edit
from tests.support.folder_repository import FolderRepository
from tests.support.states import edit_state


@pytest.fixture
def second(world: World) -> FolderRepository:
    """The other one, in use from the start; both are created."""
    made = FolderRepository(world.folder / "repository 2")
    made.name = "repository 2"
    use_both(world, made)
    assert world.on_leader("init").code == 0
    return made


def use_both(world: World, other: FolderRepository) -> None:
    both = (world.repository, other)
    world.monkeypatch.setattr(building, "build_repositories", lambda *_args: both)


def use_one(world: World, one: FolderRepository) -> None:
    world.monkeypatch.setattr(building, "build_repositories", lambda *_args: (one,))


def test_ids_are_those_that_are_listed_whenever_they_were_noted(
    world: World, second: FolderRepository
) -> None:
    use_one(world, world.repository)
    assert world.on_leader("backup").code == 0
    assert world.on_replica("restore").code == 0
    [known] = world.on_replica("snapshots", "--json").json
    use_both(world, second)
    [entry] = world.on_replica("snapshots", "--json").json
    assert entry["held"] is True
    assert entry["id"] != known["id"]
    report = world.on_replica("status", "--json").json
    assert report["applied"]["snapshot"] == entry["id"]


@pytest.mark.parametrize("both", [False, True])
def test_a_bad_snapshot_is_shown_by_the_id_that_is_listed(
    world: World, second: FolderRepository, both: bool
) -> None:
    assert world.on_leader("backup").code == 0
    [snapshot] = world.repository.snapshots("default")
    common = snapshot.label.common_id
    state = StateFile(world.replica / "replicator")
    edit_state(state, bad=(common,), bad_listed=((common, snapshot.id),))
    if not both:
        use_one(world, world.repository)
    shown = common if both else snapshot.id
    assert world.on_replica("status", "--json").json["bad_snapshots"] == [shown]
    assert world.on_replica("doctor").code == 11


def changed(world: World, name: str) -> None:
    edit(world.leader / "kuma.db", f"UPDATE monitor SET name = '{name}' WHERE id = 2")


@pytest.mark.parametrize(
    ("lags", "words", "variable"),
    [
        (1, "repository 2 lags behind", "REPLICATOR_REPOSITORY_2"),
        (0, "the first repository lags behind", "RESTIC_REPOSITORY"),
    ],
)
def test_a_leader_under_cron_says_each_time_who_was_not_written_to(
    world: World, second: FolderRepository, lags: int, words: str, variable: str
) -> None:
    place = (world.repository, second)[lags]
    assert world.on_leader("backup").err == ""
    place.down = RepositoryUnreachable("no route to host")
    changed(world, "newer")
    for _ in range(3):
        done = world.on_leader("backup")
        assert (done.code, done.out) == (0, "")
        assert done.err.startswith(f"Warning: {words}: no route to host. Check {variable}, ")
        assert done.err.endswith("It catches up by itself once it can be written to.\n")
        assert done.err.count("\n") == 1
    [told] = world.on_leader("backup", "--json").json["warnings"]
    assert done.err == f"Warning: {told}\n"
    assert world.on_leader("backup", "-q").err == ""
    place.down = None
    assert world.on_leader("backup").err == ""
    assert len(place.snapshots("default")) == 2


def test_at_a_terminal_it_is_said_once(world: World, second: FolderRepository) -> None:
    assert world.on_leader("backup").code == 0
    second.down = RepositoryUnreachable("no route to host")
    changed(world, "newer")
    world.at_a_terminal()
    assert world.on_leader("backup").err.count("lags behind") == 1
    assert "lagging:       repository 2 lags behind" in world.on_leader("status", "--offline").out


def test_a_second_one_that_nobody_has_made_is_made_by_init(
    world: World, second: FolderRepository
) -> None:
    assert world.on_leader("backup").code == 0
    shutil.rmtree(second.folder)
    done = world.on_leader("backup")
    assert done.code == 0
    assert "repository 2 lags behind: there is no repository" in done.err
    assert "If REPLICATOR_REPOSITORY_2 is right, make it: replicator init\n" in done.err
    assert "It catches up by itself" not in done.err
    assert world.on_leader("init").out == "created the repository\n"
    assert world.on_leader("backup").err == ""
    assert len(second.snapshots("default")) == 1


def test_a_promote_says_it_too(world: World, second: FolderRepository) -> None:
    assert world.on_leader("backup").code == 0
    second.down = RepositoryUnreachable("no route to host")
    assert "repository 2 lags behind" in world.on_replica("promote", "--force").err


def test_what_a_leader_noted_of_one_that_lags_is_not_said_of_the_replica_that_it_became(
    world: World, second: FolderRepository
) -> None:
    assert world.on_leader("backup").code == 0
    assert world.on_replica("restore").code == 0
    second.down = RepositoryUnreachable("no route to host")
    assert world.on_replica("promote", "--force").code == 0
    # it leads before its mode says so
    assert "repository 2" in world.on_replica("status", "--json", "--offline").json["lagging"]
    changed(world, "newer")
    second.down = None
    assert world.on_leader("promote", "--force").code == 0
    assert world.on_replica("restore").code == 0
    assert StateFile(world.replica / "replicator").load().lagging
    assert world.on_replica("status", "--json", "--offline").json["lagging"] is None
    assert "lagging:" not in world.on_replica("status", "--offline").out


def away(world: World, *arguments: str) -> list[dict[str, str]]:
    found: list[dict[str, str]] = world.on_replica("status", "--json", *arguments).json["away"]
    return found


@pytest.mark.parametrize(
    ("which", "words"), [(1, "repository 2"), (0, "the first repository")], ids=["second", "first"]
)
def test_a_replica_that_reads_one_of_two_says_so_and_is_healthy(
    world: World, second: FolderRepository, which: int, words: str
) -> None:
    place = (world.repository, second)[which]
    assert world.on_leader("backup").code == 0
    assert world.on_replica("restore").code == 0
    assert away(world) == away(world, "--offline") == []
    place.down = RepositoryUnreachable("no route to host")
    assert world.on_replica("restore").code == 0
    [since] = {entry["since"] for entry in away(world)}
    state = StateFile(world.replica / "replicator")
    edit_state(state, problems=tuple(replace(each, since=100.0) for each in state.load().problems))
    assert since > "2026"
    assert world.on_replica("restore").code == 0
    told = {"name": place.name, "since": "1970-01-01T00:01:40Z", "why": "no route to host"}
    assert away(world) == away(world, "--offline") == [told]
    done = world.on_replica("status")
    line = f"read from one of two: {words} is away since 1970-01-01T00:01:40Z: no route to host"
    assert f"\nrepositories:  {line}\n" in done.out
    assert done.code == 0
    beat = Beat(pid=1, monotonic=time.monotonic(), kuma="ready", next_cycle=time.time() + 5)
    heartbeat.write(world.replica / "replicator", beat)
    assert world.on_replica("status", "--health").code == 0
    place.down = None
    assert world.on_replica("restore").code == 0
    assert away(world) == away(world, "--offline") == []
    assert "repositories:" not in world.on_replica("status").out


def test_status_goes_by_its_own_look_where_it_looks(world: World, second: FolderRepository) -> None:
    assert world.on_leader("backup").code == 0
    assert world.on_replica("restore").code == 0
    second.down = RepositoryUnreachable("no route to host")
    assert [entry["name"] for entry in away(world)] == ["repository 2"]
    assert away(world, "--offline") == []
    assert world.on_replica("restore").code == 0
    second.down = None
    assert away(world) == []
    assert [entry["name"] for entry in away(world, "--offline")] == ["repository 2"]
    # neither answers: then what the last cycle saw is all that is known
    second.down = world.repository.down = RepositoryUnreachable("no network")
    assert [entry["why"] for entry in away(world)] == ["no route to host"]


def test_a_leader_says_who_lags_behind_instead(world: World, second: FolderRepository) -> None:
    assert world.on_leader("backup").code == 0
    second.down = RepositoryUnreachable("no route to host")
    changed(world, "newer")
    assert world.on_leader("backup").code == 0
    assert world.on_leader("status", "--json").json["away"] == []
    assert "read from one of two" not in world.on_leader("status").out


def test_one_of_two_that_is_gone_is_made_anew_and_nobody_promotes(
    world: World, second: FolderRepository
) -> None:
    """The fleet has published, and nothing is lost: the other has it."""
    assert world.on_leader("backup").code == 0
    assert world.on_replica("restore").code == 0
    shutil.rmtree(second.folder)
    for call in (world.on_leader, world.on_replica):
        found = call("doctor")
        assert found.code == 8
        assert "promote" not in found.out
        assert "run on the leader: replicator init" in found.out
    assert world.on_leader("init").code == 0
    assert world.on_leader("backup").code == 0
    assert [str(s.position) for s in second.snapshots("default")] == ["1.1"]
    assert world.on_leader("doctor").code == 0
