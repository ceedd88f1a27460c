"""A child where the machine has no descriptor left: nothing of it may stay behind."""

from __future__ import annotations

import errno
import os
import selectors
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

import pytest

from replicator_kuma.adapters.repository.restic.process import Child, Deadline

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
