"""A replica's running Kuma takes a change over while Litestream streams its database.

Both have long transactions on one database: an apply holds the write lock and reads all rows,
Litestream reads the log and checkpoints it. Neither may hurt the other.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from replicator_kuma.daemon import heartbeat
from tests.e2e.two_kumas import kuma_pid
from tests.litestream.test_log import MOST, written
from tests.support import databases
from tests.support.by_hand import restore_by_hand
from tests.support.live_fleet import LIVE, LiveFleet, agent
from tests.support.supervised import Side
from tests.support.tools import restic_018
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.kuma, pytest.mark.restic, pytest.mark.timeout(1200)]

ROUNDS = 8
MONITORS = 40
"""that come with each round; those of the round before go"""
NAMES = "SELECT name FROM monitor ORDER BY name"
BEATS = "SELECT id, monitor_id, time, status FROM heartbeat ORDER BY id"


@pytest.fixture(scope="module")
def fleet(
    tmp_path_factory: pytest.TempPathFactory, web: str, kuma_folder: Path
) -> Iterator[LiveFleet]:
    folder = tmp_path_factory.mktemp("fleet")
    replica = Side(folder, "replica", "RESTORE", restic_018())
    replica.environment |= {
        "REPLICATOR_LITESTREAM_URL": f"file://{folder / 'store'}",
        "REPLICATOR_LOG_LEVEL": "debug",  # what Litestream complains of
    }
    with LiveFleet(folder, web, replica) as made:
        streamed(made.replica)
        yield made


def streamed(side: Side) -> None:
    """Wait until all that is committed now is in the store."""
    now = time.time()

    def there() -> bool:
        beat = heartbeat.read(side.data_dir / "replicator")
        return beat is not None and beat.history_sent_at > now

    wait_until(there, f"{side.name} has sent all", 120)


def litestream_pid(side: Side) -> int:
    beat = heartbeat.read(side.data_dir / "replicator")
    assert beat is not None
    return beat.history_pid


def used(pid: int) -> tuple[float, float]:
    """A process's memory in MB, and its processor time so far in seconds."""
    memory = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    assert memory is not None
    return int(memory[1]) / 1024, (int(fields[11]) + int(fields[12])) / 100


def new_monitors(fleet: LiveFleet, number: int, web: str) -> None:
    """Edit the leader: other monitors in the place of the last round's."""
    fleet.leader.edit("DELETE FROM monitor WHERE id > 1")
    for each in range(MONITORS):
        fleet.leader.insert(
            "monitor",
            name=f"round {number}, {each}",
            type="http",
            url=f"{web}{each}",
            interval=20,
            retry_interval=20,
            maxretries=0,
            active=1,
            user_id=1,
            accepted_statuscodes_json='["200-299"]',
        )


def test_changes_on_a_running_kuma_come_into_the_store(
    fleet: LiveFleet, web: str, tmp_path: Path
) -> None:
    replica = fleet.replica
    kuma, litestream = kuma_pid(replica), litestream_pid(replica)
    log, sizes = Path(f"{replica.database}-wal"), list[int]()
    before, began = {pid: used(pid)[1] for pid in (kuma, litestream)}, time.monotonic()
    said = len(replica.log)
    with written(replica.database, 0.01) as count:
        for number in range(ROUNDS):
            new_monitors(fleet, number, web)
            fleet.apply()
            sizes.append(log.stat().st_size)
        beats = count()
    taken = time.monotonic() - began
    seen = replica.query(BEATS)
    streamed(replica)
    # the same processes, no complaint, and a log that ends somewhere
    assert (kuma_pid(replica), litestream_pid(replica)) == (kuma, litestream)
    assert agent(replica).differ() == ()
    assert replica.log[said:].count(LIVE) >= ROUNDS
    assert "litestream: " not in replica.log[said:], replica.log_tail()
    told = replica.json("status")
    assert (told["history"]["stream"], told["history"]["restarts"]) == ("streams", 0)
    assert told["problems"] == []
    assert max(sizes) < MOST
    # the running Kuma goes on to beat, and that comes into the store, too
    real = "SELECT count(*) FROM heartbeat WHERE msg <> 'OK'"
    now = replica.query(real)
    wait_until(lambda: replica.query(real) > now, "a beat of a monitor", 60)
    streamed(replica)
    database = restore_by_hand(fleet.folder / "store" / "default" / "replica", tmp_path)
    assert databases.query(database, NAMES) == fleet.leader.query(NAMES)
    assert databases.query(database, BEATS)[: len(seen)] == seen
    for name, pid in (("Kuma", kuma), ("Litestream", litestream)):
        memory, time_used = used(pid)
        share = 100 * (time_used - before[pid]) / taken
        print(f"\n{name}: {memory:.0f} MB, {share:.1f} % of a core", end="")
    print(
        f"\n{ROUNDS} live applies in {taken:.0f} s beside {beats} beats: log "
        f"{max(sizes) >> 10} KiB at most; {replica.query(real)[0][0]} real beats"
    )


def test_a_killed_replica_has_the_change_and_its_beats_back(fleet: LiveFleet, web: str) -> None:
    replica = fleet.replica
    new_monitors(fleet, ROUNDS, web)
    fleet.apply()
    newest = replica.query("SELECT max(id) FROM monitor")[0][0]
    of_it = f"SELECT count(*) FROM heartbeat WHERE monitor_id = {newest}"
    wait_until(lambda: replica.query(of_it) > [(0,)], "a beat of a new monitor", 120)
    streamed(replica)
    seen, names = replica.query(BEATS), replica.query(NAMES)
    replica.kill()
    for path in replica.data_dir.iterdir():
        path.rename(fleet.folder / f"lost-{path.name}")
    replica.run()
    replica.wait_ready(180)
    assert "was restored from" in replica.log
    assert replica.query(BEATS)[: len(seen)] == seen
    assert replica.query(NAMES) == names == fleet.leader.query(NAMES)
