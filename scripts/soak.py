"""`make soak`: a leader and three replicas, for minutes, with edits, kills and outages.

Real `replicator run` processes, a real restic, and a real server: rest-server, then S3 by rclone.
With --push edits are noticed, replicas are told through a topic, and the intervals are long.
At the end all rows are equal, each published snapshot is a state that the leader's rows had, in
the order of the edits, and while nothing fails each change is one snapshot. Prints its seed and a
summary.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path

from replicator_kuma.adapters.repository import Snapshot
from scripts.soak_fleet import Fleet
from scripts.soak_server import Server, make_server
from tests.adapters.repository.places import connect
from tests.support.compare import damage, orphans
from tests.support.ntfy import Topic
from tests.support.tools import restic_018
from tests.support.waiting import wait_until

SERVERS = ("rest", "s3")
CALM_EDITS = 4
BURST = 5
"""edits, one right after another"""
ROOM = 15.0
"""seconds without a cycle of the interval: else that may publish the half of a burst"""
SETTLE = 240.0
START = time.monotonic()

Listing = Callable[[], list[Snapshot]]


def say(text: str) -> None:
    print(f"[{time.monotonic() - START:6.1f} s] {text}", flush=True)


@dataclass
class Tally:
    """How much was done to the fleet."""

    edits: int = 0
    kills: int = 0
    kuma_kills: int = 0
    """of Kuma alone"""
    outages: int = 0

    @property
    def unseen_ends(self) -> int:
        """So many publishes, at most, have ended with nobody there who saw it."""
        return self.kills + self.kuma_kills + self.outages


def storm(
    fleet: Fleet, server: Server, chance: random.Random, minutes: float, topic: Topic | None
) -> Tally:
    """Edits, kills and outages until the time is up; then the server answers again."""
    tally, end = Tally(), time.monotonic() + 60 * minutes
    next_edit = next_kill = next_kuma_kill = next_turn = next_drop = time.monotonic() + 2
    while (now := time.monotonic()) < end:
        if now >= next_edit:
            fleet.edit(chance)
            tally.edits += 1
            next_edit = now + chance.uniform(0.3, 5)
        if now >= next_kill:
            fleet.kill(chance)
            tally.kills += 1
            next_kill = now + chance.uniform(4, 15)
        if topic is not None and now >= next_drop:
            topic.drop()
            next_drop = now + chance.uniform(3, 20)
        if now >= next_kuma_kill:
            tally.kuma_kills += fleet.kill_kuma(chance)
            next_kuma_kill = now + chance.uniform(0.3, 5)
        if now >= next_turn and server.how:
            server.mend()
            next_turn = now + chance.uniform(5, 20)
        elif now >= next_turn:
            server.fail(chance)
            tally.outages += 1
            next_turn = now + chance.uniform(2, 12)
        server.flap()
        fleet.look()
        fleet.restart_the_dead()
        time.sleep(0.2)
    server.mend()
    return tally


def settle(fleet: Fleet) -> float:
    """Seconds until all replicas hold what the leader holds, as SQLite itself compares them."""
    began = time.monotonic()

    def equal() -> bool:
        fleet.restart_the_dead()
        fleet.look()
        return not fleet.differences()

    wait_until(equal, "all to be equal", SETTLE, every=0.3)
    return time.monotonic() - began


def check_history(fleet: Fleet, tally: Tally, listed: list[Snapshot]) -> int:
    """What was published is what the leader's rows were, in order; how often one came twice."""
    digests = [snapshot.label.digest for snapshot in listed]
    positions = [snapshot.position for snapshot in listed]
    assert positions == sorted(set(positions)), "a position was used twice"
    assert {s.label.writer for s in listed} == {listed[0].label.writer}, "more than one writer"
    places = [fleet.place(digest) for digest in digests]
    assert places == sorted(places), "published in another order than edited"
    repeats = sum(a == b for a, b in itertools.pairwise(digests))
    # a publish whose end nobody saw is published again, at the next position
    assert repeats <= tally.unseen_ends
    assert len(listed) - repeats <= tally.edits + 1
    assert digests[-1] == fleet.digest(), "the newest snapshot is not the last edit"
    return repeats


def calm(fleet: Fleet, chance: random.Random, listing: Listing, burst: int) -> None:
    """While nothing fails, each burst of edits is one snapshot, on all replicas."""
    for _ in range(CALM_EDITS):
        before = len(listing())
        if burst > 1:
            wait_until(lambda: fleet.seconds_to_cycle() > ROOM, "no cycle is near", SETTLE)
        for _edit in range(burst):
            fleet.edit(chance)
        settle(fleet)
        assert len(listing()) == before + 1, "one change, one snapshot"
        wait_until(lambda: not fleet.stale(), "Kuma's memory to equal its rows", SETTLE, every=0.3)


def soak(kind: str, seed: int, minutes: float, folder: Path, topic: Topic | None) -> None:
    """One storm at one server; raises AssertionError or TimeoutError."""
    chance = random.Random(seed)
    server = make_server(kind, folder)
    server.start()
    try:
        fleet = Fleet(folder, server.url, topic.topic_url if topic else "")
        repository = connect(restic_018(), server.url, folder)

        def listing() -> list[Snapshot]:
            return list(repository.snapshots("default"))

        try:
            fleet.start()
            settle(fleet)
            say(f"{kind}: four replicators are up and equal; {minutes:g} minutes of storm")
            tally = storm(fleet, server, chance, minutes, topic)
            seconds = settle(fleet)
            listed = listing()
            repeats = check_history(fleet, tally, listed)
            assert fleet.bad() == [], "a kill was taken for a judgement on a snapshot"
            calm(fleet, chance, listing, BURST if topic else 1)
            live, restarts = fleet.applies()
            assert live, "no change was live"
            fleet.stop()
            for side in fleet.replicas:
                assert [*damage(side.database), *orphans(side.database)] == []
        finally:
            fleet.end()
    finally:
        server.mend()
        server.stop()
    say(
        f"{kind}: {tally.edits} edits, {tally.kills} kills, {tally.kuma_kills} of Kuma alone, "
        f"{tally.outages} outages, "
        f"{fleet.restarts} restarts, {live} changes live and {restarts} by a restart of Kuma, "
        f"{fleet.looks} looks at whole rows; {len(listed)} snapshots, "
        f"{repeats} of them again after an end that nobody saw; all equal {seconds:.0f} s after "
        f"the storm; then {CALM_EDITS} changes, {CALM_EDITS} snapshots"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=float(os.environ.get("SOAK_MINUTES", 10)))
    parser.add_argument("--server", choices=SERVERS, action="append")
    parser.add_argument("--push", action="store_true", help="hints, and long intervals")
    parser.add_argument("--keep", type=Path, help="a folder that keeps logs and data")
    options = parser.parse_args()
    seed = int(os.environ.get("REPLICATOR_TEST_SEED") or random.SystemRandom().randrange(2**32))
    say(f"REPLICATOR_TEST_SEED={seed}")
    with tempfile.TemporaryDirectory(prefix="replicator-soak-") as made:
        for kind in options.server or SERVERS:
            folder = (options.keep or Path(made)) / kind
            folder.mkdir(parents=True)
            with closing(Topic()) if options.push else nullcontext() as topic:
                soak(kind, seed, options.minutes, folder, topic)
    say("nothing lost")
    return 0


if __name__ == "__main__":
    sys.exit(main())
