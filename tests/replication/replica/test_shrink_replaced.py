"""Monitors with others in their place are gone too: the leader asks, before its replicas do."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from replicator_kuma.adapters.repository import Position
from replicator_kuma.base.errors import ShrinkRefused
from replicator_kuma.replication import published_dump
from replicator_kuma.replication.actions import Backup
from replicator_kuma.replication.instance import Instance, Outcome, Run
from replicator_kuma.replication.runner import run
from replicator_kuma.replication.shrink import Limit
from tests.support import cycles, databases
from tests.support.compare import config_differences
from tests.support.cycles import add_monitor, db, follow, lead, positions, rename, take_over
from tests.support.folder_repository import FolderRepository
from tests.support.instances import RecordingKuma
from tests.support.states import edit_state


def rebuild(instance: Instance, *, same_ids: bool) -> None:
    """All monitors deleted, and as many made anew, as an import does."""
    for number in range(1, 13):
        cycles.delete_monitor(db(instance), number)
        add_monitor(db(instance), number if same_ids else number + 100)


@pytest.mark.parametrize("same_ids", [False, True])
def test_a_rebuild_of_as_many_asks_once_on_the_leader_and_no_replica_again(
    leader: Instance, replica: Instance, repository: FolderRepository, same_ids: bool
) -> None:
    rebuild(leader, same_ids=same_ids)
    for _ in range(2):
        with pytest.raises(ShrinkRefused, match=r"12 of 12 monitors are gone since 1\.1, with oth"):
            run(leader, "BACKUP", Backup().run, Run())
    assert positions(repository) == ["1.1"]
    assert len([t for t in leader.notifier.sent if "12 of 12" in t]) == 1  # type: ignore[attr-defined]
    assert lead(leader, allow_shrink=True).position == Position(1, 2)
    assert repository.snapshots("default")[-1].label.shrunk == Position(1, 2)
    assert follow(replica).outcome is Outcome.APPLIED
    assert config_differences(db(leader), db(replica)) == []


def test_both_sides_count_the_same(leader: Instance, replica: Instance) -> None:
    """Five of twelve are less than half: neither asks. Six are half: the leader does."""
    for number in range(1, 6):
        cycles.delete_monitor(db(leader), number)
        add_monitor(db(leader), number + 100)
    lead(leader)
    assert follow(replica).outcome is Outcome.APPLIED
    for number in range(6, 12):
        cycles.delete_monitor(db(leader), number)
        add_monitor(db(leader), number + 100)
    with pytest.raises(ShrinkRefused, match=r"6 of 12 monitors are gone since 1\.2"):
        lead(leader)


def test_an_edit_of_every_monitor_takes_none(leader: Instance, replica: Instance) -> None:
    databases.edit(db(leader), "UPDATE monitor SET name = name || ' edited', interval = 61")
    add_monitor(db(leader), 101)
    assert lead(leader).position == Position(1, 2)
    assert follow(replica).outcome is Outcome.APPLIED


def test_nobody_is_asked_where_the_limit_is_off_or_the_fleet_small(leader: Instance) -> None:
    lead(leader)
    leader.shrink_limit = Limit(None)
    rebuild(leader, same_ids=False)
    assert lead(leader).position == Position(1, 2)
    leader.shrink_limit = Limit()
    for number in (101, 102, 103):
        cycles.delete_monitor(db(leader), number)
    lead(leader)
    for number in range(104, 113):
        cycles.delete_monitor(db(leader), number)
        add_monitor(db(leader), number + 100)
    assert lead(leader).position == Position(1, 4), "nine were there: less than ten"


def test_an_edit_does_not_wait_until_the_snapshot_before_is_fetched(
    leader: Instance, repository: FolderRepository
) -> None:
    """The same monitors as before: none can have another in its place."""
    lead(leader)
    rename(db(leader), 3, "two")
    add_monitor(db(leader), 101)
    repository.calls.clear()
    published_dump.forget(leader.state.folder)
    assert "1 monitor added, 1 changed" in lead(leader).sentence
    assert repository.calls == ["snapshots", "publish", "snapshots", "fetch"]


def another_in_its_place(leader: Instance) -> None:
    cycles.delete_monitor(db(leader), 3)
    add_monitor(db(leader), 3)


def one_less(leader: Instance) -> None:
    cycles.delete_monitor(db(leader), 3)


def one_more_in_between(leader: Instance) -> None:
    cycles.delete_monitor(db(leader), 3)
    lead(leader)
    add_monitor(db(leader), 3)


def forgotten(leader: Instance) -> None:
    edit_state(leader.state, identities=())
    rename(db(leader), 3, "two")


def published_by_another(leader: Instance) -> None:
    """By a promote that was taken back, say: what is remembered is of another snapshot."""
    digest, monitors = leader.state.load().leading.identities
    edit_state(leader.state, identities=(digest[::-1], monitors))
    rename(db(leader), 3, "two")


@pytest.mark.parametrize(
    "edit",
    [another_in_its_place, one_less, one_more_in_between, forgotten, published_by_another],
)
@pytest.mark.parametrize("kept", [True, False])
def test_the_snapshot_before_is_fetched_once_for_the_count_and_the_message(
    leader: Instance,
    repository: FolderRepository,
    edit: Callable[[Instance], None],
    kept: bool,
) -> None:
    """Where the dump that was published last is still here, it is not fetched at all."""
    lead(leader)
    edit(leader)
    repository.calls.clear()
    if not kept:
        published_dump.forget(leader.state.folder)
    assert "monitor" in lead(leader).sentence.partition("; now")[0]
    fetch = [] if kept else ["fetch"]
    assert repository.calls == ["snapshots", *fetch, "publish", "snapshots"]


def test_a_snapshot_before_that_is_damaged_does_not_stop_the_leader_and_the_log_says_so(
    leader: Instance, replica: Instance, repository: FolderRepository,
    caplog: pytest.LogCaptureFixture, kuma: RecordingKuma,
) -> None:  # fmt: skip
    """Replicas count for themselves."""
    newest = repository.snapshots("default")[-1]
    (repository.folder / newest.id / "tables" / "tag.jsonl").write_text("[]\n")
    published_dump.forget(leader.state.folder)
    rebuild(leader, same_ids=False)
    with caplog.at_level(logging.WARNING):
        assert lead(leader).position == Position(1, 2)
    assert "1.1 cannot be compared with" in caplog.text
    with pytest.raises(Exception, match="would take 12 of 12"):
        follow(replica)
    assert kuma.log == []


@pytest.mark.parametrize("replaced", [True, False])
def test_a_promote_of_the_leader_itself_asks_too(
    leader: Instance, replica: Instance, repository: FolderRepository, replaced: bool
) -> None:
    """It was fenced, its rival's snapshot is gone again, and so are its own monitors."""
    edit_state(leader.state, fenced="there has published position 1.2")
    if replaced:
        rebuild(leader, same_ids=False)
    else:
        databases.edit(db(leader), "DELETE FROM monitor WHERE id > 1")
    with pytest.raises(ShrinkRefused) as refused:
        take_over(leader)
    assert "promote --force" in refused.value.hint
    take_over(leader, force=True)
    assert repository.snapshots("default")[-1].label.shrunk == Position(2, 1)
    assert follow(replica).position == Position(2, 1)
