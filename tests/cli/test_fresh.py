"""`status --fresh`, and `--health --max-age`, after real cycles."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from replicator_kuma.base.errors import RepositoryUnreachable
from replicator_kuma.daemon import heartbeat
from replicator_kuma.replication.state.file import StateFile
from tests.cli.conftest import World
from tests.cli.test_commands import now_beat
from tests.support.databases import edit
from tests.support.states import edit_state


def replicated(world: World) -> StateFile:
    """A snapshot is published and applied; the replica's state."""
    world.begin()
    assert world.on_replica("restore").code == 0
    return StateFile(world.replica / "replicator")


def aged(state: StateFile, seconds: float) -> None:
    """As if all that was noted had been noted that long ago."""
    now = state.load()
    assert now.outcome.last is not None
    edit_state(
        state,
        last=dataclasses.replace(now.outcome.last, at=now.outcome.last.at - seconds),
        last_ok_at=now.outcome.last_ok_at - seconds,
        fresh_at=now.outcome.fresh_at - seconds,
    )


def away(world: World) -> None:
    world.repository.fail["snapshots"] = RepositoryUnreachable("no route")


def fresh(world: World, *more: str) -> tuple[int, str]:
    done = world.on_replica("status", "--fresh", *more)
    return done.code, done.out


def test_a_repository_that_is_away_turns_late_and_nothing_else_does(world: World) -> None:
    """Issue 9: under `run` every question about it ended with 0."""
    state = replicated(world)
    now_beat(state.folder)
    assert fresh(world) == (0, "fresh: a cycle last went well 0 s ago\n")
    aged(state, 3000)
    away(world)
    assert world.on_replica("restore").code == 5
    why = "the last cycle failed: no route"
    line = f"late: a cycle last went well 50 min ago, more than 30 min; {why}\n"
    assert fresh(world) == (1, line)
    assert fresh(world, "1h") == (0, f"fresh: a cycle last went well 50 min ago; {why}\n")
    assert world.on_replica("status", "--health").code == 0, "no restart would mend it"
    done = world.on_replica("status", "--health", "--max-age", "30m", "--json")
    assert (done.code, done.json["trouble"]) == (1, line.removeprefix("late: ").strip())
    assert world.on_replica("status", "--health", "--max-age", "1h").code == 0
    assert world.on_replica("status").code == 0
    world.repository.fail.clear()
    assert world.on_replica("restore").code == 0
    assert fresh(world)[0] == 0


def test_a_replica_without_a_leader_is_never_fresh(world: World) -> None:
    assert world.on_leader("init").code == 0
    assert fresh(world) == (1, "late: no cycle has ended yet\n")
    assert world.on_replica("restore").code == 0
    code, line = fresh(world)
    assert (code, "waiting for its leader" in line) == (1, True)
    now_beat(world.replica / "replicator")
    assert world.on_replica("status", "--health").code == 0
    assert world.on_replica("status", "--health", "--max-age", "1h").code == 1


def test_a_held_replica_is_told_until_it_goes_on(world: World) -> None:
    replicated(world)
    assert world.on_replica("restore", "--now", "--snapshot", "1.1").code == 0
    code, line = fresh(world)
    assert (code, line.startswith("held: 1.1 since ")) == (2, True)
    assert world.on_replica("restore").code == 0
    assert fresh(world)[0] == 2
    assert world.on_replica("restore", "--resume").code == 0
    assert fresh(world)[0] == 0


def test_a_refused_snapshot_is_told_at_once_and_through_an_outage(world: World) -> None:
    replicated(world)
    edit(world.leader / "kuma.db", "UPDATE monitor SET name = 'other'")
    edit(world.replica / "kuma.db", "ALTER TABLE tag ADD COLUMN new TEXT")
    assert world.on_leader("backup").code == 0
    assert world.on_replica("restore").code == 12
    code, line = fresh(world)
    assert (code, line.startswith("refused: ")) == (2, True)
    away(world)
    assert world.on_replica("restore").code == 5
    assert fresh(world) == (code, line)
    assert world.on_replica("status", "--offline", "--json").json["refused"] in line


