"""What an error says to do is true for who reads it: a leader, a replica, one that is promoted."""

from __future__ import annotations

import shutil

import pytest

from replicator_kuma.base.errors import DatabaseError
from replicator_kuma.dump.catalog import choose
from replicator_kuma.replication.apply.staging import _PAGES
from replicator_kuma.replication.state.file import StateFile
from replicator_kuma.replication.state.records import FailedAttempt, Last
from tests.cli.conftest import Done, World
from tests.support.cycles import rename
from tests.support.databases import edit, query
from tests.support.states import edit_state


@pytest.fixture
def fleet(world: World) -> World:
    """A leader and a replica that has applied its first snapshot."""
    assert world.on_leader("init").code == 0
    for done in (world.on_leader("backup"), world.on_replica("restore", "--now", "--force")):
        assert done.code == 0, done.err
    return world


def empty(world: World) -> None:
    """The repository is there, and its snapshots are gone."""
    shutil.rmtree(world.repository.folder)
    world.repository.init()


def hint(done: Done, code: int) -> str:
    assert done.code == code, done
    return done.err.partition("\n")[2]


def test_snapshots_that_are_gone_and_what_leads_out(fleet: World) -> None:
    """Exit 10: only the leader is told to promote, and doing so ends it for both."""
    empty(fleet)
    for call in (("restore",), ("restore", "--now", "--force"), ("diff",)):
        said = hint(fleet.on_replica(*call), 10)
        assert said.startswith("This replica keeps its rows."), call
        assert "run on the leader: replicator promote --force" in said
    leaders = hint(fleet.on_leader("backup"), 10)
    assert "with the rows that are here: replicator promote --force" in leaders
    assert "replica" not in leaders.replace("replicator", "")
    found = fleet.on_replica("doctor").out
    assert "run on the leader: replicator promote --force" in found
    assert fleet.on_leader("promote", "--force").code == 0
    assert fleet.on_replica("restore").code == 0


def test_a_replica_that_is_promoted_into_nothing_is_told_of_itself(fleet: World) -> None:
    empty(fleet)
    said = hint(fleet.on_replica("promote"), 10)
    assert "the rows that are here: replicator promote --force" in said
    assert "on the leader" not in said
    assert fleet.on_replica("promote", "--force").code == 0


def test_a_repository_that_is_gone_and_what_leads_out(fleet: World) -> None:
    """Exit 8: `init` alone is no way out for a fleet that has published."""
    shutil.rmtree(fleet.repository.folder)
    for call in ("restore", "snapshots", "diff", "log", "drill"):
        said = hint(fleet.on_replica(call), 25 if call == "drill" else 8)
        assert said.startswith("This replica keeps its rows."), call
        assert "run on the leader: replicator init, then: replicator promote --force" in said
    for line in ("backup", "snapshots", "housekeeping", "housekeeping --dry-run"):
        said = hint(fleet.on_leader(*line.split()), 8)
        assert said.startswith("This fleet has published before."), line
        assert said.rstrip().endswith("replicator init, then: replicator promote --force")
    said = hint(fleet.on_replica("promote"), 8)
    assert "on the leader" not in said
    assert "replicator init, then: replicator promote --force" in said
    assert "replicator init, then" in fleet.on_leader("doctor").out
    assert fleet.on_leader("init").code == 0
    assert fleet.on_leader("promote", "--force").code == 0
    rename(fleet.leader / "kuma.db", 1, "goes on")
    assert fleet.on_leader("backup").code == 0
    assert fleet.on_replica("restore").code == 0


def test_a_repository_that_was_never_made(world: World) -> None:
    assert "first start: replicator init" in hint(world.on_leader("backup"), 8)
    said = hint(world.on_replica("restore"), 8)
    assert "init" not in said
    assert "look at the leader's log" in said
    assert world.on_leader("init").code == 0
    assert world.on_leader("backup").code == 0
    assert world.on_replica("restore", "--force").code == 0


def test_a_restore_on_the_leader(fleet: World) -> None:
    said = hint(fleet.on_leader("restore", "--now"), 3)
    assert "replicator rollback POSITION" in said
    rename(fleet.leader / "kuma.db", 1, "a mistake")
    assert fleet.on_leader("backup").code == 0
    assert fleet.on_leader("rollback", "1.1", "--force").code == 0


