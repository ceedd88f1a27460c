"""Each fault at each phase of a leader's and a replica's cycle: nothing lost, and a way out."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults import matrix
from tests.faults.injections import Point, points
from tests.faults.outcome import experience
from tests.faults.world import world_of
from tests.support.fleet import Start

POINTS = {point.key: point for point in points()}


# a MemoryError between two files leaves the first to the garbage collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("key", POINTS)
def test_nothing_is_lost(key: str, start: Start, mounted: Path) -> None:
    """The outcome is the one that docs/faults.md shows."""
    point: Point = POINTS[key]
    seen = experience(point, start, world_of(start, mounted, point.role))
    matrix.record(point, seen)
    assert str(seen) == matrix.committed(point)


def test_there_are_more_than_two_hundred_points() -> None:
    assert len(POINTS) >= 200
