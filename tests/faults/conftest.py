"""Worlds for faults, in memory where there is such a place: only processes die, no machine."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import fleet
from tests.support.fleet import Start
from tests.support.memory import in_memory


@pytest.fixture(scope="module")
def memory() -> Iterator[Path]:
    with in_memory() as folder:
        yield folder


@pytest.fixture(scope="module")
def start(memory: Path) -> Start:
    return fleet.start(memory / "start" / "fleet")


@pytest.fixture
def folder(memory: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=memory) as made:
        yield Path(made)
