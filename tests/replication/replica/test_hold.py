"""A replica that a person sent to a position: it stays there until told to go on."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable

import pytest

from replicator_kuma.adapters.repository import Listing, Position
from replicator_kuma.base.errors import (
    Held,
    KumaError,
    RepositoryLost,
    RepositoryUnreachable,
    SnapshotNotFound,
    SnapshotRefused,
    TwoLeaders,
)
from replicator_kuma.base.times import moment_of, parse_moment
from replicator_kuma.dump.transform.policy import Policy
from replicator_kuma.replication.instance import Instance, Outcome
from replicator_kuma.replication.snapshots import as_of
from replicator_kuma.replication.state.hold_words import refuse_while_held
from tests.support import cycles, databases
from tests.support.cycles import (
    db,
    follow,
    go_on,
    hold_at,
    lead,
    left_behind,
    name_of,
    rename,
    snapshot,
    step,
    take_over,
)
from tests.support.folder_repository import FolderRepository, dies_in
from tests.support.instances import RecordingKuma
from tests.support.states import drift_words


@pytest.fixture
def ahead(leader: Instance, replica: Instance) -> Instance:
    """The replica at 1.3: monitor 3 was «two» at 1.2 and is «three»."""
    step(leader, replica, "two")
    step(leader, replica, "three")
    return replica


def forget(repository: FolderRepository, position: str) -> None:
    for one in repository.snapshots("default"):
        if str(one.position) == position:
            (repository.folder / f"{one.id}.json").unlink()
            shutil.rmtree(repository.folder / one.id)


def test_it_follows_nothing_newer_and_says_so_once(
    leader: Instance, ahead: Instance, caplog: pytest.LogCaptureFixture
) -> None:
    result = hold_at(ahead, "1.2")
    assert result.sentence.endswith("; holding it, to go on: replicator restore --resume")
    assert name_of(db(ahead), 3) == "two"
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        for reconcile in (False, True, False):
            said = follow(ahead, reconcile=reconcile)
            assert said.outcome is Outcome.NOTHING
            assert said.sentence.startswith("holding 1.2 since 20")
            assert said.sentence.endswith("; newest is 1.3; to go on: replicator restore --resume")
    assert [r.getMessage() for r in caplog.records] == [said.sentence]
    step(leader, ahead, "four")
    follow(ahead)
    assert "newest is 1.4" in caplog.records[-1].getMessage()
    assert len(caplog.records) == 2
    assert name_of(db(ahead), 3) == "two"


def test_it_goes_on_at_once_and_the_floor_stays(
    leader: Instance, ahead: Instance, repository: FolderRepository
) -> None:
    hold_at(ahead, "1.1")
    assert ahead.state.load().following.floor == Position(1, 3)
    assert go_on(ahead).position == Position(1, 3)
    assert name_of(db(ahead), 3) == "three"
    hold_at(ahead, "1.2")
    forget(repository, "1.3")
    for goes in (follow, go_on):
        with pytest.raises(RepositoryLost, match=r"newest snapshot is 1\.2, but 1\.3 was applied"):
            goes(ahead)
    assert name_of(db(ahead), 3) == "two"


def test_a_word_that_names_no_position_is_refused(ahead: Instance) -> None:
    refuse_while_held(ahead.state.load())
    hold_at(ahead, "1.2")
    with pytest.raises(Held, match=r"this replica holds 1\.2 since"):
        refuse_while_held(ahead.state.load())
    hold_at(ahead, "1.1")  # one that names another moves it
    with pytest.raises(Held, match=r"holds 1\.1 since"):
        refuse_while_held(ahead.state.load())


def test_rows_that_differ_are_judged_against_what_is_held(
    ahead: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold_at(ahead, "1.2")
    rename(db(ahead), 4, "edited here")
    assert follow(ahead).sentence.endswith("; rows here differ from it")
    assert "no longer those of 1.2" in drift_words(ahead.state.load())
    # a start of `replicator run` puts right what it holds, and so does a strategy that heals
    healed = follow(ahead, reconcile=True)
    assert healed.outcome is Outcome.APPLIED
    assert healed.sentence.startswith("applied 1.2 of leader again")
    assert (name_of(db(ahead), 3), name_of(db(ahead), 4) == "edited here") == ("two", False)
    follow(ahead)
    monkeypatch.setattr(ahead, "policy", lambda: Policy(heal=True))
    follow(ahead)
    rename(db(ahead), 4, "edited anew")
    assert follow(ahead).outcome is Outcome.APPLIED
    assert name_of(db(ahead), 3) == "two"


def test_what_is_held_may_be_gone_from_the_repository(
    ahead: Instance, repository: FolderRepository
) -> None:
    """Then nothing puts its rows right, and it stays all the same."""
    hold_at(ahead, "1.2")
    forget(repository, "1.2")
    assert "holding 1.2 since" in follow(ahead, reconcile=True).sentence
    rename(db(ahead), 4, "edited here")
    said = follow(ahead, reconcile=True)
    assert said.outcome is Outcome.NOTHING
    assert said.sentence.endswith("; rows here differ from it")
    assert (name_of(db(ahead), 3), name_of(db(ahead), 4)) == ("two", "edited here")
    words = drift_words(ahead.state.load())
    assert "replicator restore --resume" in words
    assert "--now" not in words, "it is refused: nothing is there to put rows right with"


def test_rows_that_differ_from_what_is_held_name_a_command_that_works(ahead: Instance) -> None:
    """`restore --now` alone is refused while a person holds it."""
    hold_at(ahead, "1.2")
    rename(db(ahead), 4, "edited here")
    assert follow(ahead).outcome is Outcome.NOTHING
    assert "or `replicator restore --now --snapshot 1.2`" in drift_words(ahead.state.load())
    hold_at(ahead, "1.2")
    assert name_of(db(ahead), 4) != "edited here"


def test_another_policy_is_applied_to_what_is_held(
    ahead: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    from replicator_kuma.dump.transform.overrides import Overrides

    hold_at(ahead, "1.2")
    rules = Overrides.parse('[[rule]]\ntable = "monitor"\nset = { active = 0 }\n')
    monkeypatch.setattr(ahead, "policy", lambda: Policy(overrides=rules))
    assert follow(ahead).sentence.startswith("applied 1.2 of leader again")
    assert cycles.count(db(ahead), "monitor", "active") == 0


def test_local_rows_stay_on_the_way_back_and_forth(
    leader: Instance, ahead: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "policy", lambda: Policy(local=frozenset({"tag"})))
    follow(ahead)
    databases.edit(db(leader), "INSERT INTO tag (id, name, color) VALUES (90, 'late', '#fff')")
    step(leader, ahead, "four")
    databases.edit(db(ahead), "INSERT INTO tag (id, name, color) VALUES (900, 'own', '#fff')")
    databases.edit(db(ahead), "DELETE FROM tag WHERE id = 90")
    hold_at(ahead, "1.2")
    assert tags(ahead) == [900]
    go_on(ahead)
    assert tags(ahead) == [900], "what a person deleted here does not come again"
    databases.edit(db(leader), "INSERT INTO tag (id, name, color) VALUES (91, 'later', '#fff')")
    step(leader, ahead, "five")
    hold_at(ahead, "1.2")
    assert tags(ahead) == [900]
    go_on(ahead)
    assert tags(ahead) == [91, 900], "what went on the way back comes again"


def tags(instance: Instance) -> list[int]:
    found = databases.query(db(instance), "SELECT id FROM tag WHERE id >= 90 ORDER BY id")
    return [int(row[0]) for row in found]


# --- errors, and deaths ---------------------------------------------------------------------


def spoil(repository: FolderRepository, position: str) -> None:
    for one in repository.snapshots("default"):
        if str(one.position) == position:
            cycles.spoil(repository.folder / one.id)


def test_a_word_that_failed_holds_nothing(
    ahead: Instance, repository: FolderRepository, kuma: RecordingKuma
) -> None:
    spoil(repository, "1.1")
    with pytest.raises(SnapshotRefused):
        hold_at(ahead, "1.1")
    with pytest.raises(SnapshotNotFound):
        hold_at(ahead, "1.77")
    kuma.refuses_to_be_ready = [True]
    with pytest.raises(KumaError):
        hold_at(ahead, "1.2")
    assert ahead.state.load().following.hold is None
    assert name_of(db(ahead), 3) == "three"
    # and one that holds keeps its hold
    follow(ahead)
    hold_at(ahead, "1.2")
    with pytest.raises(SnapshotRefused):
        hold_at(ahead, "1.1")
    assert follow(ahead).sentence.startswith("holding 1.2 since")


def test_without_an_answer_of_the_repository_it_goes_on_holding(
    ahead: Instance, repository: FolderRepository
) -> None:
    hold_at(ahead, "1.2")
    repository.fail["snapshots"] = RepositoryUnreachable("no network")
    with pytest.raises(RepositoryUnreachable):
        go_on(ahead)
    assert follow(ahead).sentence.startswith("holding 1.2 since")


@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_between_the_word_and_the_apply(
    ahead: Instance, repository: FolderRepository, moment: str
) -> None:
    """The next cycle goes there: it neither follows 1.3 nor holds rows that it does not have."""
    dies_in(repository, moment, "fetch", lambda: hold_at(ahead, "1.2"))
    assert name_of(db(ahead), 3) == "three"
    result = follow(ahead)
    assert result.outcome is Outcome.APPLIED
    assert "; holding 1.2 since" in result.sentence
    assert name_of(db(ahead), 3) == "two"


def test_killed_before_it_got_there_and_the_snapshot_goes(
    ahead: Instance, repository: FolderRepository
) -> None:
    """That is an error at each cycle, no silent hold."""
    dies_in(repository, "before", "fetch", lambda: hold_at(ahead, "1.2"))
    forget(repository, "1.2")
    with pytest.raises(SnapshotNotFound, match=r"1\.2 this replica was sent to") as caught:
        follow(ahead)
    assert "restore --resume" in caught.value.hint
    assert go_on(ahead).position == Position(1, 3)


@pytest.mark.parametrize("call", ["snapshots", "read"])
def test_killed_while_it_goes_on(ahead: Instance, repository: FolderRepository, call: str) -> None:
    """It holds what it held, or goes to the newest by itself."""
    hold_at(ahead, "1.2")
    dies_in(repository, "before", call, lambda: go_on(ahead))
    follow(ahead)
    assert name_of(db(ahead), 3) == ("two" if call == "snapshots" else "three")
    assert left_behind(ahead) == []


# --- promote --------------------------------------------------------------------------------


def test_a_promote_takes_the_newest_and_ends_the_hold(leader: Instance, ahead: Instance) -> None:
    hold_at(ahead, "1.2")
    result = take_over(ahead)
    assert result.position == Position(2, 1)
    assert "It held 1.2 since" in result.sentence
    assert name_of(db(ahead), 3) == "three"
    assert ahead.state.load().following.hold is None
    assert lead(ahead).sentence == "nothing changed since 2.1"


def test_a_repository_that_went_back_does_not_promote_a_held_replica(
    ahead: Instance, repository: FolderRepository
) -> None:
    hold_at(ahead, "1.2")
    forget(repository, "1.3")
    with pytest.raises(RepositoryLost):
        take_over(ahead)
    assert ahead.state.load().following.hold is not None


# --- by time --------------------------------------------------------------------------------

TIMES = [
    snapshot((1, 1), time="2031-01-01T10:00:00.5Z"),
    snapshot((1, 2), time="2031-01-01T14:00:00.123456789+03:00"),  # 11:00 in UTC
    snapshot((1, 3), time="2031-01-01T10:30:00Z"),  # a leader's clock went back
    snapshot((2, 1), time="2031-01-02T00:00:00Z"),
]


@pytest.mark.parametrize(
    ("at", "position"),
    [
        ("2031-01-01T10:00:01Z", (1, 1)),
        ("2031-01-01T10:30:00Z", (1, 3)),
        ("2031-01-01T11:00:01Z", (1, 3)),
        ("2040-01-01T00:00:00+14:00", (2, 1)),
    ],
)
def test_the_highest_position_that_is_not_younger(at: str, position: tuple[int, int]) -> None:
    assert as_of(Listing(TIMES), moment_of(at)).position == Position(*position)


def test_a_time_before_all_and_one_of_two_leaders() -> None:
    with pytest.raises(SnapshotNotFound, match="as old as 2031-01-01T10:00:00Z"):
        as_of(Listing(TIMES), moment_of("2031-01-01T10:00:00Z"))
    rival = snapshot((1, 1), writer="rival", digest="d2", time="2031-01-01T10:00:00Z")
    with pytest.raises(TwoLeaders, match=r"2 snapshots are 1\.1"):
        as_of(Listing([rival, TIMES[0]]), moment_of("2031-01-01T10:00:01Z"))
    odd = snapshot((1, 9), time="yesterday")
    assert as_of(Listing([TIMES[0], odd]), moment_of("2033-01-01T00:00:00Z")).position == Position(
        1, 1
    )


NOW = 2_000_000_000.0
AGO: list[tuple[str, Callable[[], float]]] = [
    ("2h ago", lambda: NOW - 7200),
    ("1d12h ago", lambda: NOW - 129600),
    ("1 day 2 hours ago", lambda: NOW - 93600),
    ("90 minutes ago", lambda: NOW - 5400),
    (" 30s  AGO ", lambda: NOW - 30),
    ("2031-05-01T10:00:00+02:00", lambda: 1935388800.0),
    ("2031-05-01T08:00Z", lambda: 1935388800.0),
]


@pytest.mark.parametrize(("text", "moment"), AGO, ids=[text for text, _moment in AGO])
def test_times_as_people_type_them(text: str, moment: Callable[[], float]) -> None:
    assert parse_moment(text, NOW) == moment()


def test_a_time_without_an_offset_is_this_machine_s(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setenv("TZ", "UTC-3")
    time.tzset()
    try:
        assert parse_moment("2031-05-01 13:00", NOW) == moment_of("2031-05-01T10:00:00Z")
        assert parse_moment("2031-05-01", NOW) == moment_of("2031-04-30T21:00:00Z")
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("text", ["", "ago", "soon", "5 ago", "2h", "2031-13-01", "99999-01-01"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_moment(text, NOW)


def test_it_holds_what_is_newest_today_too(leader: Instance, ahead: Instance) -> None:
    hold_at(ahead, "1.3")
    step(leader, ahead, "four")
    assert name_of(db(ahead), 3) == "three"
    assert "newest is 1.4" in follow(ahead).sentence
