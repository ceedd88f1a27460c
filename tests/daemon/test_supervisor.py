"""`replicator run` as a process, with a fake Kuma and scripted cycles."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from replicator_kuma.adapters.kuma.readiness import Readiness
from replicator_kuma.adapters.repository import Position
from replicator_kuma.base.errors import Interrupted, NothingKept, RepositoryMissing, SettingsError
from replicator_kuma.daemon import control, heartbeat
from replicator_kuma.daemon.supervisor import Supervisor, Watch
from replicator_kuma.daemon.worker import Job, Worker
from replicator_kuma.replication.actions import Backup
from replicator_kuma.replication.instance import Outcome
from replicator_kuma.replication.state.file import StateFile
from replicator_kuma.replication.state.records import Last, Pending, SnapshotRef
from tests.cli.harness import Run
from tests.support.databases import build, edit
from tests.support.folder_repository import FolderRepository
from tests.support.instances import make_instance
from tests.support.kuma_server import free_port
from tests.support.mariadb import Server, short_folder
from tests.support.states import edit_state
from tests.support.supervised import FAKE_KUMA
from tests.support.waiting import wait_until


def without_notes(calls: list[str]) -> list[str]:
    return [call for call in calls if not call.startswith("notif")]


def test_a_replica_with_a_database_is_reconciled_before_kuma_starts(tmp_path: Path) -> None:
    with Run(tmp_path / "r", "RESTORE") as run:
        run.until("confirm")
        assert run.calls == ["before_start", "restore True None", "kuma start -", "confirm"]


def test_a_replica_with_an_empty_directory_starts_kuma_without_its_set_up_page(
    tmp_path: Path,
) -> None:
    with Run(tmp_path / "r", "RESTORE", database=False) as run:
        run.until("restore True None")
        assert run.calls == ["before_start", "kuma start sqlite", "confirm", "restore True None"]


def test_a_replica_whose_mariadb_is_still_empty_stays_on_it(
    tmp_path: Path, mariadb: Server
) -> None:
    """UPTIME_KUMA_DB_TYPE wins over db-config.json: sqlite in it would be another database."""
    run = Run(tmp_path / "r", "RESTORE", database=False)
    mariadb.database("still_empty", run.data_dir)
    with run:
        run.until("kuma start -")


def test_a_database_that_is_chosen_while_it_runs_is_found(tmp_path: Path) -> None:
    """Kuma's set-up page writes db-config.json, long after `replicator run` has started."""
    run = Run(tmp_path / "r", "BACKUP", REPLICATOR_BACKUP_INTERVAL="1s")
    run.start("run")
    with contextlib.ExitStack() as stack:
        stack.push(run)
        run.logged("no table 'user'")
        config = {"type": "mariadb", "hostname": "127.0.0.1", "port": free_port()}
        config |= {"dbName": "kuma", "username": "kuma", "password": "x"}
        (run.data_dir / "db-config.json").write_text(json.dumps(config))
        run.logged("Kuma's MariaDB")


def test_an_operators_choice_of_the_database_stays(tmp_path: Path, mariadb: Server) -> None:
    environ = mariadb.database("chosen", tmp_path / "elsewhere").environment
    with Run(tmp_path / "r", "RESTORE", database=False, **environ) as run:
        run.until("kuma start mariadb")


def test_a_leader_starts_kuma_first_and_asks_the_repository_then(tmp_path: Path) -> None:
    with Run(tmp_path / "r", "BACKUP") as run:
        run.until("backup False True")
        assert run.calls == ["before_start", "kuma start -", "confirm", "backup False True"]


def test_a_leader_without_a_database_asks_first_and_takes_back_then(tmp_path: Path) -> None:
    run = Run(tmp_path / "r", "BACKUP", database=False)
    run.script("backup", outcome="waiting", position=True)
    with run:
        run.until("backup False True", times=2)
        assert without_notes(run.calls)[:3] == [
            "before_start",
            "backup False True",
            "kuma start sqlite",
        ]


