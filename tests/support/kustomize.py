"""Kustomize as kubectl has it, and what it makes of the folders in deploy/kubernetes/."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.tools import ROOT

KUBERNETES = ROOT / "deploy" / "kubernetes"
Manifest = dict[str, Any]
OLDEST = 26
"""minor version of kubectl whose Kustomize (4.5.7) knows all that the files use"""


def program(name: str, package: str) -> str:
    """Its path; skips without it, or fails where REPLICATOR_TEST_REQUIRE has `deploy`."""
    found = shutil.which(name)
    if found is None:
        _without(f"{name} is not installed (Debian's package {package})")
    return str(found)


@cache
def _kubectl() -> str:
    found = program("kubectl", "kubernetes-client")
    asked = [found, "version", "--client", "--output", "json"]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=True)
    version = json.loads(done.stdout)["clientVersion"]["minor"]
    if int(re.sub(r"\D", "", version)) < OLDEST:
        # Debian's is older where kubectl came with nothing else: that is no fault of the manifests
        pytest.skip(f"kubectl 1.{OLDEST} or later is needed, and this one is 1.{version}")
    return found


def _without(why: str) -> None:
    assert "deploy" not in os.environ.get("REPLICATOR_TEST_REQUIRE", ""), why
    pytest.skip(why)


def render(folder: Path) -> list[Manifest]:
    """The manifests that `kubectl apply -k` would apply; fails with what Kustomize says."""
    done = subprocess.run(
        [_kubectl(), "kustomize", str(folder)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "a warning, as of a form that is going away"
    return list(yaml.safe_load_all(done.stdout))


def of_kind(manifests: Iterable[Manifest], kind: str) -> Manifest:
    """The only one of its kind."""
    (found,) = [one for one in manifests if one["kind"] == kind]
    return found


def mine(
    folder: Path, settings: str, *, uses: str, chaos: bool = False, ephemeral: str = ""
) -> Path:
    """A copy of all folders, with `mine` edited as docs/kubernetes.md says; returns `mine`.

    ``uses`` one of leader, replica and sidecar; ``ephemeral`` the URL of Litestream's store.
    """
    shutil.copytree(KUBERNETES, folder)
    there = folder / "mine"
    (there / ".env").write_text(settings)
    text = (there / "kustomization.yaml").read_text()
    text = text.replace("- ../leader #", f"- ../{uses} #")
    assert f"- ../{uses} #" in text
    wanted = ["- ../chaos"] if chaos else []
    if ephemeral:
        wanted += ["components:", "  - ../ephemeral", "- name: kuma-l", "  literals:", "    - url"]
        text = text.replace("s3:https://s3.example.com/change-me/history", ephemeral)
    for line in wanted:
        assert f"# {line}" in text, line
        text = text.replace(f"# {line}", line)
    (there / "kustomization.yaml").write_text(text)
    return there
