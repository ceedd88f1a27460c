"""What commands say where there are two repositories: who is away, who lags behind, which id."""

from __future__ import annotations

import pytest

from replicator_kuma import build as building
from replicator_kuma.repository.pair import Pair
from replicator_kuma.state import StateFile
from tests.cli.conftest import AskedRepository, World


@pytest.fixture
def second(world: World) -> AskedRepository:
    """The other one, in use from the start; both are created."""
    made = AskedRepository(world.folder / "repository 2")
    made.name = "repository 2"
    use_both(world, made)
    assert world.on_leader("init").code == 0
    return made


def use_both(world: World, other: AskedRepository) -> None:
    pair = Pair(world.repository, other, patience=5)
    world.monkeypatch.setattr(building, "build_repository", lambda *_args, **_options: pair)


def use_one(world: World, one: AskedRepository) -> None:
    world.monkeypatch.setattr(building, "build_repository", lambda *_args, **_options: one)


def test_ids_are_those_that_are_listed_whenever_they_were_noted(
    world: World, second: AskedRepository
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
    world: World, second: AskedRepository, both: bool
) -> None:
    assert world.on_leader("backup").code == 0
    [snapshot] = world.repository.snapshots("default")
    StateFile(world.replica / "replicator").update(bad=(snapshot.label.common_id,))
    if not both:
        use_one(world, world.repository)
    shown = snapshot.label.common_id if both else snapshot.id
    assert world.on_replica("status", "--json").json["bad_snapshots"] == [shown]
    assert world.on_replica("doctor").code == 11
