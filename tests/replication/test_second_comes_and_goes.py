"""A second repository is added or taken away: what an instance remembers of snapshots still holds.

The same snapshot has another id then: restic's own in one repository, one of its label in two.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from replicator_kuma.adapters.repository import Position
from replicator_kuma.base.errors import (
    Fenced,
    Interrupted,
    KumaError,
    RepositoryDamaged,
    SnapshotRefused,
    WrongPassword,
)
from replicator_kuma.daemon.maintenance import run_now
from replicator_kuma.replication.instance import Outcome
from replicator_kuma.replication.leader import housekeeping
from replicator_kuma.replication.leader.publish import ids_of
from replicator_kuma.replication.leader.retention import Care, Keep
from tests.support.cycles import follow, go_back, hold_at, lead, name_of, rename, take_over
from tests.support.folder_repository import FolderRepository
from tests.support.states import edit_state
from tests.support.two_repositories import GONE, Member, TwoRepositories

BOTH = ("one", "two")
ADDED = pytest.param(("one",), BOTH, id="added")
TAKEN_AWAY = pytest.param(BOTH, ("one",), id="taken away")
CHANGES = pytest.mark.parametrize(("before", "after"), [ADDED, TAKEN_AWAY])


@pytest.fixture
def fleet(tmp_path: Path, filled: Path) -> TwoRepositories:
    return TwoRepositories(tmp_path, filled)


@pytest.fixture
def leader(fleet: TwoRepositories) -> Member:
    return fleet.begin()


@pytest.fixture
def replica(fleet: TwoRepositories, leader: Member) -> Member:
    return fleet.side("replica")


def bad(side: Member) -> None:
    """The newest snapshot stops this Kuma in vain."""
    side.kuma.refuses_to_be_ready = [True]
    with pytest.raises(KumaError, match="did not start on snapshot"):
        follow(side.instance)
    side.kuma.log.clear()


def fetches(side: Member) -> int:
    return [*side.first.calls, *side.second.calls].count("fetch")


@CHANGES
def test_what_is_applied_is_not_fetched_again(
    leader: Member, replica: Member, before: tuple[str, ...], after: tuple[str, ...]
) -> None:
    replica.uses(*before)
    leader.publish("newer")
    follow(replica.instance)
    fetched = fetches(replica)
    replica.uses(*after)
    assert follow(replica.instance).sentence == "1.2 is applied; nothing newer"
    assert fetches(replica) == fetched


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ADDED,
        TAKEN_AWAY,
        pytest.param(BOTH, ("two",), id="the first taken away"),
        pytest.param(("one",), ("two",), id="another"),
    ],
)
def test_a_bad_snapshot_stays_bad_until_a_person_tries_it(
    leader: Member, replica: Member, before: tuple[str, ...], after: tuple[str, ...]
) -> None:
    replica.uses(*before)
    follow(replica.instance)
    leader.publish("newer")
    bad(replica)
    replica.uses(*after)
    with pytest.raises(SnapshotRefused, match="is not tried again"):
        follow(replica.instance)
    assert replica.kuma.log == []
    assert follow(replica.instance, reconcile=True).outcome is Outcome.APPLIED
    assert replica.instance.state.load().applying.bad == ()
    replica.uses(*before)
    assert follow(replica.instance).outcome is Outcome.NOTHING


def test_a_bad_snapshot_stays_bad_where_only_the_added_one_answers(
    leader: Member, replica: Member
) -> None:
    """Why somebody adds it: the first is about to go."""
    replica.uses("one")
    follow(replica.instance)
    leader.publish("newer")
    bad(replica)
    replica.uses(*BOTH)
    replica.reaches(first=False)
    with pytest.raises(SnapshotRefused, match="is not tried again"):
        follow(replica.instance)
    assert replica.kuma.log == []


def test_what_an_older_version_called_bad_by_resticss_id_stays_bad(
    fleet: TwoRepositories, leader: Member, replica: Member
) -> None:
    replica.uses("one")
    follow(replica.instance)
    leader.publish("newer")
    newest = FolderRepository(fleet.folder / "one").snapshots("default")[-1]
    edit_state(replica.instance.state, bad=(newest.id,))
    for names in (("one",), BOTH):
        replica.uses(*names)
        with pytest.raises(SnapshotRefused, match="is not tried again"):
            follow(replica.instance)


@CHANGES
def test_a_snapshot_after_which_kuma_came_up_late_is_bad_the_second_time(
    leader: Member, replica: Member, before: tuple[str, ...], after: tuple[str, ...]
) -> None:
    replica.uses(*before)
    follow(replica.instance)
    leader.publish("newer")
    replica.kuma.refuses_to_be_ready = [True, True]
    with pytest.raises(KumaError, match="neither on"):
        follow(replica.instance)
    replica.uses(*after)
    # it came up on the old rows meanwhile: the snapshot is tried once more
    replica.kuma.refuses_to_be_ready = [False, True, True]
    with pytest.raises(KumaError, match="neither on"):
        follow(replica.instance)
    with pytest.raises(SnapshotRefused, match="is not tried again"):
        follow(replica.instance)


@CHANGES
def test_a_replica_stands_where_a_person_sent_it(
    leader: Member, replica: Member, before: tuple[str, ...], after: tuple[str, ...]
) -> None:
    replica.uses(*before)
    leader.publish("newer")
    follow(replica.instance)
    hold_at(replica.instance, "1.1")
    first = name_of(replica.db, 1)
    replica.uses(*after)
    rename(replica.db, 1, "by hand")
    assert "holding 1.1" in follow(replica.instance, reconcile=True).sentence
    assert name_of(replica.db, 1) == first != "newer"
    assert replica.instance.state.load().following.hold is not None


@CHANGES
def test_a_hold_that_was_only_noted_is_gone_to(
    leader: Member, replica: Member, before: tuple[str, ...], after: tuple[str, ...]
) -> None:
    replica.uses(*before)
    first = name_of(leader.db, 1)
    leader.publish("newer")
    follow(replica.instance)
    for place in (replica.first, replica.second):
        place.fail["fetch"] = Interrupted("stopped")
    with pytest.raises(Interrupted):
        hold_at(replica.instance, "1.1")
    replica.first.fail.clear()
    replica.second.fail.clear()
    replica.uses(*after)
    assert follow(replica.instance).outcome is Outcome.APPLIED
    assert name_of(replica.db, 1) == first != "newer"


@CHANGES
def test_rows_that_an_undo_put_back_are_those_of_their_snapshot(
    leader: Member, replica: Member, before: tuple[str, ...], after: tuple[str, ...]
) -> None:
    """The checkpoint remembers what they were by the id of its time."""
    replica.uses(*before)
    follow(replica.instance)
    first = name_of(replica.db, 1)
    leader.publish("newer")
    follow(replica.instance)
    replica.uses(*after)
    go_back(replica.instance)
    assert name_of(replica.db, 1) == first
    rename(replica.db, 1, "by hand")
    assert "holding 1.1" in follow(replica.instance, reconcile=True).sentence
    assert name_of(replica.db, 1) == first


@CHANGES
def test_a_leader_leads_on(leader: Member, before: tuple[str, ...], after: tuple[str, ...]) -> None:
    """(Another epoch would be opened for nothing.)"""
    leader.publish("newer")
    leader.uses(*before)
    assert lead(leader.instance, verify=True).outcome is Outcome.NOTHING
    edit_state(leader.instance.state, applied=leader.instance.state.load().leading.published)
    leader.uses(*after)
    assert take_over(leader.instance).outcome is Outcome.NOTHING


@CHANGES
def test_what_fenced_a_leader_fences_it_on(
    fleet: TwoRepositories, leader: Member, before: tuple[str, ...], after: tuple[str, ...]
) -> None:
    """Its own snapshot came out on top: the rival's is known by what was noted of it alone."""
    other = fleet.side("other")
    follow(other.instance)
    assert other.promote() == Position(2, 1)
    assert leader.promote() == Position(3, 1)
    leader.uses(*before)
    rival = leader.instance.repository.snapshots("default")[1]
    assert rival.position == Position(2, 1)
    edit_state(leader.instance.state, fenced="other has published 2.1", rivals=ids_of([rival]))
    leader.uses(*after)
    with pytest.raises(Fenced):
        lead(leader.instance, verify=True)


