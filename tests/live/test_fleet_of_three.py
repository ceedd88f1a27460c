"""A leader and two replicas, real Kumas, while somebody edits all the time: nobody misses a beat.

REPLICATOR_LIVE_MINUTES says how long. `pytest -s` shows what was measured.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import requests

from tests.e2e.two_kumas import kuma_pid
from tests.support.compare import config_differences
from tests.support.live_fleet import ENVIRONMENT, Leader, agent, all_begun, applied, end
from tests.support.picture import Target
from tests.support.supervised import Side
from tests.support.tools import restic_018
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.kuma, pytest.mark.restic, pytest.mark.slow]

MONITORS, INTERVAL, EDIT_EVERY = 40, 20, 9.0
MINUTES = float(os.environ.get("REPLICATOR_LIVE_MINUTES", "1.5"))
DOWN = 2.0
"""seconds without an answer to one request of a page"""
SOON = {"REPLICATOR_BACKUP_INTERVAL": "2s", "REPLICATOR_RESTORE_INTERVAL": "2s"}


@pytest.fixture
def target() -> Iterator[Target]:
    with closing(Target()) as target:
        yield target


@pytest.fixture
def sides(tmp_path: Path, target: Target, kuma_folder: Path) -> Iterator[tuple[Side, ...]]:
    """The leader, then the replicas; all monitors have begun everywhere."""
    with Leader(tmp_path, f"{target.url}/1") as leader, ExitStack() as stack:
        leader.edit(f"UPDATE monitor SET interval = {INTERVAL}, retry_interval = {INTERVAL}")
        for number in range(2, MONITORS + 1):
            row = {"id": number, "name": f"m{number}", "url": f"{target.url}/{number}"}
            often = {"interval": INTERVAL, "retry_interval": INTERVAL, "timeout": 16}
            leader.insert("monitor", **row, **often, type="http", user_id=1)
        replicas = [Side(tmp_path, f"replica-{n}", "RESTORE", restic_018()) for n in (1, 2)]
        for side in (leader, *replicas):
            side.environment |= ENVIRONMENT | SOON
            stack.callback(end, side)
            side.run()
        for side in (leader, *replicas):
            side.wait_ready()
            all_begun(side, 300)
        yield (leader, *replicas)


@contextmanager
def polled(side: Side) -> Iterator[list[float]]:
    """Ask for a page each 0.2 s; the seconds of each answer, infinite for none in time."""
    took, ended = list[float](), threading.Event()

    def poll() -> None:
        with requests.Session() as session:
            while not ended.wait(0.2):
                began = time.monotonic()
                try:
                    session.get(f"{side.url}/api/entry-page", timeout=DOWN).raise_for_status()
                    took.append(time.monotonic() - began)
                except requests.RequestException:
                    took.append(float("inf"))

    thread = threading.Thread(target=poll)
    thread.start()
    try:
        yield took
    finally:
        ended.set()
        thread.join()


def beats(side: Side, since: datetime, until: datetime) -> tuple[int, int]:
    """Beats in a window, and those that were missed: gaps of an interval and a half and more."""
    sql = (
        "SELECT monitor_id, time FROM heartbeat WHERE "
        f"time BETWEEN '{since:%F %T}' AND '{until:%F %T}' ORDER BY monitor_id, time"
    )
    rows, missed = side.query(sql), 0
    for (one, before), (other, after) in itertools.pairwise(rows):
        gap = datetime.fromisoformat(after) - datetime.fromisoformat(before)
        if one == other:
            missed += max(0, round(gap / timedelta(seconds=INTERVAL)) - 1)
    return len(rows), missed


def edit(leader: Side, number: int) -> None:
    """One edit on the leader's pages, of one monitor after another."""
    with closing(leader.page()) as page:
        page.edit_monitor(number % MONITORS + 1, description=f"edit {number}")


@pytest.mark.timeout(600 + MINUTES * 60)
def test_edits_all_the_time_cost_no_beat(sides: Sequence[Side]) -> None:
    leader, *replicas = sides
    pids = [kuma_pid(side) for side in sides]
    since, end_at = datetime.now(UTC), time.monotonic() + MINUTES * 60
    with ExitStack() as stack:
        answers = [stack.enter_context(polled(side)) for side in sides]
        for number in itertools.count():
            edit(leader, number)
            if time.monotonic() + EDIT_EVERY > end_at:
                break
            time.sleep(EDIT_EVERY)
        newest = wait_until(lambda: leader.json("snapshots")[-1]["position"], "the newest")
        time.sleep(5)
        newest = leader.json("snapshots")[-1]["position"]
        for replica in replicas:
            wait_until(lambda r=replica: applied(r) == newest, f"{replica.name}: {newest}", 60)  # type: ignore[misc]
        until = datetime.now(UTC)
    made = [beats(side, since, until) for side in sides]
    for side, (number_of_beats, missed), took in zip(sides, made, answers, strict=True):
        took.sort()
        print(
            f"{side.name}: {number_of_beats} beats, {missed} missed; HTTP {len(took)} answers, "
            f"p50 {took[len(took) // 2] * 1e3:.0f} ms, p99 {took[len(took) * 99 // 100] * 1e3:.0f} "
            f"ms, worst {took[-1] * 1e3:.0f} ms; {number + 1} edits, up to {newest}"
        )
    for replica, (number_of_beats, missed) in zip(replicas, made[1:], strict=True):
        assert number_of_beats >= 0.99 * made[0][0]
        assert missed <= made[0][1] + 0.01 * made[0][0]
        assert config_differences(replica.database, leader.database, link_ids=False) == []
        assert agent(replica).differ() == ()
    assert [kuma_pid(side) for side in sides] == pids
    assert max(took[-1] for took in answers) < DOWN
