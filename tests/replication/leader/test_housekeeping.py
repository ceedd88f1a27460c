"""Housekeeping beside real cycles: what goes, what stays, what is told, and what nobody misses."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from replicator_kuma.adapters.repository import Position
from replicator_kuma.base.errors import Fenced, RepositoryDamaged, RepositoryUnreachable
from replicator_kuma.config.settings import Settings
from replicator_kuma.daemon.maintenance import Housekeeping, record_of, run_now
from replicator_kuma.replication.instance import Instance, Outcome
from replicator_kuma.replication.leader import housekeeping
from replicator_kuma.replication.leader.housekeeping import Done, steps
from replicator_kuma.replication.leader.promote import promote
from replicator_kuma.replication.leader.retention import Care, Keep
from tests.support import cycles
from tests.support.compare import config_differences
from tests.support.cycles import db, follow, lead, publish, rename
from tests.support.folder_repository import FolderRepository
from tests.support.instances import sent_by
from tests.support.states import edit_state

FEW = Care(Keep(2, 0, 0, 0, 0), 3)


def tidy(instance: Instance, care: Care = FEW, done: Done | None = None) -> str:
    return run_now(instance, housekeeping.NAME, steps(instance, care, done))


def there(repository: FolderRepository) -> list[int]:
    return [s.position.sequence for s in repository.snapshots("default")]


def sent(instance: Instance) -> list[str]:
    return [line for line in sent_by(instance) if line.startswith("housekeeping")]


def published(leader: Instance, count: int) -> None:
    for number in range(count):
        rename(db(leader), 1, f"name {number}")
        assert lead(leader).outcome is Outcome.PUBLISHED


def test_old_snapshots_go_and_everybody_goes_on(
    leader: Instance, replica: Instance, repository: FolderRepository
) -> None:
    published(leader, 2)  # the replica had 1.1 before
    assert follow(replica).position == Position(1, 3)
    published(leader, 3)
    done = Done()
    sentence = tidy(leader, done=done)
    assert there(repository) == [5, 6]
    assert sentence.startswith("4 snapshots removed, 2 stay, part 1 of 3 is whole, ")
    assert [str(s.position) for s in done.forgotten["repository"]] == ["1.1", "1.2", "1.3", "1.4"]
    # the one that it had applied is gone: nobody misses it
    assert follow(replica).position == Position(1, 6)
    assert not config_differences(db(leader), db(replica))
    assert lead(leader, verify=True).outcome is Outcome.NOTHING
    published(leader, 1)
    assert follow(replica).position == Position(1, 7)


def test_a_replica_promoted_after_it_fences_the_old_leader_as_before(
    leader: Instance, replica: Instance, repository: FolderRepository
) -> None:
    published(leader, 4)
    follow(replica)
    tidy(leader)
    with replica.state.lock():
        assert promote(replica).position == Position(2, 1)
    with pytest.raises(Fenced):
        lead(leader, verify=True)
    before = there(repository)
    with pytest.raises(Fenced):
        tidy(leader)
    assert there(repository) == before
    settings = replace(Settings.load({}), care=FEW)
    assert run_now(leader, housekeeping.NAME, Housekeeping().steps(leader, settings)).startswith(
        "nothing was done: "
    )
    # the new leader keeps the whole fleet in order, the old epoch too
    publish(replica, "led", 1)
    tidy(replica)
    assert [str(s.position) for s in repository.snapshots("default")] == ["2.1", "2.2"]


def test_a_leader_made_anew_knows_itself_after_it(
    leader: Instance, repository: FolderRepository
) -> None:
    """Its state is gone: it goes by its name and the newest snapshot, which never goes."""
    published(leader, 4)
    tidy(leader)
    leader.state.path.unlink()
    anew = cycles.instance(leader.data_dir, repository, name="leader")
    assert lead(anew).outcome is Outcome.NOTHING
    published(anew, 1)
    assert there(repository) == [3, 4, 5]


def test_snapshots_of_another_fleet_and_unread_ones_stay(
    leader: Instance, repository: FolderRepository, tmp_path: Path
) -> None:
    shutil.copytree(leader.data_dir, tmp_path / "other")
    other = cycles.instance(tmp_path / "other", repository, name="other")
    other.fleet = "blue"
    published(other, 3)
    (repository.folder / f"{'f' * 64}.json").write_text('{"tags": ["replicator-kuma"]}')
    published(leader, 4)
    tidy(leader)
    assert there(repository) == [3, 4]
    assert len(repository.snapshots("blue")) == 3
    assert (repository.folder / f"{'f' * 64}.json").exists()


def test_nothing_goes_before_a_publish_is_settled(
    leader: Instance, repository: FolderRepository
) -> None:
    published(leader, 4)
    rename(db(leader), 1, "more")
    repository.fail["publish"] = RepositoryUnreachable("in the middle")
    with pytest.raises(RepositoryUnreachable):
        lead(leader)
    edit_state(leader.state, publishing=leader.state.load().leading.published)
    assert "the next cycle has to note" in tidy(leader)
    assert there(repository) == [1, 2, 3, 4]


def test_an_append_only_repository_is_said_once_and_still_checked(
    leader: Instance, repository: FolderRepository
) -> None:
    published(leader, 4)
    repository.append_only = True
    for part in (1, 2):
        sentence = tidy(leader)
        assert sentence.startswith("4 snapshots stay: nothing may be removed there")
        assert f"check {part}/3" in repository.calls
    assert there(repository) == [1, 2, 3, 4]
    assert sent(leader) == [f"housekeeping: repository: {housekeeping.REFUSED}"]
    assert leader.state.load().upkeep.repositories[0].refused
    repository.append_only = False
    tidy(leader)
    assert there(repository) == [3, 4]
    assert not leader.state.load().upkeep.repositories[0].refused


def test_the_checked_part_goes_round(leader: Instance, repository: FolderRepository) -> None:
    published(leader, 1)
    for _ in range(4):
        tidy(leader)
    assert [c for c in repository.calls if c.startswith("check")] == [
        "check 1/3",
        "check 2/3",
        "check 3/3",
        "check 1/3",
    ]


def test_damage_is_told_noted_and_nothing_is_removed_until_it_is_mended(
    leader: Instance, repository: FolderRepository
) -> None:
    published(leader, 4)
    repository.damaged = True
    with pytest.raises(RepositoryDamaged) as caught:
        tidy(leader)
    assert caught.value.exit_code == 20
    assert "Nothing more is removed" in caught.value.hint
    assert [c for c in repository.calls if c != "snapshots"][-1] == "prune"
    noted = record_of(leader.state.load(), housekeeping.NAME)
    assert (noted.ok, noted.exit_code, noted.error) == (False, 20, "RepositoryDamaged")
    assert leader.state.load().upkeep.repositories[0].damaged == "a pack is gone"
    published(leader, 2)  # the leader itself goes on
    repository.calls.clear()
    with pytest.raises(RepositoryDamaged):
        tidy(leader)
    # the same part again: what was found must not be out of sight for a month
    assert [c for c in repository.calls if c != "snapshots"] == ["check 1/3"]
    assert housekeeping.plan(leader, FEW) == {"repository": []}
    assert len(sent(leader)) == 1
    repository.damaged = False
    tidy(leader)
    assert leader.state.load().upkeep.repositories[0].damaged == ""
    assert sent(leader)[1].startswith("housekeeping works again")
    assert "forget" not in repository.calls
    tidy(leader)
    assert there(repository) == [5, 6]


def test_a_plan_only_reads(leader: Instance, repository: FolderRepository) -> None:
    published(leader, 4)
    repository.calls.clear()
    found = housekeeping.plan(leader, FEW)
    assert [s.position.sequence for s in found["repository"]] == [1, 2]
    assert repository.calls == ["snapshots"]


def test_one_that_is_away_is_an_error_and_the_next_run_goes_on(
    leader: Instance, repository: FolderRepository
) -> None:
    published(leader, 4)
    for call in ("snapshots", "forget", "prune", "check 1/3", "size"):
        repository.fail[call] = RepositoryUnreachable(f"no {call}")
        with pytest.raises(RepositoryUnreachable, match=call):
            tidy(leader)
    assert tidy(leader)
    assert there(repository) == [3, 4]
