"""The end of a child: asked for, then forced."""

from __future__ import annotations

import signal
import subprocess
import time

from replicator_kuma.base.processes import end_child


def started(script: str) -> subprocess.Popen[bytes]:
    """A shell that has run its script up to its first line of output."""
    process = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == b"ready\n"
    return process


def test_a_child_that_ends_when_asked_is_not_killed() -> None:
    process = started("trap 'exit 7' TERM; echo ready; while :; do sleep 0.02; done")
    end_child(process, 60.0)
    assert process.returncode == 7


def test_a_child_that_ignores_the_end_is_killed_after_the_grace() -> None:
    process = started("trap '' TERM; echo ready; while :; do sleep 0.02; done")
    began = time.monotonic()
    end_child(process, 0.3)
    assert time.monotonic() - began >= 0.3
    assert process.returncode == -signal.SIGKILL


def test_a_child_that_has_ended_keeps_its_exit_code() -> None:
    process = started("echo ready; exit 3")
    process.wait()
    end_child(process, 0.0)
    assert process.returncode == 3
