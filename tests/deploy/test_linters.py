"""Files that other programs load, by the linters of their kinds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import yaml

from tests.support.tools import ROOT

BIN = Path(sys.executable).parent


def tracked(*patterns: str) -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return listed.stdout.split()


def lint(program: str, *arguments: str) -> str:
    """What a linter finds; empty where all is well."""
    done = subprocess.run(
        [BIN / program, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode == 0) == (not done.stdout), done.stderr
    return done.stdout


def test_yamllint_finds_nothing_in_any_yaml_file() -> None:
    files = tracked("*.yml", "*.yaml")
    assert "deploy/kubernetes/base/deployment.yaml" in files
    assert lint("yamllint", "--strict", "--format", "parsable", *files) == ""


def test_hadolint_finds_nothing_but_what_is_ignored_with_its_reason() -> None:
    assert lint("hadolint", "--no-color", "Dockerfile") == ""
    ignored = yaml.safe_load((ROOT / ".hadolint.yaml").read_text())["ignored"]
    found = lint("hadolint", "--no-color", "--config", "/dev/null", "Dockerfile")
    assert [rule for rule in ignored if rule not in found] == [], "no longer needed"
