"""Each fault at each phase of a replica's cycle, where Kuma takes the rows while it runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.injections import points
from tests.faults.outcome import suffer
from tests.faults.world import REPLICA, world_of
from tests.support.fleet import Start

POINTS = {point.key: point for point in points() if point.role == REPLICA}


# a MemoryError between two files leaves the first to the garbage collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("key", POINTS)
def test_nothing_is_lost(key: str, start: Start, mounted: Path) -> None:
    """What holds is the same; a phase of the restart may not come."""
    suffer([POINTS[key]], start, world_of(start, mounted, REPLICA, live=True))
