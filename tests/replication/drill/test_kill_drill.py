"""`drill --kill`: refused where it would harm, and a Kuma that does not come back is a failure."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from replicator_kuma.adapters.kuma.child import ChildKuma
from replicator_kuma.adapters.kuma.supervised import SupervisedKuma
from replicator_kuma.base.errors import (
    AlreadyRunning,
    DrillFailed,
    KumaError,
    ReplicatorError,
    SettingsError,
)
from replicator_kuma.config.settings import Settings
from replicator_kuma.daemon import maintenance
from replicator_kuma.daemon.maintenance import maintenance_jobs
from replicator_kuma.replication.drill.kill import Killed, kill
from replicator_kuma.replication.instance import Instance
from replicator_kuma.replication.state.file import StateFile
from tests.adapters.kuma.programs import python
from tests.support import databases
from tests.support.cycles import PENDING, fill
from tests.support.folder_repository import FolderRepository
from tests.support.instances import RecordingKuma, make_instance, sent_by
from tests.support.kuma_page import MIGRATING, Stage, stage
from tests.support.scheduled import Scheduled
from tests.support.states import edit_state
from tests.support.waiting import wait_until

PATIENCE = 20.0
# Writes one heartbeat, as a Kuma does soon after its start; «dies» makes it end instead.
BEATING = """
import os, pathlib, sqlite3, sys, time
if os.path.exists("dies"):
    sys.exit(1)
if not os.path.exists("idle"):
    with sqlite3.connect("kuma.db", timeout=20) as c:
        c.execute("INSERT INTO heartbeat (monitor_id, status, time, duration) "
                  "VALUES (1, 1, '2001-01-01 00:00:00', 0)")
    c.close()
pathlib.Path("up").write_text(str(os.getpid()))
while True:
    time.sleep(60)
