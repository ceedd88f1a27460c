"""deploy/systemd and deploy/cron: units that systemd takes, with few rights, and lines that run."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from replicator_kuma.cli.main import cli
from replicator_kuma.config import variables
from tests.support.kustomize import program
from tests.support.tools import ROOT

FOLDER = ROOT / "deploy" / "systemd"
UNITS = sorted(FOLDER.glob("*.service"))
DROP_IN = FOLDER / "uptime-kuma.service.d" / "replicator.conf"
MOST = 2.0
"""of 10: what `systemd-analyze security` calls OK begins at 2.9; ours had 1.8 and 1.7"""
REPLICATOR = "/opt/replicator/bin/replicator"
A_KUMA = f"[Service]\nUser=uptime-kuma\nExecStart={sys.executable} -V\n"


def analyze(*arguments: str, units: Path) -> str:
    """What systemd-analyze says; fails with it unless it ends well."""
    done = subprocess.run(
        [program("systemd-analyze", "systemd"), *arguments],
        env={"PATH": os.environ["PATH"], "SYSTEMD_UNIT_PATH": f"{units}:", "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units and the drop-in as they would be installed, with this tree's program."""
    own = Path(sys.executable).with_name("replicator")
    for unit in UNITS:
        (tmp_path / unit.name).write_text(unit.read_text().replace(REPLICATOR, str(own)))
    (tmp_path / "uptime-kuma.service").write_text(A_KUMA)
    (tmp_path / DROP_IN.parent.name).mkdir()
    shutil.copy(DROP_IN, tmp_path / DROP_IN.parent.name)
    return tmp_path


def value(unit: str, name: str) -> list[str]:
    """All values that a unit's text gives a member."""
    return re.findall(rf"(?m)^{name}=(.*)$", unit)


def environment(unit: str) -> dict[str, str]:
    pairs = (shlex.split(line) for line in value(unit, "Environment"))
    return dict(pair.split("=", 1) for line in pairs for pair in line)


@pytest.mark.parametrize("name", [*(unit.name for unit in UNITS), "uptime-kuma.service"])
def test_systemd_takes_each_as_it_stands(units: Path, name: str) -> None:
    assert analyze("verify", "--man=no", str(units / name), units=units) == ""


def test_a_mistake_in_a_drop_in_would_be_noticed(units: Path) -> None:
    (units / DROP_IN.parent.name / "x.conf").write_text("[Service]\nTimeoutStopSecs=1\n")
    said = analyze("verify", "--man=no", str(units / "uptime-kuma.service"), units=units)
    assert "TimeoutStopSecs" in said


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_its_exposure_is_small(units: Path, unit: Path) -> None:
    threshold = f"--threshold={MOST * 10:.0f}"
    said = analyze(
        "security", "--offline=true", "--no-pager", threshold, str(units / unit.name), units=units
    )
    (level,) = re.findall(r"Overall exposure level for \S+: (\d+\.\d)", said)
    assert float(level) <= MOST


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_each_variable_is_one_of_ours_and_no_secret(unit: Path) -> None:
    known = variables.VARIABLES
    for name in environment(unit.read_text()).keys() - {"PATH"}:
        assert name in known, name
        assert not known[name].secret, name


def test_a_kuma_that_migrates_is_never_killed() -> None:
    own = (FOLDER / "replicator-kuma.service").read_text()
    assert value(own, "KillMode") == ["mixed"], "systemd signals the replicator alone"
    for text in (own, DROP_IN.read_text()):
        assert value(text, "TimeoutStopSec") == ["infinity"]


def test_both_sides_meet_at_one_socket_and_one_folder() -> None:
    beside = (FOLDER / "replicator-kuma-beside.service").read_text()
    kuma = DROP_IN.read_text()
    ours, theirs = environment(beside), environment(kuma)
    assert ours["REPLICATOR_AGENT_SOCKET"] == theirs["REPLICATOR_AGENT_SOCKET"]
    (folder,) = value(kuma, "RuntimeDirectory")
    assert Path(ours["REPLICATOR_AGENT_SOCKET"]).parent == Path("/run") / folder
    assert value(beside, "ReadWritePaths") == [ours["DATA_DIR"]]
    installed = theirs["NODE_OPTIONS"].removeprefix("--require ").removesuffix("/agent.cjs")
    assert f"replicator agent --install {installed}" in (ROOT / "docs" / "systemd.md").read_text()


CRON = (ROOT / "deploy" / "cron" / "replicator-kuma").read_text()


def lines(text: str) -> list[str]:
    """The lines of a crontab with a command, those that are commented out included."""
    return re.findall(r"(?m)^#?((?:\S+ +){5}uptime-kuma +.*)$", text)


def test_each_line_of_the_crontab_is_a_command_of_ours() -> None:
    found = lines(CRON)
    assert len(found) == 5
    for line in found:
        *when, user, command = re.split(r" +", line, maxsplit=6)
        assert user == "uptime-kuma"
        assert all(re.fullmatch(r"\*(/\d+)?|\d+", field) for field in when)
        assert "%" not in command, "cron would end the command there"
        for part in re.findall(r"replicator ([^|>]+)", command):
            name, *rest = shlex.split(part)
            known = cli.get_command(click.Context(cli), name)
            assert known is not None, part
            known.make_context(name, rest)


def test_cron_finds_the_settings_and_the_program() -> None:
    given = dict(re.findall(r"(?m)^([A-Z_]+)=(.*)$", CRON))
    assert given.keys() == {"REPLICATOR_ENV_FILE", "PATH", "MAILTO"}
    assert given["PATH"].split(":")[0] == str(Path(REPLICATOR).parent)
    unit = environment((FOLDER / "replicator-kuma.service").read_text())
    assert given["REPLICATOR_ENV_FILE"] == unit["REPLICATOR_ENV_FILE"]