def test_a_new_leader_is_left_on_its_set_up_page(tmp_path: Path) -> None:
    run = Run(tmp_path / "r", "BACKUP", database=False)
    run.script("backup", error="DatabaseMissing")
    with run:
        run.logged("set-up page")
        run.until("backup False True", times=2)
        assert "kuma start -" in run.calls
        assert "confirm" not in run.calls


def test_kuma_starts_although_the_repository_never_answers(tmp_path: Path) -> None:
    run = Run(tmp_path / "r", "RESTORE", SCRIPT_BUDGET="0.3")
    run.script("restore", hold=60, repository=True)
    with run:
        run.until("restore True None", times=2)
        assert run.calls[:5] == [
            "before_start",
            "restore True None",
            "restore interrupted",
            "kuma start -",
            "confirm",
        ]
        assert "gave no answer within 0.3 s" in run.log


@pytest.mark.parametrize("error", ["WrongPassword", "DatabaseCorrupt", "AnyBugAtAll"])
def test_kuma_starts_although_everything_fails(tmp_path: Path, error: str) -> None:
    run = Run(tmp_path / "r", "RESTORE")
    for task in ("before_start", "restore", "confirm"):
        run.script(task, error=error)
    with run:
        run.until("kuma start -")
        run.until("restore True None", times=2)
        assert run.end()[0] == 0


def test_sigterm_ends_kuma_in_order_and_gives_its_exit_code(tmp_path: Path) -> None:
    run = Run(tmp_path / "r", "RESTORE")
    run.script("behaviour", stopping=1.0, exit_code=7)
    with run:
        run.until("confirm")
        code, took = run.end()
    assert code == 7
    assert 1.0 <= took < 10.0
    assert run.calls[-3:] == ["kuma term", "kuma end", "notifier closed"]
    assert not (run.data_dir / "replicator" / "control.sock").exists()


def test_a_supervisor_that_ended_in_order_leaves_no_sign_of_life(tmp_path: Path) -> None:
    run = Run(tmp_path / "r", "BACKUP")
    with run:
        run.until("backup False True")
        assert (run.data_dir / "replicator" / "supervisor.json").exists()
        assert run.end()[0] == 0
    assert not (run.data_dir / "replicator" / "supervisor.json").exists()
    assert heartbeat.seen_at(run.data_dir / "replicator"), "cron has not taken over"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_other_signals_end_it_as_well(tmp_path: Path, number: int) -> None:
    with Run(tmp_path / "r", "RESTORE") as run:
        run.until("confirm")
        assert run.end(number)[0] == 0
        assert "kuma end" in run.calls


def test_sigterm_interrupts_a_cycle(tmp_path: Path) -> None:
    run = Run(tmp_path / "r", "BACKUP")
    run.script("backup", hold=60)
    with run:
        run.until("backup False True")
        code, took = run.end()
    assert code == 0
    assert took < 10.0
    assert "backup interrupted" in run.calls


def test_sigterm_while_a_cycle_has_kuma_stopped_starts_it_no_more(tmp_path: Path) -> None:
    run = Run(tmp_path / "r", "BACKUP")
    run.script("backup", stop=True, hold=60, start_after_interrupt=True)
    with run:
        run.until("stopped")
        code, took = run.end()
    assert code == 0
    assert took < 10.0
    assert [call for call in run.calls if call.startswith("kuma start")] == ["kuma start -"]


def test_sigterm_waits_for_the_end_of_a_migration(tmp_path: Path) -> None:
    run = Run(tmp_path / "r", "BACKUP")
    run.script("behaviour", migrating=2.0)
    with run:
        run.until("kuma start -")
        run.logged("Uptime Kuma migrates")
        assert run.end()[0] == 0
    assert run.at("kuma term") - run.at("kuma start -") >= 2.0


