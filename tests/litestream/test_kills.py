"""An instance on an ephemeral disk is killed at random instants, and loses its disk each time.

50 beats a second, an edit twice a second. What comes back: the history but its last seconds, and a
configuration that is not older than the fleet's. REPLICATOR_TEST_TIER=all kills thirty times.
"""

from __future__ import annotations

import random
import re
import shutil
import sqlite3
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.litestream.test_run import Here
from tests.support.cycles import state_of
from tests.support.databases import query
from tests.support.tiers import by_tier
from tests.support.tools import restic_018
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.restic, pytest.mark.timeout(1800)]

KILLS = by_tier(2, 30)
BEATS_A_SECOND = 50
LONGEST_LOSS = 30.0
"""seconds; thirty kills on a busy machine lost 0.5 at the median, 1.1 at most"""


@contextmanager
def living(database: Path, edits: list[int]) -> Iterator[None]:
    """A Kuma's writes for the block: beats with their time, and numbered edits of a monitor."""
    end = threading.Event()

    def live() -> None:
        with closing(sqlite3.connect(database, timeout=30)) as kuma:
            number = 0
            while not end.wait(1 / BEATS_A_SECOND):
                try:
                    with kuma:
                        if number % (BEATS_A_SECOND // 2) == 0:
                            edits.append(edits[-1] + 1)
                            name = f"edit {edits[-1]}"
                            kuma.execute("UPDATE monitor SET name = ? WHERE id = 1", (name,))
                        kuma.execute(
                            "INSERT INTO heartbeat (monitor_id, status, time, msg) "
                            "VALUES (1, 1, datetime('now'), ?)",
                            (repr(time.time()),),
                        )
                except sqlite3.Error:  # its disk is gone
                    return
                number += 1

    thread = threading.Thread(target=live)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join(30)


def edit_of(database: Path) -> int:
    name = str(query(database, "SELECT name FROM monitor WHERE id = 1")[0][0])
    return int(name.removeprefix("edit "))


def newest_snapshot(here: Here) -> int:
    """The edit that the newest snapshot of the fleet holds; 0: it was made before the first."""
    target = here.side.data_dir.parent / "newest"
    shutil.rmtree(target, ignore_errors=True)
    environment = {n: v for n, v in here.side.environment.items() if n != "DATA_DIR"}
    subprocess.run(
        [str(restic_018()), "restore", "latest", "--target", str(target), "--no-lock"],
        env=environment,
        check=True,
        capture_output=True,
        timeout=60,
    )
    lines = next(target.rglob("monitor.jsonl")).read_text()
    found = re.search(r'"edit (\d+)"', lines)
    return int(found[1]) if found else 0


def settled(here: Here) -> bool:
    """Whether a cycle has ended well since the restore: it has decided whose rows are newer."""
    state = state_of(here.side.data_dir)
    last = state.outcome.last
    return last is not None and last.ok and state.live.restored is None


def test_history_and_configuration_come_back_after_each_kill(tmp_path: Path) -> None:
    chance = random.Random(20261129)
    here = Here(tmp_path)
    lost: list[float] = []
    edits = [0]
    try:
        here.fill()
        here.start()
        here.streams()
        for _ in range(KILLS):
            with living(here.side.database, edits):
                time.sleep(2 + chance.uniform(0, 6))
                killed = time.time()
                here.side.kill()
                at_most = edits[-1]
            here.empty()
            newest = newest_snapshot(here)
            here.start()
            here.streams()
            wait_until(lambda: settled(here), "a cycle", 60)
            last = query(here.side.database, "SELECT msg FROM heartbeat ORDER BY id DESC LIMIT 1")
            lost.append(killed - float(str(last[0][0])))
            counted = query(
                here.side.database,
                "SELECT count(*), count(DISTINCT id), max(id) FROM heartbeat",
            )[0]
            assert counted[0] == counted[1]
            # what was published is never undone, and nothing is made up
            assert newest <= edit_of(here.side.database) <= at_most
            edits[-1] = max(edits[-1], at_most)
        assert max(lost) < LONGEST_LOSS
        print(
            f"\n{KILLS} kills at {BEATS_A_SECOND} beats/s: lost {statistics.median(lost):.1f} s at "
            f"the median, {max(lost):.1f} s at most"
        )
    finally:
        here.side.kill()
