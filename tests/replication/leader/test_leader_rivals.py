"""Leaders that are not alone, or not who they were: fences, new containers, lost repositories."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from replicator_kuma.adapters.repository import Position
from replicator_kuma.base.errors import (
    Fenced,
    RepositoryLost,
    RepositoryUnreachable,
    SnapshotRefused,
)
from replicator_kuma.replication.actions import Backup
from replicator_kuma.replication.instance import Instance, Outcome, Run
from replicator_kuma.replication.runner import run
from tests.support import cycles
from tests.support.cycles import db, follow, hold_at, lead, positions, publish, rename, take_over
from tests.support.folder_repository import FolderRepository
from tests.support.states import edit_state


def rival_of(leader: Instance, repository: FolderRepository, **changes: object) -> None:
    """Another leader's snapshot: a copy of the newest, one position further."""
    newest = repository.snapshots("default")[-1]
    position = Position(newest.position.epoch, newest.position.sequence + 1)
    other = {"position": position, "writer": "rival", "leader": "there", **changes}
    repository.add(repository.folder / newest.id, dataclasses.replace(newest.label, **other))  # type: ignore[arg-type]


@pytest.mark.parametrize("changes", [{}, {"writer": None}], ids=["other name", "same writer"])
def test_a_rival_between_list_and_publish_fences(
    leader: Instance, repository: FolderRepository, changes: dict[str, object]
) -> None:
    """The same writer: two containers made anew from one name."""
    lead(leader)
    published = leader.state.load().leading.published
    rename(db(leader), 3, "new name")
    if "writer" in changes:
        changes = {"writer": leader.state.load().writer, "digest": "0" * 64}
    repository.before["publish"] = lambda: rival_of(leader, repository, **changes)
    with pytest.raises(Fenced, match=r"published 1\.2 at the same time"):
        lead(leader)
    state = leader.state.load()
    assert state.leading.fenced
    assert state.leading.published is not None
    assert published is not None
    with pytest.raises(Fenced):
        lead(leader)
    assert positions(repository) == ["1.1", "1.2", "1.2"]


def test_fenced_by_a_rival_its_memory_of_having_published_stays(
    leader: Instance, repository: FolderRepository
) -> None:
    """Else an emptied repository would look like one in which it never published."""
    lead(leader)
    rename(db(leader), 3, "new name")
    repository.before["publish"] = lambda: rival_of(leader, repository, position=Position(2, 1))
    repository.after["publish"] = lambda: _forget(repository, "1.2")
    with pytest.raises(Fenced):
        lead(leader)
    for path in repository.folder.glob("*.json"):
        path.unlink()
    with pytest.raises(RepositoryLost):
        lead(leader)


def _forget(repository: FolderRepository, position: str) -> None:
    for found in repository.snapshots("default"):
        if str(found.position) == position:
            (repository.folder / f"{found.id}.json").unlink()


def test_once_the_rival_is_gone_it_goes_on(leader: Instance, repository: FolderRepository) -> None:
    lead(leader)
    rival_of(leader, repository)
    with pytest.raises(Fenced):
        lead(leader, verify=True)
    _forget(repository, "1.2")
    assert lead(leader).sentence == "nothing changed since 1.1"
    assert leader.state.load().leading.fenced is None


def test_a_container_made_anew_goes_on(leader: Instance, repository: FolderRepository) -> None:
    lead(leader)
    shutil.rmtree(leader.state.name)
    anew = cycles.instance(leader.data_dir, repository, name="leader")
    assert lead(anew).sentence == "nothing changed since 1.1"
    rename(db(anew), 3, "new name")
    assert lead(anew).position == Position(1, 2)
    writers = {s.label.writer for s in repository.snapshots("default")}
    assert len(writers) == 1, "replicas take two writers in one epoch for two leaders"


def test_a_container_made_anew_whose_first_cycle_fails_goes_on(
    leader: Instance, repository: FolderRepository
) -> None:
    lead(leader)
    shutil.rmtree(leader.state.name)
    anew = cycles.instance(leader.data_dir, repository, name="leader")
    repository.fail["snapshots"] = RepositoryUnreachable("no network")
    with pytest.raises(RepositoryUnreachable):
        run(anew, "BACKUP", Backup().run, Run())
    assert anew.state.exists()
    assert run(anew, "BACKUP", Backup().run, Run()).sentence == "nothing changed since 1.1"


# --- a leader that has followed meanwhile -----------------------------------------------------


@pytest.fixture
def next_leader(tmp_path: Path, leader: Instance, repository: FolderRepository) -> Instance:
    """The leader of the second epoch; ``leader`` led the first."""
    lead(leader)
    shutil.copytree(leader.data_dir, tmp_path / "next", ignore=lambda *_: {"replicator"})
    made = cycles.instance(tmp_path / "next", repository, name="next")
    follow(made)
    take_over(made)
    return made


