"""Each version goes on where the one before was, with its state directory and its repository.

0.2.0: killed in an apply. 0.3.0: what it wrote itself, by restic (tests/old/0.3.0).
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from replicator_kuma.adapters.repository import Position
from replicator_kuma.base.errors import Fenced, KumaError, SnapshotRefused
from replicator_kuma.dump.manifest import PATCH
from replicator_kuma.replication.apply import checkpoints
from replicator_kuma.replication.instance import Instance, Outcome
from tests.adapters.repository.places import connect, environment, read_tree
from tests.support.cycles import (
    count,
    db,
    follow,
    go_back,
    go_on,
    lead,
    left_behind,
    name_of,
    publish,
    rename,
    take_over,
)
from tests.support.forked import DIED, forked
from tests.support.instances import RecordingKuma, make_instance
from tests.support.old_state import as_0_2_0_writes_it, put, recorded_state, unpack
from tests.support.tools import restic_018


@pytest.fixture(params=["before its rows", "after its rows"])
def killed(
    request: pytest.FixtureRequest, leader: Instance, replica: Instance, kuma: RecordingKuma
) -> Instance:
    """A replica at 1.1 whose apply of 1.2 was killed, with a state as 0.2.0 leaves it."""
    publish(leader, "two")

    def dies() -> None:
        moment = "on_stop" if request.param == "before its rows" else "on_start"
        setattr(kuma, moment, lambda: os._exit(DIED))
        follow(replica)

    assert forked(dies) == DIED
    as_0_2_0_writes_it(replica.state.path)
    kuma.up = False
    return replica


def test_an_apply_that_0_2_0_has_begun_ends(killed: Instance, kuma: RecordingKuma) -> None:
    for _ in range(2):
        follow(killed)
    state = killed.state.load()
    assert (
        state.following.applied and state.following.applied.position,
        state.applying.pending,
    ) == (Position(1, 2), None)
    assert (name_of(db(killed), 3), kuma.up, left_behind(killed)) == ("two", True, [])
    assert follow(killed).outcome is Outcome.NOTHING


def test_and_can_be_undone(killed: Instance) -> None:
    before = name_of(db(killed), 3)
    follow(killed)
    newest = checkpoints.readable(killed.state.folder)[-1]
    change = "1 monitor changed" if before != "two" else "what it changed was not noted"
    assert newest.words == f"1.1 → 1.2: {change}"
    go_back(killed)
    assert name_of(db(killed), 3) != "two"


def test_a_kuma_that_does_not_start_on_it_gets_its_old_rows(
    killed: Instance, kuma: RecordingKuma
) -> None:
    kuma.refuses_to_be_ready = [True]
    with pytest.raises(KumaError, match="it runs on the rows from before"):
        follow(killed)
    assert (name_of(db(killed), 3) == "two", kuma.up) == (False, True)
    assert killed.state.load().applying.pending is None


# --- 0.3.0 --------------------------------------------------------------------------------------

Make = Callable[[str], Instance]


@pytest.fixture
def left(tmp_path: Path) -> Make:
    """An instance of a name as 0.3.0 left it; all share the repository that 0.3.0 left."""
    unpack("repository", tmp_path)

    def make(name: str) -> Instance:
        put(tmp_path / name, name)
        repository = connect(restic_018(), tmp_path / "repository", tmp_path)
        kuma = RecordingKuma(running=not recorded_state(name)["stopped_by_me"])
        who = "alpha" if name in ("leader", "unsure") else name
        return make_instance(tmp_path / name, repository, name=who, kuma=kuma)

    return make


def _at(there: Instance) -> tuple[str, str]:
    """The position of a replica, and the name of monitor 3 there."""
    applied = there.state.load().following.applied
    return str(applied and applied.position), name_of(db(there), 3)


@pytest.mark.restic
@pytest.mark.parametrize("first", ["leader", "replica"])
def test_a_leader_and_a_replica_of_0_3_0_go_on_in_each_order(left: Make, first: str) -> None:
    leader, replica = left("leader"), left("replica")
    if first == "replica":
        assert follow(replica).sentence.startswith("applied 1.4 of alpha: 1 monitor changed")
        assert _at(replica) == ("1.4", "three")
    assert lead(leader, verify=True).sentence == "nothing changed since 1.4"
    rename(db(leader), 3, "five")
    assert lead(leader).sentence.startswith("published 1.5: 1 monitor changed; ")
    assert follow(replica).sentence.startswith("applied 1.5 of alpha: 1 monitor changed")
    assert follow(replica).outcome is Outcome.NOTHING
    assert _at(replica) == ("1.5", "five")


@pytest.mark.restic
def test_the_same_rows_make_the_snapshot_that_0_3_0_made(left: Make, tmp_path: Path) -> None:
    leader = left("leader")
    for name in ("five", "three"):
        rename(db(leader), 3, name)
        assert lead(leader).outcome is Outcome.PUBLISHED
    found = leader.repository.snapshots("default")
    old, new = (next(s for s in found if s.position == Position(1, n)) for n in (4, 6))
    for one in (old, new):
        leader.repository.fetch(one, tmp_path / one.id, lambda _name: True)
    before_now, now = (read_tree(tmp_path / one.id) for one in (old, new))
    manifest = json.loads(now.pop("manifest.json"))
    assert manifest.pop(PATCH)["lines"], "which 0.3.0 passes over"
    assert manifest == json.loads(before_now.pop("manifest.json"))
    assert now == before_now
    call = [str(restic_018()), "snapshots", "--json", "--no-cache", old.id, new.id]
    said = subprocess.run(
        call, env=environment(tmp_path / "repository"), capture_output=True, check=True, timeout=30
    )
    before, after = ([*one["tags"]] for one in json.loads(said.stdout))
    assert before[:3] == ["replicator-kuma", "fleet=default", "epoch=1"]
    assert [tag.replace("seq=4", "seq=6") for tag in before] == after[: len(before)]


@pytest.mark.restic
def test_a_leader_of_0_3_0_that_did_not_know_whether_it_had_published_publishes(
    left: Make,
) -> None:
    leader = left("unsure")
    # 1.5 may come to light in the repository yet, so that it is never used again
    assert lead(leader).sentence.startswith("published 1.6: 1 monitor changed; ")
    assert lead(leader, verify=True).outcome is Outcome.NOTHING


@pytest.mark.restic
@pytest.mark.parametrize("name", ["held", "undone"])
def test_a_hold_of_0_3_0_holds_until_a_person_ends_it(left: Make, name: str) -> None:
    replica = left(name)
    as_built = name_of(db(replica), 3)
    assert follow(replica).sentence.startswith("holding 1.1 since ")
    assert _at(replica) == ("1.1", as_built)
    go_on(replica)
    assert _at(replica) == ("1.4", "three")


@pytest.mark.restic
def test_an_apply_in_which_0_3_0_was_killed_ends_and_can_be_undone(left: Make) -> None:
    replica = left("killed")
    for _ in range(2):
        follow(replica)
    assert _at(replica) == ("1.4", "three")
    assert replica.kuma.running()
    go_back(replica)
    assert _at(replica) == ("1.2", "two")
    go_back(replica, 1)  # what 0.3.0 has kept: its own rows, from before 1.1
    assert count(db(replica), "monitor") == 3


@pytest.mark.restic
def test_an_undo_in_which_0_3_0_was_killed_ends_and_holds(left: Make) -> None:
    replica = left("undoing")
    as_built = name_of(db(replica), 3)
    for _ in range(2):
        follow(replica)
    state = replica.state.load()
    assert (state.applying.pending, state.applying.stopped_by_me) == (None, False)
    assert replica.kuma.running()
    assert state.following.hold is not None
    assert _at(replica) == ("1.1", as_built)


@pytest.mark.restic
@pytest.mark.parametrize("name", ["bad", "failed"])
def test_a_replica_of_0_3_0_that_failed_takes_the_next_snapshot(left: Make, name: str) -> None:
    replica = left(name)
    follow(replica)
    assert _at(replica) == ("1.4", "three")


@pytest.mark.restic
def test_what_0_3_0_called_bad_is_not_tried_again(left: Make, tmp_path: Path) -> None:
    replica = left("bad")
    repository = connect(restic_018(), tmp_path / "repository", tmp_path)
    newest = repository.snapshots("default")[-1]
    assert newest.position == Position(1, 4)
    repository.forget("default", [newest.id])
    with pytest.raises(SnapshotRefused, match=r"1\.3 is not tried again"):
        follow(replica)
    assert _at(replica) == ("1.2", "two")


@pytest.mark.restic
def test_what_is_refused_here_0_3_0_refuses_too(left: Make) -> None:
    """It looks for the ids of the listing, and knows no other name of a snapshot."""
    leader, replica, other = left("leader"), left("bad"), left("replica")
    cast(RecordingKuma, replica.kuma).refuses_to_be_ready = [True]
    with pytest.raises(KumaError, match=r"did not start on snapshot 1\.4"):
        follow(replica)
    bad = _written(replica)["bad"]
    assert leader.repository.snapshots("default")[-1].id in bad
    assert set(recorded_state("bad")["bad"]) <= set(bad)
    follow(other)
    take_over(other)
    with pytest.raises(Fenced):
        lead(leader, verify=True)
    rival = leader.repository.snapshots("default")[-1]
    assert (str(rival.position), rival.id in _written(leader)["rivals"]) == ("2.1", True)


def _written(there: Instance) -> dict[str, Any]:
    """The state file of an instance, as JSON has it."""
    state: dict[str, Any] = json.loads(there.state.path.read_text())["state"]
    return state
