"""An instance whose disk was lost with all that it remembered, and whose rows Litestream restored.

What a memory becomes: rebuilt from the repository, or lost and harmless. What is lost and would do
harm, a hold, is refused (test_hold.py). The restore itself: tests/litestream/.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from replicator_kuma.base.errors import Fenced, HoldWouldNotLast, NothingKept, ReplicatorError
from replicator_kuma.base.times import moment_of
from replicator_kuma.replication.instance import Instance, Outcome
from replicator_kuma.replication.replica.cycle import cycle as restore_cycle
from replicator_kuma.replication.state import transitions
from replicator_kuma.replication.state.records import Restored
from tests.support import cycles
from tests.support.cycles import LOGO, db, follow, go_back, hold_at, lead, name_of, rename
from tests.support.cycles import positions as listed
from tests.support.folder_repository import FolderRepository
from tests.support.instances import RecordingKuma

MADE = "2030-06-01T00:00:00Z"
NOW = moment_of(MADE)


def lost(before: Instance, database: Path, txid: int, at: float | None = None) -> Instance:
    """The instance on a new disk with only this database, restored up to a transaction."""
    kuma = RecordingKuma()
    folder = before.data_dir.with_name(f"{before.data_dir.name}-again")
    folder.mkdir()
    shutil.copyfile(database, folder / "kuma.db")
    assert isinstance(before.repository, FolderRepository)
    made = cycles.instance(folder, before.repository, name=before.name, kuma=kuma)
    made.leads, made.forgetful = before.leads, True
    made.state.prepare()
    restored = Restored(txid, time.time() if at is None else at)
    made.state.change(transitions.history_restored, restored)
    return made


def counting(leader: Instance, txid: int) -> None:
    """Litestream's count, from now on."""
    leader.committed = lambda: txid


@pytest.fixture
def led(leader: Instance) -> Instance:
    """A leader that has published 1.1, all of whose rows are in the transactions up to 100."""
    leader.leads = True
    counting(leader, 100)
    lead(leader)
    return leader


def test_a_snapshot_tells_which_transactions_it_covers(
    led: Instance, repository: FolderRepository
) -> None:
    assert [s.label.history for s in repository.snapshots("default")] == [100]


def test_equal_rows_are_no_news_and_the_logos_come_from_the_snapshot(
    led: Instance, repository: FolderRepository
) -> None:
    again = lost(led, db(led), 107)
    result = lead(again)
    assert result.outcome is Outcome.NOTHING
    assert (again.data_dir / "upload" / "logo2.png").read_bytes() == LOGO
    assert listed(repository) == ["1.1"]
    # writer, position: as before
    before, after = led.state.load(), again.state.load()
    assert after.writer == before.writer
    assert after.leading.published == before.leading.published
    assert after.live.restored is None
    rename(db(again), 1, "goes on")
    assert lead(again).outcome is Outcome.PUBLISHED
    assert listed(repository) == ["1.1", "1.2"]


def test_rows_that_are_newer_than_the_newest_snapshot_are_published(
    led: Instance, repository: FolderRepository
) -> None:
    rename(db(led), 1, "edited, streamed, never published")
    again = lost(led, db(led), 101)
    assert lead(again).outcome is Outcome.PUBLISHED
    assert name_of(db(again), 1) == "edited, streamed, never published"
    # with the logo that came from the snapshot before: nothing is missing in the new one
    assert repository.snapshots("default")[-1].label.history == 0
    assert (again.data_dir / "upload" / "logo2.png").read_bytes() == LOGO


def test_rows_that_are_older_than_the_newest_snapshot_are_replaced_by_it(
    led: Instance, repository: FolderRepository
) -> None:
    older = cycles.copy_of(db(led))
    rename(db(led), 1, "published, and lost in the stream")
    counting(led, 120)
    lead(led)
    again = lost(led, older, 119)
    result = lead(again)
    assert result.outcome is Outcome.APPLIED
    assert name_of(db(again), 1) == "published, and lost in the stream"
    assert again.state.load().live.restored is None
    assert listed(repository) == ["1.1", "1.2"]
    assert lead(again).outcome is Outcome.NOTHING


@pytest.mark.parametrize(("at", "name"), [(NOW - 5, "published"), (NOW + 5, "older")])
def test_without_a_count_the_time_decides(
    led: Instance, repository: FolderRepository, at: float, name: str
) -> None:
    """Litestream was away when the snapshot was made; or 0.3.0 made it."""
    rename(db(led), 1, "older")
    older = cycles.copy_of(db(led))
    rename(db(led), 1, "published")
    counting(led, 0)
    lead(led)
    repository.date("1.2", MADE)
    again = lost(led, older, 5, at)
    lead(again)
    assert name_of(db(again), 1) == name


