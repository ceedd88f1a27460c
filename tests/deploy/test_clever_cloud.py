"""deploy/clever-cloud: its scripts, run where only the platform's variables are stand-ins."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.adapters.repository.places import PASSWORD, S3_KEY, S3_SECRET, s3
from tests.support.kuma_server import KumaClient, free_port, is_ready
from tests.support.supervised import KUMA_PASSWORD, USER
from tests.support.tools import ROOT, restic_018
from tests.support.waiting import wait_until

FOLDER = ROOT / "deploy" / "clever-cloud"
SCRIPTS = ("build.sh", "run.sh", "worker.sh", "settings.sh")
PAGE = (ROOT / "docs" / "clever-cloud.md").read_text()
HOST = "cellar.example.com"


def platform(app: Path, **more: str) -> dict[str, str]:
    """The environment that the platform gives an application with a Cellar add-on."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {
        **kept,
        "APP_HOME": str(app),
        "APP_ID": "app_5f2b",
        "CELLAR_ADDON_HOST": HOST,
        "CELLAR_ADDON_KEY_ID": S3_KEY,
        "CELLAR_ADDON_KEY_SECRET": S3_SECRET,
        "PORT": "8080",
        **more,
    }


def told(environment: Mapping[str, str], script: str = "run.sh") -> tuple[int, str]:
    """A script that ends by itself: its exit code and what it said."""
    done = subprocess.run(
        [FOLDER / script],
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def link(app: Path, name: str, target: Path) -> None:
    (app / name).parent.mkdir(parents=True, exist_ok=True)
    (app / name).symlink_to(target)


@pytest.fixture
def showing(tmp_path: Path) -> Path:
    """An application whose replicator only prints its environment."""
    shown = tmp_path / "shown"
    shown.write_text('#!/bin/sh\necho "$@"\nenv\n')
    shown.chmod(0o755)
    link(tmp_path / "app", "replicator/bin/replicator", shown)
    return tmp_path / "app"


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_scripts_are_clean_for_any_posix_shell(script: str) -> None:
    shellcheck = Path(sys.executable).with_name("shellcheck")
    call = [str(shellcheck), *("-x", "-P", "SCRIPTDIR", "-s", "sh"), str(FOLDER / script)]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_platform_s_variables_become_ours(showing: Path) -> None:
    code, said = told(platform(showing, LITESTREAM_BUCKET="kuma", LITESTREAM_VERSION="0.3.8"))
    assert code == 0
    lines = said.splitlines()
    assert "LITESTREAM_VERSION=0.3.8 is ignored" in said
    assert "run" in lines
    for line in (
        f"DATA_DIR={showing}/fs",
        "REPLICATOR_INSTANCE=app_5f2b",
        f"RESTIC_REPOSITORY=s3:https://{HOST}/kuma/restic",
        f"REPLICATOR_LITESTREAM_URL=s3://kuma/db?endpoint=https://{HOST}",
        f"AWS_ACCESS_KEY_ID={S3_KEY}",
        f"AWS_SECRET_ACCESS_KEY={S3_SECRET}",
        "AWS_DEFAULT_REGION=fr-par",
        f"REPLICATOR_KUMA_DIR={showing}/uptime-kuma",
        f"REPLICATOR_RESTIC={showing}/bin/restic",
        "UPTIME_KUMA_PORT=8080",
        "UPTIME_KUMA_DB_TYPE=sqlite",
    ):
        assert line in lines
    assert "CELLAR_ADDON_KEY" not in said
    assert (showing / "fs").is_dir()


def test_what_is_set_wins(showing: Path) -> None:
    own = {
        "DATA_DIR": f"{showing}/elsewhere",
        "RESTIC_REPOSITORY": "rest:https://restic.example.com/",
        "REPLICATOR_LITESTREAM_URL": "s3://other/kuma",
        "REPLICATOR_INSTANCE": "par-1",
        "AWS_DEFAULT_REGION": "eu-west-3",
    }
    code, said = told(platform(showing, **own))
    assert code == 0
    assert {f"{name}={value}" for name, value in own.items()} <= set(said.splitlines())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"CELLAR_ADDON_KEY_ID": ""}, "not set: CELLAR_ADDON_KEY_ID. Link a Cellar add-on"),
        ({"APP_ID": ""}, "set REPLICATOR_INSTANCE: a name that stays the same"),
        ({"UPTIME_KUMA_VERSION": "1.15.1"}, "UPTIME_KUMA_VERSION=1.15.1 is too old"),
    ],
)
def test_what_is_missing_is_named_before_anything_starts(
    change: dict[str, str], says: str, showing: Path
) -> None:
    code, said = told({**platform(showing), **change})
    assert code == 1
    assert says in said
    assert not (showing / "fs").exists()