def test_sigterm_waits_while_the_tables_say_that_kuma_migrates(tmp_path: Path) -> None:
    """Only the last part of a migration answers on the port: before it Kuma seems to start."""
    run = Run(tmp_path / "r", "BACKUP")
    (run.data_dir / "kuma.db").unlink()
    build(run.data_dir / "kuma.db", monitors=1)
    run.script("behaviour", starting=60)
    with run:
        run.until("kuma start -")
        edit(run.data_dir / "kuma.db", "UPDATE knex_migrations_lock SET is_locked = 1")
        run.send(signal.SIGTERM)
        run.logged("Uptime Kuma migrates")
        with pytest.raises(subprocess.TimeoutExpired):
            run.wait(1.5)
        edit(run.data_dir / "kuma.db", "UPDATE knex_migrations_lock SET is_locked = 0")
        run.wait()


def test_sigterm_waits_for_a_kuma_that_has_begun_to_change_its_schema(tmp_path: Path) -> None:
    """1.x sets no lock; half of a patch leaves a database on which no Kuma starts again."""
    run = Run(tmp_path / "r", "BACKUP")
    (run.data_dir / "kuma.db").unlink()
    build(run.data_dir / "kuma.db", monitors=1)
    run.script("behaviour", starting=3)
    with run:
        run.until("kuma start -")
        edit(run.data_dir / "kuma.db", "ALTER TABLE monitor ADD COLUMN tomorrow INTEGER")
        assert run.end()[0] == 0
    assert run.at("kuma term") - run.at("kuma start -") >= 3


@pytest.mark.parametrize("kind", ["mariadb", "embedded-mariadb"])
def test_kumas_end_waits_for_no_database_that_does_not_answer(tmp_path: Path, kind: str) -> None:
    """MariaDB takes the connection and does not greet: a container has ten seconds in all."""
    family = socket.AF_UNIX if kind == "embedded-mariadb" else socket.AF_INET
    with short_folder() as folder, socket.socket(family) as silent:
        run = Run(folder / "r", "BACKUP", database=False)
        run.script("behaviour", starting=60)
        if family == socket.AF_UNIX:
            (run.data_dir / "run").mkdir()
            silent.bind(str(run.data_dir / "run" / "mariadb.sock"))
            config: dict[str, object] = {"type": kind}
        else:
            silent.bind(("127.0.0.1", 0))
            config = {"type": kind, "hostname": "127.0.0.1", "port": silent.getsockname()[1]}
            config |= {"dbName": "kuma", "username": "kuma", "password": "x"}
        (run.data_dir / "db-config.json").write_text(json.dumps(config))
        with run:
            run.until("kuma start -")
            silent.listen(100)
            asked = time.monotonic()
            run.send(signal.SIGTERM)
            run.until("kuma term")
            assert time.monotonic() - asked < 40  # it starts for a minute
            run.wait()


def test_that_wait_has_an_end_where_nothing_says_that_kuma_migrates(tmp_path: Path) -> None:
    run = Run(tmp_path / "r", "BACKUP", database=False, REPLICATOR_READY_TIMEOUT="2s")
    run.script("behaviour", starting=60)
    with run:
        run.until("kuma start -")
        build(run.data_dir / "kuma.db", monitors=1)
        assert run.end()[1] < 5


def test_kuma_is_not_waited_for_longer_because_a_message_is_on_its_way(tmp_path: Path) -> None:
    def seconds(name: str) -> float:
        run = Run(tmp_path / name, "RESTORE")
        run.script("notifier", hold=60)
        with run:
            run.until("confirm")
            return run.end()[1]

    # (a busy machine has quiet moments)
    assert any(seconds(name) < 1.0 for name in ("a", "b", "c", "d"))


def test_a_start_that_is_interrupted_complains_of_nothing(tmp_path: Path) -> None:
    run = Run(tmp_path / "r", "RESTORE")
    run.script("behaviour", starting=60)
    with run:
        run.until("kuma start -")
        run.end()
    assert " error " not in run.log
    assert "notifications: " not in run.log


