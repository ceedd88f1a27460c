"""What a replica follows, and what it refuses with the rows as they were and Kuma running."""

from __future__ import annotations

import dataclasses
import json
import shutil
import threading
from typing import Any

import pytest

from replicator_kuma.adapters.repository import Listing, Position, Snapshot
from replicator_kuma.base.errors import (
    DatabaseCorrupt,
    DatabaseMissing,
    RepositoryLost,
    RepositoryUnreachable,
    SchemaMismatch,
    SnapshotNotFound,
    SnapshotRefused,
    TwoLeaders,
)
from replicator_kuma.replication.apply import prepare
from replicator_kuma.replication.apply.prepare import Planned
from replicator_kuma.replication.instance import Instance, Outcome
from replicator_kuma.replication.replica.decide import newest_to_follow
from replicator_kuma.replication.snapshots import find
from replicator_kuma.replication.state.state import State
from tests.support import cycles, databases
from tests.support.compare import config_differences
from tests.support.cycles import (
    db,
    follow,
    hold_at,
    lead,
    left_behind,
    mark,
    name_of,
    publish,
    rename,
    snapshot,
    step,
)
from tests.support.folder_repository import FolderRepository
from tests.support.instances import RecordingKuma
from tests.support.states import state_with, with_fields


@pytest.mark.parametrize(
    ("applied", "listed", "error", "words"),
    [
        ((1, 2), [], RepositoryLost, r"holds no snapshot.*1\.2 was applied"),
        ((1, 2), [snapshot((1, 1))], RepositoryLost, r"newest snapshot is 1\.1, but 1\.2"),
        (
            (1, 1),
            [snapshot((1, 2)), snapshot((1, 3), writer="rival", leader="there")],
            TwoLeaders,
            r"epoch 1 has 2 writers \(here, there\)",
        ),
        (
            (1, 1),
            [snapshot((1, 2), name="a"), snapshot((1, 2), digest="d2", name="b")],
            TwoLeaders,
            r"2 snapshots are 1\.2",
        ),
    ],
)
def test_what_is_not_followed(
    applied: tuple[int, int], listed: list[Snapshot], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        newest_to_follow(state_with("w", applied=mark(applied)), "default", Listing(listed))


def test_what_is_followed() -> None:
    listed = Listing(
        [snapshot((1, 9), writer="a"), snapshot((1, 10), writer="b"), snapshot((2, 1))]
    )
    assert newest_to_follow(State("w"), "default", Listing()) is None
    followed = newest_to_follow(state_with("w", applied=mark((1, 10))), "default", listed)
    assert followed is listed[-1], "two writers in an epoch that has passed"


def test_an_unconfirmed_apply_is_no_reason_to_go_back() -> None:
    pending = dataclasses.replace(cycles.PENDING, mark=mark((1, 3)))
    state = state_with("w", applied=mark((1, 1)), pending=pending)
    with pytest.raises(RepositoryLost):
        newest_to_follow(state, "default", Listing([snapshot((1, 2))]))
    way_back = with_fields(state, pending=dataclasses.replace(pending, rollback=True))
    assert newest_to_follow(way_back, "default", Listing([snapshot((1, 2))]))


def test_a_snapshot_is_found_by_id_or_position() -> None:
    listed = Listing([snapshot((1, 1), name="abcd"), snapshot((1, 12), name="abef")])
    assert find(listed, "abc").id == "abcd"
    assert find(listed, "1.12").id == "abef"
    assert find(listed, "1.1").id == "abcd"
    with pytest.raises(SnapshotNotFound, match="more than one"):
        find(listed, "ab")
    with pytest.raises(SnapshotNotFound, match="no snapshot"):
        find(listed, "9.9")


def test_a_fleet_without_snapshot_is_waited_for(
    leader: Instance, repository: FolderRepository
) -> None:
    result = follow(leader)
    assert result.outcome is Outcome.WAITING
    assert "has no snapshot yet" in result.sentence
    assert repository.calls == ["snapshots"]


def test_an_idle_poll_is_one_call(
    replica: Instance, repository: FolderRepository, kuma: RecordingKuma
) -> None:
    for _ in range(3):
        assert follow(replica).sentence == "1.1 is applied; nothing newer"
    assert repository.calls == ["snapshots"] * 3
    assert follow(replica, reconcile=True).outcome is Outcome.NOTHING
    assert repository.calls == ["snapshots"] * 4
    assert kuma.log == []


def test_other_tables_than_before_are_compared_again(leader: Instance, replica: Instance) -> None:
    rename(db(replica), 3, "edited on the replica")
    replica.tables = replica.tables - {"incident"}
    assert follow(replica).outcome is Outcome.APPLIED
    assert cycles.name_of(db(replica), 3) == cycles.name_of(db(leader), 3)
    assert follow(replica).outcome is Outcome.NOTHING


def test_it_never_goes_back_by_itself(
    leader: Instance, replica: Instance, repository: FolderRepository, kuma: RecordingKuma
) -> None:
    step(leader, replica, "two")
    newest = repository.snapshots("default")[-1]
    (repository.folder / f"{newest.id}.json").unlink()
    kuma.log.clear()
    for reconcile in (False, True):
        with pytest.raises(RepositoryLost, match=r"newest snapshot is 1\.1, but 1\.2 was applied"):
            follow(replica, reconcile=reconcile)
    shutil.rmtree(repository.folder)
    repository.init()
    with pytest.raises(RepositoryLost, match="holds no snapshot"):
        follow(replica, reconcile=True)
    assert cycles.name_of(db(replica), 3) == "two"
    assert kuma.log == []


@pytest.mark.parametrize("by", ["position", "id"])
def test_a_person_may_go_to_any_snapshot(
    leader: Instance, replica: Instance, repository: FolderRepository, by: str
) -> None:
    first = repository.snapshots("default")[0]
    old = cycles.copy_of(db(leader))
    step(leader, replica, "two")
    wanted = first.id[:7] if by == "id" else "1.1"
    result = hold_at(replica, wanted)
    assert (result.outcome, result.position) == (Outcome.APPLIED, Position(1, 1))
    assert config_differences(db(replica), old) == []
    with pytest.raises(SnapshotNotFound):
        hold_at(replica, "7.7")


def test_another_schema_fetches_nothing(
    leader: Instance, replica: Instance, repository: FolderRepository, kuma: RecordingKuma
) -> None:
    before = cycles.copy_of(db(replica))
    databases.edit(
        db(leader),
        "INSERT INTO knex_migrations (name, batch) VALUES ('2099-01-01-0000-later.js', 9)",
        "ALTER TABLE monitor ADD COLUMN later TEXT",
        "UPDATE monitor SET name = 'x' WHERE id = 3",
    )
    lead(leader)
    repository.calls.clear()
    with pytest.raises(SchemaMismatch, match=r"1\.2 of leader has another schema"):
        follow(replica, reconcile=True)
    assert repository.calls == ["snapshots"]
    assert config_differences(db(replica), before) == []
    assert kuma.log == []


def test_tags_that_lie_are_refused(
    leader: Instance, replica: Instance, repository: FolderRepository, kuma: RecordingKuma
) -> None:
    publish(leader, "two")
    newest = repository.snapshots("default")[-1]
    note = repository.folder / f"{newest.id}.json"
    tags = dataclasses.replace(newest.label, digest="0" * 64).tags()
    note.write_text(json.dumps({"tags": tags, "time": "2031-01-01T00:00:00Z"}))
    with pytest.raises(SnapshotRefused, match="holds another dump than its tags say"):
        follow(replica)
    assert kuma.log == []
    assert left_behind(replica) == []


def test_an_unreachable_repository_stops_nothing(
    leader: Instance, replica: Instance, repository: FolderRepository, kuma: RecordingKuma
) -> None:
    publish(leader, "two")
    for call in ("snapshots", "read"):
        repository.fail[call] = RepositoryUnreachable("no network")
        with pytest.raises(RepositoryUnreachable):
            follow(replica)
    assert kuma.log == []
    assert follow(replica).outcome is Outcome.APPLIED


def test_no_database_and_a_migrating_one_are_waited_for(
    leader: Instance, replica: Instance, repository: FolderRepository
) -> None:
    publish(leader, "two")
    repository.calls.clear()
    databases.edit(db(replica), "UPDATE knex_migrations_lock SET is_locked = 1")
    result = follow(replica)
    assert result.outcome is Outcome.WAITING
    assert "migrating" in result.sentence
    db(replica).unlink()
    with pytest.raises(DatabaseMissing):
        follow(replica)  # a single command: its DATA_DIR may be mistyped
    replica.supervised = True
    result = follow(replica)
    assert result.outcome is Outcome.WAITING
    assert "Kuma has made no database here yet" in result.sentence
    assert not {"read", "fetch"}.intersection(repository.calls)
    databases.create(db(replica))
    assert follow(replica).outcome is Outcome.APPLIED
    assert config_differences(db(replica), db(leader)) == []


def test_a_check_that_ends_badly_after_the_plan_writes_nothing(
    leader: Instance, replica: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database is looked over while its rows are read and compared."""
    lead(leader)
    follow(replica)
    rename(db(leader), 1, "another")
    lead(leader)
    compared, real = threading.Event(), prepare.prepare

    def prepared(*arguments: Any, **options: Any) -> Planned:
        planned = real(*arguments, **options)
        compared.set()
        return planned

    def damaged(_tables: object = None) -> None:
        assert compared.wait(60)
        raise DatabaseCorrupt("page 7")

    with monkeypatch.context() as patch:
        patch.setattr(prepare, "prepare", prepared)
        patch.setattr(replica.store, "check", damaged)
        with pytest.raises(DatabaseCorrupt, match="page 7"):
            follow(replica)
    assert name_of(db(replica), 1) != "another"
    assert replica.state.load().applying.pending is None
    assert follow(replica).outcome is Outcome.APPLIED
    assert name_of(db(replica), 1) == "another"