def _same_rows(leader: Instance, _next: Instance) -> None:
    for _ in range(2):
        follow(leader)


def _other_rows(leader: Instance, next_leader: Instance) -> None:
    publish(next_leader, "of the next leader")
    _same_rows(leader, next_leader)


def _an_older_one_restored_last(leader: Instance, _next: Instance) -> None:
    follow(leader)
    hold_at(leader, "1.1")


def _refused(leader: Instance, next_leader: Instance) -> None:
    newest = next_leader.repository.snapshots("default")[-1]
    edit_state(leader.state, bad=(newest.id,))
    with pytest.raises(SnapshotRefused):
        follow(leader)


@pytest.mark.parametrize(
    "meanwhile", [_same_rows, _other_rows, _an_older_one_restored_last, _refused]
)
def test_a_backup_is_fenced_where_another_was_followed_meanwhile(
    leader: Instance, next_leader: Instance, meanwhile: Callable[[Instance, Instance], None]
) -> None:
    meanwhile(leader, next_leader)
    with pytest.raises(Fenced, match=r"next has published position 2\.\d"):
        lead(leader)


def test_a_promoted_leader_asks_no_more_than_any_other(
    leader: Instance, next_leader: Instance, repository: FolderRepository
) -> None:
    follow(next_leader)  # its mode is not set yet
    repository.calls.clear()
    assert [lead(next_leader).outcome for _ in range(3)] == [Outcome.NOTHING] * 3
    assert repository.calls == ["snapshots"]


# --- what the model of positions found (tests/model/) -----------------------------------------


def test_a_fenced_leader_does_not_forget_what_it_had_meant_to_publish(
    leader: Instance, repository: FolderRepository
) -> None:
    """Else nothing but its name would be left to go by, and its rival has the same one."""

    def rival_and_no_network() -> None:
        newest = repository.snapshots("default")[-1]
        label = dataclasses.replace(newest.label, writer="rival", digest="0" * 64)
        repository.add(repository.folder / newest.id, label)
        repository.fail["snapshots"] = RepositoryUnreachable("no network")

    repository.after["publish"] = rival_and_no_network
    with pytest.raises(RepositoryUnreachable):
        lead(leader)
    rename(db(leader), 3, "goes on")
    for _ in range(3):
        with pytest.raises(Fenced):
            lead(leader)
    published = leader.state.load().leading.published
    assert published is not None, "its own snapshot is there: it knows it again"
    assert positions(repository) == ["1.1", "1.1"]


def test_a_fenced_leader_of_a_lost_state_stays_fenced_when_its_name_leads_again(
    leader: Instance, repository: FolderRepository
) -> None:
    lead(leader)
    rival_of(leader, repository)
    shutil.rmtree(leader.state.name)
    anew = cycles.instance(leader.data_dir, repository, name="leader")
    with pytest.raises(Fenced):
        lead(anew)
    newest = repository.snapshots("default")[-1]
    label = dataclasses.replace(newest.label, position=Position(2, 1), leader="leader")
    repository.add(repository.folder / newest.id, label)
    with pytest.raises(Fenced, match=r"2\.1"):
        lead(anew)


@pytest.fixture
def copy(leader: Instance, repository: FolderRepository, tmp_path: Path) -> Instance:
    """The leader's whole disk, state included, on a second machine."""
    lead(leader)
    shutil.copytree(leader.data_dir, tmp_path / "copy")
    made = cycles.instance(tmp_path / "copy", repository, name="leader")
    assert made.state.load().writer == leader.state.load().writer
    return made


def test_what_a_copy_s_failed_publish_may_have_left_is_not_what_the_first_published(
    leader: Instance, copy: Instance, repository: FolderRepository
) -> None:
    """Both have one writer id: the content tells them apart."""
    rename(db(copy), 3, "of the copy")
    for _ in range(2):
        repository.fail["publish"] = RepositoryUnreachable("no network")
        with pytest.raises(RepositoryUnreachable):
            lead(copy)
    rename(db(leader), 3, "of the first")
    assert lead(leader).position == Position(1, 2)
    for _ in range(2):
        with pytest.raises(Fenced, match=r"1\.2"):
            lead(copy)
    assert positions(repository) == ["1.1", "1.2"]
    assert lead(leader, verify=True).outcome is Outcome.NOTHING


def test_what_the_first_published_while_a_copy_publishes_is_no_failed_try_of_the_copy(
    leader: Instance, copy: Instance, repository: FolderRepository
) -> None:
    rename(db(copy), 3, "of the copy")
    repository.fail["publish"] = RepositoryUnreachable("no network")
    with pytest.raises(RepositoryUnreachable):
        lead(copy)
    rename(db(leader), 3, "of the first")

    def first_publishes() -> None:
        lead(leader)

    repository.before["publish"] = first_publishes
    with pytest.raises(Fenced, match=r"1\.2 at the same time"):
        lead(copy)
    with pytest.raises(Fenced):
        lead(copy)
