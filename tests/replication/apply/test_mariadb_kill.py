"""A replicator that dies during a restore into an external MariaDB: at each effect, at any instant.

The server lives on: it sees a connection that ended. Then the next process comes.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator

import pytest

from replicator_kuma.base.errors import KumaError
from replicator_kuma.replication.instance import Instance
from tests.replication.apply.test_kill import at_instants_within, killed_after, taken_by
from tests.support.crashing import crash_at
from tests.support.cycles import follow
from tests.support.fleet import a_supervisor_starts, assert_kuma_comes_first, until_refused
from tests.support.forked import DIED
from tests.support.mariadb import Server
from tests.support.mariadb_fleet import MariadbFleet, at_every_statement, file_kuma
from tests.support.memory import in_memory
from tests.support.thorough import one_in

MOST = 200
"""No restore has as many effects: a test that never ends is none."""
AS_IN_A_RESTORE = 25
"""A way back begins with as many effects of a restore, which has more."""
BACK_FROM = 40
"""Where a restore's COMMIT and what it does after that lie, nearly: before the way back begins."""
KILLS = 10
MONITORS = 300


@pytest.fixture(scope="module")
def fleet(mariadb: Server) -> Iterator[MariadbFleet]:
    with in_memory() as folder:
        yield MariadbFleet(folder / "fleet", mariadb, "sqlite", name="a8_effects")


@pytest.fixture(scope="module")
def other(mariadb: Server) -> Iterator[MariadbFleet]:
    with in_memory() as folder:
        yield MariadbFleet(folder / "fleet", mariadb, "mariadb", name="a8_others")


@pytest.fixture(scope="module", params=["sqlite", "mariadb"], ids="a {} leader".format)
def large(request: pytest.FixtureRequest, mariadb: Server) -> Iterator[MariadbFleet]:
    with in_memory() as folder:
        kind = request.param
        yield MariadbFleet(folder / "fleet", mariadb, kind, name="a8_large", monitors=MONITORS)


def deaths(fleet: MariadbFleet, numbers: Iterable[int]) -> Iterator[tuple[int, Instance]]:
    """A replica that died before its n-th effect, for each; the last one got through."""
    for number in numbers:
        fleet.reset()
        code = crash_at(
            number,
            lambda: follow(fleet.replica()),
            *fleet.fleet().scratch,
            steps=at_every_statement,
        )
        if code == 0:
            fleet.assert_ended("new")
            return
        assert code == DIED
        replica = fleet.replica()
        fleet.look_at_each_start(replica)
        yield number, replica
    raise AssertionError("a restore never ends")


def goes_on(fleet: MariadbFleet, number: int, replica: Instance) -> None:
    """After every other death a one-shot command comes next, after the others a supervisor."""
    if number % 2:
        assert_kuma_comes_first(replica)
    else:
        a_supervisor_starts(replica)
    follow(replica, reconcile=True)
    fleet.assert_ended("new")


@pytest.mark.slow
def test_dead_before_the_effects_of_a_restore(fleet: MariadbFleet) -> None:
    ends = []
    for number, replica in deaths(fleet, range(1, MOST, one_in(3, 15))):
        ends.append(fleet.rows())
        goes_on(fleet, number, replica)
    assert len(ends) > AS_IN_A_RESTORE // one_in(3, 15)
    assert set(ends) == {"old", "new"}
    assert follow(fleet.replica()).sentence == "1.2 is applied; nothing newer"


def test_dead_before_some_effects_of_a_restore_from_a_leader_on_mariadb(
    other: MariadbFleet,
) -> None:
    """It is the same snapshot that a leader on SQLite publishes: each fifth death is enough."""
    ends = []
    for number, replica in deaths(other, range(3, MOST, 5)):
        ends.append(other.rows())
        goes_on(other, number, replica)
    assert set(ends) == {"old", "new"}


@pytest.mark.slow
def test_dead_before_some_effects_of_the_way_back(fleet: MariadbFleet) -> None:
    """Kuma is never ready on the new rows: wherever it dies, it ends on the old ones."""

    def one() -> None:
        replica = fleet.replica()
        file_kuma(replica).refuses = lambda: fleet.on_new_rows()
        with pytest.raises(KumaError):
            follow(replica)

    died = 0
    for number in range(BACK_FROM, MOST, 4):
        fleet.reset()
        code = crash_at(number, one, *fleet.fleet().scratch, steps=at_every_statement)
        fleet.rows()
        after = fleet.replica()
        file_kuma(after).refuses = lambda: fleet.on_new_rows()
        fleet.look_at_each_start(after)
        if code:
            assert code == DIED
            until_refused(after)
        fleet.assert_ended("old")
        assert len(set(after.state.load().applying.bad)) == 1
        if code == 0:
            break
        died += 1
    assert died > 10


@pytest.mark.slow
def test_killed_at_any_instant(large: MariadbFleet, chance: random.Random) -> None:
    def duration() -> float:
        large.reset()
        return taken_by(lambda: follow(large.replica()))

    def killed(instant: float) -> bool:
        large.reset()
        died = killed_after(instant, lambda: follow(large.replica()))
        large.rows()
        after = large.replica()
        large.look_at_each_start(after)
        follow(after, reconcile=True)
        large.assert_ended("new")
        return died

    at_instants_within(chance, KILLS, duration, killed)
