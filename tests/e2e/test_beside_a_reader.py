"""A real replica whose database another program keeps open: what is no Kuma does not matter.

Only an apply by a restart asks who has it open (a live one: tests/live/test_sidecar.py).
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.conftest import two_kumas
from tests.e2e.two_kumas import kuma_pid, latest, published_after
from tests.support.openers import opened
from tests.support.supervised import Running
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.kuma, pytest.mark.restic]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, web: str) -> Iterator[Running]:
    with two_kumas(tmp_path_factory.mktemp("fleet"), web, REPLICATOR_APPLY="restart") as made:
        yield made


def add(fleet: Running, name: str, web: str) -> str:
    """A monitor on the leader; the position that it is published at."""
    position = latest(fleet)
    client = fleet.leader.page()
    client.add_monitor(name, web)
    client.close()
    return published_after(fleet, position)


def test_a_reader_that_stays_costs_nothing_and_a_second_node_no_outage(
    fleet: Running, web: str
) -> None:
    fleet.wait_applied(deadline=120)
    fleet.replica.wait_ready()
    with opened(fleet.replica.data_dir / "kuma.db", name="litestream"):
        fleet.wait_applied(add(fleet, "beside a reader", web))
        fleet.replica.wait_ready()
        pid = kuma_pid(fleet.replica)
        with opened(fleet.replica.data_dir / "kuma.db", name="node") as other:
            position = add(fleet, "beside a node", web)
            refused = f"process {other} (node)"
            wait_until(lambda: refused in fleet.replica.log, "it is said", 30)
            # twice at least: the log tells the second of a kind, too
            wait_until(lambda: "(2 times" in fleet.replica.log, "again", 60)
            assert kuma_pid(fleet.replica) == pid
        fleet.wait_applied(position)
    fleet.replica.wait_ready()
