"""Where restic's cache has no room, older checkpoints make some."""

from __future__ import annotations

import pytest

from replicator_kuma.base.errors import CacheFull, MachineError
from replicator_kuma.replication import published_dump, runner
from replicator_kuma.replication.actions import Restore
from replicator_kuma.replication.apply import checkpoints
from replicator_kuma.replication.instance import Instance, Outcome, Run
from replicator_kuma.replication.state.records import Hold
from tests.support.cycles import db, name_of, publish, step
from tests.support.folder_repository import FolderRepository
from tests.support.states import edit_state


def numbers(instance: Instance) -> list[int]:
    return [one.number for one in checkpoints.readable(instance.state.folder)]


@pytest.fixture
def three(leader: Instance, replica: Instance) -> Instance:
    """A replica with three checkpoints, and a change on the leader that it has not seen."""
    for name in ("two", "three", "four"):
        step(leader, replica, name)
    publish(leader, "five")
    assert numbers(replica) == [1, 2, 3]
    published_dump.forget(replica.state.folder)  # it would go before them
    return replica


def full_until(repository: FolderRepository, call: str, instance: Instance, left: int) -> None:
    """The call fails as long as more than so many sets are kept."""

    def look() -> None:
        if len(numbers(instance)) > left:
            repository.before[call] = look
            raise CacheFull("Copy: write cache/index/tmp-1: no space left on device")

    repository.before[call] = look


@pytest.mark.parametrize("call", ["snapshots", "fetch"])
def test_the_oldest_sets_make_room_for_the_cycle(
    three: Instance, repository: FolderRepository, call: str
) -> None:
    full_until(repository, call, three, 1)
    result = runner.run(three, "RESTORE", Restore().run, Run())
    assert result.outcome is Outcome.APPLIED
    assert name_of(db(three), 3) == "five"
    assert numbers(three) == [3, 4]


def test_what_a_hold_has_yet_to_put_back_stays_and_the_error_is_told(
    three: Instance, repository: FolderRepository
) -> None:
    mark = three.state.load().following.applied
    edit_state(three.state, hold=Hold(1.0, mark, kept=2))
    full_until(repository, "snapshots", three, 0)
    with pytest.raises(CacheFull):
        runner.run(three, "RESTORE", Restore().run, Run())
    assert numbers(three) == [2]
    last = three.state.load().outcome.last
    assert last is not None
    assert (last.ok, last.error, last.exit_code) == (False, "CacheFull", 28)


def test_a_failure_of_another_kind_costs_no_set(
    three: Instance, repository: FolderRepository
) -> None:
    repository.fail["snapshots"] = MachineError("cannot start restic now")
    with pytest.raises(MachineError):
        runner.run(three, "RESTORE", Restore().run, Run())
    assert numbers(three) == [1, 2, 3]
