"""A replica that is told of a snapshot: it fetches beside its listing, and trusts the listing."""

from __future__ import annotations

import secrets
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from replicator_kuma.adapters.repository import Position, Snapshot
from replicator_kuma.adapters.repository.pair import Pair
from replicator_kuma.base.errors import RepositoryUnreachable, SnapshotRefused, TwoLeaders
from replicator_kuma.replication.instance import Hint, Instance, Outcome
from replicator_kuma.replication.replica import ahead
from tests.support.clock import Clocks
from tests.support.cycles import (
    db,
    follow,
    hold_at,
    left_behind,
    name_of,
    publish,
    rename,
    spoil_newest,
)
from tests.support.folder_repository import FolderRepository

UNKNOWN = "ab" * 32


def newest(repository: FolderRepository) -> Snapshot:
    """The newest snapshot; not counted as a call."""
    found = repository.snapshots("default")[-1]
    repository.calls.clear()
    return found


def hint_of(snapshot: Snapshot) -> Hint:
    return Hint(snapshot.position, snapshot.id)


def fetched_beside_the_listing(replica: Instance, repository: FolderRepository) -> None:
    """Each call waits for the other to begin: one after another, neither would go on."""
    hint, both = hint_of(newest(repository)), threading.Barrier(2, timeout=30)

    def meet() -> None:
        both.wait()

    repository.before |= {"snapshots": meet, "read": meet}
    result = follow(replica, hint=hint)
    assert (result.outcome, result.position) == (Outcome.APPLIED, hint.position)
    assert sorted(repository.calls) == ["read", "snapshots"]


def test_the_hinted_snapshot_is_fetched_while_restic_lists(
    leader: Instance, replica: Instance, repository: FolderRepository
) -> None:
    publish(leader, "new name")
    fetched_beside_the_listing(replica, repository)
    assert name_of(db(replica), 3) == "new name"
    assert left_behind(replica) == []


@pytest.mark.parametrize("what", ["unknown", "old", "another fleet's"])
def test_a_hint_that_lies_costs_one_fetch_in_a_minimum_time(
    leader: Instance,
    replica: Instance,
    repository: FolderRepository,
    what: str,
) -> None:
    old = newest(repository)
    folder = repository.folder / old.id
    foreign = repository.add(folder, replace(old.label, fleet="other", position=Position(9, 9)))
    publish(leader, "new name")
    named = {"unknown": UNKNOWN, "old": old.id, "another fleet's": foreign}[what]
    assert follow(replica, hint=Hint(Position(9, 9), named)).position == Position(1, 2)
    assert name_of(db(replica), 3) == "new name"
    repository.calls.clear()
    for _ in range(3):
        result = follow(replica, hint=Hint(Position(9, 9), secrets.token_hex(32)))
        assert (result.outcome, result.position) == (Outcome.NOTHING, Position(1, 2))
    assert repository.calls == ["snapshots"] * 3
    assert replica.hint_limit.free_at > 0
    replica.hint_limit.free_at = 0  # the time is over
    publish(leader, "newer name")
    fetched_beside_the_listing(replica, repository)


def test_a_hint_of_a_snapshot_that_is_no_longer_the_newest_is_no_lie(
    leader: Instance, replica: Instance, repository: FolderRepository
) -> None:
    publish(leader, "new name")
    late = hint_of(newest(repository))
    publish(leader, "newer name")
    assert follow(replica, hint=late).position == Position(1, 3)
    assert name_of(db(replica), 3) == "newer name"
    assert replica.hint_limit.free_at == 0


def test_a_hint_that_comes_twice_or_late_fetches_nothing(
    leader: Instance, replica: Instance, repository: FolderRepository
) -> None:
    publish(leader, "new name")
    hint = hint_of(newest(repository))
    follow(replica, hint=hint)
    repository.calls.clear()
    assert follow(replica, hint=hint).outcome is Outcome.NOTHING
    assert repository.calls == ["snapshots"]


def test_a_hint_from_a_second_writer_is_applied_by_nobody(
    leader: Instance, replica: Instance, repository: FolderRepository
) -> None:
    publish(leader, "new name")
    true = newest(repository)
    rival = replace(true.label, position=Position(1, 3), writer="rival", leader="rival")
    repository.add(repository.folder / true.id, rival)
    with pytest.raises(TwoLeaders):
        follow(replica, hint=hint_of(newest(repository)))
    assert name_of(db(replica), 3) != "new name"


def test_what_was_fetched_has_to_be_what_the_listed_tags_say(
    leader: Instance, replica: Instance, repository: FolderRepository
) -> None:
    publish(leader, "new name")
    spoil_newest(repository)
    with pytest.raises(SnapshotRefused):
        follow(replica, hint=hint_of(newest(repository)))
    assert name_of(db(replica), 3) != "new name"


def test_where_the_fetch_ahead_fails_the_usual_one_follows(
    leader: Instance, replica: Instance, repository: FolderRepository
) -> None:
    publish(leader, "new name")
    hint = hint_of(newest(repository))
    repository.fail["read"] = RepositoryUnreachable("cut")
    assert follow(replica, hint=hint).outcome is Outcome.APPLIED
    assert sorted(repository.calls) == ["read", "read", "snapshots"]


def test_a_listing_that_fails_ends_the_fetch(
    leader: Instance, replica: Instance, repository: FolderRepository
) -> None:
    publish(leader, "new name")
    hint = hint_of(newest(repository))
    repository.fail["snapshots"] = RepositoryUnreachable("cut")
    with pytest.raises(RepositoryUnreachable):
        follow(replica, hint=hint)
    assert name_of(db(replica), 3) != "new name"
    assert left_behind(replica) == []


def test_rows_that_change_after_they_were_read_ahead_are_not_overwritten_unseen(
    leader: Instance, replica: Instance, repository: FolderRepository
) -> None:
    publish(leader, "new name")
    hint = hint_of(newest(repository))
    repository.after["snapshots"] = lambda: rename(db(replica), 3, "typed here")
    assert follow(replica, hint=hint).outcome is Outcome.APPLIED
    assert name_of(db(replica), 3) == "new name"


@pytest.mark.parametrize(
    "why", ["held", "two repositories", "restarted a moment ago", "no database"]
)
def test_nothing_is_fetched_ahead_where_nothing_could_be_applied_at_once(
    leader: Instance,
    replica: Instance,
    repository: FolderRepository,
    why: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    publish(leader, "new name")
    if why == "held":
        hold_at(replica, "1.1")
    elif why == "two repositories":
        second = FolderRepository(tmp_path / "second", "repository 2")
        second.init()
        replica.repositories = (repository, second)
        replica.repository = replica.pair = Pair(repository, second, patience=5)
    elif why == "restarted a moment ago":
        replica.cooldown = Clocks().cooldown(3600.0)
        follow(replica)
        publish(leader, "newer name")
    else:
        replica.supervised = True
        db(replica).unlink()
    monkeypatch.setattr(ahead, "Ahead", lambda *_arguments: pytest.fail("it reads ahead"))
    follow(replica, hint=hint_of(newest(repository)))
