"""A folder in memory, and a chance that can be had again."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import need_mariadb
from tests.support.embedded import make_template
from tests.support.mariadb import short_folder
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


@pytest.fixture(scope="module")
def embedded() -> Iterator[Path]:
    """A data directory with MariaDB inside, as a Kuma that has ended left it; to be copied."""
    need_mariadb()
    with short_folder() as folder:
        yield make_template(folder / "template", monitors=7, heartbeats=2)
