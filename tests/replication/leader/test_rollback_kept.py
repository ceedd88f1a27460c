"""What a leader calls the rows that an undo would put back: those of its newest position."""

from __future__ import annotations

import pytest

from replicator_kuma.base.errors import RepositoryUnreachable
from replicator_kuma.replication.apply import checkpoints
from replicator_kuma.replication.apply.checkpoints import Checkpoint
from replicator_kuma.replication.instance import Instance
from tests.support import databases
from tests.support.cycles import db, go_back, lead, publish, rename, roll_back_to, step, take_over
from tests.support.folder_repository import FolderRepository


def newest_kept(instance: Instance) -> Checkpoint:
    return checkpoints.readable(instance.state.folder)[-1]


@pytest.fixture
def ahead(leader: Instance) -> Instance:
    """A leader at 1.3."""
    lead(leader)
    for name in ("two", "three"):
        publish(leader, name)
    return leader


def test_the_rows_before_a_rollback_are_those_that_were_published_last(ahead: Instance) -> None:
    roll_back_to(ahead, "1.1")
    assert newest_kept(ahead).words == "1.3 → 1.1: 1 monitor changed"
    publish(ahead, "five")
    roll_back_to(ahead, "1.2")
    assert newest_kept(ahead).words == "1.5 → 1.2: 1 monitor changed"
    done = go_back(ahead, hold=False)
    assert "put the rows from before 1.2 back, those of 1.5, kept since" in done.sentence


def test_rows_that_were_never_published_are_called_by_what_they_came_from(ahead: Instance) -> None:
    rename(db(ahead), 3, "never published")
    roll_back_to(ahead, "1.1", force=True)
    assert newest_kept(ahead).words == "1.3 → 1.1: 1 monitor changed"


def test_rows_of_a_rollback_that_was_not_published_are_those_of_where_it_went(
    ahead: Instance, repository: FolderRepository
) -> None:
    repository.fail["publish"] = RepositoryUnreachable("no network")
    with pytest.raises(RepositoryUnreachable):
        roll_back_to(ahead, "1.1")
    roll_back_to(ahead, "1.2", force=True)
    assert newest_kept(ahead).words == "1.1 → 1.2: 1 monitor changed"


def test_an_empty_kuma_that_takes_back_was_at_no_position(ahead: Instance) -> None:
    roll_back_to(ahead, "1.1")
    lead(ahead)
    db(ahead).unlink()
    databases.create(db(ahead))
    lead(ahead)
    assert newest_kept(ahead).was is None


def test_a_leader_that_follows_now_had_what_it_published(
    leader: Instance, replica: Instance
) -> None:
    take_over(replica)
    step(replica, leader, "theirs")
    assert newest_kept(leader).words == "1.1 → 2.2: 1 monitor changed"
    step(replica, leader, "newer")
    assert newest_kept(leader).words == "2.2 → 2.3: 1 monitor changed"
