"""Between `promote` and REPLICATOR_MODE=BACKUP: every command says that nobody publishes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from replicator_kuma.replication.state.file import StateFile
from tests.cli.conftest import World
from tests.support.cycles import name_of, rename
from tests.support.databases import build, edit

SAID = r"was promoted at 20..-..-..T..:..:..Z to epoch 2"
TO_DO = "Set REPLICATOR_MODE=BACKUP here, then restart `replicator run`"


@pytest.fixture
def promoted(world: World) -> World:
    """The replica was promoted, and its mode is still RESTORE."""
    assert world.on_leader("init").code == 0
    for done in (world.on_leader("backup"), world.on_replica("restore", "--now", "--force")):
        assert done.code == 0, done.err
    assert world.on_replica("promote", "--force").code == 0
    return world


@pytest.mark.parametrize("command", ["backup", "housekeeping", "rollback 1.1"])
def test_a_leader_s_command_says_what_to_set(promoted: World, command: str) -> None:
    done = promoted.on_replica(*command.split())
    assert done.code == 3
    assert f"{command.split()[0]} does not fit REPLICATOR_MODE=RESTORE, but this" in done.err
    assert_said(done.err)
    assert TO_DO in done.err
    assert "replicator promote" not in done.err


def assert_said(text: str) -> None:
    assert re.search(SAID, text), text


def test_status_says_it_for_people_and_for_programs(promoted: World) -> None:
    for arguments in ((), ("--offline",)):
        done = promoted.on_replica("status", *arguments)
        assert done.code == 0
        assert_said(done.out)
        assert TO_DO in done.out
    found = promoted.on_replica("status", "--json").json
    assert found["promoted"]["epoch"] == 2
    assert found["promoted"]["at"].endswith("Z")
    assert promoted.on_leader("status", "--json").json["promoted"] is None


def test_doctor_and_diff_say_it(promoted: World) -> None:
    findings = promoted.on_replica("doctor", "--json").json["findings"]
    (found,) = [one for one in findings if one["check"] == "promoted"]
    assert (found["level"], found["exit_code"]) == ("WARN", 0)
    assert_said(found["message"])
    assert TO_DO in found["hint"]
    shown = promoted.on_replica("diff")
    assert_said(shown.out)
    assert promoted.on_replica("diff", "--json").json["promoted"]["epoch"] == 2


def test_promote_once_more_says_it(promoted: World) -> None:
    done = promoted.on_replica("promote")
    assert "leads fleet 'default' already" in done.out
    assert_said(done.out)


@pytest.mark.parametrize("arguments", [(), ("--now",)])
def test_what_was_edited_since_stays_and_is_published_later(
    promoted: World, arguments: tuple[str, ...]
) -> None:
    database = promoted.replica / "kuma.db"
    before = promoted.on_replica("restore", "-v", *arguments, "--force")
    assert before.code == 0
    assert_said(before.out)
    assert "rows here have changed" not in before.out
    rename(database, 1, "edited on the new leader")
    done = promoted.on_replica("restore", "-v", *arguments, "--force")
    assert (done.code, name_of(database, 1)) == (0, "edited on the new leader")
    assert "rows here have changed since 2.1, and are not published yet" in done.out
    status = promoted.on_replica("status").out
    assert "are not published yet" in status
    assert "restore --now" not in status
    as_leader = promoted.call("backup", "--mode", "BACKUP", "--data-dir", str(promoted.replica))
    assert as_leader.code == 0, as_leader.err
    assert " 2.2 " in promoted.on_leader("snapshots").out
    state = StateFile(promoted.replica / "replicator").load()
    assert state.leading.promoted_at == 0.0


def test_rules_of_the_replica_that_it_was_take_nothing_back(
    promoted: World, tmp_path: Path
) -> None:
    """Its policy is another one now: that was a reason to take the snapshot again."""
    rules = tmp_path / "rules.toml"
    rules.write_text('[[rule]]\ntable = "monitor"\nset = { description = "of the replica" }\n')
    promoted.monkeypatch.setenv("REPLICATOR_OVERRIDES", str(rules))
    database = promoted.replica / "kuma.db"
    rename(database, 1, "edited on the new leader")
    assert promoted.on_replica("restore", "--force").code == 0
    assert name_of(database, 1) == "edited on the new leader"
    assert "of the replica" not in promoted.on_replica("diff").out


def test_who_was_overtaken_follows_and_says_it_no_more(promoted: World) -> None:
    assert promoted.on_leader("promote", "--force").code == 0
    assert TO_DO not in promoted.on_replica("status").out
    done = promoted.on_replica("restore", "-v", "--now", "--force")
    assert "promoted at" not in done.out
    assert StateFile(promoted.replica / "replicator").load().following.applied is not None
    assert "promoted" not in promoted.on_replica("status", "--offline").out


def test_rows_that_were_lost_are_taken_back(promoted: World) -> None:
    """Its disk was lost: an empty Kuma is no edit."""
    database = promoted.replica / "kuma.db"
    database.unlink()
    build(database, "2.3", monitors=0)
    edit(database, "DELETE FROM user", "DELETE FROM monitor")
    done = promoted.on_replica("restore", "-v", "--now", "--force")
    assert done.code == 0, done.err
    assert name_of(database, 1)


def test_a_leader_that_is_promoted_has_its_mode_already(promoted: World) -> None:
    done = promoted.on_leader("promote")
    assert done.code == 0
    assert "Now set REPLICATOR_MODE=RESTORE on the old leader" in done.out
    assert promoted.on_leader("status", "--json", "--offline").json["promoted"] is None