def test_kumas_own_end_becomes_ours(tmp_path: Path) -> None:
    run = Run(tmp_path / "r", "BACKUP")
    run.script("behaviour", die_after=1.0, exit_code=3)
    run.script("backup", hold=60)
    with run:
        run.until("backup False True")
        assert run.wait() == 3
    assert "backup interrupted" in run.calls
    assert "ended by itself, with exit code 3" in run.log


def test_a_kuma_that_is_killed_gives_the_code_of_the_signal(tmp_path: Path) -> None:
    with Run(tmp_path / "r", "BACKUP") as run:
        run.until("backup False True")
        children = Path(f"/proc/{run.process and run.process.pid}/task")
        [pid] = {
            int(child)
            for task in children.iterdir()
            for child in (task / "children").read_text().split()
            if b"fake_kuma" in Path(f"/proc/{child}/cmdline").read_bytes()
        }
        os.kill(pid, signal.SIGKILL)
        assert run.wait() == 137
        assert "Uptime Kuma was killed by signal 9 (out of memory?)" in run.log


def test_kuma_stopped_by_a_cycle_does_not_end_the_supervisor(tmp_path: Path) -> None:
    run = Run(tmp_path / "r", "BACKUP")
    run.script("backup", stop=True, hold=0.5, start=True)
    with run:
        run.until("kuma start -", times=2)
        run.logged("scripted backup went well")
        run.script("backup")
        run.send(signal.SIGUSR1)
        run.until("backup False False")
        assert run.end()[0] == 0


def test_kuma_that_cannot_be_started_again_ends_the_supervisor(tmp_path: Path) -> None:
    run = Run(tmp_path / "r", "BACKUP")
    run.script("backup", stop=True, error="KumaError")
    with run:
        assert run.wait() == 14
    assert "could not be started again" in run.log


def test_kuma_that_cannot_be_started_at_all(tmp_path: Path) -> None:
    run = Run(tmp_path / "r", "BACKUP", REPLICATOR_KUMA_COMMAND="/nonexistent/kuma")
    with run:
        assert run.wait() == 14
    assert "could not be started" in run.log


def test_rows_on_which_kuma_does_not_start_are_put_back(tmp_path: Path) -> None:
    run = Run(tmp_path / "r", "RESTORE")
    mark = SnapshotRef(Position(1, 2), "d", "s", "f" * 64)
    edit_state(StateFile(run.data_dir / "replicator"), pending=Pending(mark, "a", "b"))
    run.script("behaviour", die_at_start=1)
    with run:
        run.until("notify Uptime Kuma does not come back")
        assert without_notes(run.calls)[2:6] == [
            "kuma start -",
            "kuma died",
            "roll_back",
            "kuma start -",
        ]
        assert run.end()[0] == 0


def test_a_start_does_not_try_a_bad_snapshot_again(tmp_path: Path) -> None:
    run = Run(tmp_path / "r", "RESTORE")
    failed = Last(1.0, False, "it is not tried again", error="SnapshotRefused")
    edit_state(StateFile(run.data_dir / "replicator"), bad=("f" * 64,), last=failed)
    run.script("restore", error="SnapshotRefused")
    with run:
        run.until("restore False None", times=2)
        assert "restore True None" not in run.calls


def test_a_slow_kuma_is_not_left_behind_because_the_state_cannot_be_read(tmp_path: Path) -> None:
    run = Run(tmp_path / "r", "RESTORE", REPLICATOR_READY_TIMEOUT="1s")
    state = run.data_dir / "replicator" / "state.json"
    state.parent.mkdir(mode=0o700)
    state.write_text("{")
    run.script("behaviour", serves=False)
    with run:
        run.until("notify Uptime Kuma does not come back")
        run.until("restore True None", times=2)
        assert run.end()[0] == 0
        assert "kuma end" in run.calls


