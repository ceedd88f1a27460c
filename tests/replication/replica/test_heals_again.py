"""Rows that a tool writes again and again, slower than a cycle: one heal an hour, no more."""

from __future__ import annotations

import logging
import time

import pytest

from replicator_kuma.dump.transform.policy import Policy
from replicator_kuma.replication.instance import Instance, Outcome
from replicator_kuma.replication.replica.drift import AGAIN
from tests.support import databases
from tests.support.cycles import db, follow, name_of, publish, rename
from tests.support.instances import RecordingKuma
from tests.support.states import drift_words, edit_state

APPLIED = "1.1 is applied; nothing newer"
DIFFERS = f"{APPLIED}; rows here differ from it"


@pytest.fixture
def replica(replica: Instance) -> Instance:
    """A replica with the strategy NOTIFICATIONS_INSERT_MERGE."""
    replica.policy = lambda: Policy(heal=True)
    return replica


def healed(replica: Instance, name: str = "of a tool") -> None:
    """A tool has written, and a cycle finds the rows right after their heal."""
    rename(db(replica), 3, name)
    assert follow(replica).outcome is Outcome.APPLIED
    assert follow(replica).sentence == APPLIED


def an_hour_later(replica: Instance) -> None:
    state = replica.state.load()
    assert 0 <= time.time() - state.following.healed_at < AGAIN
    edit_state(replica.state, healed_at=state.following.healed_at - AGAIN)


def test_rows_that_return_within_the_hour_are_drift_and_no_outage(
    replica: Instance, kuma: RecordingKuma, caplog: pytest.LogCaptureFixture
) -> None:
    healed(replica)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            rename(db(replica), 3, "of a tool")
            assert [follow(replica).sentence for _ in range(2)] == [DIFFERS] * 2
    assert kuma.log.count("stop") == 1
    said = [record.message for record in caplog.records]
    assert ["differ again in the same way within an hour" in line for line in said] == [True]
    state = replica.state.load()
    assert state.drift is not None
    assert drift_words(state) == said[0]
    assert name_of(db(replica), 3) == "of a tool"


def test_after_an_hour_they_are_put_right_once_more(
    leader: Instance, replica: Instance, kuma: RecordingKuma
) -> None:
    healed(replica)
    rename(db(replica), 3, "of a tool")
    assert follow(replica).sentence == DIFFERS
    an_hour_later(replica)
    assert follow(replica).outcome is Outcome.APPLIED
    assert name_of(db(replica), 3) == name_of(db(leader), 3)
    assert follow(replica).sentence == APPLIED
    rename(db(replica), 3, "of a tool")
    assert follow(replica).sentence == DIFFERS
    assert kuma.log.count("stop") == 2


def test_cycles_that_find_the_rows_right_do_not_make_the_hour_longer(
    leader: Instance, replica: Instance
) -> None:
    healed(replica)
    an_hour_later(replica)
    for _ in range(2):
        assert follow(replica).sentence == APPLIED
    rename(db(replica), 3, "of a tool")
    assert follow(replica).outcome is Outcome.APPLIED


def test_a_clock_that_was_set_back_makes_no_hour_longer(replica: Instance) -> None:
    healed(replica)
    edit_state(replica.state, healed_at=time.time() + 86_400)
    rename(db(replica), 3, "of a tool")
    assert follow(replica).outcome is Outcome.APPLIED


def test_other_rows_are_put_right_meanwhile(replica: Instance, kuma: RecordingKuma) -> None:
    healed(replica)
    healed(replica, "of a person")
    assert kuma.log.count("stop") == 2
    rename(db(replica), 3, "of a person")
    assert follow(replica).sentence == DIFFERS


def test_rows_that_return_are_put_right_when_a_person_says_so(
    leader: Instance, replica: Instance
) -> None:
    healed(replica)
    rename(db(replica), 3, "of a tool")
    assert follow(replica, reconcile=True).outcome is Outcome.APPLIED
    assert name_of(db(replica), 3) == name_of(db(leader), 3)
    assert follow(replica).sentence == APPLIED
    assert replica.state.load().drift is None


def test_the_next_snapshot_begins_anew(leader: Instance, replica: Instance) -> None:
    healed(replica)
    publish(leader, "newer", 4)
    follow(replica)
    state = replica.state.load()
    assert (state.following.healed, state.following.healed_at) == ("", 0.0)


def test_rows_of_its_own_that_change_meanwhile_let_nothing_be_forgotten(
    leader: Instance, replica: Instance, kuma: RecordingKuma
) -> None:
    """What is the replica's own is found equal by a plan, not by a digest."""
    replica.policy = lambda: Policy(heal=True, local=frozenset({"proxy"}))
    follow(replica)
    healed(replica)
    databases.edit(db(replica), "UPDATE proxy SET host = 'mine.example' WHERE id = 1")
    assert follow(replica).sentence == "the rows equal 1.1; nothing to do"
    databases.edit(db(replica), "UPDATE proxy SET host = 'proxy1.example' WHERE id = 1")
    assert follow(replica).sentence == "the rows equal 1.1; nothing to do"
    rename(db(replica), 3, "of a tool")
    assert follow(replica).sentence == DIFFERS
    assert kuma.log.count("stop") == 1


def test_a_strategy_that_does_not_heal_says_what_it_says_of_any_drift(replica: Instance) -> None:
    replica.policy = Policy
    rename(db(replica), 3, "of a tool")
    assert follow(replica, reconcile=True).outcome is Outcome.APPLIED
    assert follow(replica).sentence == APPLIED
    rename(db(replica), 3, "of a tool")
    assert follow(replica).sentence == DIFFERS
    assert "until the next snapshot" in drift_words(replica.state.load())
