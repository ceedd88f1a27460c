"""A rollback that Kuma has not confirmed, and one that ends between its rows and its publish."""

from __future__ import annotations

import os

import pytest

from replicator_kuma.adapters.repository import Position
from replicator_kuma.base.errors import KumaError, RepositoryUnreachable, ShrinkRefused
from replicator_kuma.replication.instance import Instance, Outcome
from replicator_kuma.replication.state.records import SnapshotRef
from tests.support import cycles, databases
from tests.support.cycles import (
    count,
    db,
    follow,
    go_back,
    lead,
    left_behind,
    name_of,
    positions,
    rename,
    roll_back_to,
)
from tests.support.folder_repository import FolderRepository
from tests.support.forked import DIED, forked
from tests.support.instances import RecordingKuma
from tests.support.states import edit_state


def kuma_of(instance: Instance) -> RecordingKuma:
    assert isinstance(instance.kuma, RecordingKuma)
    return instance.kuma


@pytest.fixture
def grown(leader: Instance, replica: Instance) -> Instance:
    """A leader at 1.2 with sixteen monitors more than at 1.1, and a replica that follows."""
    for number in range(101, 117):
        cycles.add_monitor(db(leader), number)
    lead(leader)
    follow(replica)
    return leader


def die(leader: Instance, how: str) -> None:
    """A rollback to 1.1 that is killed: before its rows are confirmed, or before its publish."""

    def dies() -> None:
        if how == "unconfirmed":
            kuma_of(leader).on_start = lambda: os._exit(DIED)
        else:
            leader.repository.before["publish"] = lambda: os._exit(DIED)  # type: ignore[attr-defined]
        roll_back_to(leader, "1.1")

    assert forked(dies) == DIED


# --- Kuma stopped by hand ---------------------------------------------------------------------


def test_with_kuma_stopped_nothing_is_published_before_it_has_confirmed_the_rows(
    grown: Instance, replica: Instance, repository: FolderRepository
) -> None:
    kuma_of(grown).up = False
    done = roll_back_to(grown, "1.1")
    assert done.outcome is Outcome.APPLIED
    assert done.sentence.endswith(
        "; Kuma has not confirmed these rows: the first cycle once it runs publishes them"
    )
    for _ in range(2):
        waits = lead(grown)
        assert (waits.outcome, "Kuma has not confirmed" in waits.sentence) == (
            Outcome.WAITING,
            True,
        )
    assert (positions(repository), count(db(grown), "monitor")) == (["1.1", "1.2"], 12)
    kuma_of(grown).up = True
    assert lead(grown).position == Position(1, 3), "also where monitors go by it"
    assert repository.snapshots("default")[-1].label.shrunk == Position(1, 3)
    assert follow(replica).position == Position(1, 3)
    assert left_behind(grown) == []


def test_rows_on_which_kuma_does_not_start_then_are_never_published(
    grown: Instance, replica: Instance, repository: FolderRepository
) -> None:
    kuma_of(grown).up = False
    roll_back_to(grown, "1.1")
    kuma_of(grown).up = True
    kuma_of(grown).refuses_to_be_ready = [True]
    with pytest.raises(KumaError, match="it runs on the rows from before"):
        lead(grown)
    state = grown.state.load()
    assert (state.leading.rollback_begun, state.leading.rollback_applied) == (None, None)
    assert lead(grown, verify=True).outcome is Outcome.NOTHING
    assert (positions(repository), count(db(grown), "monitor")) == (["1.1", "1.2"], 28)


def test_an_undo_with_kuma_stopped_says_the_same(
    grown: Instance, repository: FolderRepository
) -> None:
    roll_back_to(grown, "1.1")
    kuma_of(grown).up = False
    done = go_back(grown, hold=False)
    assert done.sentence.endswith("the first cycle once it runs publishes them")
    assert lead(grown).outcome is Outcome.WAITING
    kuma_of(grown).up = True
    assert lead(grown).position == Position(1, 4)


