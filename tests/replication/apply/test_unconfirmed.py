"""An apply that Kuma has not been ready on yet: the way on, and the way back."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from replicator_kuma.adapters.repository import Position
from replicator_kuma.base.errors import DatabaseLocked, KumaError, SnapshotRefused
from replicator_kuma.replication.apply.recovery import resolve_before_start
from replicator_kuma.replication.instance import Instance, Outcome
from tests.support import cycles, databases
from tests.support.compare import assert_sound, config_differences
from tests.support.cycles import db, follow, lead, left_behind, publish, rename
from tests.support.effects import at_effect, raising
from tests.support.fleet import change
from tests.support.folder_repository import FolderRepository
from tests.support.instances import RecordingKuma


def logo(instance: Instance) -> bytes:
    return (instance.data_dir / "upload" / "logo2.png").read_bytes()


@pytest.fixture
def edited(leader: Instance, replica: Instance) -> Path:
    """A published change of every kind; returns the replica's database as it is before it.

    Monitor 4 goes, 5 is another one of the same id, 77 is new; so is the logo.
    """
    change(leader.data_dir)
    lead(leader)
    return cycles.copy_of(db(replica), "before.db")


def beats(instance: Instance, monitor: int) -> int:
    return cycles.count(db(instance), "heartbeat", f"monitor_id = {monitor}")


def assert_as_before(replica: Instance, before: Path) -> None:
    assert config_differences(db(replica), before) == []
    assert_sound(db(replica), before)
    assert logo(replica) == cycles.LOGO
    for table in ("heartbeat", "stat_hourly", "monitor_tls_info"):
        assert cycles.count(db(replica), table) == cycles.count(before, table)


def assert_followed(replica: Instance, leader: Instance, before: Path) -> None:
    assert config_differences(db(replica), db(leader)) == []
    assert_sound(db(replica), before)
    assert logo(replica) == b"another logo"
    assert [beats(replica, 4), beats(replica, 5), beats(replica, -5)] == [0, 0, 0]
    assert left_behind(replica) == []


def test_history_goes_once_kuma_is_ready_and_not_before(
    leader: Instance, replica: Instance, kuma: RecordingKuma, edited: Path
) -> None:
    seen: list[tuple[int, int, int]] = []
    kuma.on_start = lambda: seen.append((beats(replica, 4), beats(replica, 5), beats(replica, -5)))
    assert follow(replica).outcome is Outcome.APPLIED
    assert seen == [(2, 0, 2)], "a monitor that is another one has no history from the start"
    assert_followed(replica, leader, edited)


def test_a_kuma_that_fails_gets_the_old_rows_back(
    replica: Instance, kuma: RecordingKuma, edited: Path
) -> None:
    kuma.refuses_to_be_ready = [True]

    def beats_on_new_rows() -> None:
        kuma.on_start = None
        for monitor in (5, 77):
            databases.edit(db(replica), ("INSERT INTO heartbeat (monitor_id, status, time) "
                           "VALUES (?, 1, '2031-05-05 05:06:00')", (monitor,)))  # fmt: skip
            databases.edit(db(replica), (
                "INSERT INTO notification_sent_history (type, monitor_id, days) "
                "VALUES ('domain', ?, 3)", (monitor,)))  # fmt: skip

    kuma.on_start = beats_on_new_rows
    with pytest.raises(KumaError, match=r"did not start on snapshot 1\.2; it runs on the rows fr"):
        follow(replica)
    assert kuma.log == ["stop", "start", "ready?", "stop", "start", "ready?"]
    assert_as_before(replica, edited)
    assert left_behind(replica) == []
    state = replica.state.load()
    assert state.applying.pending is None
    assert state.following.applied is not None
    assert state.following.applied.position == Position(1, 1)
    assert len(state.applying.bad) == 1


def test_a_bad_snapshot_is_not_tried_again_by_itself(
    leader: Instance,
    replica: Instance,
    kuma: RecordingKuma,
    repository: FolderRepository,
    edited: Path,
) -> None:
    kuma.refuses_to_be_ready = [True]
    with pytest.raises(KumaError):
        follow(replica)
    kuma.log.clear()
    repository.calls.clear()
    with pytest.raises(SnapshotRefused, match=r"1\.2 is not .*: Kuma did not start on it \(.*Z$"):
        follow(replica)
    assert (kuma.log, repository.calls) == ([], ["snapshots"])
    assert follow(replica, reconcile=True).outcome is Outcome.APPLIED
    assert_followed(replica, leader, edited)
    assert follow(replica).sentence == "1.2 is applied; nothing newer"
    assert replica.state.load().applying.bad == ()


def test_a_bad_snapshot_whose_rows_are_there_is_bad_no_more(
    leader: Instance, replica: Instance, kuma: RecordingKuma, edited: Path
) -> None:
    kuma.refuses_to_be_ready = [True]
    with pytest.raises(KumaError):
        follow(replica)
    shutil.copyfile(db(leader), db(replica))
    (replica.data_dir / "upload" / "logo2.png").write_bytes(b"another logo")
    assert follow(replica, reconcile=True).outcome is Outcome.NOTHING
    assert follow(replica).sentence == "1.2 is applied; nothing newer"


def test_a_snapshot_that_is_refused_with_kuma_stopped_stops_it_once(
    leader: Instance, replica: Instance, kuma: RecordingKuma, edited: Path
) -> None:
    only_here = "CREATE UNIQUE INDEX IF NOT EXISTS only_here ON monitor(name)"
    kuma.on_stop = lambda: databases.edit(db(replica), only_here)  # after the try on a copy
    publish(leader, "two", 6)
    for _ in range(3):
        with pytest.raises(SnapshotRefused):
            follow(replica)
    assert kuma.log == ["stop", "start"]
    kuma.on_stop = None
    databases.edit(db(replica), "DROP INDEX only_here")
    assert follow(replica, reconcile=True).outcome is Outcome.APPLIED
    assert follow(replica).sentence == "1.3 is applied; nothing newer"


def test_the_snapshot_after_a_bad_one_is_followed(
    leader: Instance, replica: Instance, kuma: RecordingKuma, edited: Path
) -> None:
    kuma.refuses_to_be_ready = [True]
    with pytest.raises(KumaError):
        follow(replica)
    publish(leader, "three")
    assert follow(replica).position == Position(1, 3)
    assert_followed(replica, leader, edited)


def test_a_kuma_that_fails_on_both_makes_no_snapshot_bad(
    leader: Instance, replica: Instance, kuma: RecordingKuma, edited: Path
) -> None:
    kuma.refuses_to_be_ready = [True, True]
    with pytest.raises(KumaError, match="neither on the snapshot's rows nor on those from before"):
        follow(replica)
    assert_as_before(replica, edited)
    state = replica.state.load()
    assert state.applying.bad == ()
    assert state.applying.pending is not None
    # whatever was wrong is mended: the old rows are confirmed, and the snapshot is tried again
    assert follow(replica).outcome is Outcome.APPLIED
    assert_followed(replica, leader, edited)


def test_a_kuma_that_needs_longer_than_we_wait_is_not_stopped_again_and_again(
    replica: Instance, kuma: RecordingKuma, edited: Path
) -> None:
    kuma.refuses_to_be_ready = [True] * 5
    with pytest.raises(KumaError, match="neither on"):
        follow(replica)
    kuma.log.clear()
    for _ in range(3):  # the old rows are in place: the slow start is left alone
        with pytest.raises(KumaError, match="on the rows from before") as caught:
            follow(replica)
        assert "REPLICATOR_READY_TIMEOUT" in caught.value.hint
    assert kuma.log == ["ready?"] * 3
    # It got up. The snapshot is tried once more, and then not again by itself.
    kuma.refuses_to_be_ready = [False, True, True]
    with pytest.raises(KumaError, match="neither on"):
        follow(replica)
    with pytest.raises(SnapshotRefused, match=r"again: Kuma did not start on it, 20.*Z$"):
        follow(replica)
    assert_as_before(replica, edited)


def test_rows_that_cannot_be_put_back_leave_kuma_started(
    replica: Instance, kuma: RecordingKuma, edited: Path
) -> None:
    kuma.refuses_to_be_ready = [True]
    full = OSError(28, "No space left on device")
    with (
        pytest.raises(KumaError, match=r"rows from before could not be written: .*No space left"),
        at_effect("putting the rows from before in place", raising(full)),
    ):
        follow(replica)
    assert kuma.up
    kuma.refuses_to_be_ready = [True]
    with pytest.raises(KumaError, match="it runs on the rows from before"):
        follow(replica)
    assert_as_before(replica, edited)
    assert left_behind(replica) == []


def test_a_way_back_that_was_not_taken_is_remembered_at_every_start_after_it(
    replica: Instance, kuma: RecordingKuma, edited: Path
) -> None:
    """A supervisor looks twice before Kuma's first start: at its own, and in its first cycle."""
    kuma.refuses_to_be_ready = [True]

    locked = DatabaseLocked("somebody else writes")
    with (
        pytest.raises(KumaError, match="rows from before could not be written"),
        at_effect("way back noted", raising(locked)),
    ):
        follow(replica)
    for _ in range(3):
        resolve_before_start(replica)
    kuma.refuses_to_be_ready = [True]
    with pytest.raises(KumaError, match="it runs on the rows from before"):
        follow(replica)
    assert_as_before(replica, edited)
    assert left_behind(replica) == []