def test_a_fenced_leader_is_told_at_once(world: World) -> None:
    replicated(world)
    assert world.on_replica("promote").code == 0
    assert world.on_leader("status", "--fresh").code == 0, "it has not asked yet"
    edit(world.leader / "kuma.db", "UPDATE monitor SET name = 'other'")
    assert world.on_leader("backup").code == 17
    done = world.on_leader("status", "--fresh", "--json")
    assert (done.code, done.json["verdict"], done.json["exit_code"]) == (2, "fenced", 2)
    assert "beta has published" in done.json["sentence"]


def test_the_interval_of_its_role_says_how_old_it_may_be(world: World) -> None:
    state = replicated(world)
    aged(state, 3000)
    world.monkeypatch.setenv("REPLICATOR_BACKUP_INTERVAL", "1m")
    world.monkeypatch.setenv("REPLICATOR_RESTORE_INTERVAL", "20m")
    assert fresh(world)[0] == 0
    # a crontab names no role: the last cycle's counts
    world.monkeypatch.delenv("REPLICATOR_MODE", raising=False)
    done = world.call("status", "--fresh", "--json", "--data-dir", str(world.replica))
    assert (done.code, done.json["max_age"]) == (0, 3600)
    done = world.call("status", "--fresh", "--json", "--data-dir", str(world.leader))
    assert (done.code, done.json["max_age"]) == (0, 1800)


def test_json_has_what_a_program_needs(world: World) -> None:
    state = replicated(world)
    seen: dict[str, Any] = world.on_replica("status", "--fresh", "45m", "--json").json
    at = seen.pop("last_success_at")
    assert at == world.on_replica("status", "--offline", "--json").json["last_success_at"]
    assert seen == {
        "fresh": True,
        "exit_code": 0,
        "verdict": "fresh",
        "age": seen["age"],
        "max_age": 2700,
        "sentence": f"a cycle last went well {seen['age']} s ago",
    }
    state.path.write_text("{")
    seen = world.on_replica("status", "--fresh", "--json").json
    assert (seen["fresh"], seen["exit_code"], seen["verdict"]) == (False, 1, "late")
    assert (seen["age"], seen["last_success_at"]) == (None, None)
    assert "cannot read" in seen["sentence"]


def test_a_full_disk_turns_late_and_says_why(world: World) -> None:
    state = replicated(world)
    world.monkeypatch.setattr(heartbeat, "ROOM", 1 << 62)
    assert fresh(world)[0] == 0
    aged(state, 3000)
    code, line = fresh(world)
    assert (code, "no space is left in" in line, line.count("\n")) == (1, True, 1)


def test_it_asks_for_no_secret_and_no_repository(world: World) -> None:
    replicated(world)
    away(world)
    world.monkeypatch.setenv("RESTIC_PASSWORD_FILE", str(world.folder / "gone"))
    calls = len(world.repository.calls)
    assert fresh(world)[0] == 0
    assert len(world.repository.calls) == calls
    world.monkeypatch.setenv("REPLICATOR_RESTORE_INTERVAL", "often")
    code, line = fresh(world)
    assert (code, line.count("\n")) == (1, 1)
    assert "REPLICATOR_RESTORE_INTERVAL" in line


@pytest.mark.parametrize(
    "words",
    [("--fresh", "often"), ("--fresh", "--health"), ("--fresh", "--max-age", "1h")],
)
def test_a_wrong_command_line_prints_nothing_on_stdout(
    world: World, words: tuple[str, ...]
) -> None:
    """Its exit code is 2 as well: what is printed, and where, tells them apart."""
    done = world.on_replica("status", *words)
    assert (done.code, done.out) == (2, "")
    assert "Usage: " in done.err


def test_what_0_3_0_leaves_of_the_state_is_enough(world: World) -> None:
    """It passes over what it does not know at the top level, and leaves that out when it writes."""
    state = replicated(world)
    raw = json.loads(state.path.read_text())
    for name in ("fresh_at", "refused"):
        assert raw["state"].pop(name, None) is not None, "it stands at the top level"
    state.path.write_text(json.dumps(raw))
    assert fresh(world) == (0, "fresh: a cycle last went well 0 s ago\n")
