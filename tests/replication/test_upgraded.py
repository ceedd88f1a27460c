"""0.3.0 begins where a 0.2.0 was killed in an apply, and a 0.2.0 that comes back loses nothing."""

from __future__ import annotations

import os

import pytest

from replicator_kuma.adapters.repository import Position
from replicator_kuma.base.errors import KumaError
from replicator_kuma.replication.apply import checkpoints
from replicator_kuma.replication.instance import Instance, Outcome
from tests.support.cycles import db, follow, go_back, lead, left_behind, name_of, rename
from tests.support.forked import DIED, forked
from tests.support.instances import RecordingKuma
from tests.support.old_state import as_0_2_0_writes_it


@pytest.fixture(params=["before its rows", "after its rows"])
def killed(
    request: pytest.FixtureRequest, leader: Instance, replica: Instance, kuma: RecordingKuma
) -> Instance:
    """A replica at 1.1 whose apply of 1.2 was killed, with a state as 0.2.0 leaves it."""
    rename(db(leader), 3, "two")
    lead(leader)

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
    assert (state.applied and state.applied.position, state.pending) == (Position(1, 2), None)
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
    assert killed.state.load().pending is None