def test_a_kuma_that_ended_on_unconfirmed_rows_is_started_and_judged(
    replica: Instance, kuma: RecordingKuma, edited: Path
) -> None:
    """Killed after Kuma's start; Kuma ended by itself since. Nobody else would start it."""

    def killed() -> None:
        raise KeyboardInterrupt

    replica.wait_ready = killed
    with pytest.raises(KeyboardInterrupt):
        follow(replica)
    kuma.up = False
    replica.wait_ready = kuma.wait_ready
    kuma.refuses_to_be_ready = [True]
    with pytest.raises(KumaError, match="it runs on the rows from before"):
        follow(replica)
    assert kuma.up
    assert_as_before(replica, edited)
    assert left_behind(replica) == []


def stopped_apply(replica: Instance, kuma: RecordingKuma) -> None:
    """Apply the newest snapshot while Kuma is down by a person's hand: unconfirmed."""
    kuma.up = False
    assert follow(replica).outcome is Outcome.APPLIED
    assert replica.state.load().applying.pending is not None


@pytest.mark.parametrize("fails", [False, True], ids=["ready", "not ready"])
def test_a_second_apply_over_an_unconfirmed_one(
    leader: Instance, replica: Instance, kuma: RecordingKuma, edited: Path, fails: bool
) -> None:
    """The way back leads to the rows that Kuma was last ready on; history of the first goes too."""
    stopped_apply(replica, kuma)
    publish(leader, "three")
    stopped_apply(replica, kuma)
    kuma.up = True
    kuma.refuses_to_be_ready = [fails]
    if fails:
        with pytest.raises(KumaError, match=r"did not start on snapshot 1\.3"):
            follow(replica)
        assert_as_before(replica, edited)
    else:
        assert follow(replica).sentence == "1.3 is applied; nothing newer"
        assert_followed(replica, leader, edited)


