"""A child at its edges: no descriptor left on the machine, an end in an unlucky moment."""

from __future__ import annotations

import errno
import os
import selectors
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

import pytest

from replicator_kuma.adapters.repository.restic.process import Child, Deadline, capture
from tests.support.waiting import wait_until

SLEEPS = (sys.executable, "-c", "import time; time.sleep(60)")


def no_descriptor(*_arguments: object) -> NoReturn:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def descriptors() -> set[str]:
    return {f"{entry.name} {os.path.realpath(entry)}" for entry in Path("/proc/self/fd").iterdir()}


def children() -> set[str]:
    """Of this process; other tests' servers may be among them."""
    found = Path("/proc/self/task").glob("*/children")
    return {child for task in found for child in task.read_text().split()}


def test_no_program_is_started_that_nobody_could_listen_to(monkeypatch: pytest.MonkeyPatch) -> None:
    before = children()
    monkeypatch.setattr(selectors, "DefaultSelector", no_descriptor)
    with pytest.raises(OSError, match="Too many open files"):
        Child(SLEEPS, os.environ, Deadline(5))
    assert children() <= before


def test_a_program_that_cannot_be_started_leaves_no_descriptor() -> None:
    before = descriptors()
    with pytest.raises(FileNotFoundError):
        Child(("/nonexistent/restic",), os.environ, Deadline(5))
    assert descriptors() == before


def test_a_program_ends_where_its_session_cannot_be_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before, others, began = descriptors(), children(), time.monotonic()
    real = Path.glob

    def glob(path: Path, pattern: str) -> Any:
        return no_descriptor() if str(path) == "/proc" else real(path, pattern)

    monkeypatch.setattr(Path, "glob", glob)
    with Child(SLEEPS, os.environ, Deadline(0.2)) as child:
        ended = child.finish()
    assert not ended.succeeded
    assert children() <= others
    assert descriptors() == before
    assert time.monotonic() - began < 10


def test_what_it_writes_right_before_its_end_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """It writes and ends after a look at its silent pipes, and before the look at the process."""
    real = Child._exited

    def late(child: Child) -> bool:
        wait_until(lambda: real(child), "it has ended")
        return True

    monkeypatch.setattr(Child, "_exited", late)
    waits = "import time; time.sleep(0.5); print('[]')"
    output = capture(Child((sys.executable, "-c", waits), os.environ, Deadline(20)), 1000)
    assert (output.stdout, output.ended.code) == (b"[]\n", 0)
