"""scripts/fetch-tools tells what is missing on a machine, and no more."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.tools import ROOT

NEEDED = ("bash", "dirname", "mkdir", "id", "cat", "rm")


def machine(folder: Path, *programs: str, apt: int | None) -> dict[str, str]:
    """The environment of a machine with these programs, where apt-get ends with a code.

    None: it has no apt-get. Each of its programs only ends: none of them may be needed for more.
    """
    path = folder / "bin"
    path.mkdir()
    for name in NEEDED:
        found = shutil.which(name)
        assert found
        (path / name).symlink_to(found)
    codes = dict.fromkeys(programs, 0) | ({} if apt is None else {"apt-get": apt})
    for name, code in codes.items():
        (path / name).write_text(f'#!/bin/sh\necho "$@" >>{folder}/{name}.called\nexit {code}\n')
        (path / name).chmod(0o755)
    return {"PATH": str(path), "REPLICATOR_TEST_TOOLS": str(folder / "tools"), "HOME": str(folder)}


def said(environment: dict[str, str]) -> str:
    done = subprocess.run(
        ["bash", str(ROOT / "scripts" / "fetch-tools"), "kuma"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")
    return done.stderr.splitlines()[0]


@pytest.mark.parametrize(
    ("there", "missing", "packages"),
    [
        ((), "node and npm", "nodejs npm"),
        (("node",), "npm", "npm"),
        (("npm",), "node", "nodejs"),
    ],
)
def test_only_what_is_missing_is_asked_for(
    tmp_path: Path, there: tuple[str, ...], missing: str, packages: str
) -> None:
    environment = machine(tmp_path, *there, apt=0)
    assert f"not found: {missing}." in said(environment)
    assert f"apt-get install -y {packages}" in said(environment)
    assert (tmp_path / "apt-get.called").read_text().startswith("--simulate")


def test_a_node_from_elsewhere_gets_no_advice_that_fails(tmp_path: Path) -> None:
    """Debian's npm needs Debian's node: apt-get refuses it beside another one."""
    line = said(machine(tmp_path, "node", apt=100))
    assert "not found: npm." in line
    assert "apt-get" not in line
    assert f"{tmp_path}/bin/node" in line


def test_another_system_is_told_of_its_own_package_manager(tmp_path: Path) -> None:
    assert "install npm with this system's" in said(machine(tmp_path, "node", apt=None))
