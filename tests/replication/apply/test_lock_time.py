"""How long an apply holds the database of a Kuma that runs: the benchmark's measure, coarsely.

CPU is compared, and not the clock: the machine is shared with other tests. `make bench` has both,
also for 10,000 monitors. (That no row is hashed in the lock: test_raced.py.)
"""

from __future__ import annotations

import json
import os
import sqlite3
import statistics
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from replicator_kuma.adapters.database import history
from replicator_kuma.adapters.database.sqlite.store import SqliteStore
from scripts.bench_lock import heartbeats
from tests.support import databases
from tests.support.tools import ROOT

pytestmark = pytest.mark.restic

CHANCES = 3
ONE_ROW, MANY_ROWS = 0.02, 0.06
"""seconds of CPU between BEGIN and COMMIT, at any number of monitors"""


def measured(measure: str, folder: Path, size: int) -> dict[str, float]:
    """A measure in a process of its own, which coverage does not trace."""
    module = {"lock": "scripts.bench_lock"}.get(measure, "scripts.bench_measures")
    environment = {name: v for name, v in os.environ.items() if not name.startswith("COVERAGE")}
    command = [sys.executable, "-m", module, measure, str(folder), str(size), "5"]
    output = subprocess.check_output(command, cwd=ROOT, env=environment, timeout=120)
    figures: dict[str, float] = json.loads(output)
    return figures


@pytest.mark.parametrize("size", [300, 1_000])
def test_an_apply_holds_the_database_for_a_short_time(tmp_path: Path, size: int) -> None:
    measured("prepare", tmp_path, size)
    for _ in range(CHANCES):
        found = measured("lock", tmp_path, size)
        if found["row CPU"] <= ONE_ROW and found["rows CPU"] <= MANY_ROWS:
            return
    pytest.fail(f"one row {found['row CPU']:.3f} s, 100 rows {found['rows CPU']:.3f} s")


@pytest.mark.slow
def test_300_000_heartbeats_of_a_monitor_that_went_make_nobody_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = databases.build(tmp_path / "kuma.db", monitors=300, wal=True)
    many = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000) "
    beat = "INSERT INTO heartbeat (monitor_id, status, msg, time) SELECT 999, 1, 'ok', i FROM n"
    databases.edit(database, many + beat)
    took = list[float]()
    pace = history.History._pace

    def noted(self: history.History, seconds: float, *, full: bool) -> None:
        took.append(seconds)
        pace(self, seconds, full=full)

    monkeypatch.setattr(history.History, "_pace", noted)
    with heartbeats(database, 300) as control:
        time.sleep(5)
    with heartbeats(database, 300) as beats:
        assert SqliteStore(tmp_path).purge_history() == 300_000
    assert statistics.median(took) <= history.SLOW
    assert max(beats) < 0.5 + max(control), "half a second is late"
    with closing(sqlite3.connect(database)) as link:
        assert link.execute("SELECT count(*) FROM heartbeat").fetchone() == (
            len(beats) + len(control),
        )
