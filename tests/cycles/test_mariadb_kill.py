"""A replicator that dies during a restore into an external MariaDB: at each effect, at any instant.

The server lives on: it sees a connection that ended. Then the next process comes.
"""

from __future__ import annotations

import contextlib
import os
import random
import sys
import time
from collections.abc import Iterator

import pytest

from replicator_kuma.cycle import Outcome
from replicator_kuma.errors import KumaError, SnapshotRefused
from replicator_kuma.recovery import before_start
from tests.cycles.test_kill import instants, killed_after
from tests.support.crashing import DIED
from tests.support.cycles import follow
from tests.support.mariadb import Server
from tests.support.mariadb_fleet import Fleet, crash_at, file_kuma, memory

MOST = 200
"""No restore has as many effects: a test that never ends is none."""
AS_IN_A_RESTORE = 25
"""A way back begins with as many effects of a restore, which has more."""
KILLS = 12
MONITORS = 300


@pytest.fixture(scope="module", params=["sqlite", "mariadb"], ids="a {} leader".format)
def fleet(request: pytest.FixtureRequest, mariadb: Server) -> Iterator[Fleet]:
    with memory() as folder:
        yield Fleet(folder / "fleet", mariadb, request.param, name="a8_effects")


@pytest.fixture(scope="module", params=["sqlite", "mariadb"], ids="a {} leader".format)
def large(request: pytest.FixtureRequest, mariadb: Server) -> Iterator[Fleet]:
    with memory() as folder:
        kind = request.param
        yield Fleet(folder / "fleet", mariadb, kind, name="a8_large", monitors=MONITORS)


@pytest.fixture
def chance() -> random.Random:
    """Seeded anew each time; printed, so that a failure can be had again."""
    seed = int(os.environ.get("REPLICATOR_TEST_SEED") or random.SystemRandom().randrange(2**32))
    print(f"REPLICATOR_TEST_SEED={seed}", file=sys.stderr)
    return random.Random(seed)


def assert_kuma_comes_first(fleet: Fleet) -> None:
    """After a death the next command starts a Kuma that was stopped, before anything else."""
    replica = fleet.replica()
    if not replica.state.load().stopped_by_me:
        return
    fleet.look_at_each_start(replica)
    kuma = file_kuma(replica)
    with contextlib.suppress(KumaError, SnapshotRefused):
        follow(replica)
    assert kuma.log[0] == "start"


@pytest.mark.slow
def test_dead_before_each_effect_of_a_restore(fleet: Fleet) -> None:
    """After every other death a one-shot command comes next, after the others a supervisor."""
    died, ends = 0, set()
    for number in range(1, MOST):
        fleet.reset()
        code = crash_at(number, lambda: follow(fleet.replica()), *fleet.scratch)
        if code == 0:
            fleet.assert_ended("new")
            break
        assert code == DIED
        died += 1
        ends.add(fleet.rows())
        replica = fleet.replica()
        fleet.look_at_each_start(replica)
        if number % 2:
            assert_kuma_comes_first(fleet)
        else:
            file_kuma(replica).up.unlink(missing_ok=True)  # a container ends as a whole
            with replica.state.lock():
                before_start(replica)
            replica.kuma.start()
        follow(replica, reconcile=True)
        fleet.assert_ended("new")
    assert follow(fleet.replica()).sentence == "1.2 is applied; nothing newer"
    assert died > AS_IN_A_RESTORE
    assert ends == {"old", "new"}


@pytest.mark.slow
def test_killed_at_any_instant(large: Fleet, chance: random.Random) -> None:
    large.reset()
    started = time.monotonic()
    assert follow(large.replica()).outcome is Outcome.APPLIED
    duration = time.monotonic() - started
    killed = 0
    for instant in instants(chance, KILLS, duration):
        large.reset()
        killed += killed_after(instant, lambda: follow(large.replica()))
        large.rows()
        after = large.replica()
        large.look_at_each_start(after)
        follow(after, reconcile=True)
        large.assert_ended("new")
    assert killed > KILLS // 2, "most instants are to lie within the restore"