def test_a_kuma_that_dies_at_its_start_ends_the_supervisor(tmp_path: Path) -> None:
    run = Run(tmp_path / "r", "RESTORE")
    run.script("behaviour", die_at_start=5)
    with run:
        assert run.wait() == 5
    assert "roll_back" not in run.calls


def test_failing_cycles_go_on_and_are_told_once(tmp_path: Path) -> None:
    run = Run(tmp_path / "r", "BACKUP", REPLICATOR_BACKUP_INTERVAL="1s")
    run.script("backup", error="RepositoryUnreachable")
    with run:
        run.until("backup False False", times=2)
        run.script("backup", error="WrongPassword")
        run.until("notify backup fails", times=2)
        run.script("backup", outcome="published")
        run.until("notify backup works again")
        run.logged("works again after")
        assert run.calls.count("notify backup fails") == 2
        state = StateFile(run.data_dir / "replicator").load()
        assert state.outcome.last is not None
        assert (state.outcome.last.ok, state.outcome.last.outcome, state.failing_since) == (
            True,
            "published",
            0.0,
        )


def test_sigusr1_starts_a_cycle_now(tmp_path: Path) -> None:
    with Run(tmp_path / "r", "RESTORE") as run:
        run.until("confirm")
        wait_until(lambda: "next_cycle" in beat(run) and beat(run)["next_cycle"], "a schedule")
        run.send(signal.SIGUSR1)
        run.until("restore False None")


def test_a_cycle_that_is_asked_for_during_another_comes_after_it(tmp_path: Path) -> None:
    """The one under way may have read the rows already: what was edited since would wait."""
    run = Run(tmp_path / "r", "BACKUP")
    run.script("backup", hold=1.5)
    with run:
        run.until("backup False True")
        run.script("backup")
        for _ in range(3):
            run.send(signal.SIGUSR1)
        assert "backup False False" not in run.calls
        run.until("backup False False")
        assert run.end()[0] == 0
    assert run.calls.count("backup False False") == 1


def test_what_waits_comes_when_its_time_is_up_and_not_an_interval_later(tmp_path: Path) -> None:
    run = Run(tmp_path / "r", "RESTORE", REPLICATOR_RESTORE_INTERVAL="1h")
    run.script("restore", outcome="waiting", waits=1.5)
    with run:
        run.until("restore True None", times=3)
        assert "restore False None" not in run.calls, "what the start owes, it still does"
        run.script("restore", outcome="waiting", waits=3.0)
        run.until("restore True None", times=run.calls.count("restore True None") + 1)
        run.script("restore")
        run.until("restore True None", times=run.calls.count("restore True None") + 1)
        regular = lambda: float(str(beat(run)["next_cycle"])) > time.time() + 600  # noqa: E731
        wait_until(regular, "the next cycle to be the regular one")
        assert run.end()[0] == 0
    told = [line for line in run.log.splitlines() if "scripted restore went well" in line]
    assert [line.split()[2] for line in told[:3]] == ["info", "debug", "debug"]


def test_a_command_that_is_refused_puts_off_nothing_that_waits(tmp_path: Path) -> None:
    run = Run(tmp_path / "r", "RESTORE", REPLICATOR_RESTORE_INTERVAL="1h")
    run.script("restore", outcome="waiting", waits=4.0)
    run.script("undo", error="NothingKept")
    with run:
        run.until("confirm")
        wait_until(lambda: "next_cycle" in beat(run) and beat(run)["next_cycle"], "a schedule")
        run.script("restore")
        assert run.command("undo").returncode == NothingKept.exit_code
        assert run.calls.count("restore True None") == 1
        run.until("restore True None", times=2)


