"""What an apply changes, around which stop and start, and what it leaves as it was."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from replicator_kuma.adapters.repository import Position
from replicator_kuma.base.errors import (
    DatabaseLocked,
    KumaError,
    KumaRunning,
    NotAsWritten,
    SnapshotRefused,
    StateError,
)
from replicator_kuma.base.threads import beside
from replicator_kuma.replication.apply import staging
from replicator_kuma.replication.instance import Instance, Outcome, Run
from tests.support import cycles, databases
from tests.support.compare import assert_sound, config_differences, damage, orphans
from tests.support.cycles import db, follow, lead, left_behind, publish, rename
from tests.support.effects import at_effect
from tests.support.fleet import nothing_open
from tests.support.folder_repository import FolderRepository
from tests.support.instances import RecordingKuma
from tests.support.openers import opened

RESTART = ["stop", "start", "ready?"]


def test_a_newer_position_is_applied_and_confirmed(
    leader: Instance, replica: Instance, repository: FolderRepository, kuma: RecordingKuma
) -> None:
    rename(db(leader), 3, "new name")
    cycles.add_monitor(db(leader), 77)
    cycles.delete_monitor(db(leader), 5)
    (leader.data_dir / "upload" / "logo2.png").write_bytes(b"another logo")
    lead(leader)
    before = cycles.copy_of(db(replica))
    repository.calls.clear()
    result = follow(replica)
    assert (result.outcome, result.position) == (Outcome.APPLIED, Position(1, 2))
    assert result.sentence.startswith("applied 1.2 of leader: 1 monitor added, 1 changed, 1 delet")
    assert repository.calls == ["snapshots", "read"]
    assert kuma.log == RESTART
    assert replica.notifier.sent[-1] == f"restore: {result.sentence}"  # type: ignore[attr-defined]
    assert config_differences(db(replica), db(leader)) == []
    assert_sound(db(replica), before)
    assert (replica.data_dir / "upload" / "logo2.png").read_bytes() == b"another logo"
    nothing_open(replica)
    applied = replica.state.load().following.applied
    assert applied is not None
    assert applied.position == Position(1, 2)
    kuma.log.clear()
    assert follow(replica, reconcile=True).outcome is Outcome.NOTHING
    assert kuma.log == []


def test_rows_that_are_there_already_stop_nothing(
    leader: Instance, replica: Instance, kuma: RecordingKuma
) -> None:
    rename(db(leader), 3, "same edit on both")
    rename(db(replica), 3, "same edit on both")
    lead(leader)
    assert follow(replica).sentence == "the rows equal 1.2; nothing to do"
    assert follow(replica).sentence == "1.2 is applied; nothing newer"
    assert kuma.log == []


@pytest.mark.usefixtures("impatient")
def test_a_running_kuma_that_nobody_can_stop_is_not_written_under(
    leader: Instance, replica: Instance
) -> None:
    publish(leader, "two")
    before = cycles.copy_of(db(replica))
    replica.kuma = cycles.UnmanagedKuma()
    with opened(db(replica)):
        with pytest.raises(KumaRunning):
            follow(replica)
        assert replica.state.load().applying.pending is None
        assert config_differences(db(replica), before) == []
        replica.run = Run(force=True)
        assert follow(replica).outcome is Outcome.APPLIED
        assert config_differences(db(replica), db(leader)) == []
    rename(db(leader), 3, "three")
    lead(leader)
    replica.run = Run()
    assert follow(replica).outcome is Outcome.APPLIED, "nobody has it open any more"
    assert left_behind(replica) == []


@pytest.mark.usefixtures("impatient")
def test_a_stop_that_stopped_another_kuma_is_noticed(
    leader: Instance, replica: Instance, kuma: RecordingKuma
) -> None:
    publish(leader, "two")
    before = cycles.copy_of(db(replica))
    with (
        opened(db(replica)),
        pytest.raises(KumaError, match="still has Kuma's database open"),
    ):
        follow(replica)
    assert kuma.log == ["stop", "start"]
    assert config_differences(db(replica), before) == []
    assert replica.state.load().applying.pending is None
    assert left_behind(replica) == []


def test_a_kuma_that_a_person_stopped_stays_so(
    leader: Instance, replica: Instance, kuma: RecordingKuma
) -> None:
    publish(leader, "two")
    kuma.up = False
    assert follow(replica).outcome is Outcome.APPLIED
    assert "start" not in kuma.log
    assert replica.state.load().applying.pending is not None
    assert "waiting for Kuma to come up on it" in follow(replica).sentence
    assert "start" not in kuma.log
    kuma.up = True
    assert follow(replica).outcome is Outcome.NOTHING
    assert replica.state.load().applying.pending is None
    assert left_behind(replica) == []


def test_what_kuma_writes_between_plan_and_stop_is_planned_with(
    leader: Instance, replica: Instance
) -> None:
    """Links saved anew, a logo, a monitor with a heartbeat, in the last moment before the stop."""
    rename(db(leader), 3, "two")
    cycles.add_monitor(db(leader), 77)
    lead(leader)
    kuma = cycles.HookedKuma()
    replica.kuma, replica.wait_ready = kuma, kuma.wait_ready

    def somebody_edits() -> None:
        databases.edit(
            db(replica),
            "UPDATE monitor_group SET id = id + 1000",
            "UPDATE status_page SET icon = '/upload/logo2.png?t=9' WHERE id = 2",
        )
        (replica.data_dir / "upload" / "logo2.png").write_bytes(b"uploaded on the replica")
        cycles.add_monitor(db(replica), 78)
        rename(db(replica), 4, "edited on the replica")

    kuma.on_stop = somebody_edits
    assert follow(replica).outcome is Outcome.APPLIED
    assert kuma.log == RESTART
    assert config_differences(db(replica), db(leader)) == []
    assert (replica.data_dir / "upload" / "logo2.png").read_bytes() == cycles.LOGO
    assert [*orphans(db(replica)), *damage(db(replica))] == []
    assert left_behind(replica) == []


def test_rows_that_change_all_the_time_are_left_alone(leader: Instance, replica: Instance) -> None:
    publish(leader, "two")
    edits: list[str] = []

    def edit() -> None:
        edits.append(f"edit {len(edits)}")
        rename(db(replica), 4, edits[-1])

    with (
        pytest.raises(DatabaseLocked, match="changed all the time"),
        at_effect("opening the transaction", edit),
    ):
        follow(replica)
    assert cycles.name_of(db(replica), 4) == edits[-1]
    assert cycles.name_of(db(replica), 3) != "two"
    state = replica.state.load()
    assert (state.applying.pending, state.applying.stopped_by_me) == (None, False)
    assert replica.kuma.running()
    assert left_behind(replica) == []


def test_files_that_cannot_be_placed_are_noticed_before_anything_stops(
    leader: Instance, replica: Instance, kuma: RecordingKuma
) -> None:
    place = in_the_way(leader, replica)
    for _ in range(2):
        with pytest.raises(StateError, match=r"cannot put Kuma's files in place.*logo2.png"):
            follow(replica)
    assert kuma.up
    assert "stop" not in kuma.log
    assert cycles.name_of(db(replica), 3) != "two"
    assert left_behind(replica) == []
    (place / "in the way").unlink()
    place.rmdir()
    follow(replica)
    assert place.read_bytes() == b"another logo"


def in_the_way(leader: Instance, replica: Instance) -> Path:
    """A new row and a new logo, whose place on the replica is a folder."""
    rename(db(leader), 3, "two")
    (leader.data_dir / "upload" / "logo2.png").write_bytes(b"another logo")
    lead(leader)
    place = replica.data_dir / "upload" / "logo2.png"
    place.unlink()
    place.mkdir()
    (place / "in the way").touch()
    return place


def test_files_that_cannot_be_placed_after_the_commit_leave_kuma_running(
    leader: Instance, replica: Instance, kuma: RecordingKuma
) -> None:
    """What is in the way came after the try; the files follow as soon as they can."""
    place = replica.data_dir / "upload" / "logo2.png"
    rename(db(leader), 3, "two")
    (leader.data_dir / "upload" / "logo2.png").write_bytes(b"another logo")
    lead(leader)

    def block() -> None:
        place.unlink()
        place.mkdir()
        (place / "in the way").touch()

    kuma.on_stop = block
    for _ in range(2):
        with pytest.raises(StateError, match="cannot put Kuma's files in place"):
            follow(replica)
        assert kuma.up
    assert cycles.name_of(db(replica), 3) == "two"
    (place / "in the way").unlink()
    place.rmdir()
    follow(replica)
    assert place.read_bytes() == b"another logo"
    state = replica.state.load()
    assert state.applying.pending is None
    assert state.following.applied is not None
    assert state.following.applied.position == Position(1, 2)
    assert left_behind(replica) == []


def test_staged_files_that_are_changed_or_gone_are_an_error_and_come_anew(
    leader: Instance, replica: Instance, kuma: RecordingKuma
) -> None:
    place = replica.data_dir / "upload" / "logo2.png"
    rename(db(leader), 3, "two")
    (leader.data_dir / "upload" / "logo2.png").write_bytes(b"another logo")
    lead(leader)
    kuma.on_stop = lambda: shutil.rmtree(replica.data_dir / staging.FOLDER)
    with pytest.raises(StateError, match=r"staged is gone or changed.*logo2.png"):
        follow(replica)
    assert kuma.up
    assert place.read_bytes() == cycles.LOGO
    kuma.on_stop = None
    assert follow(replica).outcome is Outcome.APPLIED
    assert place.read_bytes() == b"another logo"
    assert left_behind(replica) == []


def test_a_reader_that_soon_ends_is_no_kuma(
    leader: Instance, replica: Instance, kuma: RecordingKuma
) -> None:
    """`diff` or a copy of the database has it open for a moment, just when Kuma has stopped."""
    publish(leader, "three")
    with opened(db(replica)) as pid:
        end = threading.Timer(0.5, os.kill, (pid, signal.SIGKILL))
        kuma.on_stop = end.start
        assert follow(replica).outcome is Outcome.APPLIED
        end.join()


def test_a_write_that_does_not_read_back_is_one_outage_and_not_one_a_cycle(
    leader: Instance, replica: Instance, kuma: RecordingKuma
) -> None:
    publish(leader, "three")
    meddler = (
        "CREATE TRIGGER meddler AFTER UPDATE OF name ON monitor BEGIN "
        "UPDATE monitor SET description = 'meddled' WHERE id = NEW.id; END"
    )
    before = cycles.copy_of(db(replica))
    kuma.on_stop = lambda: databases.edit(db(replica), meddler)  # after the try on a copy
    with pytest.raises(NotAsWritten, match="monitor does not read back equal"):
        follow(replica)
    assert kuma.log == ["stop", "start"]
    assert config_differences(db(replica), before) == []
    with pytest.raises(SnapshotRefused, match=r"again: it did not read back: .*Z$"):
        follow(replica)
    assert kuma.log == ["stop", "start"]
    kuma.on_stop = None
    databases.edit(db(replica), "DROP TRIGGER meddler")
    assert follow(replica, reconcile=True).outcome is Outcome.APPLIED


def test_what_is_read_beside_a_fetch_does_not_keep_the_process_from_ending() -> None:
    """A thread pool's thread would: Python waits for it at the end of the process."""
    script = """
import threading, time
from replicator_kuma.base.threads import beside
begun = threading.Event()
def slow():
    begun.set()
    time.sleep(60)
def work():
    with beside(slow):
        pass
threading.Thread(target=work, daemon=True).start()
assert begun.wait(10)
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=20)


def test_an_error_beside_a_fetch_is_raised_where_its_result_is_asked() -> None:
    def fails() -> int:
        raise DatabaseLocked("held")

    with pytest.raises(DatabaseLocked, match="held"), beside(fails) as seen:
        seen.result()


def test_the_name_of_the_staging_folder_survives_a_power_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dump" / "files" / "upload").mkdir(parents=True)
    (tmp_path / "dump" / "files" / "upload" / "logo1.png").write_bytes(cycles.LOGO)
    (tmp_path / "data").mkdir()
    synced: list[str] = []

    def fsync(opened: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{opened}").readlink()))

    monkeypatch.setattr(os, "fsync", fsync)
    staging.stage(tmp_path / "data", tmp_path / "dump", [("upload/logo1.png", "0" * 64)])
    assert str(tmp_path / "data") in synced
    assert str(tmp_path / "data" / staging.FOLDER / "upload") in synced