def test_a_second_apply_that_is_not_written_leaves_the_first_unconfirmed(
    leader: Instance,
    replica: Instance,
    kuma: RecordingKuma,
    edited: Path,
) -> None:
    stopped_apply(replica, kuma)
    publish(leader, "three")

    with pytest.raises(RuntimeError), at_effect("writing noted", raising(RuntimeError("a bug"))):
        follow(replica)
    pending = replica.state.load().applying.pending
    assert pending is not None
    assert pending.mark.position == Position(1, 2)
    kuma.up = True
    kuma.refuses_to_be_ready = [True]
    with pytest.raises(KumaError, match=r"did not start on snapshot 1\.2"):
        follow(replica)
    assert_as_before(replica, edited)


def test_an_edit_in_the_last_moment_and_a_crash_do_not_look_like_an_apply(
    leader: Instance, replica: Instance, edited: Path
) -> None:
    """The rows are neither the planned ones nor the snapshot's: only what was noted can tell."""
    kuma = cycles.HookedKuma()
    replica.kuma, replica.wait_ready = kuma, kuma.wait_ready

    def edit_and_fail() -> None:
        rename(db(replica), 6, "edited on the replica")
        raise KumaError("does not stop")

    kuma.on_stop = edit_and_fail
    with pytest.raises(KumaError, match="does not stop"):
        follow(replica)
    assert logo(replica) == cycles.LOGO, "no file of a snapshot whose rows are not there"
    assert replica.state.load().applying.pending is None
    assert follow(replica).outcome is Outcome.APPLIED
    assert_followed(replica, leader, edited)


def test_rows_that_somebody_changed_since_prove_nothing(
    leader: Instance, replica: Instance, kuma: RecordingKuma, edited: Path
) -> None:
    """Written and unconfirmed, then edited: what is applied is compared again."""
    stopped_apply(replica, kuma)
    rename(db(replica), 6, "edited on the replica")
    resolve_before_start(replica)
    kuma.up = True
    assert follow(replica).outcome is Outcome.APPLIED
    assert_followed(replica, leader, edited)
