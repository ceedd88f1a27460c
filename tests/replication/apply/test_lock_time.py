"""How long an apply holds the database of a Kuma that runs: the benchmark's measure, coarsely.

The machine is shared with other tests: each size has several chances, and a hundred rows twice
the time that is promised. `make bench` has the figures, also for 10,000 monitors.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.tools import ROOT

pytestmark = pytest.mark.restic

CHANCES = 3


def measured(measure: str, folder: Path, size: int) -> dict[str, float]:
    """A measure in a process of its own, which coverage does not trace."""
    module = {"lock": "scripts.bench_lock"}.get(measure, "scripts.bench_measures")
    environment = {name: v for name, v in os.environ.items() if not name.startswith("COVERAGE")}
    command = [sys.executable, "-m", module, measure, str(folder), str(size), "5"]
    output = subprocess.check_output(command, cwd=ROOT, env=environment, timeout=120)
    figures: dict[str, float] = json.loads(output)
    return figures


@pytest.mark.parametrize(("size", "seconds"), [(300, 0.05), (1_000, 0.1)])
def test_an_apply_holds_the_database_for_a_short_time(
    tmp_path: Path, size: int, seconds: float
) -> None:
    measured("prepare", tmp_path, size)
    for _ in range(CHANCES):
        found = measured("lock", tmp_path, size)
        if found["row"] <= seconds and found["rows"] <= 2 * seconds:
            return
    pytest.fail(f"one row {found['row']:.3f} s, 100 rows {found['rows']:.3f} s")
