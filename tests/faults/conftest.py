"""Worlds for faults, in memory where there is such a place: only processes die, no machine."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.world import Template, make_template


@pytest.fixture(scope="module")
def memory() -> Iterator[Path]:
    place = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="replicator-", dir=place) as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def template(memory: Path) -> Template:
    return make_template(memory / "template")


@pytest.fixture
def folder(memory: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=memory) as made:
        yield Path(made)