# --- killed -----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["unconfirmed", "confirmed"])
def test_killed_and_edited_since_the_next_cycle_publishes_both(
    grown: Instance, replica: Instance, repository: FolderRepository, how: str
) -> None:
    die(grown, how)
    if how == "unconfirmed":  # the next process starts Kuma, and somebody is quick
        kuma_of(grown).on_start = lambda: rename(db(grown), 3, "edited")
        kuma_of(grown).up = False
    else:
        rename(db(grown), 3, "edited")
        cycles.delete_monitor(db(grown), 12)
    done = lead(grown)
    assert done.position is not None
    assert repository.snapshots("default")[-1].label.shrunk == done.position
    assert follow(replica).position == done.position
    assert name_of(db(replica), 3) == "edited"
    state = grown.state.load()
    assert (state.leading.rollback_begun, state.leading.rollback_applied) == (None, None)


@pytest.mark.parametrize("how", ["unconfirmed", "confirmed"])
def test_what_was_deleted_since_is_guarded_like_any_other(grown: Instance, how: str) -> None:
    """Six of the twelve that came back: the word for the sixteen was none for these."""
    die(grown, how)

    def delete() -> None:
        databases.edit(db(grown), "DELETE FROM monitor WHERE id < 7")

    if how == "unconfirmed":
        kuma_of(grown).on_start, kuma_of(grown).up = delete, False
    else:
        delete()
    with pytest.raises(ShrinkRefused):
        lead(grown)


def test_a_word_that_was_taken_back_allows_nothing_later(
    grown: Instance, repository: FolderRepository
) -> None:
    repository.fail["publish"] = RepositoryUnreachable("no network")
    with pytest.raises(RepositoryUnreachable):
        roll_back_to(grown, "1.1")
    assert grown.state.load().leading.rollback_applied is not None
    go_back(grown, hold=False)
    assert (grown.state.load().leading.rollback_applied, count(db(grown), "monitor")) == (None, 28)
    databases.edit(db(grown), "DELETE FROM monitor WHERE id > 100")
    with pytest.raises(ShrinkRefused):
        lead(grown)


def test_rows_that_came_back_by_hand_end_the_word_too(
    grown: Instance, repository: FolderRepository
) -> None:
    there = cycles.copy_of(db(grown)).read_bytes()
    repository.fail["publish"] = RepositoryUnreachable("no network")
    with pytest.raises(RepositoryUnreachable):
        roll_back_to(grown, "1.1")
    db(grown).write_bytes(there)
    lead(grown, verify=True)
    databases.edit(db(grown), "DELETE FROM monitor WHERE id > 100")
    with pytest.raises(ShrinkRefused):
        lead(grown)


def test_killed_before_a_row_was_written_it_allows_nothing(grown: Instance) -> None:
    def dies() -> None:
        kuma_of(grown).on_stop = lambda: os._exit(DIED)
        roll_back_to(grown, "1.1")

    assert forked(dies) == DIED
    databases.edit(db(grown), "DELETE FROM monitor WHERE id > 100")
    with pytest.raises(ShrinkRefused):
        lead(grown)


def test_a_word_of_which_nothing_is_left_ends_though_nobody_would_ask_the_repository(
    grown: Instance, repository: FolderRepository
) -> None:
    """As after a kill between the confirmation and the publish, with the rows put back by hand."""
    lead(grown)
    oldest = repository.snapshots("default")[0]
    edit_state(grown.state, rollback_applied=SnapshotRef.of(oldest), rollback_begun=oldest.position)
    assert lead(grown).outcome is Outcome.NOTHING
    assert (
        grown.state.load().leading.rollback_applied,
        grown.state.load().leading.rollback_begun,
    ) == (None, None)


def test_rows_that_were_there_already_are_meant_by_the_word_too(
    grown: Instance, replica: Instance, repository: FolderRepository
) -> None:
    databases.edit(db(grown), "DELETE FROM monitor WHERE id > 100")
    with pytest.raises(ShrinkRefused):
        lead(grown)
    repository.fail["publish"] = RepositoryUnreachable("no network")
    with pytest.raises(RepositoryUnreachable):
        roll_back_to(grown, "1.1", force=True)
    rename(db(grown), 3, "edited")
    assert lead(grown).position == Position(1, 4)
    assert follow(replica).outcome is Outcome.APPLIED