def test_the_sign_of_life_tells_of_the_cycle_for_what_waits(tmp_path: Path) -> None:
    run = Run(tmp_path / "r", "RESTORE", REPLICATOR_RESTORE_INTERVAL="1h")
    run.script("restore", outcome="waiting", waits=300.0)
    with run:
        run.until("confirm")
        wait_until(lambda: "next_cycle" in beat(run) and beat(run)["next_cycle"], "a schedule")
        assert 200 < float(str(beat(run)["next_cycle"])) - time.time() < 301
        assert run.calls.count("restore True None") == 1
        run.script("restore")
        run.send(signal.SIGUSR1)
        run.until("restore True None", times=2)
        run.send(signal.SIGUSR1)
        run.until("restore False None")


def beat(run: Run) -> dict[str, object]:
    path = run.data_dir / "replicator" / "supervisor.json"
    return dict(json.loads(path.read_text())) if path.exists() else {}


def test_a_second_supervisor_is_refused(tmp_path: Path) -> None:
    with Run(tmp_path / "r", "RESTORE") as run:
        run.until("confirm")
        second = run.command("run")
        assert second.returncode == 16
        assert "another supervisor" in second.stderr
        assert "kuma end" not in run.calls


def test_a_look_of_doctor_at_the_lock_keeps_no_supervisor_from_starting(tmp_path: Path) -> None:
    stub = cast(Supervisor, SimpleNamespace(_folder=tmp_path))
    with (tmp_path / heartbeat.LOCK).open("w") as looks:
        fcntl.flock(looks, fcntl.LOCK_SH)
        threading.Timer(0.1, fcntl.flock, (looks, fcntl.LOCK_UN)).start()
        with Supervisor._alone(stub):
            pass


def test_a_killed_supervisors_socket_and_locks_are_no_hindrance(tmp_path: Path) -> None:
    run = Run(tmp_path / "r", "RESTORE", REPLICATOR_KUMA="none")
    run.start().until("restore True None")
    run.send(signal.SIGKILL)
    run.wait()
    assert (run.data_dir / "replicator" / "control.sock").exists()
    with run:
        run.until("restore True None", times=2)


def test_a_run_tells_that_the_one_before_it_was_killed(tmp_path: Path) -> None:
    """Once, when it works again; not after an orderly end."""
    told = "notify runs again after a kill"
    run = Run(tmp_path / "r", "RESTORE", REPLICATOR_KUMA="none")
    for number, kills in enumerate((True, False, False), start=1):
        run.start().until("restore True None", times=number)
        wait_until(lambda: heartbeat.read(run.data_dir / "replicator"), "a sign of life")
        if kills:
            run.send(signal.SIGKILL)
            run.wait()
            assert told not in run.calls
        else:
            run.until(told)
            assert run.end()[0] == 0
    assert run.calls.count(told) == 1
    assert run.log.count("ended without a word; last sign of life 20") == 1


def test_a_supervisor_waits_for_a_command_that_has_the_lock(tmp_path: Path) -> None:
    run = Run(tmp_path / "r", "RESTORE")
    with StateFile(run.data_dir / "replicator").lock():
        run.start().logged("waiting for another replicator")
        assert run.calls == []
    try:
        run.until("confirm")
    finally:
        assert run.end()[0] == 0


def test_a_command_is_done_by_the_supervisor(tmp_path: Path) -> None:
    run = Run(tmp_path / "r", "RESTORE")
    with run:
        run.until("confirm")
        run.script("restore", outcome="applied", position=True)
        wait_until(lambda: beat(run), "a sign of life")
        done = run.command("restore", "--now", "--snapshot", "1.7", "-v", "--wait")
        assert (done.returncode, done.stdout) == (0, "scripted restore went well\n"), done.stderr
        assert "scripted restore …" in done.stderr
        assert run.calls[-1] == "restore True 1.7"
        silent = run.command("restore", "--wait=10s")
        assert (silent.returncode, silent.stdout, silent.stderr) == (0, "", "")
        assert run.command("promote", "--force").stdout == "scripted promote went well\n"
        assert run.calls[-1] == "promote True"


