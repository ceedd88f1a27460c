"""podman and podman-compose for the container tests: each call with a deadline."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.support.tools import ROOT

IMAGE = os.environ.get("REPLICATOR_TEST_IMAGE", "")
LITESTREAM_IMAGE = os.environ.get("REPLICATOR_TEST_LITESTREAM_IMAGE", "")
BASE_IMAGE = os.environ.get("REPLICATOR_TEST_BASE_IMAGE", "")


class PodmanError(RuntimeError):
    """podman ended with another code than 0; holds what it printed."""


def podman(*arguments: str, deadline: float = 120.0) -> str:
    """Runs podman; returns its standard output, raises PodmanError."""
    return _run(["podman", *arguments], deadline)


def compose(
    files: list[Path],
    *arguments: str,
    environment: dict[str, str],
    deadline: float = 180.0,
    given: bytes = b"",
) -> str:
    """Runs podman-compose of the virtual environment on files; raises PodmanError.

    ``given``: what it reads from its standard input.
    """
    options = [option for file in files for option in ("-f", str(file))]
    program = str(Path(sys.executable).with_name("podman-compose"))
    return _run([program, *options, *arguments], deadline, environment, given)


def inspect(container: str) -> dict[str, Any]:
    """What podman knows of a container."""
    found: list[dict[str, Any]] = json.loads(podman("inspect", container))
    return found[0]


def stop(container: str) -> tuple[float, int]:
    """Stops a container as an operator would; returns how long it took and its exit code."""
    begun = time.monotonic()
    podman("stop", "-t", "600", container, deadline=610)
    took = time.monotonic() - begun
    return took, int(inspect(container)["State"]["ExitCode"])


def logs(container: str) -> str:
    """All that a container printed."""
    done = subprocess.run(
        ["podman", "logs", container], capture_output=True, text=True, timeout=60, check=False
    )
    return done.stdout + done.stderr


def _run(
    command: list[str],
    deadline: float,
    environment: dict[str, str] | None = None,
    given: bytes = b"",
) -> str:
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | (environment or {}),
        input=given.decode(),
        capture_output=True,
        text=True,
        timeout=deadline,
        check=False,
    )
    if done.returncode != 0:
        raise PodmanError(
            f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
        )
    return done.stdout