def test_without_a_build_nothing_runs(tmp_path: Path) -> None:
    code, said = told(platform(tmp_path))
    assert code == 1
    assert "run build.sh" in said


@pytest.mark.parametrize("version", ["1.23.16", "2.0.0", "2.5.3", "10.0.0"])
def test_versions_that_are_served_are_taken(version: str, showing: Path) -> None:
    assert told(platform(showing, UPTIME_KUMA_VERSION=version))[0] == 0


def test_restic_is_the_one_of_the_image() -> None:
    build, image = (FOLDER / "build.sh").read_text(), (ROOT / "Dockerfile").read_text()
    for of_build, of_image in (
        (r"^RESTIC_VERSION=(\S+)", r"^ARG RESTIC_VERSION=(\S+)"),
        (r"RESTIC_SHA256:=(\w+)", r"^ARG RESTIC_SHA256_AMD64=(\w+)"),
    ):
        ours, theirs = re.search(of_build, build, re.M), re.search(of_image, image, re.M)
        assert ours is not None
        assert theirs is not None
        assert ours[1] == theirs[1]


def test_the_page_names_each_variable_that_the_scripts_read() -> None:
    text = "".join((FOLDER / name).read_text() for name in SCRIPTS)
    read = set(re.findall(r": \"\$\{(\w+):=", text))
    internal = {"RESTIC_SHA256", "RESTIC_URL", "REPLICATOR_SOURCE", "WORKER_EVERY"}
    internal |= {"REPLICATOR_KUMA_DIR", "REPLICATOR_RESTIC", "UPTIME_KUMA_DB_TYPE"}
    assert {name for name in read - internal if f"`{name}`" not in PAGE} == set()
    package = json.loads((FOLDER / "package.json").read_text())
    assert package["scripts"] == {"install": "./build.sh", "start": "./run.sh"}


@pytest.fixture
def built(kuma_folder: Path, tmp_path: Path) -> Path:
    """An application as build.sh leaves it, of what this machine has."""
    app = tmp_path / "app"
    link(app, "replicator/bin/replicator", Path(sys.executable).with_name("replicator"))
    link(app, "bin/restic", restic_018())
    link(app, "uptime-kuma", kuma_folder)
    return app


@pytest.fixture
def store(tmp_path: Path) -> Iterator[str]:
    with s3(tmp_path) as address:
        yield address.removeprefix("s3:")


@pytest.mark.slow
@pytest.mark.kuma
@pytest.mark.restic
def test_the_application_runs_and_its_worker_watches(
    built: Path, store: str, tmp_path: Path
) -> None:
    environment = platform(
        built,
        CELLAR_ADDON_HOST=store,
        LITESTREAM_BUCKET="bucket",
        REPLICATOR_MODE="BACKUP",
        RESTIC_PASSWORD=PASSWORD,
        PORT=str(free_port()),
        UPTIME_KUMA_HOST="127.0.0.1",
        WORKER_EVERY="1",
    )
    url = f"http://127.0.0.1:{environment['PORT']}"
    logs = {name: tmp_path / f"{name}.log" for name in ("run", "worker")}
    started = []
    try:
        for name, log in logs.items():
            with log.open("ab") as to:
                started.append(
                    subprocess.Popen(
                        [FOLDER / f"{name}.sh"],
                        cwd=built,
                        env=environment,
                        stdin=subprocess.DEVNULL,
                        stdout=to,
                        stderr=to,
                        start_new_session=True,
                    )
                )
        run, worker = started
        wait_until(lambda: is_ready(url) or _alive(run, logs["run"]), "Kuma answers", 120)
        first = "late: no cycle has "
        wait_until(lambda: first in logs["worker"].read_text(), "the worker tells", 60)
        assert (built / "fs" / "kuma.db").exists()
        with KumaClient(url) as client:
            client.setup(USER, KUMA_PASSWORD)
        published = tmp_path / "s3" / "bucket" / "restic" / "snapshots"
        wait_until(lambda: published.is_dir() and any(published.iterdir()), "the snapshot", 120)
        wait_until(lambda: "fresh: " in logs["worker"].read_text(), "the worker tells", 60)
        assert logs["worker"].read_text().count(first) == 1
        for process in (worker, run):
            process.send_signal(signal.SIGTERM)
            assert process.wait(120) == 0
    finally:
        for process in started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(10)


def _alive(process: subprocess.Popen[bytes], log: Path) -> bool:
    assert process.poll() is None, log.read_text()
    return False
