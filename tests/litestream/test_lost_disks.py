"""Two real Kumas on ephemeral disks, under `replicator run` with a real Litestream each."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator

import pytest

from replicator_kuma.daemon import heartbeat
from tests.support import weak_repository
from tests.support.cycles import state_of
from tests.support.supervised import Running, Side
from tests.support.tools import restic_018
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.kuma, pytest.mark.restic]

BEATS = "SELECT time, status FROM heartbeat ORDER BY id"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, web: str) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("fleet")
    weak_repository.make(folder / "repository")
    sides = [Side(folder, "leader", "BACKUP", restic_018())]
    sides.append(Side(folder, "replica", "RESTORE", restic_018()))
    for side in sides:
        side.environment["REPLICATOR_LITESTREAM_URL"] = f"file://{folder / 'store'}"
    with Running(folder, *sides) as made:
        made.leader.set_up(First=web)
        wait_until(lambda: state_of(made.leader.data_dir).leading.published, "published", 90)
        made.replica.run()
        made.wait_applied(deadline=180)
        yield made


def lose(side: Side) -> None:
    """A kill and the loss of the disk, as of a pod with an emptyDir."""
    side.kill()
    shutil.rmtree(side.data_dir)
    side.data_dir.mkdir()


def streamed(side: Side) -> None:
    """Wait until all that is committed now is in the store."""
    now = time.time()

    def there() -> bool:
        beat = heartbeat.read(side.data_dir / "replicator")
        return beat is not None and beat.history_sent_at > now

    wait_until(there, f"{side.name} has sent all", 90)


def settled(side: Side) -> bool:
    state = state_of(side.data_dir)
    return state.outcome.last is not None and state.outcome.last.ok and not state.live.restored


def test_a_leader_has_its_history_and_goes_on(fleet: Running, web: str) -> None:
    leader = fleet.leader
    wait_until(lambda: len(leader.query(BEATS)) >= 2, "two beats", 120)
    streamed(leader)
    seen, before = leader.query(BEATS), fleet.positions()
    lose(leader)
    leader.run()
    leader.wait_ready(180)
    assert leader.query(BEATS)[: len(seen)] == seen
    wait_until(lambda: settled(leader), "a cycle", 120)
    assert fleet.positions() == before
    client = leader.page()
    client.add_monitor("Second", web)
    client.close()
    wait_until(lambda: len(fleet.positions()) > len(before), "it publishes", 120)
    fleet.wait_applied(deadline=180)


def test_a_replica_has_its_own_history_and_the_fleet_s_configuration(
    fleet: Running, web: str
) -> None:
    leader, replica = fleet.leader, fleet.replica
    wait_until(lambda: len(replica.query(BEATS)) >= 2, "two beats", 120)
    streamed(replica)
    seen, before = replica.query(BEATS), len(fleet.positions())
    lose(replica)
    client = leader.page()
    client.add_monitor("while the replica was away", web)
    client.close()
    wait_until(lambda: len(fleet.positions()) > before, "it publishes", 120)
    replica.run()
    replica.wait_ready(180)
    fleet.wait_applied(deadline=180)
    assert replica.query(BEATS)[: len(seen)] == seen
    names = "SELECT name FROM monitor ORDER BY id"
    assert replica.query(names) == leader.query(names)
    refused = replica.command("restore", "--now", "--snapshot", fleet.positions()[0], check=False)
    assert refused.returncode == 3
    assert "this replica cannot be held" in refused.stderr
    assert fleet.stop() == [0, 0]
    for side in (leader, replica):
        assert "history is not complete" not in side.log