def test_a_commands_failure_keeps_its_exit_code(tmp_path: Path) -> None:
    run = Run(tmp_path / "r", "RESTORE")
    with run:
        run.until("confirm")
        run.script("restore", error="WrongPassword")
        done = run.command("restore", "--now", "--json", "--wait")
        assert done.returncode == 6
        error = json.loads(done.stdout)["error"]
        assert (error["kind"], error["message"]) == ("WrongPassword", "scripted failure")
        assert "RESTIC_PASSWORD" in error["hint"]
        run.script("restore", error="AnyBugAtAll")
        assert run.command("restore", "--now", "--wait").returncode == 1


def test_a_command_stands_behind_a_scheduled_cycle(tmp_path: Path) -> None:
    run = Run(tmp_path / "r", "BACKUP")
    run.script("backup", hold=3.0)
    with run:
        run.until("backup False True")
        run.script("backup")
        assert run.command("backup").returncode == 0
        assert run.calls.count("backup False True") == 2


def test_a_command_waits_for_another_persons_only_if_told_so(tmp_path: Path) -> None:
    run = Run(tmp_path / "r", "BACKUP")
    with run:
        run.until("backup False True")
        run.script("backup", hold=5.0)
        with run.command_started("backup", "--allow-shrink"):
            run.until("backup True True")
            busy = run.command("backup")
            assert (busy.returncode, "busy" in busy.stderr) == (16, True)
            run.script("backup")
            assert run.command("backup", "--wait").returncode == 0


def test_a_command_with_other_settings_is_refused(tmp_path: Path) -> None:
    with Run(tmp_path / "r", "RESTORE") as run:
        run.until("confirm")
        wrong = run.command("backup", "--mode", "BACKUP", "--wait")
        assert (wrong.returncode, "RESTORE there, BACKUP here" in wrong.stderr) == (3, True)
        assert run.command("restore", "--fleet", "other", "--wait").returncode == 3


def test_health_and_status_of_a_running_instance(tmp_path: Path) -> None:
    with Run(tmp_path / "r", "RESTORE") as run:
        run.until("confirm")
        wait_until(lambda: beat(run).get("kuma") == "ready", "a ready Kuma")
        health = run.command("status", "--health")
        assert (health.returncode, health.stdout) == (0, "healthy\n")
        status = json.loads(run.command("status", "--offline", "--json").stdout)
        assert status["supervisor"]["kuma"] == "ready"
        assert status["last_cycle"]["sentence"] == "scripted restore went well"


def test_a_kuma_that_is_not_our_child_outlives_us(tmp_path: Path) -> None:
    run = Run(
        tmp_path / "r",
        "BACKUP",
        REPLICATOR_KUMA="command",
        REPLICATOR_KUMA_STOP_COMMAND=f"echo 0 kuma stop >>{tmp_path}/r/calls",
        REPLICATOR_KUMA_START_COMMAND=f"echo 0 kuma start >>{tmp_path}/r/calls",
        REPLICATOR_READY_TIMEOUT="1s",
    )
    run.script("backup", stop=True, hold=60)
    with run:
        run.until("stopped")
        edit_state(StateFile(run.data_dir / "replicator"), stopped_by_me=True)
        assert run.end()[0] == 0
    assert run.calls[-2:] == ["kuma start", "notifier closed"]


def test_a_command_that_the_supervisor_does_not_know(tmp_path: Path) -> None:
    with Run(tmp_path / "r", "RESTORE") as run:
        run.until("confirm")
        with pytest.raises(SettingsError, match="knows no command"):
            control.ask(run.data_dir / "replicator", "destroy", {"wait": 20}, lambda _step: None)
        wanted = Backup().to_json() | {"wait": 20}
        with pytest.raises(SettingsError, match="does not fit"):
            control.ask(run.data_dir / "replicator", "backup", wanted, lambda _step: None)
        for options in ({"wait": "20"}, {"wait": [1]}, {"force": "no"}, {"leads": True}, {}):
            with pytest.raises(SettingsError, match=r"of restore|must be"):
                control.ask(run.data_dir / "replicator", "restore", options, lambda _step: None)
        assert "this is a bug" not in run.log