def test_another_s_count_says_nothing(led: Instance, repository: FolderRepository) -> None:
    """Who was promoted meanwhile has counted its own transactions: this leader is fenced."""
    older = cycles.copy_of(db(led))
    other = cycles.another(led.data_dir.with_name("other"), led, repository)
    counting(other, 9000)
    cycles.follow(other, reconcile=True)
    cycles.take_over(other)
    again = lost(led, older, 500)
    rename(db(again), 1, "newer here")
    with pytest.raises(Fenced):
        lead(again)
    assert name_of(db(again), 1) == "newer here"


def test_without_the_repository_the_files_wait_and_nothing_is_published_without_them(
    led: Instance, repository: FolderRepository
) -> None:
    again = lost(led, db(led), 107)
    repository.fail["fetch"] = ReplicatorError("away")
    with pytest.raises(ReplicatorError, match="away"):
        lead(again)
    assert again.state.load().live.restored is not None
    assert lead(again).outcome is Outcome.NOTHING
    assert (again.data_dir / "upload" / "logo2.png").read_bytes() == LOGO


def test_a_replica_takes_the_newest_and_says_what_it_cannot_undo(
    leader: Instance, replica: Instance, repository: FolderRepository
) -> None:
    """Its position comes from the repository; its checkpoints are gone, and undo says so."""
    older = cycles.copy_of(db(replica))
    rename(db(leader), 1, "newer")
    lead(leader)
    follow(replica)
    again = lost(replica, older, 7)
    with again.state.lock():
        assert restore_cycle(again, reconcile=True).outcome is Outcome.APPLIED
    assert name_of(db(again), 1) == "newer"
    assert (again.data_dir / "upload" / "logo2.png").read_bytes() == LOGO
    state = again.state.load()
    assert str(state.following.applied and state.following.applied.position) == "1.2"
    assert state.live.restored is None
    shutil.rmtree(again.state.folder / "kept")
    again.forgetful = False
    with pytest.raises(NothingKept, match="there is no apply to undo"):
        go_back(again)


def test_a_replica_whose_rows_are_the_newest_knows_it_again(
    replica: Instance, repository: FolderRepository
) -> None:
    again = lost(replica, db(replica), 7)
    shutil.copytree(replica.data_dir / "upload", again.data_dir / "upload")
    assert follow(again, reconcile=True).outcome is Outcome.NOTHING
    assert again.state.load().following.applied == replica.state.load().following.applied


def test_an_unconfirmed_apply_is_whole_in_what_is_restored(
    leader: Instance, replica: Instance, repository: FolderRepository
) -> None:
    """A transaction is restored as a whole: there is nothing to complete, and nothing to drop."""
    rename(db(leader), 1, "newer")
    lead(leader)
    replica.wait_ready = lambda: (_ for _ in ()).throw(ReplicatorError("killed here"))
    with pytest.raises(ReplicatorError):
        follow(replica)
    assert replica.state.load().applying.pending is not None
    again = lost(replica, db(replica), 7)
    follow(again, reconcile=True)
    state = again.state.load()
    assert state.applying.pending is None
    assert str(state.following.applied and state.following.applied.position) == "1.2"


def test_a_bad_snapshot_costs_one_more_try_and_is_known_again(
    leader: Instance, replica: Instance, repository: FolderRepository
) -> None:
    older = cycles.copy_of(db(replica))
    rename(db(leader), 1, "bad")
    lead(leader)
    again = lost(replica, older, 7)
    kuma = again.kuma
    assert isinstance(kuma, RecordingKuma)
    kuma.refuses_to_be_ready = [True, False]
    with pytest.raises(ReplicatorError):
        follow(again)
    assert len(again.state.load().applying.bad) == 1
    stops = kuma.log.count("stop")
    with pytest.raises(ReplicatorError):
        follow(again)
    assert kuma.log.count("stop") == stops
    assert name_of(db(again), 1) != "bad"


def test_a_hold_that_a_lost_disk_would_end_is_refused(
    leader: Instance, replica: Instance, repository: FolderRepository
) -> None:
    rename(db(leader), 1, "newer")
    lead(leader)
    follow(replica)
    replica.forgetful = True
    with pytest.raises(HoldWouldNotLast, match="is lost with DATA_DIR"):
        hold_at(replica, "1.1")
    with pytest.raises(HoldWouldNotLast, match="is lost with DATA_DIR"):
        go_back(replica)
    assert replica.state.load().following.hold is None
    assert name_of(db(replica), 1) == "newer"
    # with a lasting state directory both work
    replica.forgetful = False
    go_back(replica)
    assert replica.state.load().following.hold is not None