"""


class House:
    """An instance with a database, and a Kuma that is a child of this test."""

    def __init__(self, folder: Path, page: Stage) -> None:
        self.folder, self.page = folder, page
        fill(folder, monitors=3, heartbeats=2, wal=True)
        databases.edit(folder / "kuma.db", "UPDATE monitor SET active = 1")
        self.child = ChildKuma(python(BEATING), folder, {})
        self.kuma = SupervisedKuma(self.child, self.child)
        self.instance: Instance = make_instance(folder, FolderRepository(folder / "repository"))
        self.instance.wait_ready, self.sent = self.wait_ready, sent_by(self.instance)
        self.kuma.start()
        self.wait_ready()
        self.kuma.in_hand = False

    def wait_ready(self) -> None:
        def up() -> bool:
            if not self.child.running():
                raise KumaError("Uptime Kuma's process ended before it was ready")
            path = self.folder / "up"
            return path.exists() and path.read_text() == str(self.child.pid)

        wait_until(up, "the child", 20)

    def kill(self, patience: float = PATIENCE) -> Killed:
        return kill(self.instance, self.kuma, self.page.url, patience)

    def beats(self) -> int:
        with closing(sqlite3.connect(self.folder / "kuma.db")) as found:
            return int(found.execute("SELECT count(*) FROM heartbeat").fetchone()[0])

    def refused(self, kind: type[ReplicatorError], words: str) -> None:
        """Nothing was done to the Kuma that runs."""
        pid = self.child.pid
        with pytest.raises(kind, match=words):
            self.kill()
        assert self.child.pid == pid
        assert self.child.running()
        assert not self.kuma.in_hand
        assert self.sent == []


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with stage() as page:
        page.open(page.answer)
        made = House(tmp_path / "instance", page)
        yield made
        made.child.stop(20)


def test_it_is_killed_and_measured_until_a_newer_heartbeat(house: House) -> None:
    pid, beats = house.child.pid, house.beats()
    killed = house.kill()
    assert killed.beat is not None
    assert 0 < killed.ready <= killed.beat < PATIENCE
    assert house.child.pid != pid
    assert house.beats() == beats + 1, "the clock in the row is years behind: its id is newer"
    assert killed.sentence.startswith("Uptime Kuma was killed, and monitors again after ")
    assert house.instance.state.load().upkeep.drill_failed is None
    assert not house.kuma.stopped_by_us


def test_without_an_active_monitor_being_ready_is_all(house: House) -> None:
    databases.edit(house.folder / "kuma.db", "UPDATE monitor SET active = 0")
    killed = house.kill()
    assert killed.beat is None
    assert killed.as_dict()["seconds"] == round(killed.ready, 3)
    assert "no monitor is active" in killed.sentence


def test_an_unconfirmed_apply_refuses_it(house: House) -> None:
    edit_state(house.instance.state, pending=PENDING)
    house.refused(AlreadyRunning, "not confirmed")


def test_a_cycle_of_another_process_refuses_it(house: House) -> None:
    with StateFile(house.instance.state.folder).lock():
        house.refused(AlreadyRunning, "another replicator")


def test_a_kuma_that_migrates_is_not_killed(house: House) -> None:
    house.page.open(MIGRATING)
    house.refused(KumaError, "not ready, so it is not killed")


def test_a_kuma_that_is_no_child_is_not_killed(house: House) -> None:
    other = SupervisedKuma(RecordingKuma())
    with pytest.raises(SettingsError, match="REPLICATOR_KUMA=recording"):
        kill(house.instance, other, house.page.url, PATIENCE)


def test_a_kuma_that_does_not_come_back_fails_until_one_does(house: House) -> None:
    (house.folder / "dies").touch()
    with pytest.raises(DrillFailed, match="ended before it was ready"):
        house.kill()
    failed = house.instance.state.load().upkeep.drill_failed
    assert failed is not None
    assert (failed.failed_at, failed.ok) == ("kill", False)
    assert [text.partition(":")[0] for text in house.sent] == ["drill fails"]
    (house.folder / "dies").unlink()
    house.kuma.start()
    house.wait_ready()
    house.kill()
    assert house.instance.state.load().upkeep.drill_failed is None
    assert [text.partition(":")[0] for text in house.sent] == ["drill fails", "drill works again"]


def test_a_kuma_that_is_ready_and_monitors_nothing_fails(house: House) -> None:
    (house.folder / "idle").touch()
    with pytest.raises(DrillFailed, match=r"monitored nothing for 0\.3 s"):
        house.kill(patience=0.3)
    assert house.child.running()


# ---------------------------------------------------------------- on a schedule


@pytest.fixture
def friday(house: House, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scheduled]:
    """The job that REPLICATOR_DRILL=kill plans, in a supervisor of this house."""
    monkeypatch.setattr(maintenance, "LOOK_EVERY", 0.01)
    settings = Settings.load(
        {
            "DATA_DIR": str(house.folder),
            "REPLICATOR_DRILL": "kill",
            "REPLICATOR_DRILL_SCHEDULE": "fri 01:00-05:00",
            "REPLICATOR_KUMA_URL": house.page.url,
            "REPLICATOR_READY_TIMEOUT": "20s",
        }
    )
    (job,) = [one for one in maintenance_jobs(settings, house.kuma) if one.name == "drill"]
    made = Scheduled(house.instance, job.name, job.work, str(job.window))
    yield made
    made.worker.close(5)


def test_on_a_schedule_it_kills_and_a_failure_is_told_until_one_goes_well(
    house: House, friday: Scheduled
) -> None:
    pid = house.child.pid
    friday.once()
    assert friday.now.strftime("%a") == "Fri"
    assert house.child.pid != pid
    assert friday.noted.sentence.startswith("Uptime Kuma was killed, and monitors again after ")
    assert house.sent == []
    (house.folder / "dies").touch()
    friday.once()
    failed = house.instance.state.load().upkeep.drill_failed
    assert failed is not None
    assert failed.failed_at == "kill"
    assert [text.partition(":")[0] for text in house.sent] == ["drill fails"]
    (house.folder / "dies").unlink()
    house.kuma.start()
    house.wait_ready()
    friday.once()
    assert house.instance.state.load().upkeep.drill_failed is None
    assert [text.partition(":")[0] for text in house.sent[1:]] == ["drill works again"]


def test_on_a_schedule_a_kuma_that_migrates_is_not_killed_and_that_is_told(
    house: House, friday: Scheduled
) -> None:
    pid = house.child.pid
    house.page.open(MIGRATING)
    friday.once()
    assert house.child.pid == pid
    assert not friday.noted.ok
    assert "is not ready, so it is not killed" in friday.noted.sentence
    assert house.instance.state.load().upkeep.drill_failed is None
    assert [text.partition(":")[0] for text in house.sent] == ["drill fails"]
