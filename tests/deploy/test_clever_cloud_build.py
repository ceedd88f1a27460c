"""deploy/clever-cloud/build.sh for real: pip installs the replicator, from this clone."""

from __future__ import annotations

import bz2
import hashlib
import os
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.deploy.test_clever_cloud import FOLDER, platform
from tests.support.tools import kuma_dir, restic_018

pytestmark = [pytest.mark.slow, pytest.mark.kuma, pytest.mark.restic, pytest.mark.timeout(1200)]


@pytest.fixture
def archives(kuma_folder: Path, tmp_path: Path) -> dict[str, str]:
    """Where build.sh finds Kuma and restic on a machine without GitHub."""
    kuma, restic = tmp_path / "kuma.tar.gz", tmp_path / "restic.bz2"
    (tmp_path / "node_modules").mkdir()
    with tarfile.open(kuma, "w:gz", compresslevel=1) as to:
        for name in ("package.json", "server"):
            to.add(kuma_dir() / name, f"uptime-kuma/{name}")
        to.add(tmp_path / "node_modules", "uptime-kuma/node_modules")
    restic.write_bytes(bz2.compress(restic_018().read_bytes(), 1))
    return {
        "UPTIME_KUMA_URL": f"file://{kuma}",
        "RESTIC_URL": f"file://{restic}",
        "RESTIC_SHA256": hashlib.sha256(restic.read_bytes()).hexdigest(),
    }


def build(environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    pip = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    return subprocess.run(
        [FOLDER / "build.sh"],
        env={**environment, **pip},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=1000,
        check=False,
    )


def test_the_build_brings_all_that_runs(archives: dict[str, str], tmp_path: Path) -> None:
    app = tmp_path / "app"
    (app / "uptime-kuma" / "server").mkdir(parents=True)
    (app / "uptime-kuma" / "left-over").touch()
    done = build(platform(app, **archives))
    assert done.returncode == 0, done.stdout + done.stderr
    assert (app / "uptime-kuma" / "server" / "server.js").is_file()
    assert not (app / "uptime-kuma" / "left-over").exists()
    for program, argument in (
        ("bin/restic", "version"),
        ("replicator/bin/replicator", "--version"),
    ):
        subprocess.run([app / program, argument], check=True, capture_output=True, timeout=60)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("RESTIC_SHA256", "0" * 64, "has another SHA-256 than RESTIC_SHA256"),
        ("UPTIME_KUMA_URL", "", "has no server/server.js"),
        ("UPTIME_KUMA_URL", "file:///nowhere.tar.gz", "nowhere.tar.gz"),
    ],
)
def test_what_is_not_what_it_should_be_ends_the_build(
    name: str, value: str, says: str, archives: dict[str, str], tmp_path: Path
) -> None:
    app = tmp_path / "app"
    app.mkdir()
    if not value:
        with tarfile.open(tmp_path / "odd.tar.gz", "w:gz") as to:
            to.add(tmp_path / "node_modules", "odd/node_modules")
        value = f"file://{tmp_path}/odd.tar.gz"
    done = build(platform(app, **{**archives, name: value}))
    assert done.returncode != 0
    assert says in done.stderr
    assert not (app / "replicator").exists()
