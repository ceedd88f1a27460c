"""The command line itself: help, speed, the error boundary, when it speaks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest

from replicator_kuma import __version__
from replicator_kuma.base.errors import Interrupted, WrongPassword
from replicator_kuma.cli import dispatch, options, output
from replicator_kuma.cli.main import COMMANDS, cli, main
from replicator_kuma.config.variables import VARIABLES
from replicator_kuma.replication.actions import Backup
from replicator_kuma.replication.instance import CycleResult, Instance, Outcome, Run
from tests.cli.conftest import World
from tests.support.waiting import wait_until

REPLICATOR = [sys.executable, "-m", "replicator_kuma"]


def test_version_tells_the_version() -> None:
    """How fast, tests/test_performance.py holds."""
    done = subprocess.run(
        [*REPLICATOR, "--version"], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout == f"replicator {__version__}\n"


def test_a_health_check_is_cheap(tmp_path: Path) -> None:
    """It runs every two minutes in each container: nothing heavy is imported for it."""
    script = (
        "import sys; before = set(sys.modules); from replicator_kuma.cli.main import main; "
        f"assert main(['status', '--health', '--data-dir', {str(tmp_path)!r}]) == 1; "
        "heavy = {'requests', 'sqlite_utils', 'schedule', 'sqlite3', 'ssl', 'http.client'}; "
        "print(sorted(heavy & set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout.splitlines() == [
        "replicator run is not running here, and no cycle has ended yet",
        "[]",
    ]


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help_with_an_example(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([name, "--help"]) == 0
    text = capsys.readouterr().out
    assert "Example" in text
    assert f"replicator {name}" in text


def test_the_help_lists_all_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"\n  {name} " in text for name in COMMANDS)
    assert "_REPLICATOR_COMPLETE=bash_source" in text


def test_every_option_of_a_variable_exists_somewhere() -> None:
    context = click.Context(cli)
    options = set()
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        options |= {text for parameter in command.params for text in parameter.opts}
    assert {v.option for v in VARIABLES.values() if v.option} <= options


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("restore", "--snapshot", "1.7"),
        ("backup", "--wait=soon"),
        ("backup", "--mode", "LEADER"),
        ("restore", "extra"),
    ],
)
def test_a_wrong_command_line(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert "Error: " in capsys.readouterr().err


def scripted(error: BaseException | None = None, warnings: tuple[str, ...] = ()) -> object:
    def work(_action: Backup, _instance: Instance, run: Run) -> CycleResult:
        run.progress("working")
        if error is not None:
            raise error
        return CycleResult(Outcome.PUBLISHED, "published 1.1", warnings=warnings)

    return work


def test_an_error_has_its_code_and_tells_what_to_try(world: World) -> None:
    world.monkeypatch.setattr(Backup, "run", scripted(WrongPassword("no key fits")))
    done = world.on_leader("backup")
    assert (done.code, done.out) == (6, "")
    assert done.err == f"Error: no key fits\n{WrongPassword.hint}\n"


def test_an_error_for_programs(world: World) -> None:
    world.monkeypatch.setattr(Backup, "run", scripted(WrongPassword("no key fits", hint="")))
    done = world.on_leader("backup", "--json")
    assert done.code == 6
    assert done.json == {
        "error": {
            "kind": "WrongPassword",
            "message": "no key fits",
            "hint": "",
            "exit_code": 6,
        }
    }


def test_a_bug_shows_where(world: World) -> None:
    world.monkeypatch.setattr(Backup, "run", scripted(ZeroDivisionError("oops")))
    done = world.on_leader("backup")
    assert (done.code, done.out) == (1, "")
    assert "Traceback" in done.err
    assert "This is a bug in replicator-kuma" in done.err


@pytest.mark.parametrize("error", [KeyboardInterrupt(), Interrupted("asked to end")])
def test_interrupted(world: World, error: BaseException) -> None:
    world.monkeypatch.setattr(Backup, "run", scripted(error))
    assert world.on_leader("backup").code == 130


def test_ctrl_c_asks_first_and_ends_then() -> None:
    with dispatch.interruptible() as interrupted:
        assert not interrupted()
        os.kill(os.getpid(), signal.SIGTERM)
        assert interrupted()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_reader_that_goes_away_is_no_bug() -> None:
    shell = f"{' '.join(REPLICATOR)} doctor --json | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", shell], capture_output=True, text=True, check=True, timeout=60
    )
    assert "Traceback" not in done.stderr


def test_a_cycle_that_went_well_is_silent_in_cron(world: World) -> None:
    world.monkeypatch.setattr(Backup, "run", scripted(warnings=("odd row",)))
    assert world.on_leader("backup") == type(world.on_leader("backup"))(0, "", "")


def test_a_cycle_speaks_at_a_terminal(world: World) -> None:
    world.monkeypatch.setattr(Backup, "run", scripted(warnings=("odd row",)))
    world.at_a_terminal()
    done = world.on_leader("backup")
    assert (done.out, done.err) == ("published 1.1\n", "Warning: odd row\n")
    assert world.on_leader("backup", "-q").out == ""


def test_a_cycle_speaks_when_asked(world: World) -> None:
    world.monkeypatch.setattr(Backup, "run", scripted())
    done = world.on_leader("backup", "-v")
    assert done.out == "published 1.1\n"
    assert "working …\n" in done.err
    assert world.on_leader("backup", "--json").json["outcome"] == "published"


def test_progress_at_a_terminal_comes_late(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setattr(output, "PROGRESS_AFTER", 0.2)
    monkeypatch.setattr(click, "echo", lambda text, err: said.append(text))
    with output.Voice().progress() as progress:
        progress("quick")
        progress("slow")
        wait_until(lambda: said, "progress")
        progress("later")
    assert said == ["slow …", "later …"]


def test_progress_of_something_quick_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with output.Voice().progress() as progress:
        progress("quick")
    assert capsys.readouterr().err == ""


def test_a_mistyped_variable_is_told_at_a_terminal(world: World) -> None:
    world.monkeypatch.setattr(Backup, "run", scripted())
    world.monkeypatch.setenv("REPLICATOR_FLEED", "x")
    assert world.on_leader("backup").err == ""
    world.at_a_terminal()
    assert "did you mean REPLICATOR_FLEET?" in world.on_leader("backup").err


def test_completion_of_snapshots_asks_nobody(world: World) -> None:
    world.begin()
    environ = {
        **os.environ,
        "_REPLICATOR_COMPLETE": "bash_complete",
        "COMP_WORDS": f"replicator restore --data-dir {world.leader} --now --snapshot 1",
        "COMP_CWORD": "6",
    }
    world.repository.calls.clear()
    done = subprocess.run(
        REPLICATOR, env=environ, capture_output=True, text=True, check=False, timeout=60
    )
    assert "plain,1.1" in done.stdout.splitlines()


def test_completion_in_a_new_or_broken_place_is_empty(tmp_path: Path) -> None:
    context = click.Context(click.Command("restore"))
    context.params = {"data_dir": str(tmp_path)}
    parameter = click.Option(["--snapshot"])
    assert options.complete_snapshots(context, parameter, "") == []
    (tmp_path / "replicator").mkdir()
    (tmp_path / "replicator" / "state.json").write_text("{")
    assert options.complete_snapshots(context, parameter, "") == []


def test_json_of_errors_of_settings(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["backup", "--json", "--repo", "/r", "--fleet", "a b"]) == 3
    assert json.loads(capsys.readouterr().out)["error"]["kind"] == "SettingsError"
