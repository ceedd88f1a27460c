"""Cycles with two repositories: one is away, one lags behind, each knows another leader."""

from __future__ import annotations

import json
import shutil
import threading
import time
from pathlib import Path

import pytest

from replicator_kuma.adapters.repository import Label, Position
from replicator_kuma.adapters.repository.pair import Pair
from replicator_kuma.base.errors import (
    Fenced,
    PublishIncomplete,
    RepositoryLost,
    RepositoryMissing,
    RepositoryUnreachable,
    SnapshotNotFound,
    SnapshotRefused,
    TwoLeaders,
)
from replicator_kuma.daemon.maintenance import run_now
from replicator_kuma.replication import published_dump
from replicator_kuma.replication.actions import Backup
from replicator_kuma.replication.instance import CycleResult, Instance, Outcome
from replicator_kuma.replication.leader import housekeeping
from replicator_kuma.replication.leader.retention import Care, Keep
from tests.support import databases
from tests.support.compare import config_differences
from tests.support.cycles import follow, hold_at, lead, name_of, rename, roll_back_to
from tests.support.folder_repository import FolderRepository
from tests.support.two_repositories import GONE, Member, TwoRepositories


@pytest.fixture
def fleet(tmp_path: Path, filled: Path) -> TwoRepositories:
    return TwoRepositories(tmp_path, filled)


@pytest.fixture
def leader(fleet: TwoRepositories) -> Member:
    return fleet.begin()


@pytest.fixture
def replica(fleet: TwoRepositories, leader: Member) -> Member:
    made = fleet.side("replica")
    follow(made.instance)
    return made


def test_what_is_published_is_in_both_and_either_is_enough_to_read(
    fleet: TwoRepositories, leader: Member, replica: Member
) -> None:
    leader.publish("both")
    assert fleet.there("one") == fleet.there("two") == ["1.1", "1.2"]
    replica.reaches(first=False)
    assert follow(replica.instance).position == Position(1, 2)
    assert not config_differences(leader.db, replica.db)
    replica.reaches(second=False)
    # the same snapshot by the same id, whoever shows it: nothing is fetched again
    replica.first.calls.clear()
    assert follow(replica.instance).outcome is Outcome.NOTHING
    assert "fetch" not in replica.first.calls
    assert leader.told == []


def test_one_that_lags_behind_is_told_once_and_catches_up(
    fleet: TwoRepositories, leader: Member, replica: Member
) -> None:
    leader.reaches(second=False)
    rename(leader.db, 1, "first only")
    result = lead(leader.instance)
    assert result.outcome is Outcome.PUBLISHED
    assert [w for w in result.warnings if "repository 2 lags behind" in w]
    assert fleet.there("two") == ["1.1"]
    assert leader.second.calls.count("publish") == 1  # restic would try for a quarter of an hour
    assert "repository 2" in leader.instance.state.load().lagging
    for _ in range(2):
        assert lead(leader.instance).warnings == ()
    leader.publish("again")
    assert len(leader.told) == 1
    leader.reaches()
    assert lead(leader.instance).outcome is Outcome.NOTHING
    assert fleet.there("two") == ["1.1", "1.3"]
    assert leader.instance.state.load().lagging == ""
    assert leader.told[1:] == [
        "both repositories are equal again: what lagged behind has the newest snapshot"
    ]
    one, two = (FolderRepository(fleet.folder / n).snapshots("default")[-1] for n in ("one", "two"))
    assert one.label == two.label
    replica.reaches(first=False)
    assert follow(replica.instance).position == Position(1, 3)
    assert not config_differences(leader.db, replica.db)
    leader.first.calls.clear()
    assert lead(leader.instance).outcome is Outcome.NOTHING
    assert leader.first.calls == []  # all is well: nobody is asked


def test_a_publish_that_fails_in_one_is_a_publish(fleet: TwoRepositories, leader: Member) -> None:
    leader.first.fail["publish"] = RepositoryUnreachable("disk full")
    assert leader.publish("second only") == Position(1, 2)
    assert (fleet.there("one"), fleet.there("two")) == (["1.1"], ["1.1", "1.2"])
    assert leader.instance.state.load().leading.burned is None
    lead(leader.instance)
    assert fleet.there("one") == ["1.1", "1.2"]


def test_a_catch_up_that_fails_is_tried_again_and_is_no_failure_of_the_cycle(
    fleet: TwoRepositories, leader: Member
) -> None:
    leader.reaches(second=False)
    leader.publish("first only")
    leader.reaches()
    leader.second.fail["publish"] = RepositoryUnreachable("disk full")
    assert lead(leader.instance).outcome is Outcome.NOTHING
    assert "disk full" in leader.instance.state.load().lagging
    lead(leader.instance)
    assert fleet.there("two") == ["1.1", "1.2"]


