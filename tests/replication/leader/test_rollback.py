"""A leader goes back to an older snapshot, and its fleet with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from replicator_kuma.adapters.repository import Position
from replicator_kuma.base.errors import (
    Fenced,
    KumaError,
    RepositoryUnreachable,
    SnapshotNotFound,
    SnapshotRefused,
    Unpublished,
)
from replicator_kuma.base.times import moment_of
from replicator_kuma.replication.instance import Instance, Outcome
from tests.support import cycles, databases
from tests.support.compare import config_differences, damage, orphans
from tests.support.cycles import (
    db,
    follow,
    go_back,
    lead,
    left_behind,
    name_of,
    positions,
    rename,
    roll_back_to,
    step,
    take_over,
)
from tests.support.folder_repository import FolderRepository, dies_in
from tests.support.instances import RecordingKuma


@pytest.fixture
def ahead(leader: Instance, replica: Instance) -> Instance:
    """The leader at 1.3: eight of its twelve monitors went at 1.2, allowed; 1.3 renamed one."""
    databases.edit(db(leader), "DELETE FROM monitor WHERE id > 4")
    lead(leader, allow_shrink=True)
    step(leader, replica, "three")
    return leader


def test_the_wrong_monitors_come_back_for_the_whole_fleet(
    ahead: Instance, replica: Instance
) -> None:
    result = roll_back_to(ahead, "1.1")
    assert (result.outcome, result.position) == (Outcome.PUBLISHED, Position(1, 4))
    assert result.sentence.startswith("rolled back to 1.1: published 1.4: 8 monitors added")
    assert cycles.count(db(ahead), "monitor") == 12
    assert [*orphans(db(ahead)), *damage(db(ahead)), *left_behind(ahead)] == []
    assert follow(replica).position == Position(1, 4)
    assert config_differences(db(ahead), db(replica)) == []
    assert lead(ahead, verify=True).sentence == "nothing changed since 1.4"
    state = ahead.state.load()
    assert (state.leading.rollback_begun, state.following.applied) == (
        None,
        state.leading.published,
    )


def test_going_back_to_fewer_monitors_is_allowed_by_the_word_itself(
    ahead: Instance, replica: Instance
) -> None:
    """The mark travels: replicas follow without a word of their own."""
    roll_back_to(ahead, "1.1")
    follow(replica)
    result = roll_back_to(ahead, "1.2")
    assert result.position == Position(1, 5)
    newest = ahead.repository.snapshots("default")[-1]
    assert newest.label.shrunk == Position(1, 5)
    assert follow(replica).position == Position(1, 5)
    assert cycles.count(db(replica), "monitor") == 4


def test_replicas_follow_also_where_as_many_others_had_taken_their_place(
    leader: Instance, replica: Instance
) -> None:
    """Monitors that others replaced are gone too: the number is the same."""
    databases.edit(db(leader), "UPDATE monitor SET created_date = '2031-01-01 00:00:00'")
    lead(leader, allow_shrink=True)
    follow(replica)
    assert roll_back_to(leader, "1.1").position == Position(1, 3)
    assert follow(replica).outcome is Outcome.APPLIED
    assert config_differences(db(leader), db(replica)) == []


def test_an_undo_takes_it_back_and_the_next_cycle_publishes_that(
    ahead: Instance, replica: Instance
) -> None:
    roll_back_to(ahead, "1.1")
    go_back(ahead, hold=False)
    assert name_of(db(ahead), 3) == "three"
    assert lead(ahead, allow_shrink=True).position == Position(1, 5)
    assert follow(replica).position == Position(1, 5)
    assert name_of(db(replica), 3) == "three"


def test_what_was_never_published_needs_force_and_is_kept(ahead: Instance) -> None:
    rename(db(ahead), 2, "never published")
    with pytest.raises(Unpublished, match=r"changed since 1\.3"):
        roll_back_to(ahead, "1.1")
    assert (name_of(db(ahead), 2), ahead.state.load().leading.rollback_begun) == (
        "never published",
        None,
    )
    assert roll_back_to(ahead, "1.1", force=True).position == Position(1, 4)
    assert name_of(db(ahead), 2) != "never published"
    go_back(ahead, hold=False)
    assert name_of(db(ahead), 2) == "never published"


def test_to_the_newest_is_no_new_position(ahead: Instance, repository: FolderRepository) -> None:
    """With --force that is the way to drop what was not published."""
    rename(db(ahead), 3, "a slip")
    result = roll_back_to(ahead, "1.3", force=True)
    assert result.sentence.endswith("; it is the newest: nothing to publish")
    assert name_of(db(ahead), 3) == "three"
    assert positions(repository) == ["1.1", "1.2", "1.3"]


def test_by_time(ahead: Instance, repository: FolderRepository) -> None:
    assert roll_back_to(ahead, at=moment_of("2031-06-01")).sentence.startswith("the rows equal 1.3")
    with pytest.raises(SnapshotNotFound):
        roll_back_to(ahead, at=moment_of("2030-06-01"))


def test_a_fenced_leader_and_a_fleet_without_snapshots(
    ahead: Instance, replica: Instance, tmp_path: Path
) -> None:
    take_over(replica)
    with pytest.raises(Fenced):
        roll_back_to(ahead, "1.1")
    assert name_of(db(ahead), 3) == "three"
    assert ahead.state.load().leading.fenced is not None
    empty = FolderRepository(tmp_path / "empty")
    empty.init()
    cycles.fill(tmp_path / "other")
    with pytest.raises(SnapshotNotFound, match="no snapshot to go back to"):
        roll_back_to(cycles.instance(tmp_path / "other", empty, name="other"), "1.1")


def test_a_snapshot_that_cannot_be_taken_changes_nothing(
    ahead: Instance, repository: FolderRepository
) -> None:
    oldest = repository.snapshots("default")[0]
    with (repository.folder / oldest.id / "tables" / "tag.jsonl").open("a") as file:
        file.write("[]\n")
    with pytest.raises(SnapshotRefused):
        roll_back_to(ahead, "1.1")
    assert ahead.state.load().leading.rollback_begun is None
    assert lead(ahead, verify=True).outcome is Outcome.NOTHING


def test_a_kuma_that_does_not_start_on_the_old_rows(
    ahead: Instance, repository: FolderRepository
) -> None:
    assert isinstance(ahead.kuma, RecordingKuma)
    ahead.kuma.refuses_to_be_ready = [True]
    with pytest.raises(KumaError):
        roll_back_to(ahead, "1.1")
    assert (name_of(db(ahead), 3), ahead.state.load().leading.rollback_begun) == ("three", None)
    assert lead(ahead, verify=True).outcome is Outcome.NOTHING
    assert positions(repository) == ["1.1", "1.2", "1.3"]


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("call", ["read", "publish"])
def test_killed_on_the_way_the_next_cycle_ends_it(
    ahead: Instance, replica: Instance, repository: FolderRepository, call: str, moment: str
) -> None:
    """Also where monitors went by it: nobody has to say that twice."""
    roll_back_to(ahead, "1.1")
    follow(replica)
    dies_in(repository, moment, call, lambda: roll_back_to(ahead, "1.2"))
    result = lead(ahead)
    newest = repository.snapshots("default")[-1]
    if call == "read":
        assert (result.outcome, cycles.count(db(ahead), "monitor")) == (Outcome.NOTHING, 12)
    else:
        assert cycles.count(db(ahead), "monitor") == 4
        assert newest.label.monitors == 4
        assert newest.label.shrunk == newest.position
        assert lead(ahead, verify=True).outcome is Outcome.NOTHING
        assert follow(replica).position == newest.position
    assert len(positions(repository)) == len(set(positions(repository)))


def test_a_publish_that_failed_is_made_up_for(
    ahead: Instance, replica: Instance, repository: FolderRepository
) -> None:
    roll_back_to(ahead, "1.1")
    repository.fail["publish"] = RepositoryUnreachable("no network")
    with pytest.raises(RepositoryUnreachable):
        roll_back_to(ahead, "1.2")
    assert ahead.state.load().leading.rollback_begun == Position(1, 2)
    assert lead(ahead).position == Position(1, 6)
    assert ahead.state.load().leading.rollback_begun is None
