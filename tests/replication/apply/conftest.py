"""A folder in memory, and a chance that can be had again."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.memory import in_memory


@pytest.fixture(scope="module")
def memory() -> Iterator[Path]:
    with in_memory() as folder:
        yield folder


@pytest.fixture
def chance() -> random.Random:
    """Seeded anew each time; printed, so that a failure can be had again."""
    seed = int(os.environ.get("REPLICATOR_TEST_SEED") or random.SystemRandom().randrange(2**32))
    print(f"REPLICATOR_TEST_SEED={seed}", file=sys.stderr)
    return random.Random(seed)