def test_a_part_that_a_failed_publish_left_is_no_copy(
    fleet: TwoRepositories, leader: Member, replica: Member
) -> None:
    def leave_a_part() -> None:
        dump = leader.instance.work / "dump"
        label = fleet_label(fleet)
        copy = leader.second.folder / leader.second.add(dump, label)
        (copy / "tables" / "monitor.jsonl").unlink()

    def fleet_label(fleet: TwoRepositories) -> Label:
        return FolderRepository(fleet.folder / "one").snapshots("default")[-1].label

    leader.second.before["publish"] = leave_a_part
    leader.second.fail["publish"] = PublishIncomplete("disk full")
    assert leader.publish("half") == Position(1, 2)
    assert fleet.there("two") == ["1.1", "1.2"]
    for _ in range(2):
        assert lead(leader.instance).outcome is Outcome.NOTHING
        told = leader.instance.state.load().lagging
        assert "repository 2 lags behind" in told
        assert told.endswith("no whole copy: the next change that is published brings one.")
    assert len(leader.told) == 1
    assert fleet.there("two") == ["1.1", "1.2"]  # not again and again
    assert follow(replica.instance).position == Position(1, 2)
    leader.publish("whole")
    assert leader.instance.state.load().lagging == ""


def test_a_publish_that_fails_in_both_burns_the_position(
    fleet: TwoRepositories, leader: Member
) -> None:
    for repository in (leader.first, leader.second):
        repository.fail["publish"] = RepositoryUnreachable("disk full")
    rename(leader.db, 1, "nowhere")
    with pytest.raises(RepositoryUnreachable, match="disk full"):
        lead(leader.instance)
    assert leader.instance.state.load().leading.burned == Position(1, 2)
    lead(leader.instance)
    assert fleet.there("one") == fleet.there("two") == ["1.1", "1.3"]


def test_nobody_goes_back_to_what_the_one_that_lags_behind_shows(
    fleet: TwoRepositories, leader: Member, replica: Member
) -> None:
    leader.reaches(first=False)
    leader.publish("second only")
    assert follow(replica.instance).position == Position(1, 2)
    # now the first is back, and the second is away
    for side in (leader, replica):
        side.reaches(second=False)
    rename(leader.db, 1, "more")
    with pytest.raises(RepositoryUnreachable, match="repository 2 gave no answer"):
        lead(leader.instance)
    with pytest.raises(RepositoryUnreachable, match="repository 2 gave no answer"):
        follow(replica.instance)
    assert fleet.there("one") == ["1.1"]
    assert leader.instance.state.load().leading.fenced is None
    for side in (leader, replica):
        side.reaches()
    assert lead(leader.instance).position == Position(1, 3)
    assert follow(replica.instance).position == Position(1, 3)
    assert not config_differences(leader.db, replica.db)


def test_with_both_there_a_lost_fleet_is_lost(
    fleet: TwoRepositories, leader: Member, replica: Member
) -> None:
    leader.publish("more")
    follow(replica.instance)
    for name in ("one", "two"):
        shutil.rmtree(fleet.folder / name)
        (fleet.folder / name).mkdir()
    with pytest.raises(RepositoryLost):
        lead(leader.instance, verify=True)
    with pytest.raises(RepositoryLost):
        follow(replica.instance)


def test_after_a_split_the_higher_epoch_wins_and_the_other_leader_is_fenced(
    fleet: TwoRepositories, leader: Member, replica: Member
) -> None:
    third = fleet.side("third")
    follow(third.instance)
    leader.reaches(second=False)
    replica.reaches(first=False)
    assert leader.publish("on this side") == Position(1, 2)
    assert replica.promote(force=True) == Position(2, 1)
    assert leader.publish("still here") == Position(1, 3)
    assert replica.publish("on that side") == Position(2, 2)
    assert (fleet.there("one"), fleet.there("two")) == (
        ["1.1", "1.2", "1.3"],
        ["1.1", "2.1", "2.2"],
    )
    leader.reaches()
    replica.reaches()
    rename(leader.db, 1, "lost")
    with pytest.raises(Fenced, match=r"replica has published position 2\.2"):
        lead(leader.instance)
    assert lead(replica.instance).outcome is Outcome.NOTHING
    assert fleet.there("one") == ["1.1", "1.2", "1.3", "2.2"]
    assert follow(third.instance).position == Position(2, 2)
    assert not config_differences(replica.db, third.db)
    assert replica.publish("one leader") == Position(2, 3)
    with pytest.raises(Fenced):
        lead(leader.instance, verify=True)


