"""`replicator housekeeping`, what `status` and `doctor` say of it, and the chore in `run`."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import pytest

from replicator_kuma.base.errors import RepositoryUnreachable
from replicator_kuma.config import build as building
from replicator_kuma.daemon.maintenance import record_of
from replicator_kuma.replication.state.file import StateFile
from replicator_kuma.replication.state.records import JobRecord
from tests.cli.conftest import World
from tests.cli.harness import Run
from tests.support import databases
from tests.support.databases import edit
from tests.support.folder_repository import FolderRepository
from tests.support.states import state_with
from tests.support.tools import restic_018
from tests.support.waiting import wait_until


def there(world: World) -> list[int]:
    return [s.position.sequence for s in world.repository.snapshots("default")]


@pytest.fixture
def kept(world: World) -> World:
    """A leader that has published four times, and keeps two."""
    world.monkeypatch.setenv("REPLICATOR_KEEP_LAST", "2")
    for kind in ("HOURS", "HOURLY", "DAILY", "MONTHLY"):
        world.monkeypatch.setenv(f"REPLICATOR_KEEP_{kind}", "0")
    assert world.on_leader("init").code == 0
    for number in range(4):
        edit(world.leader / "kuma.db", f"UPDATE monitor SET name = 'n{number}' WHERE id = 1")
        assert world.on_leader("backup").code == 0
    return world


def test_a_dry_run_shows_what_would_go_and_changes_nothing(kept: World) -> None:
    state = StateFile(kept.leader / "replicator").path.read_text()
    done = kept.on_leader("housekeeping", "--dry-run")
    assert [line.split(" of ")[0] for line in done.out.splitlines()] == [
        "would remove 1.1",
        "would remove 1.2",
    ]
    found = kept.on_leader("housekeeping", "--dry-run", "--json").json
    assert [each["position"] for each in found["forgotten"]] == ["1.1", "1.2"]
    assert there(kept) == [1, 2, 3, 4]
    assert StateFile(kept.leader / "replicator").path.read_text() == state


def test_it_is_silent_in_cron_and_tells_programs(kept: World) -> None:
    assert kept.on_leader("housekeeping").out == ""
    assert there(kept) == [3, 4]
    assert kept.on_leader("housekeeping", "--dry-run").out == "no snapshot would be removed\n"
    found = kept.on_leader("housekeeping", "--json").json
    assert found["sentence"].startswith("0 snapshots removed, 2 stay, part 2 of 30 is whole, ")
    (place,) = found["repositories"]
    assert (place["snapshots"], place["checked_part"], place["damaged"]) == (2, 2, None)
    assert place["bytes"] > 1000


def test_status_shows_sizes_and_how_it_went(kept: World) -> None:
    kept.on_leader("housekeeping")
    shown = kept.on_leader("status").out
    assert "2 snapshots of this fleet, " in shown
    assert "part 1 of 30 checked " in shown
    assert "housekeeping job" in shown
    found = kept.on_leader("status", "--json").json
    assert found["repositories"][0]["snapshots"] == 2
    (chore,) = found["chores"]
    assert (chore["name"], chore["ok"], chore["due"]) == ("housekeeping", True, None)
    assert found["lagging"] is None


def test_damage_has_an_exit_code_and_stands_in_status(kept: World) -> None:
    kept.repository.damaged = True
    done = kept.on_leader("housekeeping")
    assert (done.code, "a pack is gone" in done.err) == (20, True)
    assert "DAMAGED: a pack is gone" in kept.on_leader("status").out
    found = kept.on_leader("status", "--json").json
    assert found["repositories"][0]["damaged"] == "a pack is gone"
    assert found["chores"][0]["exit_code"] == 20


def test_it_is_the_leaders(kept: World) -> None:
    assert kept.on_replica("housekeeping").code == 3
    assert kept.on_replica("housekeeping", "--dry-run").code == 3
    kept.on_replica("restore")
    kept.on_replica("promote")
    done = kept.on_leader("housekeeping")
    assert (done.code, "beta has published" in done.err) == (17, True)
    assert there(kept) == [1, 2, 3, 4, 1]


def test_it_waits_for_the_lock_when_told_so(kept: World) -> None:
    with StateFile(kept.leader / "replicator").lock():
        assert kept.on_leader("housekeeping").code == 16
        assert kept.on_leader("housekeeping", "--dry-run").code == 0


def test_init_makes_both_and_doctor_checks_both(world: World) -> None:
    second = FolderRepository(world.folder / "second")
    second.name = "repository 2"
    both = (world.repository, second)
    world.monkeypatch.setattr(building, "build_repositories", lambda *_args: both)
    assert world.on_leader("init").out == "created the repository\n"
    assert world.on_leader("init").out == "the repository is there already\n"
    assert world.on_leader("backup").code == 0
    assert len(second.snapshots("default")) == 1
    checks = {f["check"]: f for f in world.on_leader("doctor", "--json").json["findings"]}
    assert checks["repository"]["level"] == "OK"
    second.down = RepositoryUnreachable("no route to host")
    done = world.on_leader("doctor", "--json")
    checks = {f["check"]: f for f in done.json["findings"]}
    assert checks["repository"]["level"] == "FAIL"
    assert checks["repository"]["message"] == "repository 2: no route to host"
    edit(world.leader / "kuma.db", "UPDATE monitor SET name = 'more' WHERE id = 1")
    assert world.on_leader("backup").code == 0
    shown = world.on_leader("status").out
    assert "repository 2 lags behind: no route to host. Check REPLICATOR_REPOSITORY_2" in shown
    assert "1.2 of alpha" in world.on_leader("snapshots").out or "1.2" in shown


@pytest.mark.restic
def test_run_makes_up_for_a_missed_night_at_its_start(tmp_path: Path) -> None:
    run = Run(
        tmp_path / "r", "BACKUP", REPLICATOR_RESTIC=str(restic_018()), REPLICATOR_CHECK_PARTS="1"
    )
    databases.build(run.data_dir / "kuma.db", monitors=3)
    state = StateFile(run.data_dir / "replicator")
    missed = JobRecord("housekeeping", "daily 01:00-05:00", due=1.0)
    state.save(state_with(writer="0123456789abcdef", jobs=(missed,)))
    run.start("run")
    with contextlib.ExitStack() as stack:
        stack.push(run)
        run.logged("housekeeping: 0 snapshots removed, 1 stay, part 1 of 1 is whole", 60)
        wait_until(lambda: record_of(state.load(), "housekeeping").at > 0, "it is noted")
        noted = record_of(state.load(), "housekeeping")
        assert noted.ok
        assert time.time() < noted.due < time.time() + 2 * 86400
        assert state.load().upkeep.repositories[0].bytes > 0
