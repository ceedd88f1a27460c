"""A replica's choices, as a person makes and sees them: modes, strategies, rules, drift."""

from __future__ import annotations

from pathlib import Path

import pytest

from replicator_kuma.base.errors import SettingsError
from replicator_kuma.replication.state.file import StateFile
from tests.cli.conftest import World
from tests.support.databases import edit, query

LOCAL = "RESTORE_LOCAL_ENTITY_REPLICATION"


def on_local(world: World, *arguments: str) -> tuple[int, str, str]:
    """A command on the replica in the mode with rows of its own."""
    side = ("--mode", LOCAL, "--data-dir", str(world.replica), "--instance", "beta")
    done = world.call(arguments[0], *side, *arguments[1:])
    return done.code, done.out, done.err


def hosts(folder: Path) -> set[str]:
    return {row[0] for row in query(folder / "kuma.db", "SELECT host FROM proxy")}


def test_a_replica_with_rows_of_its_own_restores_and_is_no_leader(published: World) -> None:
    world = published
    code, out, _err = on_local(world, "restore", "-v")
    assert (code, out.partition(":")[0]) == (0, "applied 1.1 of alpha")
    edit(world.replica / "kuma.db", "UPDATE proxy SET host = 'mine.example'")
    edit(world.leader / "kuma.db", "UPDATE proxy SET host = 'theirs.example'")
    assert world.on_leader("backup").code == 0
    assert on_local(world, "restore", "--now")[0] == 0
    assert hosts(world.replica) == {"mine.example"}
    code, _out, err = on_local(world, "backup")
    assert code == SettingsError.exit_code
    assert f"backup does not fit REPLICATOR_MODE={LOCAL}: this instance is a replica" in err
    _code, out, _err = on_local(world, "status", "--offline")
    assert "replica of fleet default" in out
    assert "own proxy, remote_browser" in out
    assert StateFile(world.replica / "replicator").load().outcome.role == LOCAL


def test_drift_is_shown_by_status_and_diff(published: World) -> None:
    world = published
    assert world.on_replica("restore").code == 0
    edit(world.replica / "kuma.db", "UPDATE monitor SET name = 'mine' WHERE id = 2")
    assert world.on_replica("restore").code == 0
    out = world.on_replica("status").out
    assert "drift:         since 2" in out
    assert "rows here are no longer those of 1.1" in out
    shown = world.on_replica("status", "--json").json["drift"]
    assert shown["words"].startswith("rows here are no longer those of 1.1")
    diff = world.on_replica("diff").out
    assert diff.startswith("to 1.1 of alpha: 1 monitor changed")
    assert "«mine»" in diff
    assert world.on_replica("restore", "--now").code == 0
    assert "drift" not in world.on_replica("status").out
    assert "no change" in world.on_replica("diff").out


def test_a_strategy_that_heals_does_so_without_now(
    published: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = published
    monkeypatch.setenv("RESTORE_MERGE_STRATEGY", "DEFAULT")
    assert world.on_replica("restore").code == 0
    edit(world.replica / "kuma.db", "UPDATE monitor SET name = 'mine' WHERE id = 2")
    edit(world.replica / "kuma.db", "UPDATE notification SET name = 'mine'")
    assert "applied 1.1 of alpha again: 1 monitor changed" in world.on_replica("restore", "-v").out
    assert world.on_replica("restore", "-v").out == "1.1 is applied; nothing newer\n"
    names = query(world.replica / "kuma.db", "SELECT DISTINCT name FROM notification")
    assert names == [("mine",)]


def test_rules_that_cannot_be_read_stop_what_would_go_by_them_only(
    published: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = published
    file = world.folder / "overrides.toml"
    monkeypatch.setenv("REPLICATOR_OVERRIDES", str(file))
    before = query(world.replica / "kuma.db", "SELECT * FROM monitor")
    for command in ("restore", "diff"):
        done = world.on_replica(command)
        assert done.code == SettingsError.exit_code
        assert f"the file of REPLICATOR_OVERRIDES, {file}, cannot be read" in done.err
    assert query(world.replica / "kuma.db", "SELECT * FROM monitor") == before
    assert world.on_replica("status").code == 0
    assert "FAILED" in world.on_replica("status", "--offline").out
    assert world.on_replica("snapshots").code == 0
    assert world.on_leader("backup").code == 0, "a leader goes by no rules"
    file.write_text('[[rule]]\ntable = "monitor"\nset = { interval = 77 }\n')
    assert world.on_replica("restore").code == 0
    intervals = query(world.replica / "kuma.db", "SELECT DISTINCT interval FROM monitor")
    assert intervals == [(77,)]


def test_a_login_that_cannot_be_read_is_noted_as_the_end_of_a_cycle(published: World) -> None:
    world = published
    (world.replica / "db-config.json").write_text("{")
    done = world.on_replica("restore")
    assert done.code == 4
    assert "db-config.json is not JSON" in done.err
    assert "FAILED" in world.on_replica("status", "--offline").out