@pytest.mark.parametrize("names", [("one",), BOTH])
def test_a_snapshot_can_be_named_by_either_id(
    fleet: TwoRepositories, leader: Member, replica: Member, names: tuple[str, ...]
) -> None:
    leader.publish("newer")
    common = leader.instance.repository.snapshots("default")[0].id
    for name in BOTH:
        own = FolderRepository(fleet.folder / name).snapshots("default")[0].id
        if name in names:
            replica.uses(*names)
            follow(replica.instance)
            assert hold_at(replica.instance, own[:12]).position == Position(1, 1)
    assert hold_at(replica.instance, common[:12]).position == Position(1, 1)


def test_one_that_was_taken_away_lags_no_more(leader: Member) -> None:
    leader.reaches(second=False)
    leader.publish("first only")
    assert leader.instance.state.load().lagging
    leader.uses("one")
    assert lead(leader.instance).outcome is Outcome.NOTHING
    assert leader.instance.state.load().lagging == ""
    leader.first.calls.clear()
    assert lead(leader.instance).outcome is Outcome.NOTHING
    assert leader.first.calls == []  # all is well: nobody is asked


def test_a_damaged_copy_comes_whole_with_the_next_change_and_not_by_itself(leader: Member) -> None:
    leader.reaches(second=False)
    leader.publish("first only")
    leader.reaches()
    # the newest is listed there, so that it is no more "behind", and cannot be read
    dump = leader.first.folder / leader.first.snapshots("default")[-1].id
    leader.second.add(dump, leader.first.snapshots("default")[-1].label)
    leader.second.fail["fetch"] = RepositoryDamaged("fetch the snapshot: pack 1234 is gone")
    assert lead(leader.instance).outcome is Outcome.NOTHING
    told = leader.instance.state.load().lagging
    assert told.startswith("repository 2 lags behind: fetch the snapshot: pack 1234 is gone. ")
    assert "in REPLICATOR_REPOSITORY_2" in told
    assert "the next change that is published brings a whole copy" in told
    assert "by itself" not in told
    assert "applied" not in told