def test_a_leader_whose_epoch_is_only_in_the_one_that_is_away_is_not_fenced(
    fleet: TwoRepositories, leader: Member, replica: Member
) -> None:
    replica.reaches(first=False)
    assert replica.promote(force=True) == Position(2, 1)
    replica.reaches(second=False)
    with pytest.raises(RepositoryUnreachable, match=r"2\.1 was published from here"):
        lead(replica.instance, verify=True)
    assert replica.instance.state.load().leading.fenced is None
    replica.reaches()
    assert lead(replica.instance).outcome is Outcome.NOTHING
    assert fleet.there("one") == ["1.1", "2.1"]


def test_two_that_were_forced_to_lead_in_one_epoch_are_both_fenced(
    fleet: TwoRepositories, leader: Member, replica: Member
) -> None:
    third, fourth = fleet.side("third"), fleet.side("fourth")
    follow(third.instance)
    follow(fourth.instance)
    replica.reaches(first=False)
    third.reaches(second=False)
    rename(third.db, 1, "another")
    assert replica.promote(force=True) == third.promote(force=True) == Position(2, 1)
    for side in (replica, third):
        side.reaches()
        with pytest.raises(Fenced):
            lead(side.instance, verify=True)
    with pytest.raises(TwoLeaders):
        follow(fourth.instance)
    assert replica.promote(force=True) == Position(3, 1)
    assert follow(fourth.instance).position == Position(3, 1)


def test_a_promote_asks_both_or_is_forced(
    fleet: TwoRepositories, leader: Member, replica: Member
) -> None:
    leader.publish("newer")
    for reaches in ({"first": False}, {"second": False}):
        replica.reaches(**reaches)
        with pytest.raises(RepositoryUnreachable, match="has to ask both") as caught:
            replica.promote()
        assert "promote --force" in caught.value.hint
    assert fleet.there("one") == fleet.there("two") == ["1.1", "1.2"]
    replica.reaches()
    assert replica.promote() == Position(2, 1)
    assert fleet.there("one") == fleet.there("two") == ["1.1", "1.2", "2.1"]


def backup_of_a_run(instance: Instance) -> CycleResult:
    """A cycle as `replicator run` has it."""
    instance.supervised = True
    return Backup().run(instance, instance.run)


def test_a_leader_made_anew_does_not_begin_again_in_an_empty_second_one(
    fleet: TwoRepositories, leader: Member
) -> None:
    """Its state is gone, the first repository is away, and the second was just created."""
    leader.publish("more")
    shutil.rmtree(fleet.folder / "two")
    (fleet.folder / "two").mkdir()
    leader.instance.state.path.unlink()
    anew = fleet.side("leader")
    anew.reaches(first=False)
    with pytest.raises(RepositoryUnreachable):
        backup_of_a_run(anew.instance)
    with pytest.raises(RepositoryUnreachable):
        follow(_blind(fleet).instance)
    assert fleet.there("two") == []
    anew.reaches()
    assert lead(anew.instance).position == Position(1, 2)
    assert fleet.there("two") == ["1.2"]


def test_a_leader_whose_disk_died_does_not_take_back_what_the_one_that_lags_behind_shows(
    fleet: TwoRepositories, leader: Member
) -> None:
    """It would publish at a position that the one that is away has already."""
    leader.reaches(second=False)
    leader.publish("first only")
    shutil.rmtree(leader.instance.data_dir)
    anew = fleet.side("leader")
    databases.create(anew.db)
    anew.reaches(first=False)
    with pytest.raises(RepositoryUnreachable, match="may have it"):
        lead(anew.instance)
    anew.reaches()
    assert "1.2" in lead(anew.instance).sentence
    assert name_of(anew.db, 1) == "first only"


def test_going_back_by_time_needs_both(
    fleet: TwoRepositories, leader: Member, replica: Member
) -> None:
    leader.reaches(second=False)
    leader.publish("first only")
    leader.reaches()
    leader.publish("both")
    follow(replica.instance)
    for side in (leader, replica):
        side.reaches(first=False)
    with pytest.raises(RepositoryUnreachable, match="gave no answer"):
        hold_at(replica.instance, at=time.time())
    with pytest.raises(RepositoryUnreachable, match="gave no answer"):
        roll_back_to(leader.instance, at=time.time())
    with pytest.raises(RepositoryUnreachable, match="gave no answer"):
        hold_at(replica.instance, "1.2")
    assert name_of(replica.db, 1) == name_of(leader.db, 1) == "both"
    assert replica.instance.state.load().following.hold is None
    replica.reaches()
    with pytest.raises(SnapshotNotFound):
        hold_at(replica.instance, "1.7")


