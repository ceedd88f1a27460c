"""A person's word that monitors may go: how long it holds, and what it does not cover."""

from __future__ import annotations

from dataclasses import replace

import pytest

from replicator_kuma.adapters.repository import Position
from replicator_kuma.base.errors import (
    CacheFull,
    Fenced,
    Interrupted,
    MachineError,
    ReplicatorError,
    RepositoryUnreachable,
    ShrinkRefused,
)
from replicator_kuma.replication import published_dump
from replicator_kuma.replication.instance import Instance, Outcome
from tests.support import cycles, databases
from tests.support.cycles import (
    add_monitor,
    count,
    db,
    follow,
    go_back,
    lead,
    name_of,
    positions,
    publish,
    rename,
    roll_back_to,
    step,
    take_over,
)
from tests.support.folder_repository import FolderRepository
from tests.support.states import edit_state


def rebuild(instance: Instance) -> None:
    """All twelve monitors deleted, and as many made anew."""
    for number in range(1, 13):
        cycles.delete_monitor(db(instance), number)
        add_monitor(db(instance), number + 300)


def damage(repository: FolderRepository) -> None:
    newest = repository.snapshots("default")[-1]
    (repository.folder / newest.id / "tables" / "tag.jsonl").write_text("[]\n")


def fenced_in_a_rollback(leader: Instance, replica: Instance, repository: FolderRepository) -> None:
    """1.2 is published; while the leader goes back to 1.1 the replica is promoted."""
    step(leader, replica, "two")

    def promoted() -> None:
        take_over(replica)

    repository.before["publish"] = promoted
    with pytest.raises(Fenced):
        roll_back_to(leader, "1.1")


def test_a_leader_that_was_fenced_in_a_rollback_and_follows_forgets_it(
    leader: Instance, replica: Instance, repository: FolderRepository
) -> None:
    """Else an undo took the rows for those of 1.1, and the next drift for a reason to go there."""
    fenced_in_a_rollback(leader, replica, repository)
    for number, name in enumerate(("three", "four", "five")):
        add_monitor(db(replica), 200 + number)
        step(replica, leader, name)
    assert "those of 2.3" in go_back(leader).sentence
    rename(db(leader), 5, "somebody was here")
    follow(leader, reconcile=True)
    assert (name_of(db(leader), 3), count(db(leader), "monitor")) == ("four", 14)


def test_so_does_one_whose_rows_equal_the_newest_already(
    leader: Instance, replica: Instance, repository: FolderRepository
) -> None:
    fenced_in_a_rollback(leader, replica, repository)
    assert leader.state.load().leading.rollback_applied is not None
    publish(replica, name_of(db(leader), 3))
    assert follow(leader, reconcile=True).outcome is Outcome.NOTHING
    state = leader.state.load()
    assert (state.leading.rollback_begun, state.leading.rollback_applied) == (None, None)


def cut_rollback(leader: Instance, repository: FolderRepository) -> None:
    """Sixteen monitors more are published; going back to before them is not."""
    for number in range(101, 117):
        add_monitor(db(leader), number)
    lead(leader)
    repository.fail["publish"] = RepositoryUnreachable("no network")
    with pytest.raises(RepositoryUnreachable):
        roll_back_to(leader, "1.1")


def test_a_rebuild_after_a_rollback_that_was_cut_asks(
    leader: Instance, replica: Instance, repository: FolderRepository
) -> None:
    """Going back was meant, and takes sixteen monitors; others in the place of the rest not."""
    cut_rollback(leader, repository)
    rename(db(leader), 3, "edited since")
    rebuild(leader)
    with pytest.raises(ShrinkRefused, match=r"12 of 12 monitors are gone since 1\.1, with others"):
        lead(leader)
    lead(leader, allow_shrink=True)
    assert repository.snapshots("default")[-1].label.shrunk is not None


def test_what_went_by_such_a_rollback_is_counted_under_any_id_of_its_snapshot(
    leader: Instance, replica: Instance, repository: FolderRepository
) -> None:
    """A second repository that comes or goes gives it another."""
    cut_rollback(leader, repository)
    back = leader.state.load().leading.rollback_applied
    assert back is not None
    edit_state(leader.state, rollback_applied=replace(back, snapshot="0" * 64))
    cycles.delete_monitor(db(leader), 3)
    add_monitor(db(leader), 3)
    assert lead(leader).outcome is Outcome.PUBLISHED
    assert repository.snapshots("default")[-1].label.shrunk is not None


def test_a_rollback_to_the_newest_leaves_no_word_behind(
    leader: Instance, replica: Instance
) -> None:
    rename(db(leader), 3, "edited")
    roll_back_to(leader, "1.1", force=True)
    rebuild(leader)
    with pytest.raises(ShrinkRefused):
        lead(leader)


@pytest.mark.parametrize(
    "error",
    [
        Interrupted("stopped by a signal"),
        RepositoryUnreachable("no network"),
        CacheFull("no room"),
        MachineError("too many open files"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_may_go_by_publishes_nothing_uncounted_and_burns_no_position(
    leader: Instance, replica: Instance, repository: FolderRepository, error: ReplicatorError
) -> None:
    rebuild(leader)
    published_dump.forget(leader.state.folder)
    repository.fail["fetch"] = error
    with pytest.raises(type(error)):
        lead(leader)
    state = leader.state.load()
    assert (state.leading.publishing, state.leading.burned) == (None, None)
    with pytest.raises(ShrinkRefused):
        lead(leader)
    assert positions(repository) == ["1.1"]


def test_a_person_s_word_holds_where_the_snapshot_before_cannot_be_fetched(
    leader: Instance, replica: Instance, repository: FolderRepository
) -> None:
    rebuild(leader)
    published_dump.forget(leader.state.folder)
    repository.fail["fetch"] = RepositoryUnreachable("a pack that never comes")
    assert lead(leader, allow_shrink=True).position == Position(1, 2)
    assert follow(replica).outcome is Outcome.APPLIED


@pytest.mark.parametrize("how", ["backup --allow-shrink", "promote --force"])
def test_a_person_s_word_holds_behind_a_damaged_snapshot(
    leader: Instance, replica: Instance, repository: FolderRepository, how: str
) -> None:
    damage(repository)
    rebuild(leader)
    if how == "promote --force":
        edit_state(leader.state, fenced="there has published position 1.2")
        result = take_over(leader, force=True)
    else:
        result = lead(leader, allow_shrink=True)
    assert repository.snapshots("default")[-1].label.shrunk == result.position
    assert follow(replica).outcome is Outcome.APPLIED


def test_a_word_that_is_said_too_early_is_said_to_be_lost(
    leader: Instance, replica: Instance
) -> None:
    """Kuma is stopped: what an undo wrote is not published before it has confirmed it."""
    for number in range(101, 117):
        add_monitor(db(leader), number)
    lead(leader)
    databases.edit(db(leader), "DELETE FROM monitor WHERE id > 100")
    lead(leader, allow_shrink=True)
    roll_back_to(leader, "1.2")
    leader.kuma.up = False  # type: ignore[attr-defined]
    go_back(leader, hold=False)
    assert lead(leader).outcome is Outcome.WAITING
    early = lead(leader, allow_shrink=True)
    assert early.outcome is Outcome.WAITING
    assert "--allow-shrink is to be said again" in early.sentence
    leader.kuma.up = True  # type: ignore[attr-defined]
    with pytest.raises(ShrinkRefused):
        lead(leader)
    assert lead(leader, allow_shrink=True).outcome is Outcome.PUBLISHED
