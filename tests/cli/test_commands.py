"""Each command on real databases, with a folder in restic's place."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shlex
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from replicator_kuma.adapters.repository import Position
from replicator_kuma.base.errors import RepositoryUnreachable, WrongPassword
from replicator_kuma.base.folders import Folder
from replicator_kuma.config import same_settings
from replicator_kuma.config.build import build
from replicator_kuma.config.settings import Settings
from replicator_kuma.daemon import heartbeat
from replicator_kuma.daemon.control import ControlServer
from replicator_kuma.daemon.heartbeat import Beat, trouble
from replicator_kuma.daemon.request import Request
from replicator_kuma.replication.instance import Hint, Run
from replicator_kuma.replication.push import parsed
from replicator_kuma.replication.state.file import StateFile
from replicator_kuma.replication.state.records import Pending, Restart, SnapshotRef
from replicator_kuma.reports.doctor import setup
from replicator_kuma.reports.doctor.findings import Finding, Level, exit_code
from tests.cli.conftest import World
from tests.support.databases import edit, query
from tests.support.memory import MEMORY
from tests.support.ntfy import Topic
from tests.support.states import edit_state, failing
from tests.support.tools import ROOT


def test_init_is_harmless_when_there_is_one(world: World) -> None:
    assert world.on_leader("init").out == "created the repository\n"
    assert world.on_leader("init").out == "the repository is there already\n"
    assert world.on_leader("init", "--json").json == {"created": False}
    assert world.on_leader("init", "-q").out == ""


def test_a_backup_needs_a_repository(world: World) -> None:
    done = world.on_leader("backup")
    assert (done.code, "replicator init" in done.err) == (8, True)


def test_a_cycle_there_and_back(world: World) -> None:
    world.begin()
    assert world.on_replica("restore", "-v").out.startswith("applied 1.1 of alpha: ")
    sql = "SELECT id, name, url FROM monitor ORDER BY id"
    assert query(world.replica / "kuma.db", sql) == query(world.leader / "kuma.db", sql)
    assert world.on_replica("restore", "-v").out == "1.1 is applied; nothing newer\n"
    edit(world.replica / "kuma.db", "UPDATE monitor SET name = 'mine' WHERE id = 2")
    assert (
        world.on_replica("restore", "-v").out
        == "1.1 is applied; nothing newer; rows here differ from it\n"
    )
    done = world.on_replica("restore", "--now", "--json").json
    assert done["outcome"] == "applied"
    assert done["changes"]["tables"]["monitor"]["changed"] == 1


def test_a_cycle_of_cron_waits_after_a_restart_of_kuma(world: World) -> None:
    world.begin()
    assert world.on_replica("restore").code == 0
    edit(world.leader / "kuma.db", "UPDATE monitor SET name = 'newer' WHERE id = 2")
    assert world.on_leader("backup").code == 0
    began = time.time()
    edit_state(StateFile(world.replica / "replicator"), restart=Restart(began - 40, began - 45))
    world.monkeypatch.setenv("REPLICATOR_KUMA", "command")
    for name, line in (("STOP", "exit 9"), ("START", "exit 9"), ("STATUS", "exit 0")):
        world.monkeypatch.setenv(f"REPLICATOR_KUMA_{name}_COMMAND", line)
    done = world.on_replica("restore")
    assert (done.code, done.out, done.err) == (0, "", "")
    assert world.on_replica("restore", "-v").out.startswith("1.2 waits until ")
    result = world.on_replica("restore", "--json").json
    shown = world.on_replica("status", "--json").json
    assert (result["outcome"], result["position"]) == ("waiting", "1.2")
    assert result["waits_until"] is not None
    assert result["waits_until"] == shown["waits_until"]
    assert "a change is applied at " in world.on_replica("status").out
    assert world.on_replica("status", "--health").code == 0
    assert world.on_replica("restore", "--now").code == 14, "at once: the stop is tried"


@pytest.mark.parametrize("arguments", [("diff",), ("restore", "--now", "--dry-run")])
def test_a_preview_tells_and_touches_nothing(world: World, arguments: tuple[str, ...]) -> None:
    world.begin()
    before = (world.replica / "kuma.db").read_bytes()
    done = world.on_replica(*arguments)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("to 1.1 of alpha: 9 monitors added")
    assert done.out.count("\nmonitor ") >= 9
    data = world.on_replica(*arguments, "--json").json
    assert data["snapshot"]["position"] == "1.1"
    assert data["changes_by_table"]["tables"]["monitor"]["added"] == 9
    assert sum(change["table"] == "monitor" for change in data["changes"]) >= 9
    assert (world.replica / "kuma.db").read_bytes() == before
    assert StateFile(world.replica / "replicator").load().following.applied is None


def test_a_preview_ends_with_the_command_for_it(world: World) -> None:
    """The position is named: what was newest at a time may be another one a minute later."""
    world.begin()
    edit(world.leader / "kuma.db", "UPDATE monitor SET name = 'newer' WHERE id = 2")
    assert world.on_leader("backup").code == 0
    world.repository.date("1.2", "2031-01-02T00:00:00Z")
    given = ("--at", "2031-01-01 12:00", "--dry-run")
    last = world.on_leader("rollback", *given).out.splitlines()[-1]
    assert last.startswith("nothing was changed; to do it: replicator rollback 1.1 --mode BACKUP")
    assert last.endswith(f"--data-dir {world.leader}")
    edit(world.leader / "kuma.db", "UPDATE monitor SET name = 'newest' WHERE id = 2")
    last = world.on_leader("rollback", *given).out.splitlines()[-1]
    assert last.startswith("rows here were never published, and would be lost. Publish them first")
    assert "were never published" not in world.on_leader("rollback", *given, "--force").out
    assert world.on_replica("restore").code == 0
    command = world.on_replica("restore", "--now", *given, "--json").json["command"]
    assert command.startswith("replicator restore --now --snapshot 1.1 --mode RESTORE")
    assert world.on_replica(*shlex.split(command)[1:]).code == 0
    done = world.on_replica("restore", "--now", *given)
    assert "to do it" not in done.out  # it is so already
    done = world.on_replica("restore", "--resume", "--dry-run")
    assert "to do it: replicator restore --resume --mode" in done.out
    done = world.on_replica("restore", "--now", "--dry-run")  # --now alone is refused: it holds
    assert "to do it: replicator restore --resume --mode" in done.out


@pytest.mark.parametrize(
    ("side", "line"), [("leader", "restore --now"), ("replica", "rollback 1.1")]
)
def test_a_preview_names_no_command_that_its_role_refuses(
    world: World, side: str, line: str
) -> None:
    world.begin()
    edit(world.leader / "kuma.db", "UPDATE monitor SET name = 'newer' WHERE id = 2")
    call = world.on_leader if side == "leader" else world.on_replica
    said = call(*line.split()).err
    done = call(*line.split(), "--dry-run")
    assert done.code == 0
    assert "to do it" not in done.out
    last = done.out.splitlines()[-1]
    assert last.startswith(f"nothing was changed; {line.split()[0]} does not fit REPLICATOR_MODE=")
    assert last.removeprefix("nothing was changed; ").partition(". ")[0] in said
    assert call(*line.split(), "--dry-run", "--json").json["command"] is None


def test_a_preview_of_nothing(world: World) -> None:
    world.begin()
    assert world.on_replica("restore").code == 0
    assert world.on_replica("diff", "--json").json["changes"] == []


@pytest.mark.parametrize(("command", "side"), [("backup", "replica"), ("restore", "leader")])
def test_commands_fit_the_mode(world: World, command: str, side: str) -> None:
    call = world.on_leader if side == "leader" else world.on_replica
    done = call(command)
    assert (done.code, "does not fit REPLICATOR_MODE" in done.err) == (3, True)
    assert world.repository.calls == []


def test_promote_tells_what_to_set(world: World) -> None:
    world.begin()
    done = world.on_replica("promote")
    assert done.code == 0
    assert "REPLICATOR_MODE=BACKUP" in done.out
    assert world.on_leader("backup").code == 17
    done = world.on_leader("status")
    assert (done.code, done.out.count("\nfenced:")) == (17, 1)
    assert "beta leads fleet default now, at 2.1" in done.out
    assert world.on_leader("status", "--json").code == 17
    assert StateFile(world.replica / "replicator").load().outcome.role == "BACKUP"


def test_a_lock_keeps_two_cycles_apart(world: World) -> None:
    world.begin()
    with StateFile(world.leader / "replicator").lock():
        done = world.on_leader("backup")
        assert (done.code, "--wait" in done.err) == (16, True)
        assert world.on_leader("backup", "--wait=1s").code == 16
    assert world.on_leader("backup", "--wait").code == 0


def test_a_shrunk_leader_publishes_when_told_so(world: World) -> None:
    world.begin()
    edit(world.leader / "kuma.db", "PRAGMA foreign_keys = ON", "DELETE FROM monitor WHERE id > 3")
    assert world.on_leader("backup").code == 18
    assert world.on_leader("backup", "--allow-shrink").code == 0


def test_a_replica_follows_a_shrink_when_told_so(world: World) -> None:
    world.begin()
    assert world.on_replica("restore", "--now").code == 0
    edit(world.leader / "kuma.db", "PRAGMA foreign_keys = ON", "DELETE FROM monitor WHERE id > 3")
    with world.monkeypatch.context() as context:
        context.setenv("REPLICATOR_SHRINK_LIMIT", "off")
        assert world.on_leader("backup").code == 0
    done = world.on_replica("restore")
    assert (done.code, "1.2 of alpha would take 9 of 12 monitors" in done.err) == (22, True)
    assert "replicator restore --now --allow-shrink" in done.err
    shown = world.on_replica("status")
    assert "not applied:   1.2 of alpha would take 9 of 12" in shown.out
    assert shown.code == 22
    said = world.on_replica("status", "--json").json["shrink_refused"]
    assert said.startswith("1.2 of alpha would take 9 of 12 monitors")
    assert world.on_replica("restore", "--allow-shrink").code == 2
    assert world.on_replica("restore", "--now", "--allow-shrink").code == 0
    assert world.on_replica("status", "--json").json["shrink_refused"] is None


def test_snapshots(world: World) -> None:
    assert world.on_leader("init").code == 0
    assert world.on_leader("snapshots").out == "fleet default has no snapshot yet\n"
    assert world.on_leader("backup").code == 0
    head, row = world.on_leader("snapshots").out.splitlines()
    columns = ["position", "time", "leader", "digest", "rows", "monitors", "id"]
    assert head.split() == columns
    assert row.split()[:4] == ["*", "1.1", "2031-01-01T00:00:00Z", "alpha"]
    [entry] = world.on_replica("snapshots", "--json").json
    assert (entry["position"], entry["leader"], entry["held"]) == ("1.1", "alpha", False)
    assert entry["monitors"] == 12


def test_a_leader_holds_what_it_published_not_what_it_once_took_back(world: World) -> None:
    world.begin()
    state = StateFile(world.leader / "replicator")
    edit_state(state, applied=state.load().leading.published)
    edit(world.leader / "kuma.db", "UPDATE monitor SET name = 'newer' WHERE id = 2")
    assert world.on_leader("backup").code == 0
    entries = world.on_leader("snapshots", "--json").json
    assert [entry["held"] for entry in entries] == [False, True]


def test_failures_are_noted_and_told_once(world: World) -> None:
    world.begin()
    state = StateFile(world.leader / "replicator")
    world.repository.fail["snapshots"] = WrongPassword("no key fits")
    edit(world.leader / "kuma.db", "UPDATE monitor SET name = 'newer' WHERE id = 2")
    assert world.on_leader("backup").code == 6
    last = state.load()
    assert last.outcome.last is not None
    assert (last.outcome.last.ok, last.outcome.last.error, last.outcome.last.exit_code) == (
        False,
        "WrongPassword",
        6,
    )
    assert last.failing_since > 0
    report = world.on_leader("status", "--offline", "--json").json
    assert report["last_cycle"]["error"] == "WrongPassword"
    assert report["failing_since"] is not None
    assert world.on_leader("backup").code == 0
    assert state.load().failing_since == 0


def test_status(world: World) -> None:
    world.begin()
    report = world.on_replica("status", "--json").json
    assert (report["role"], report["instance"]) == ("RESTORE", "beta")
    assert (report["newest"], report["behind"], report["applied"]) == ("1.1", 1, None)
    assert report["supervisor"] is None
    assert world.on_replica("restore").code == 0
    report = world.on_replica("status", "--json").json
    assert (report["behind"], report["applied"]["position"]) == (0, "1.1")
    text = world.on_replica("status").out
    assert "1.1 of alpha, 2031-01-01T00:00:00Z, in place" in text
    assert "beta, replica of fleet default" in text
    leader = world.on_leader("status").out
    assert "published:     snapshot 1.1 of alpha" in leader


def test_status_without_a_repository(world: World) -> None:
    assert "none in this fleet" in world.begin().on_replica("status", "--fleet", "new").out
    world.repository.fail["snapshots"] = RepositoryUnreachable("no route")
    done = world.on_replica("status")
    assert (done.code, "unknown: no route" in done.out) == (0, True)
    world.monkeypatch.delenv("RESTIC_PASSWORD")
    report = world.on_replica("status", "--json").json
    assert "RESTIC_PASSWORD is unset" in report["newest_unknown"]


def test_status_of_an_apply_that_is_not_confirmed(world: World) -> None:
    state = StateFile(world.replica / "replicator")
    mark = SnapshotRef(Position(1, 2), "d", "s", "f" * 64, leader="alpha")
    edit_state(state, pending=Pending(mark, "a", "b"), bad=("x",), problems=failing("KumaError"))
    text = world.on_replica("status", "--offline").out
    assert "unconfirmed:   1.2" in text
    assert "newest:        not asked" in text
    assert "failing since: 1970-01-01T00:00:01Z" in text
    assert world.on_replica("status", "--offline", "--json").json["unconfirmed"] == "1.2"


def now_beat(folder: Path, **changes: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    beat = Beat(pid=1, monotonic=time.monotonic(), kuma="ready", next_cycle=time.time() + 5)
    heartbeat.write(folder, dataclasses.replace(beat, **changes))


def test_health(world: World) -> None:
    folder = world.replica / "replicator"
    assert world.on_replica("status", "--health").code == 1
    now_beat(folder)
    done = world.on_replica("status", "--health", "--json")
    assert (done.code, done.json) == (0, {"healthy": True, "trouble": None})
    assert "process 1, Kuma ready" in world.on_replica("status", "--offline").out
    (folder / "state.json").write_text("{")
    assert world.on_replica("status", "--health").code == 1
    (folder / "supervisor.json").write_text("[]")
    assert "not running" in world.on_replica("status", "--health").out
    assert world.on_replica("status", "--health", "--fleet", "a b").code == 1


def test_health_under_cron_is_the_last_cycle_s(world: World) -> None:
    replica = world.replica / "replicator"

    def healthy(*more: str) -> tuple[int, Any]:
        done = world.on_replica("status", "--health", *more, "--json")
        return done.code, done.json["trouble"]

    world.begin()
    assert healthy() == (1, "replicator run is not running here, and no cycle has ended yet")
    assert world.on_replica("restore").code == 0
    assert healthy() == healthy("--max-age", "1h") == (0, None)
    state = StateFile(replica)
    last = state.load().outcome.last
    assert last is not None
    edit_state(state, last=dataclasses.replace(last, at=last.at - 7300), fresh_at=last.at - 7300)
    sentence = "a cycle last went well 2 h 1 min ago, more than 2 h"
    assert healthy("--max-age", "2h") == (1, sentence)
    assert healthy("--max-age", "3h") == healthy() == (0, None)
    world.repository.fail["snapshots"] = RepositoryUnreachable("no network")
    assert world.on_replica("restore").code == 5
    assert healthy() == (1, "the last cycle failed: no network")
    assert world.on_replica("status", "--offline").code == 0, "a report is no check"
    assert world.on_replica("restore").code == 0
    assert healthy() == (0, None)
    world.monkeypatch.setattr(heartbeat, "ROOM", 1 << 62)
    assert "no space is left in" in healthy()[1]
    assert world.on_replica("status", "--max-age", "1h").code == 2


def test_status_says_so_where_nothing_can_be_noted(world: World) -> None:
    world.begin()
    assert world.on_replica("restore").code == 0
    assert world.on_replica("status", "--offline", "--json").json["not_noted"] is None
    world.monkeypatch.setattr(heartbeat, "ROOM", 1 << 62)
    seen = world.on_replica("status", "--offline", "--json").json["not_noted"]
    assert seen.startswith("no space is left in")
    assert f"not noted:     {seen}" in world.on_replica("status", "--offline").out


def test_health_is_the_supervisor_s_where_one_has_run_and_ended(world: World) -> None:
    world.begin()
    folder = world.replica / "replicator"
    now_beat(folder)
    heartbeat.remove(folder)
    assert world.on_replica("restore").code == 0
    last = StateFile(folder).load().outcome.last
    assert last is not None
    # so that the cycle was the supervisor's, a beat's time before its end
    os.utime(folder / "supervisor.ended", (last.at - 10, last.at - 10))
    done = world.on_replica("status", "--health")
    assert (done.code, "replicator run is not running here" in done.out) == (1, True)
    (folder / "supervisor.ended").unlink()
    assert world.on_replica("status", "--health").code == 0


@pytest.mark.parametrize("end", ["in order", "killed", "rebooted"])
def test_health_is_cron_s_again_once_a_cycle_has_ended_after_the_supervisor(
    world: World, end: str
) -> None:
    world.begin()
    folder = world.replica / "replicator"
    assert world.on_replica("restore").code == 0
    now_beat(folder, monotonic=time.monotonic() + (1e6 if end == "rebooted" else -1e6))
    if end == "in order":
        heartbeat.remove(folder)
    name = "supervisor.ended" if end == "in order" else "supervisor.json"
    assert world.on_replica("status", "--health").code == 1
    an_hour_ago = time.time() - 3600
    os.utime(folder / name, (an_hour_ago, an_hour_ago))
    assert world.on_replica("restore").code == 0
    assert world.on_replica("status", "--health").code == 0
    world.repository.fail["snapshots"] = RepositoryUnreachable("no network")
    assert world.on_replica("restore").code == 5
    assert world.on_replica("status", "--health").out == "the last cycle failed: no network\n"
    assert world.on_replica("restore").code == 0
    # one that hangs still holds its door open, and its worker may end cycles
    server = ControlServer(folder, lambda *_: {})
    server.start()
    assert world.on_replica("status", "--health").code == 1
    server.close()
    assert world.on_replica("status", "--health").code == 0


def test_the_time_of_an_orderly_end_is_its_own(world: World) -> None:
    """Its last beat may be older than the last cycle that it ended."""
    folder = world.replica / "replicator"
    now_beat(folder)
    os.utime(folder / "supervisor.json", (1.0, 1.0))
    before = time.time() - 1
    heartbeat.remove(folder)
    assert heartbeat.seen_at(folder) >= before


def test_health_asks_for_no_secret(world: World) -> None:
    now_beat(world.replica / "replicator")
    world.monkeypatch.delenv("RESTIC_PASSWORD")
    world.monkeypatch.setenv("RESTIC_PASSWORD_FILE", str(world.folder / "gone"))
    assert world.on_replica("status", "--health").code == 0
    assert world.on_replica("status").code == 3


def test_health_tells_a_full_disk_from_a_supervisor_that_is_gone(world: World) -> None:
    now_beat(world.replica / "replicator", monotonic=0.0)
    assert world.on_replica("status", "--health").out == "the supervisor gives no sign of life\n"
    world.monkeypatch.setattr(heartbeat, "ROOM", 1 << 62)
    done = world.on_replica("status", "--health")
    assert (done.code, "and no space is left in" in done.out) == (1, True)


@pytest.mark.parametrize(
    ("beat", "words"),
    [
        (Beat(1, 1000.0), None),
        (Beat(1, 900.0), "no sign of life"),
        (Beat(1, 5000.0), "no sign of life"),
        (Beat(1, 1000.0, "starting", kuma_bad_since=990.0), None),
        (Beat(1, 1000.0, "other", kuma_bad_since=600.0), "does not come back (other)"),
        (Beat(1, 1000.0, "ready", job="cycle", job_since=-9000.0), "'cycle' does not end"),
        (Beat(1, 1000.0, "migrating", job="start", job_since=-9000.0), None),
    ],
)
def test_what_is_unhealthy(beat: Beat, words: str | None) -> None:
    found = trouble(beat, now=1001.0)
    assert found is None if words is None else words in (found or "")


Found = dict[str, list[dict[str, Any]]]


def findings(world: World, *arguments: str) -> Found:
    found: Found = {}
    for entry in world.on_replica("doctor", "--json", *arguments).json["findings"]:
        found.setdefault(entry["check"], []).append(entry)
    return found


def levels(found: Found) -> dict[str, str]:
    return {name: entries[0]["level"] for name, entries in found.items()}


def test_doctor_finds_nothing_wrong(world: World) -> None:
    world.begin()
    done = world.on_replica("doctor")
    assert (done.code, "FAIL" in done.out) == (0, False)
    assert "OK   schema: Uptime Kuma 2" in done.out
    assert (
        "WARN notifications: nobody is told of failures\n     Set NTFY_URL or REPLICATOR_NOTIFY.\n"
        in done.out
    )
    assert world.on_replica("doctor", "-q").out == ""


def test_doctor_finds_what_is_odd(world: World) -> None:
    world.begin()
    world.repository.warnings.append("snapshot x is ignored")
    edit(
        world.replica / "kuma.db",
        "CREATE TABLE tomorrow (id INTEGER PRIMARY KEY)",
        "CREATE TABLE _litestream_seq (id INTEGER PRIMARY KEY, seq INTEGER)",
        "INSERT INTO setting (key, value) VALUES ('tomorrowsKey', '1')",
        "INSERT INTO monitor_tag (monitor_id, tag_id, value) VALUES (9999, 1, '')",
        "INSERT INTO knex_migrations (name, batch) VALUES ('2099-01-01-0000-tomorrow.js', 99)",
    )
    world.monkeypatch.setenv("NTFY_URL", "http://127.0.0.1:9/topic")
    world.monkeypatch.setenv("REPLICATOR_FLEED", "x")
    world.monkeypatch.setattr(setup, "LEAST_SPACE", 1 << 62)
    now_beat(world.replica / "replicator", kuma="other", kuma_bad_since=0.001)
    found = findings(world)
    texts = {name: " ".join(entry["message"] for entry in found[name]) for name in found}
    assert "tomorrow" in texts["unknown tables"]
    assert "_litestream" not in texts["unknown tables"]  # it makes them where it streams
    assert "tomorrowsKey" in texts["unknown settings"]
    assert "monitor_tag.monitor_id" in texts["references"]
    assert "has not met" in texts["schema"]
    assert "snapshot x is ignored" in texts["repository"]
    assert "did you mean REPLICATOR_FLEET?" in texts["settings"]
    assert "iB left" in texts["state directory"]
    assert "told: ntfy" in texts["notifications"]
    assert "ntfy at 127.0.0.1:9: no connection" in texts["notification targets"]
    assert "in the future" in texts["clock"]
    assert "does not come back" in texts["supervisor"]
    assert world.on_replica("doctor").code == 0


@pytest.mark.parametrize("refusals", [[], [403]])
def test_doctor_tries_the_hints(world: World, refusals: list[int]) -> None:
    world.begin()
    with contextlib.closing(Topic()) as topic:
        world.monkeypatch.setenv("REPLICATOR_SIGNAL_URL", topic.topic_url)
        topic.refusals = [*refusals]
        [found] = findings(world)["hints"]
        assert found["level"] == ("WARN" if refusals else "OK")
        assert f"{'cannot' if refusals else 'can'} be read at {topic.address}" in found["message"]
        assert ("does not accept" in found["message"]) == bool(refusals)
        said = world.on_leader("doctor").out
        assert f"OK   hints: hints can be sent at {topic.address}" in said
    [message] = topic.messages
    newest = world.repository.snapshots("default")[-1]
    assert parsed(message["message"], "default") == Hint(newest.position, newest.id)


def test_doctor_sees_two_leaders(world: World) -> None:
    world.begin()
    [snapshot] = world.repository.snapshots("default")
    rival = dataclasses.replace(snapshot.label, writer="ffff", leader="gamma")
    world.repository.add(world.repository.folder / snapshot.id, rival)
    found = findings(world)["newest snapshot"][0]
    assert (found["level"], found["exit_code"]) == ("FAIL", 17)


def test_doctor_fails_as_the_next_cycle_would(world: World) -> None:
    world.begin()
    assert world.on_replica("restore").code == 0
    assert world.on_leader("doctor").code == 0
    other = ("--instance", "gamma", "--state-dir", str(world.folder / "gamma"))
    assert world.on_leader("doctor", *other).code == 17
    [snapshot] = world.repository.snapshots("default")
    state = StateFile(world.replica / "replicator")
    edit_state(state, bad=(snapshot.id,))
    assert world.on_replica("doctor").code == 11
    (world.repository.folder / f"{snapshot.id}.json").unlink()
    for call in (world.on_leader, world.on_replica):
        done = call("doctor")
        assert done.code == 10
        assert "FAIL newest snapshot: the repository holds no snapshot of" in done.out


def test_doctor_tells_of_the_last_cycle(world: World) -> None:
    assert levels(findings(world))["last cycle"] == "OK"
    world.begin()
    edit(world.leader / "kuma.db", "PRAGMA foreign_keys = ON", "DELETE FROM monitor WHERE id > 3")
    assert world.on_leader("backup").code == 18
    done = world.on_leader("doctor")
    assert "WARN last cycle: failed: 9 of 12 monitors are gone" in done.out
    assert "backup --allow-shrink" in done.out
    assert world.on_leader("backup", "--allow-shrink").code == 0
    assert "OK   last cycle: published 1.2" in world.on_leader("doctor").out


def test_doctor_on_an_empty_file(world: World) -> None:
    world.begin()
    (world.replica / "kuma.db").write_bytes(b"")
    done = world.on_replica("doctor")
    assert (done.code, done.err) == (4, "")


def test_doctor_on_a_full_disk(world: World) -> None:
    """/dev/full takes an empty write, as a full disk takes an empty file."""
    write = Folder.write

    def filled(self: Folder, name: str, fill: Callable[[BinaryIO], object]) -> None:
        def into_full(_file: BinaryIO) -> None:
            with Path("/dev/full").open("wb", 0) as disk:
                fill(disk)

        write(self, name, into_full)

    world.monkeypatch.setattr(Folder, "write", filled)
    found = findings(world)["state directory"]
    assert [entry["exit_code"] for entry in found] == [19]
    assert list((world.replica / "replicator").glob("*doctor*")) == []


def test_doctor_in_an_empty_fleet(world: World) -> None:
    assert world.on_leader("init").code == 0
    found = findings(world)
    assert levels(found)["newest snapshot"] == "WARN"
    assert "clock" not in found


def test_doctors_exit_code_is_that_of_the_first_failure(world: World) -> None:
    world.repository.fail["check_access"] = WrongPassword("no key fits")
    done = world.on_replica("doctor")
    assert done.code == 6
    assert "FAIL repository: no key fits" in done.out
    (world.replica / "kuma.db").write_bytes(b"this is no database" * 100)
    assert world.on_replica("doctor").code in (8, 4)
    world.begin()
    assert world.on_replica("doctor").code == 4
    (world.replica / "kuma.db").unlink()
    assert levels(findings(world))["database"] == "FAIL"


def test_doctor_without_settings(world: World) -> None:
    done = world.call("doctor", "--json")
    assert (done.code, done.json["exit_code"]) == (3, 3)
    assert done.json["findings"][0]["check"] == "settings"
    assert "FAIL settings: REPLICATOR_MODE is unset" in world.call("doctor", "-q").out


def test_doctor_without_folders(world: World, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = findings(world, "--state-dir", str(tmp_path / "file"))
    assert found["state directory"][0]["exit_code"] == 19
    missing = levels(findings(world, "--data-dir", str(tmp_path / "none")))
    assert (missing["data directory"], missing["state directory"]) == ("FAIL", "FAIL")
    assert not (tmp_path / "none").exists()


def test_doctor_on_two_file_systems(world: World) -> None:
    here = world.folder.stat().st_dev
    others = [place for place in (MEMORY, ROOT) if place.is_dir() and place.stat().st_dev != here]
    if not others:
        pytest.skip("this machine has one file system only")
    with tempfile.TemporaryDirectory(prefix=".tests-", dir=others[0]) as other:
        assert levels(findings(world, "--state-dir", other))["state directory"] == "WARN"


def test_the_first_failure_counts() -> None:
    assert exit_code([Finding("a", Level.WARN, ""), Finding("b", Level.OK, "")]) == 0
    failed = [Finding("a", Level.FAIL, "", exit_code=7), Finding("b", Level.FAIL, "", exit_code=4)]
    assert exit_code(failed) == 7
    assert exit_code([Finding("a", Level.FAIL, "")]) == 1


def test_an_instance_is_what_the_settings_say(world: World) -> None:
    environ = {
        "DATA_DIR": str(world.leader),
        "REPLICATOR_INSTANCE": "x",
        "REPLICATOR_EXCLUDE_TABLES": "incident",
        "REPLICATOR_KUMA": "docker",
        "REPLICATOR_KUMA_CONTAINER": "kuma",
    }
    instance = build(Settings.load(environ), run=Run(force=True))
    assert (instance.name, instance.kuma.name, instance.run.force) == ("x", "docker", True)
    assert "incident" not in instance.tables
    assert not instance.supervised
    assert json.loads(json.dumps(sorted(instance.tables)))[0] == "api_key"


@pytest.mark.parametrize(
    ("side", "line"),
    [
        ("leader", "backup --allow-shrink --wait"),
        ("leader", "backup --fleet default --mode BACKUP"),
        ("leader", "undo --wait=5m"),
        ("leader", "rollback 1.7 --force"),
        ("leader", "rollback --at 2020-01-01"),
        ("replica", "restore"),
        ("replica", "restore --now --allow-shrink --force"),
        ("replica", "restore --now --snapshot 1.7 --wait=366d"),
        ("replica", "restore --now --at 2020-01-01"),
        ("replica", "restore --resume"),
        ("replica", "undo 3 --force"),
        ("replica", "promote --force --wait=1s"),
        ("replica", "drill --kill"),
    ],
)
def test_a_supervisor_lets_each_command_ask(world: World, side: str, line: str) -> None:
    asked: list[tuple[str, Mapping[str, Any]]] = []

    def answer(command: str, options: Mapping[str, Any], _progress: object) -> dict[str, Any]:
        if command == same_settings.COMMAND:
            return {"same": list(options["digests"]), "has": {}}
        assert Request.of(command, options).options() == options
        asked.append((command, options))
        return {"sentence": "done", "warnings": []}

    leads = side == "leader"
    folder = (world.leader if leads else world.replica) / "replicator"
    folder.mkdir(mode=0o700, exist_ok=True)
    server = ControlServer(folder, answer)
    server.start()
    try:
        done = (world.on_leader if leads else world.on_replica)(*line.split())
    finally:
        server.close()
    assert (done.code, done.err, len(asked)) == (0, "", 1)