def test_nothing_to_undo_by_role(fleet: World) -> None:
    leaders = hint(fleet.on_leader("undo"), 27)
    assert leaders.rstrip().endswith("replicator rollback POSITION")
    assert fleet.on_replica("undo", "--force").code == 0
    assert "restore --now --snapshot POSITION" in hint(fleet.on_replica("undo", "--force"), 27)


def test_no_snapshot_yet_by_role(world: World) -> None:
    assert world.on_leader("init").code == 0
    assert "replicator backup" in hint(world.on_leader("diff"), 13)
    assert "Does the leader run" in hint(world.on_replica("diff"), 13)
    assert "Publish the first: replicator backup" in world.on_leader("doctor").out


def test_a_shrink_that_is_not_meant_is_undone(fleet: World) -> None:
    edit(fleet.leader / "kuma.db", "PRAGMA foreign_keys = ON", "DELETE FROM monitor WHERE id > 3")
    said = hint(fleet.on_leader("backup"), 18)
    assert "replicator rollback POSITION --force" in said
    assert fleet.on_leader("rollback", "1.1", "--force").code == 0
    assert query(fleet.leader / "kuma.db", "SELECT count(*) FROM monitor") == [(12,)]


def test_doctor_never_advises_to_run_doctor(fleet: World) -> None:
    """Not in settings that are wrong, not in how the last cycle ended."""
    wrong = fleet.call(
        "doctor", "--mode", "BACKUP", "--data-dir", "relative/../x", "--fleet", "a b"
    )
    assert wrong.code == 3
    state = StateFile(fleet.leader / "replicator")
    edit_state(state, last=Last(1.0, False, "no", "", "DatabaseError", 4, DatabaseError.hint))
    for done in (wrong, fleet.on_leader("doctor")):
        assert "replicator doctor" not in done.out + done.err


def test_an_apply_that_was_held_back_is_nothing_to_a_leader(fleet: World) -> None:
    state = StateFile(fleet.leader / "replicator")
    edit_state(state, failed=FailedAttempt("aim", "1.1", 3, 1.0, "the disk was full", exit_code=28))
    assert "restore --now" not in fleet.on_leader("doctor").out
    shutil.copyfile(state.path, fleet.replica / "replicator" / "state.json")
    assert "restore --now" in fleet.on_replica("doctor").out


def test_a_leader_that_was_renamed_is_no_second_one(fleet: World) -> None:
    rename(fleet.leader / "kuma.db", 1, "x")
    done = fleet.call(
        "backup", "--mode", "BACKUP", "--data-dir", str(fleet.leader), "--instance", "z"
    )
    assert done.code == 0
    found = fleet.on_replica("doctor").out
    assert "several names in this epoch: alpha, z" in found
    assert "promote" not in found


def test_a_state_of_a_later_version_is_not_to_be_moved_away(fleet: World) -> None:
    path = fleet.leader / "replicator" / "state.json"
    path.write_text(path.read_text().replace('"version": 1', '"version": 2'))
    assert "Do not move the file away" in hint(fleet.on_leader("backup"), 19)


def test_the_tables_that_a_hint_names_can_be_left_out() -> None:
    assert not choose(None, frozenset(_PAGES.split(","))) & {"status_page", "group"}


def test_a_fenced_leader_is_told_where_a_restore_fits(fleet: World) -> None:
    """Its mode is BACKUP: `restore` is refused there."""
    assert fleet.on_replica("promote").code == 0
    edit(fleet.replica / "kuma.db", "PRAGMA foreign_keys = ON", "DELETE FROM monitor WHERE id > 3")
    fleet.monkeypatch.setenv("REPLICATOR_SHRINK_LIMIT", "off")
    new = ("--mode", "BACKUP", "--data-dir", str(fleet.replica), "--instance", "beta")
    assert fleet.call("backup", *new).code == 0
    fleet.monkeypatch.delenv("REPLICATOR_SHRINK_LIMIT")
    said = hint(fleet.on_leader("promote"), 22)
    assert (
        "first with REPLICATOR_MODE=RESTORE here: replicator restore --now --allow-shrink" in said
    )
    old = ("--mode", "RESTORE", "--data-dir", str(fleet.leader), "--instance", "alpha")
    assert fleet.call("restore", *old, "--now", "--allow-shrink", "--force").code == 0
    assert fleet.on_leader("promote").code == 0