def test_a_copy_that_came_later_is_as_old_as_the_first(
    fleet: TwoRepositories, leader: Member
) -> None:
    for name, at in (("one", "2031-01-01T16:00:00+01:00"), ("two", "2031-01-01T11:00:00.5Z")):
        for path in (fleet.folder / name).glob("*.json"):
            path.write_text(json.dumps({**json.loads(path.read_text()), "time": at}))
    (snapshot,) = leader.instance.repository.snapshots("default")
    assert snapshot.time == "2031-01-01T11:00:00.5Z"


def _blind(fleet: TwoRepositories) -> Member:
    made = fleet.side("blind")
    made.reaches(first=False)
    return made


def test_a_new_leader_makes_both(fleet: TwoRepositories) -> None:
    side = fleet.side("leader")
    FolderRepository(fleet.folder / "one").init()  # it was interrupted in between
    with pytest.raises(RepositoryMissing):
        lead(side.instance)
    with side.instance.state.lock():
        assert backup_of_a_run(side.instance).position == Position(1, 1)
    assert fleet.there("one") == fleet.there("two") == ["1.1"]


def test_a_second_one_that_is_added_later_is_said_until_somebody_creates_it(
    fleet: TwoRepositories, leader: Member
) -> None:
    shutil.rmtree(fleet.folder / "two")
    leader.publish("more")
    assert "replicator init" in leader.instance.state.load().lagging
    assert leader.instance.repository.init() is True
    assert leader.instance.repository.init() is False
    lead(leader.instance)
    assert fleet.there("two") == ["1.2"]


@pytest.mark.parametrize("how", ["away", "other", "gone"])
def test_a_copy_that_cannot_be_used_is_read_from_the_other(
    fleet: TwoRepositories, leader: Member, replica: Member, how: str
) -> None:
    leader.publish("newer")
    published_dump.forget(replica.instance.state.folder)
    copy = fleet.folder / "one" / FolderRepository(fleet.folder / "one").snapshots("default")[-1].id
    if how == "away":
        replica.first.fail["fetch"] = GONE
    elif how == "other":
        table = copy / "tables" / "monitor.jsonl"
        table.write_text(table.read_text().replace("newer", "evil!"))
    else:
        (copy / "tables" / "monitor.jsonl").unlink()
    assert follow(replica.instance).position == Position(1, 2)
    assert not config_differences(leader.db, replica.db)


def test_where_no_copy_can_be_used_the_rows_stay(
    fleet: TwoRepositories, leader: Member, replica: Member
) -> None:
    leader.publish("newer")
    published_dump.forget(replica.instance.state.folder)
    for name in ("one", "two"):
        folder = fleet.folder / name
        copy = folder / FolderRepository(folder).snapshots("default")[-1].id
        (copy / "tables" / "monitor.jsonl").write_text("[]\n")
    before = replica.db.read_bytes()
    with pytest.raises(SnapshotRefused):
        follow(replica.instance)
    assert replica.db.read_bytes() == before


def test_housekeeping_keeps_both_in_order(fleet: TwoRepositories, leader: Member) -> None:
    care = Care(Keep(2, 0, 0, 0, 0), 3)
    for number in range(3):
        leader.publish(f"name {number}")
    leader.reaches(second=False)
    leader.publish("first only")
    with pytest.raises(RepositoryUnreachable):
        run_now(leader.instance, "housekeeping", housekeeping.steps(leader.instance, care))
    assert (fleet.there("one"), len(fleet.there("two"))) == (["1.4", "1.5"], 4)
    leader.reaches()
    # before the second has caught up its own newest is 1.4
    run_now(leader.instance, "housekeeping", housekeeping.steps(leader.instance, care))
    assert fleet.there("two") == ["1.4"]
    lead(leader.instance)
    assert fleet.there("two") == ["1.4", "1.5"]
    assert [each.name for each in leader.instance.state.load().upkeep.repositories] == [
        "repository",
        "repository 2",
    ]


def test_one_that_does_not_come_back_in_time_is_away(
    fleet: TwoRepositories, leader: Member
) -> None:
    go = threading.Event()
    side = fleet.side("leader")
    assert isinstance(side.instance.repository, Pair)
    side.instance.repository._patience = 0.2

    def late() -> None:
        go.wait(20)

    side.second.before["snapshots"] = late
    try:
        found = side.instance.repository.snapshots("default")
    finally:
        go.set()
    assert [str(s.position) for s in found] == ["1.1"]
    assert found.unanswered == "repository 2"
    error = found.away["repository 2"]
    assert "no answer within 0.2 s" in str(error)
    assert error.hint == (
        "Check REPLICATOR_REPOSITORY_2, the network and the credentials. Try: replicator doctor"
    )
