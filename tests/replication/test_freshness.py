"""Whether replication is on time, by what the state holds."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicator_kuma.adapters.repository import Position
from replicator_kuma.base.errors import (
    Fenced,
    ReplicatorError,
    RepositoryUnreachable,
    SchemaMismatch,
    ShrinkRefused,
    SnapshotShrinks,
    StoppedInVain,
    TwoLeaders,
)
from replicator_kuma.replication.freshness import (
    LEAST,
    WAITING,
    Verdict,
    judge,
    last_success,
    patience,
)
from replicator_kuma.replication.instance import CycleResult, Instance, Outcome
from replicator_kuma.replication.runner import recorded
from replicator_kuma.replication.state.records import FailedAttempt, Hold, Last, SnapshotRef
from replicator_kuma.replication.state.state import State
from tests.support.folder_repository import FolderRepository
from tests.support.instances import make_instance
from tests.support.states import edit_state, state_with, with_fields

NOW = 1_800_000_000.0
MARK = SnapshotRef(Position(1, 1), "d", "s", "f" * 64, leader="alpha")
WENT_WELL = state_with("w", fresh_at=NOW - 600, last=Last(NOW - 600, True, "fine", "nothing"))
FAILS = Last(NOW - 5, False, "no route", "", "RepositoryUnreachable", 5)


def asked(state: State, leads: bool = False, max_age: float = LEAST) -> tuple[Verdict, str]:
    found = judge(state, leads, max_age, NOW)
    return found.verdict, found.sentence


@pytest.fixture
def instance(tmp_path: Path) -> Instance:
    return make_instance(tmp_path / "i", FolderRepository(tmp_path / "repository"))


def cycle(instance: Instance, end: Outcome | ReplicatorError, at: float) -> State:
    """One cycle that ended so, at that time; the state after it."""

    def run() -> CycleResult:
        if isinstance(end, ReplicatorError):
            raise end
        return CycleResult(end, "a sentence")

    try:
        recorded(instance, "RESTORE", run, lambda: at)
    except ReplicatorError:
        assert isinstance(end, ReplicatorError)
    return instance.state.load()


def test_the_age_of_the_last_success_decides() -> None:
    assert asked(WENT_WELL) == (Verdict.FRESH, "a cycle last went well 10 min ago")
    words = "a cycle last went well 10 min ago, more than 9 min 59 s"
    assert asked(WENT_WELL, max_age=599) == (Verdict.LATE, words)
    assert asked(State("w")) == (Verdict.LATE, "no cycle has ended yet")


def test_a_failure_leaves_it_fresh_until_its_age_has_passed(instance: Instance) -> None:
    """One cycle that fails wakes nobody; replication that stands does."""
    cycle(instance, Outcome.APPLIED, NOW - 600)
    for minute in (8, 5, 2):
        state = cycle(instance, RepositoryUnreachable("no route"), NOW - minute * 60)
        assert last_success(state) == NOW - 600
    sentence = "a cycle last went well 10 min ago; the last cycle failed: no route"
    assert asked(state) == (Verdict.FRESH, sentence)
    assert asked(state, max_age=300)[0] is Verdict.LATE


def test_a_cycle_that_only_waited_did_not_go_well(instance: Instance) -> None:
    """A replica in a fleet without a leader would be fresh for ever."""
    state = cycle(instance, Outcome.WAITING, NOW)
    sentence = "no cycle has gone well yet; the last cycle waits: a sentence"
    assert asked(state) == (Verdict.LATE, sentence)
    cycle(instance, Outcome.NOTHING, NOW - 3600)
    state = cycle(instance, Outcome.WAITING, NOW)
    assert (state.outcome.last_ok_at, last_success(state)) == (NOW, NOW - 3600)
    assert asked(state)[0] is Verdict.LATE


@pytest.mark.parametrize(
    "error",
    [
        SchemaMismatch("another schema"),
        SnapshotShrinks("most would go"),
        ShrinkRefused("half are gone"),
        StoppedInVain("not again"),
        TwoLeaders("two writers"),
        Fenced("another leads"),
    ],
)
def test_what_only_a_person_ends_is_told_at_once_and_until_it_ends(
    instance: Instance, error: ReplicatorError
) -> None:
    cycle(instance, Outcome.NOTHING, NOW - 60)
    state = cycle(instance, error, NOW - 50)
    assert asked(state) == (Verdict.REFUSED, str(error))
    # an outage behind it, or a Kuma that migrates, makes it no better
    state = cycle(instance, RepositoryUnreachable("no route"), NOW - 40)
    assert asked(state) == (Verdict.REFUSED, str(error))
    state = cycle(instance, Outcome.WAITING, NOW - 30)
    assert asked(state) == (Verdict.REFUSED, str(error))
    assert asked(cycle(instance, Outcome.NOTHING, NOW - 20))[0] is Verdict.FRESH


def test_an_outage_alone_is_no_refusal(instance: Instance) -> None:
    state = cycle(instance, RepositoryUnreachable("no route"), NOW)
    sentence = "no cycle has gone well yet; the last cycle failed: no route"
    assert asked(state) == (Verdict.LATE, sentence)


def test_a_fence_is_a_leader_s_and_a_hold_a_replica_s() -> None:
    state = with_fields(WENT_WELL, fenced="b leads now", hold=Hold(NOW, MARK))
    assert asked(state, leads=True) == (Verdict.FENCED, "b leads now")
    verdict, sentence = asked(state)
    assert verdict is Verdict.HELD
    assert sentence.startswith("1.1 since ")
    assert sentence.endswith("; to go on: replicator restore --resume")
    assert asked(with_fields(WENT_WELL, shrink="x")) == (Verdict.REFUSED, "x")
    assert asked(with_fields(WENT_WELL, shrink="x"), leads=True)[0] is Verdict.FRESH


@pytest.mark.parametrize(
    ("state", "seen"),
    [
        (state_with("w", last=Last(NOW - 60, True, "fine", "nothing")), NOW - 60),
        (state_with("w", last=Last(NOW - 60, True, "no snapshot yet", WAITING)), 0.0),
        (state_with("w", last=FAILS, last_ok_at=NOW - 90, applied=MARK), NOW - 90),
        (state_with("w", last=FAILS, last_ok_at=NOW - 90), 0.0),
    ],
    ids=["went well", "waited", "fails since", "has only ever waited"],
)
def test_a_state_of_0_3_0_tells_by_its_last_cycle(
    state: State, seen: float, instance: Instance
) -> None:
    assert last_success(state) == seen
    instance.state.save(state)
    failed = cycle(instance, RepositoryUnreachable("no route"), NOW)
    assert last_success(failed) == seen, "the first cycle of this version forgets nothing"


def test_a_clock_that_was_set_back_hides_no_failure() -> None:
    """A success in the future would be fresh until that time comes."""
    ahead = with_fields(WENT_WELL, fresh_at=NOW + 7200, last=FAILS)
    verdict, sentence = asked(ahead)
    assert (verdict, "the clock was set back" in sentence) == (Verdict.LATE, True)
    assert judge(ahead, False, LEAST, NOW).age is None
    little = judge(with_fields(WENT_WELL, fresh_at=NOW + 30), False, LEAST, NOW)
    assert (little.verdict, little.age) == (Verdict.FRESH, 0.0)


@given(
    st.floats(0, 4e9), st.floats(0, 4e9), st.floats(1, 366 * 86_400), st.booleans(), st.booleans()
)
def test_no_time_makes_an_age_negative_or_an_answer_of_several_lines(
    fresh_at: float, now: float, max_age: float, leads: bool, refused: bool
) -> None:
    words = "two\nlines" if refused else ""
    state = state_with("w", fresh_at=fresh_at, refused=words, last=FAILS)
    found = judge(state, leads, max_age, now)
    assert found.age is None or found.age >= 0
    assert "\n" not in found.line
    assert (found.verdict is Verdict.FRESH) <= (abs(now - fresh_at) <= max(max_age, 60))


def test_three_intervals_and_half_an_hour_at_least() -> None:
    assert [patience(interval) for interval in (30, 360, 600, 3600)] == [1800, 1800, 1800, 10_800]


def test_the_word_for_waiting_is_the_cycle_s() -> None:
    assert Outcome.WAITING.value == WAITING


def test_exit_codes_are_those_of_nagios() -> None:
    assert {v.value: v.exit_code for v in Verdict} == {
        "fresh": 0,
        "late": 1,
        "fenced": 2,
        "refused": 2,
        "held": 2,
    }


def test_a_kuma_that_was_killed_refuses_nothing(instance: Instance) -> None:
    """The pause before the next try ends by time: nobody has to act."""
    killed = FailedAttempt("a" * 64, "1.7", 2, NOW, "killed", "", 14, signal=9)
    edit_state(instance.state, failed=killed)
    assert cycle(instance, StoppedInVain("not again yet"), NOW).outcome.refused == ""
    edit_state(instance.state, failed=dataclasses.replace(killed, signal=0))
    assert cycle(instance, StoppedInVain("not again"), NOW).outcome.refused == "not again"