def test_a_supervisor_that_ends_takes_no_more_commands() -> None:
    worker = Worker()
    worker.start()
    assert worker.call(Job("first", lambda _tell: 1), 0.0) == 1
    assert worker.idle
    assert worker.close(5)
    assert not worker.submit(Job("late", lambda _tell: 2))
    with pytest.raises(Interrupted):
        worker.call(Job("late", lambda _tell: 2), 0.0)


def test_jobs_that_wait_when_it_ends_are_not_begun() -> None:
    worker, leave = Worker(), threading.Event()
    worker.start()
    held = Job("held", lambda _tell: leave.wait(60))
    queued = Job("queued", lambda _tell: pytest.fail("it was begun"))
    assert worker.submit(held)
    assert worker.submit(queued)
    wait_until(lambda: worker.current == "held", "the first job")
    assert not worker.close(0.1)
    leave.set()
    assert queued.done.wait(60)
    assert isinstance(queued.error, Interrupted)


def test_a_signal_ends_the_wait_for_the_lock(tmp_path: Path) -> None:
    run = Run(tmp_path / "r", "RESTORE")
    with StateFile(run.data_dir / "replicator").lock():
        run.start().logged("waiting for another replicator")
        assert run.end()[0] == 0
    assert run.calls == ["notifier closed"]


def test_only_a_leader_that_never_published_creates_the_repository(tmp_path: Path) -> None:
    repository = FolderRepository(tmp_path / "repository")
    instance = make_instance(tmp_path / "leader", repository)
    build(tmp_path / "leader" / "kuma.db", monitors=1)
    with pytest.raises(RepositoryMissing):
        Backup().run(instance, instance.run)
    instance.supervised = True
    assert Backup().run(instance, instance.run).outcome is Outcome.PUBLISHED
    shutil.rmtree(repository.folder)
    with pytest.raises(RepositoryMissing):
        Backup(reconcile=True).run(instance, instance.run)
    state = instance.state.load()
    edit_state(instance.state, published=None, applied=state.leading.published)
    with pytest.raises(RepositoryMissing):
        Backup(reconcile=True).run(instance, instance.run)


def test_logs_as_json(tmp_path: Path) -> None:
    with Run(tmp_path / "r", "RESTORE", REPLICATOR_LOG_FORMAT="json", REPLICATOR_MOD="x") as run:
        run.logged("did you mean REPLICATOR_MODE")
        run.end()
    entries = [json.loads(line) for line in run.log.splitlines()]
    assert any("did you mean REPLICATOR_MODE" in entry["message"] for entry in entries)
    assert {"time", "level", "message", "logger"} <= entries[0].keys()


def test_the_command_itself(tmp_path: Path) -> None:
    """`replicator run` with nothing scripted: a leader whose Kuma is not set up."""
    run = Run(tmp_path / "r", "BACKUP", database=False, REPLICATOR_RESTIC="/nonexistent/restic")
    run.environment.pop("REPLICATOR_KUMA_COMMAND")
    run.start("run", "--", sys.executable, str(FAKE_KUMA), str(run.folder), str(run.port))
    try:
        run.logged("set-up page")
        run.logged("cannot run /nonexistent/restic")
    finally:
        assert run.end()[0] == 0


def test_a_watch_counts_from_the_first_bad_look() -> None:
    watch = Watch(lambda: None, 1.0)
    watch.note(Readiness.READY)
    assert (watch.kuma, watch.bad_since) == ("ready", 0.0)
    watch.note(None)
    first = watch.bad_since
    assert first > 0
    watch.note(Readiness.OTHER)
    assert (watch.kuma, watch.bad_since) == ("other", first)
    watch.note(Readiness.MIGRATING)
    assert watch.bad_since == 0.0
