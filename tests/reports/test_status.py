"""What `replicator status` says of engine, choices and drift, for people and for programs."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from replicator_kuma.adapters.repository import Label, Listing, Position, Snapshot
from replicator_kuma.base.errors import RepositoryUnreachable, SettingsError
from replicator_kuma.base.times import moment_of
from replicator_kuma.cli.main import main
from replicator_kuma.config.build import read_policy
from replicator_kuma.config.settings import Settings
from replicator_kuma.daemon import heartbeat
from replicator_kuma.daemon.heartbeat import Beat
from replicator_kuma.dump.catalog import SETTINGS
from replicator_kuma.dump.transform.policy import Policy
from replicator_kuma.replication.state import transitions
from replicator_kuma.replication.state.file import StateFile
from replicator_kuma.replication.state.records import (
    AWAY,
    CYCLE,
    DRIFT,
    HOLD,
    LAGGING,
    Drill,
    FailedAttempt,
    Last,
    Problem,
    SnapshotRef,
)
from replicator_kuma.replication.state.state import State, Upkeep
from replicator_kuma.reports import terminal
from replicator_kuma.reports.document import Status, as_json
from replicator_kuma.reports.health import health
from replicator_kuma.reports.status import Answer, status
from tests.support import old_state
from tests.support.states import edit_state, with_fields
from tests.support.status_schema import faults
from tests.support.tools import restic_018
from tests.support.weak_repository import PASSWORD

LOCAL = "RESTORE_LOCAL_ENTITY_REPLICATION"
RULE = '[[rule]]\ntable = "monitor"\nwhere = { type = "push" }\nset = { active = false }\n'


def settings(folder: Path, mode: str = "RESTORE", **environ: str) -> Settings:
    environ |= {"DATA_DIR": str(folder), "REPLICATOR_MODE": mode, "REPLICATOR_INSTANCE": "beta"}
    return Settings.load(environ)


@pytest.mark.parametrize(
    ("mode", "beat", "words"),
    [
        ("RESTORE", {"hints": "up"}, "ntfy.example is read since 20"),
        ("RESTORE", {"hints": "down", "hints_why": "HTTP 403"}, "gives no hints since 20"),
        ("RESTORE", {}, "come from ntfy.example; nobody reads them now"),
        ("BACKUP", {}, "are sent to ntfy.example at each publish"),
    ],
)
def test_whether_hints_come(tmp_path: Path, mode: str, beat: dict[str, str], words: str) -> None:
    url = "https://u:hush@ntfy.example/secret-topic"
    now = time.monotonic()
    state = StateFile(tmp_path / "replicator")
    state.prepare()
    heartbeat.write(state.folder, Beat(os.getpid(), now, hints_since=now, **beat))  # type: ignore[arg-type]
    told = lines(status(settings(tmp_path, mode, REPLICATOR_SIGNAL_URL=url)))["hints"]
    assert words in told
    assert told.endswith(beat.get("hints_why", told[-1]))
    assert "hush" not in told
    assert "hints" not in lines(status(settings(tmp_path, mode)))


def lines(known: Status) -> dict[str, str]:
    return dict(terminal.lines(known))


@pytest.mark.parametrize(
    ("mode", "words"),
    [("BACKUP", "leader"), ("RESTORE", "replica"), (LOCAL, "replica")],
)
def test_each_mode_has_a_role(tmp_path: Path, mode: str, words: str) -> None:
    known = status(settings(tmp_path, mode))
    assert lines(known)["instance"] == f"beta, {words} of fleet default"
    assert as_json(known)["role"] == mode


def test_a_replica_without_choices(tmp_path: Path) -> None:
    known = status(settings(tmp_path))
    assert lines(known)["strategy"] == "SNAPSHOT"
    assert lines(known)["policy"] == "the leader's rows as they are"
    assert "drift" not in lines(known)
    found = as_json(known)
    assert (found["strategy"], found["drift"], found["engine"]) == ("SNAPSHOT", None, "sqlite")
    assert found["policy"] == {
        "tables_left_out": [],
        "local_entities": [],
        "overrides": None,
        "rules": 0,
        "schema": "strict",
        "on_misfit": "refuse",
        "settings": [],
    }


def test_a_replica_with_every_choice(tmp_path: Path) -> None:
    file = tmp_path / "overrides.toml"
    file.write_text(RULE)
    known = status(
        settings(
            tmp_path,
            LOCAL,
            RESTORE_MERGE_STRATEGY="DEFAULT",
            REPLICATOR_OVERRIDES=str(file),
            REPLICATOR_SCHEMA="compatible",
            REPLICATOR_ON_MISFIT="truncate",
            REPLICATOR_SETTINGS="+primaryBaseURL,-checkBeta",
        )
    )
    assert lines(known)["strategy"] == "DEFAULT"
    assert lines(known)["policy"] == (
        "without notification, monitor_notification; own proxy, remote_browser; "
        f"overrides {file} (1 rule); compatible schemas too; misfits are cut; "
        "settings +primaryBaseURL, -checkBeta"
    )
    assert as_json(known)["policy"] == {
        "tables_left_out": ["notification", "monitor_notification"],
        "local_entities": ["proxy", "remote_browser"],
        "overrides": str(file),
        "rules": 1,
        "schema": "compatible",
        "on_misfit": "truncate",
        "settings": ["+primaryBaseURL", "-checkBeta"],
    }


def test_a_leader_has_no_strategy_and_no_rules(tmp_path: Path) -> None:
    choices = {"RESTORE_MERGE_STRATEGY": "DEFAULT", "REPLICATOR_SETTINGS": "-checkBeta"}
    known = status(settings(tmp_path, "BACKUP", REPLICATOR_OVERRIDES="/none", **choices))
    assert "strategy" not in lines(known)
    assert lines(known)["policy"] == "settings -checkBeta"
    assert as_json(known)["strategy"] is None
    assert as_json(known)["policy"]["overrides"] is None


@pytest.mark.parametrize(
    ("config", "engine"),
    [
        ({"type": "sqlite"}, "sqlite"),
        (
            {"type": "mariadb", "hostname": "127.0.0.1", "dbName": "kuma", "username": "kuma"},
            "mariadb",
        ),
        ({"type": "embedded-mariadb"}, "embedded-mariadb"),
        ({"type": "postgres"}, None),
    ],
)
def test_the_engine_is_told_without_asking_it(
    tmp_path: Path, config: dict[str, str], engine: str | None
) -> None:
    (tmp_path / "db-config.json").write_text(json.dumps(config))
    known = status(settings(tmp_path))
    assert as_json(known)["engine"] == engine
    assert lines(known)["engine"] == (engine or "cannot be told")


def test_drift_is_shown_since_when_it_is_known(tmp_path: Path) -> None:
    edit_state(
        StateFile(tmp_path / "replicator"),
        problems=(Problem(DRIFT, "rows differ", 1.0, "rows differ"),),
    )
    known = status(settings(tmp_path))
    assert lines(known)["drift"] == "since 1970-01-01T00:00:01Z: rows differ"
    assert as_json(known)["drift"] == {"since": "1970-01-01T00:00:01Z", "words": "rows differ"}
    leader = status(settings(tmp_path, "BACKUP"))
    assert "drift" not in lines(leader), "its own rows are what they are"
    assert as_json(leader)["drift"] is None


def test_problems_of_the_role_that_it_had_before_are_none(tmp_path: Path) -> None:
    """Nothing of this role would ever end them."""
    of_replicas, of_leaders = {DRIFT, HOLD, f"{AWAY}repository"}, {LAGGING, "housekeeping"}
    edit_state(
        StateFile(tmp_path / "replicator"),
        problems=tuple(Problem(what, "X", 1.0) for what in (CYCLE, *of_replicas, *of_leaders)),
    )

    def shown(mode: str) -> set[str]:
        return {problem.what for problem in status(settings(tmp_path, mode)).problems}

    assert shown("RESTORE") == {CYCLE} | of_replicas
    assert shown("BACKUP") == {CYCLE} | of_leaders


def test_what_only_this_look_has_seen_was_told_nobody(tmp_path: Path) -> None:
    away = {"repository": RepositoryUnreachable("repository: no route to host")}
    known = status(settings(tmp_path), lambda: Answer(Listing(away=away)))
    assert [(one.what, one.told) for one in known.problems] == [(f"{AWAY}repository", False)]


def test_rules_that_cannot_be_read_keep_nobody_from_the_rest(tmp_path: Path) -> None:
    known = status(settings(tmp_path, REPLICATOR_OVERRIDES=str(tmp_path / "gone.toml")))
    assert "gone.toml, cannot be read: No such file" in lines(known)["policy"]


# --- what the cycles are given ----------------------------------------------------------------


def test_a_policy_is_what_the_settings_say(tmp_path: Path) -> None:
    assert read_policy(settings(tmp_path))() == Policy()
    chosen = settings(
        tmp_path,
        LOCAL,
        RESTORE_MERGE_STRATEGY="NOTIFICATIONS_INSERT_MERGE",
        REPLICATOR_LOCAL_ENTITIES="docker_host",
        REPLICATOR_SCHEMA="compatible",
        REPLICATOR_ON_MISFIT="truncate",
        REPLICATOR_SETTINGS="+nscd",
    )
    assert read_policy(chosen)() == Policy(
        settings=SETTINGS | {"nscd"},
        heal=True,
        local=frozenset({"docker_host"}),
        compatible=True,
        truncate=True,
    )


def test_a_leader_takes_its_own_rows_back_as_they_were(tmp_path: Path) -> None:
    chosen = settings(
        tmp_path,
        "BACKUP",
        RESTORE_MERGE_STRATEGY="DEFAULT",
        REPLICATOR_OVERRIDES="/none.toml",
        REPLICATOR_ON_MISFIT="truncate",
        REPLICATOR_SETTINGS="+nscd",
    )
    assert read_policy(chosen)() == Policy(settings=SETTINGS | {"nscd"})


def test_a_file_of_rules_is_read_at_each_question(tmp_path: Path) -> None:
    file = tmp_path / "overrides.toml"
    file.write_text("")
    policy = read_policy(settings(tmp_path, REPLICATOR_OVERRIDES=str(file)))
    before = policy().fingerprint(["monitor"])
    file.write_text(RULE)
    assert policy().fingerprint(["monitor"]) != before
    file.write_text("# nothing but a comment\n")
    assert policy().fingerprint(["monitor"]) == before


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read: No such file"),
        (b"\xff\xfe", "is not UTF-8 text"),
        (b"[[rule]", "cannot be understood: it is no TOML"),
        (b'[[rule]]\ntable = "heartbeat"\nskip = true\n', "cannot be understood: rule 1"),
    ],
)
def test_a_file_of_rules_that_is_none_is_an_error_with_its_name(
    tmp_path: Path, content: bytes | None, words: str
) -> None:
    file = tmp_path / "overrides.toml"
    if content is not None:
        file.write_bytes(content)
    policy = read_policy(settings(tmp_path, REPLICATOR_OVERRIDES=str(file)))
    with pytest.raises(SettingsError, match=words) as caught:
        policy()
    assert f"the file of REPLICATOR_OVERRIDES, {file}, " in str(caught.value)
    assert "read again at the next cycle" in caught.value.hint


FAILED = Drill(1.0, False, "the drill of snapshot 1.7 failed to fetch: a pack is missing", "1.7")
WENT_WELL = Drill(2.0, True, "1.8 can be recovered", "1.8", (("fetch", 0.5),))


def after_drills(folder: Path, *, last: Drill, failed: Drill | None) -> Status:
    state = StateFile(folder / "replicator")
    state.save(with_fields(state.load(), drill=last, drill_failed=failed))
    return status(settings(folder))


def test_a_cycle_that_runs_is_shown_with_what_it_does(tmp_path: Path) -> None:
    beat = Beat(os.getpid(), time.monotonic(), "ready", 0.0, "cycle", time.monotonic() - 500.0)
    beat = replace(beat, next_cycle=time.time() + 60, step="asking the repository")
    (tmp_path / "replicator").mkdir(mode=0o700)
    heartbeat.write(tmp_path / "replicator", beat)
    known = status(settings(tmp_path))
    since = as_json(known)["supervisor"]["job_since"]
    assert abs(moment_of(since) - (time.time() - 500)) <= 60
    assert lines(known)["cycle"] == f"running since {since}, asking the repository"
    assert "next cycle" not in lines(known)
    edit_state(StateFile(tmp_path / "replicator"), last=Last(time.time(), True, "done"))
    done = status(settings(tmp_path))
    assert "cycle" not in lines(done), "its end is noted, and the sign of life is older"
    assert "next cycle" in lines(done)
    heartbeat.write(tmp_path / "replicator", replace(beat, job="", job_since=0.0, step=""))
    assert lines(status(settings(tmp_path)))["next cycle"].endswith("Z")


def test_a_slow_repository_makes_no_supervisor_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "replicator").mkdir(mode=0o700)
    heartbeat.write(tmp_path / "replicator", Beat(os.getpid(), time.monotonic(), "ready"))

    def ask() -> Answer:
        later = time.monotonic() + heartbeat.STALE + 1
        monkeypatch.setattr(time, "monotonic", lambda: later)
        return Answer()

    assert as_json(status(settings(tmp_path), ask))["supervisor"]["kuma"] == "ready"


def test_a_heartbeat_of_another_version_is_read(tmp_path: Path) -> None:
    path = tmp_path / "replicator"
    path.mkdir(mode=0o700)
    more = {"pid": os.getpid(), "monotonic": time.monotonic(), "kuma": "ready", "more": 1}
    (path / heartbeat.NAME).write_text(json.dumps(more))
    assert heartbeat.alive(heartbeat.read(path))


@pytest.mark.parametrize(
    "text",
    [
        "null",
        '["pid", "monotonic"]',
        '{"pid": 1, "monotonic": null}',
        '{"pid": "1", "monotonic": 1.0}',
        '{"pid": 1, "monotonic": 1.0, "kuma_bad_since": "a while"}',
        '{"pid": 1, "monotonic": 1.0, "kuma": 5}',
        "[" * 100_000,
    ],
)
def test_a_heartbeat_that_is_none_is_no_sign_of_life(tmp_path: Path, text: str) -> None:
    path = tmp_path / "replicator"
    path.mkdir(mode=0o700)
    (path / heartbeat.NAME).write_text(text)
    assert heartbeat.read(path) is None
    assert not heartbeat.lost(path)
    assert health(settings(tmp_path)) is not None
    assert as_json(status(settings(tmp_path)))["supervisor"] is None


def test_the_last_drill_is_shown(tmp_path: Path) -> None:
    known = after_drills(tmp_path, last=WENT_WELL, failed=None)
    assert lines(known)["last drill"].endswith(" ago: 1.8 can be recovered")
    assert as_json(known)["drill"] == {
        "at": "1970-01-01T00:00:02Z",
        "ok": True,
        "position": "1.8",
        "sentence": "1.8 can be recovered",
        "steps": {"fetch": 0.5},
        "kuma": False,
        "failed_at": None,
    }
    assert as_json(known)["drill_failed"] is None


@pytest.mark.parametrize("last", [FAILED, WENT_WELL])
def test_a_failed_drill_is_unhealthy_until_it_is_mended(tmp_path: Path, last: Drill) -> None:
    known = after_drills(tmp_path, last=last, failed=FAILED)
    assert as_json(known)["drill_failed"] == FAILED.sentence
    assert FAILED.sentence in "".join(lines(known).values())
    beat = Beat(os.getpid(), time.monotonic(), "ready", 0.0, "", 0.0, 0.0)
    heartbeat.write(tmp_path / "replicator", beat)
    assert health(settings(tmp_path)) == FAILED.sentence
    after_drills(tmp_path, last=WENT_WELL, failed=None)
    assert health(settings(tmp_path)) is None


@pytest.mark.parametrize(
    ("at", "again", "mended"),
    [("fetch", False, True), ("start", False, False), ("start", True, True), ("kill", True, False)],
)
def test_a_kuma_that_did_not_boot_is_mended_by_one_that_does(
    at: str, again: bool, mended: bool
) -> None:
    before = replace(FAILED, kuma=True, failed_at=at)
    known = State(writer="w", upkeep=Upkeep(drill_failed=before))
    after = transitions.drilled(known, replace(WENT_WELL, kuma=again))
    assert after.upkeep.drill_failed == (None if mended else before)
    assert transitions.drilled(known, FAILED).upkeep.drill_failed == FAILED


def test_who_was_promoted_and_has_the_old_mode_is_told(tmp_path: Path) -> None:
    label = Label("default", Position(2, 1), "d" * 64, "5" * 16, "w", "beta")
    newest = Snapshot("a" * 64, label, "2031-05-01T10:00:00Z")
    edit_state(StateFile(tmp_path / "replicator"), published=SnapshotRef.of(newest))

    def told(newest: Snapshot, mode: str) -> dict[str, str]:
        return lines(status(settings(tmp_path, mode), lambda: Answer(Listing([newest]))))

    assert "set REPLICATOR_MODE=BACKUP here" in told(newest, "RESTORE")["to do"]
    assert "to do" not in told(newest, "BACKUP")
    later = replace(newest, label=replace(label, position=Position(2, 2)))
    assert "to do" not in told(later, "RESTORE")


def test_a_kill_while_kuma_started_is_told_until_the_snapshot_is_applied(tmp_path: Path) -> None:
    file = StateFile(tmp_path / "replicator")
    file.prepare()
    assert "killed" not in lines(status(settings(tmp_path)))
    killed = FailedAttempt(
        aim="a:b",
        position="1.2",
        outages=1,
        at=time.time(),
        sentence="Uptime Kuma was killed by signal 9 (out of memory?) while it started on 1.2",
        signal=9,
    )
    for outages, again in ((1, "at the next cycle"), (2, "not before 20")):
        edit_state(file, failed=replace(killed, outages=outages))
        known = status(settings(tmp_path))
        said = lines(known)["killed"]
        assert said.startswith(killed.sentence)
        assert again in said
        assert as_json(known)["killed"] == said
    leader = status(settings(tmp_path, "BACKUP"))  # which tries nothing again by itself
    assert "killed" not in lines(leader)
    assert as_json(leader)["killed"] is None
    edit_state(file, failed=replace(killed, signal=0))
    assert "killed" not in lines(status(settings(tmp_path)))


@pytest.mark.restic
@pytest.mark.parametrize("name", old_state.ROWS_OF)
def test_status_of_what_0_3_0_left_says_what_0_3_0_said_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """Each member and the exit code; there may be new members."""
    old_state.unpack("repository", tmp_path)
    old_state.put(tmp_path / name, name)
    code, said = old_state.recorded_status(name)
    for variable, value in {
        "REPLICATOR_MODE": said["role"],
        "REPLICATOR_INSTANCE": said["instance"],
        "DATA_DIR": str(tmp_path / name),
        "RESTIC_REPOSITORY": str(tmp_path / "repository"),
        "RESTIC_PASSWORD": PASSWORD,
        "REPLICATOR_RESTIC": str(restic_018()),
    }.items():
        monkeypatch.setenv(variable, value)
    assert main(["status", "--json"]) == code
    now = json.loads(capsys.readouterr().out)
    assert faults(now) == []
    # for these two 0.3.0 was asked when the rival's 2.1 was in the repository
    later = {"newest", "newest_leader", "behind"} if name in ("fenced", "rival") else set()
    assert {key: now[key] for key in said if key not in later} == {
        key: value for key, value in said.items() if key not in later
    }
