"""Worlds for faults, in memory where there is such a place: only processes die, no machine."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.injections import need_mounts, points
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


@pytest.fixture
def mounted(folder: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """Small file systems for the data, and for the state below it, where a fault needs them."""
    key = request.node.callspec.params["key"]
    point = next(point for point in points() if point.key == key)
    need_mounts(point)
    places = [folder / "w" / point.role, folder / "w" / point.role / "replicator"]
    if not point.fault.mounts:
        yield folder / "w"
        return
    for place in places:
        place.mkdir(parents=True)
        call = ["mount", "-t", "tmpfs", "-o", "size=6m,mode=700", "tmpfs", str(place)]
        subprocess.run(call, check=True, timeout=10)
    try:
        yield folder / "w"
    finally:
        for place in reversed(places):
            subprocess.run(["umount", "-l", str(place)], check=True, timeout=10)
