"""From one leader to the next, and what the old one meets when it comes back."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from replicator_kuma.adapters.repository import Position
from replicator_kuma.base.errors import (
    DatabaseError,
    DatabaseUnset,
    Fenced,
    KumaError,
    RepositoryLost,
    RepositoryUnreachable,
    SnapshotNotFound,
    TwoLeaders,
)
from replicator_kuma.replication.instance import Instance, Outcome
from tests.support import cycles, databases
from tests.support.compare import config_differences
from tests.support.cycles import (
    db,
    follow,
    hold_at,
    lead,
    left_behind,
    positions,
    publish,
    rename,
    spoil_newest,
    step,
    take_over,
)
from tests.support.folder_repository import FolderRepository, dies_in
from tests.support.instances import RecordingKuma


def test_what_an_enemy_published_before_does_not_fail_the_publish(
    leader: Instance, repository: FolderRepository
) -> None:
    """It is read again only for the message."""
    lead(leader)
    (runtime,) = repository.folder.glob("*/runtime/monitor.jsonl")
    runtime.write_bytes(runtime.read_bytes() + b"[null]\n")
    rename(db(leader), 3, "two")
    result = take_over(leader, force=True)
    assert (result.outcome, result.changes) == (Outcome.PUBLISHED, None)


def empty(repository: FolderRepository) -> None:
    shutil.rmtree(repository.folder)
    repository.init()


def test_a_replica_takes_the_newest_rows_and_opens_the_next_epoch(
    leader: Instance, replica: Instance
) -> None:
    publish(leader, "the last edit")
    result = take_over(replica)
    assert (result.outcome, result.position) == (Outcome.PUBLISHED, Position(2, 1))
    assert "with the rows of 1.2" in result.sentence
    assert "set REPLICATOR_MODE=BACKUP here and restart `replicator run`, and" in result.sentence
    assert config_differences(db(replica), db(leader)) == []
    assert left_behind(replica) == []
    # as a leader it goes on, in whatever mode it is asked first
    assert lead(replica).sentence == "nothing changed since 2.1"
    assert follow(replica, reconcile=True).outcome is Outcome.NOTHING
    rename(db(replica), 3, "goes on")
    assert lead(replica).position == Position(2, 2)


def test_a_fenced_leader_may_be_promoted(leader: Instance, replica: Instance) -> None:
    take_over(replica)
    publish(replica, "the last edit")
    with pytest.raises(Fenced):
        lead(leader, verify=True)
    result = take_over(leader)
    assert result.position == Position(3, 1)
    assert config_differences(db(leader), db(replica)) == []
    assert lead(leader).sentence == "nothing changed since 3.1"
    with pytest.raises(Fenced, match=r"leader has published position 3\.1"):
        lead(replica, verify=True)


def test_twice_in_a_row_keeps_its_own_newer_rows(
    replica: Instance, repository: FolderRepository
) -> None:
    take_over(replica)
    rename(db(replica), 3, "not published yet")
    again = take_over(replica)
    assert (again.outcome, again.position) == (Outcome.NOTHING, Position(2, 1))
    assert "leads fleet 'default' already" in again.sentence
    assert take_over(replica, force=True).position == Position(3, 1)
    assert cycles.name_of(db(replica), 3) == "not published yet"
    assert positions(repository) == ["1.1", "2.1", "3.1"]


def test_an_emptied_repository_needs_force_and_goes_on_above(
    leader: Instance, replica: Instance, repository: FolderRepository
) -> None:
    empty(repository)
    for instance in (leader, replica):
        with pytest.raises(RepositoryLost):
            take_over(instance)
    assert positions(repository) == []
    assert take_over(leader, force=True).position == Position(2, 1)
    assert follow(replica).position == Position(2, 1)


def test_a_repository_that_went_back_needs_force(
    leader: Instance, replica: Instance, repository: FolderRepository
) -> None:
    """Else promote would take the rows back with it, silently."""
    step(leader, replica, "two")
    newest = repository.snapshots("default")[-1]
    (repository.folder / f"{newest.id}.json").unlink()
    with pytest.raises(RepositoryLost, match=r"newest snapshot is 1\.1, but 1\.2 was applied"):
        take_over(replica)
    assert take_over(replica, force=True).position == Position(2, 1)
    assert cycles.name_of(db(replica), 3) == "two"


def test_there_is_nothing_to_take_over_in_a_new_fleet(
    leader: Instance, repository: FolderRepository
) -> None:
    with pytest.raises(SnapshotNotFound, match="nothing to take over"):
        take_over(leader)
    assert positions(repository) == []


def test_an_instance_without_rows_leads_nobody(
    replica: Instance, repository: FolderRepository, tmp_path: Path
) -> None:
    other = cycles.instance(tmp_path / "other", repository, name="other")
    with pytest.raises(DatabaseError):
        take_over(other)
    databases.create(db(other))
    spoil_newest(repository)
    with pytest.raises(DatabaseUnset):
        take_over(other, force=True)
    assert positions(repository) == ["1.1"]


def test_a_kuma_that_does_not_start_on_the_newest_rows_leads_nobody(
    leader: Instance, replica: Instance, repository: FolderRepository, kuma: RecordingKuma
) -> None:
    publish(leader, "two")
    kuma.refuses_to_be_ready = [True]
    with pytest.raises(KumaError):
        take_over(replica)
    assert positions(repository) == ["1.1", "1.2"]


@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_in_the_publish_of_a_promote(
    replica: Instance, repository: FolderRepository, moment: str
) -> None:
    dies_in(repository, moment, "publish", lambda: take_over(replica))
    assert follow(replica).outcome is Outcome.NOTHING
    assert take_over(replica).position == Position(3, 1)
    assert lead(replica).sentence == "nothing changed since 3.1"
    assert len(positions(repository)) == len(set(positions(repository)))


def test_a_failed_promote_burns_its_epoch(replica: Instance, repository: FolderRepository) -> None:
    repository.fail["publish"] = RepositoryUnreachable("no network")
    with pytest.raises(RepositoryUnreachable):
        take_over(replica)
    assert take_over(replica).position == Position(3, 1)
    assert positions(repository) == ["1.1", "3.1"]


def test_an_apply_that_kuma_has_not_confirmed_is_not_taken_for_applied(
    leader: Instance, replica: Instance
) -> None:
    """A person had stopped Kuma: the rows of the take wait for it, and its repository breaks."""
    follow(replica)
    publish(leader, "three")
    kuma = replica.kuma
    assert isinstance(kuma, RecordingKuma)
    kuma.up = False
    repository = replica.repository
    assert isinstance(repository, FolderRepository)
    repository.fail["publish"] = RepositoryUnreachable("gone")
    with pytest.raises(RepositoryUnreachable):
        take_over(replica)
    state = replica.state.load()
    assert state.applying.pending is not None
    assert state.following.applied is not None
    assert state.following.applied.position == Position(1, 1)


# --- where two leaders have met ---------------------------------------------------------------


@pytest.fixture
def tie(leader: Instance, replica: Instance, repository: FolderRepository) -> tuple[str, str]:
    """Two snapshots at 1.2 with different rows: the leader's own, and a rival's. Their ids."""
    publish(leader, "of the leader")
    newest = repository.snapshots("default")[-1]
    rival = repository.snapshots("default")[0]
    label = dataclasses.replace(
        rival.label, position=newest.position, writer="rival", leader="there"
    )
    return newest.id, repository.add(repository.folder / rival.id, label)


def test_which_of_two_rows_are_the_fleet_s_a_person_says(
    replica: Instance, tie: tuple[str, str]
) -> None:
    before = cycles.name_of(db(replica), 3)
    with pytest.raises(TwoLeaders, match=r"2 snapshots with different rows are 1\.2") as refused:
        take_over(replica)
    assert "restore --now --snapshot ID" in refused.value.hint
    assert cycles.name_of(db(replica), 3) == before
    hold_at(replica, tie[0])
    assert "with the rows of 1.2" in take_over(replica).sentence
    assert cycles.name_of(db(replica), 3) == "of the leader"


def test_forced_it_leads_with_its_own_rows(replica: Instance, tie: tuple[str, str]) -> None:
    before = cycles.name_of(db(replica), 3)
    assert "with its own rows" in take_over(replica, force=True).sentence
    assert cycles.name_of(db(replica), 3) == before


def test_one_of_the_two_leads_with_what_it_published(
    leader: Instance, replica: Instance, tie: tuple[str, str]
) -> None:
    with pytest.raises(Fenced):
        lead(leader, verify=True)
    assert take_over(leader).position == Position(2, 1)
    assert cycles.name_of(db(leader), 3) == "of the leader"
    follow(replica)
    assert cycles.name_of(db(replica), 3) == "of the leader"


def test_in_an_epoch_of_two_writers_nobody_leads_until_the_next_one(
    leader: Instance, replica: Instance, repository: FolderRepository
) -> None:
    """The rival's snapshot came late, and is below; but the replicas follow neither."""
    publish(leader, "two")
    newest = repository.snapshots("default")[-1]
    label = dataclasses.replace(newest.label, position=Position(1, 1), writer="rival")
    repository.add(repository.folder / newest.id, label)
    with pytest.raises(TwoLeaders):
        follow(replica)
    assert take_over(leader).position == Position(2, 1)
    assert follow(replica).position == Position(2, 1)