def test_where_the_one_that_is_ahead_is_damaged_it_is_named(leader: Member) -> None:
    leader.reaches(second=False)
    leader.publish("first only")
    leader.reaches()
    leader.first.fail["fetch"] = RepositoryDamaged("fetch the snapshot: pack 1234 is gone")
    assert lead(leader.instance).outcome is Outcome.NOTHING
    told = leader.instance.state.load().lagging
    assert told.startswith("repository 2 lags behind: the first repository: fetch the snapshot: ")
    assert "in RESTIC_REPOSITORY" in told


def test_what_housekeeping_found_in_one_that_was_taken_away_is_forgotten(leader: Member) -> None:
    care = Care(Keep(2, 0, 0, 0, 0), 3)
    for names in (BOTH, ("one",)):
        leader.uses(*names)
        run_now(leader.instance, "housekeeping", housekeeping.steps(leader.instance, care))
        found = leader.instance.state.load().upkeep.repositories
        assert [each.name for each in found] == ["repository", "repository 2"][: len(names)]


@pytest.mark.parametrize("which", [0, 1], ids=["first", "second"])
def test_a_replica_tells_once_who_is_away_and_once_that_it_is_back(
    leader: Member, replica: Member, which: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    place, name = ((replica.first, "the first repository"), (replica.second, "repository 2"))[which]
    follow(replica.instance)
    place.down = GONE
    caplog.clear()
    for _ in range(3):
        assert follow(replica.instance).outcome is Outcome.NOTHING
    [told] = caplog.messages
    assert told.startswith(
        f"only one of two repositories is read: {name} is away: no route to host. Check R"
    )
    [noted] = replica.instance.state.load().problems
    edit_state(replica.instance.state, problems=(replace(noted, since=noted.since - 125),))
    place.down = None
    caplog.clear()
    for _ in range(2):
        follow(replica.instance)
    [told] = caplog.messages
    assert told.startswith(f"{name} answers again, after 2 min ")
    assert replica.instance.state.load().away == ()


def test_one_that_was_taken_away_is_not_away(leader: Member, replica: Member) -> None:
    replica.reaches(second=False)
    follow(replica.instance)
    assert [each.name for each in replica.instance.state.load().away] == ["repository 2"]
    replica.uses("one")
    follow(replica.instance)
    assert replica.instance.state.load().away == ()


def test_who_is_away_in_another_way_is_shown_so_since_the_same_time(
    leader: Member, replica: Member
) -> None:
    replica.reaches(second=False)
    follow(replica.instance)
    [before] = replica.instance.state.load().away
    replica.second.down = WrongPassword("no key fits")
    follow(replica.instance)
    [after] = replica.instance.state.load().away
    assert (after.why, after.since) == ("no key fits", before.since)


@pytest.mark.parametrize("down", [False, True])
@pytest.mark.parametrize("leads", [False, True])
def test_a_listing_that_a_signal_ended_says_nothing_of_who_is_away(
    leader: Member, replica: Member, leads: bool, down: bool, caplog: pytest.LogCaptureFixture
) -> None:
    side = leader if leads else replica

    def cycle() -> None:
        if leads:
            lead(side.instance, verify=True)
        else:
            follow(side.instance)

    side.reaches(second=not down)
    cycle()
    before, told = side.instance.state.load(), list(side.told)
    side.second.down = Interrupted("stopped by a signal")
    caplog.clear()
    cycle()
    after = side.instance.state.load()
    assert (after.away, after.lagging) == (
        before.away,
        before.lagging,
    )
    assert bool(after.away or after.lagging) == down
    assert (side.told, caplog.messages) == (told, [])
