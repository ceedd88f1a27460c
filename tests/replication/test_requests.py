"""Requests on the wire, counted before a real rest-server and a real S3 server, cache warm.

A store that takes money for each, or that is far away, makes them count. docs/repository.md has
the same table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from replicator_kuma.replication.instance import CycleResult, Hint, Instance, Outcome
from tests.adapters.repository import places
from tests.support import weak_repository
from tests.support.counting_proxy import Counted, counting
from tests.support.cycles import db, fill, follow, lead, rename
from tests.support.instances import make_instance
from tests.support.states import edit_state
from tests.support.tools import restic_018

pytestmark = pytest.mark.restic

POLL = 5
"""config, list of keys, key, config, list of snapshots"""
NEW = 1
"""a snapshot that the cache does not have yet"""
BACKUP = 13
READ = 8
"""the first four of a poll, list of indexes, an index, the tree, the manifest"""
A_REPLICA_S_CHANGE = 14
"""the most that a replica may need for one change; who is told: one more"""
A_CHANGE = 26
"""the most that a leader may need for one change"""


@dataclass
class Fleet:
    """A leader and a replica at 1.1, each with a warm cache, and a count of what they ask for."""

    leader: Instance
    replica: Instance
    counted: Counted

    def requests(self, cycle: Callable[[], CycleResult], outcome: Outcome) -> list[str]:
        """The requests of one cycle that ends so."""
        self.counted.take()
        assert cycle().outcome is outcome
        return self.counted.take()

    def edit(self, name: str) -> None:
        rename(db(self.leader), 3, name)


@pytest.fixture(scope="module", params=["rest-server", "S3"])
def fleet(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("requests")
    rest = request.param == "rest-server"
    with places.rest(folder) if rest else places.s3(folder) as server:
        weak_repository.make(folder / ("rest" if rest else "s3/bucket") / "fleet")
        with counting(server.removeprefix("s3:http://")) as counted:
            url = f"s3:http://{counted.address}/bucket/fleet"
            yield _fleet(folder, places.rest_url(counted.address) if rest else url, counted)


def _fleet(folder: Path, url: str, counted: Counted) -> Fleet:
    def instance(name: str) -> Instance:
        # without a region restic asks S3 for it in each call
        place = places.connect(restic_018(), url, folder / name, AWS_DEFAULT_REGION="us-east-1")
        fill(folder / name)
        return make_instance(folder / name, place, name=name)

    made = Fleet(instance("leader"), instance("replica"), counted)
    lead(made.leader)
    follow(made.replica, reconcile=True)
    return made


def test_an_idle_leader_asks_once_in_an_hour(fleet: Fleet) -> None:
    for _ in range(12):
        assert fleet.requests(lambda: lead(fleet.leader), Outcome.NOTHING) == []
    edit_state(fleet.leader.state, verified_at=1.0)
    assert len(fleet.requests(lambda: lead(fleet.leader), Outcome.NOTHING)) == POLL


def test_an_idle_poll_is_one_listing(fleet: Fleet) -> None:
    assert len(fleet.requests(lambda: follow(fleet.replica), Outcome.NOTHING)) == POLL


@pytest.mark.parametrize("told", [False, True])
def test_one_change(fleet: Fleet, told: bool) -> None:
    fleet.edit(f"edited, {told}")
    led = fleet.requests(lambda: lead(fleet.leader), Outcome.PUBLISHED)
    assert len(led) <= POLL + BACKUP + POLL <= A_CHANGE
    published = fleet.leader.state.load().leading.published
    assert published is not None
    hint = Hint(published.position, published.snapshot) if told else None
    followed = fleet.requests(lambda: follow(fleet.replica, hint=hint), Outcome.APPLIED)
    # who is told fetches the snapshot's own file twice
    assert len(followed) <= POLL + NEW + READ + told <= A_REPLICA_S_CHANGE + told
