"""Coarse guards of speed and memory, on the benchmark's own measures; `make bench` has figures.

Each measure is a process of its own without coverage's tracing. The bounds leave room for a busy
machine with two cores, and times get another chance: what fails here has changed in kind.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.bench_measures import Figures
from tests.support.tools import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.restic]

SMALL, LARGE = 1_000, 10_000
TRIES = 4


def untraced() -> dict[str, str]:
    """This process's environment without what makes coverage follow a subprocess."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}


class Bench:
    """Measures on databases that are made once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[tuple[int, str], Figures] = {}

    def first(self, size: int, name: str) -> Figures:
        """What the first look at it gave."""
        if (size, name) not in self._known:
            self._known[size, name] = self.anew(size, name)
        return self._known[size, name]

    def anew(self, size: int, name: str) -> Figures:
        here = self._folder / str(size)
        if not here.exists():
            here.mkdir()
            self.first(size, "prepare")
            self.first(size, "publish")
        command = [sys.executable, "-m", "scripts.bench_measures", name, str(here), str(size), "1"]
        output = subprocess.check_output(command, cwd=ROOT, env=untraced(), timeout=200)
        figures: Figures = json.loads(output)
        return figures

    def tries(self, *wanted: tuple[int, str]) -> Iterator[list[Figures]]:
        """The same measures again and again: a busy machine has quiet moments."""
        yield [self.first(*one) for one in wanted]
        for _ in range(TRIES - 1):
            yield [self.anew(*one) for one in wanted]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("performance"))


@pytest.mark.parametrize("name", ["dump", "publish", "apply"])
def test_memory_does_not_grow_with_the_rows(bench: Bench, name: str) -> None:
    """A monitor more is a kilobyte more on disk, and nothing in memory."""
    if name == "dump":
        needs_sqlite()
    large = bench.first(LARGE, name)["memory MB"]
    assert large < 100
    assert large - bench.first(SMALL, name)["memory MB"] < 8


def test_an_unchanged_leader_checks_in_ten_milliseconds(bench: Bench) -> None:
    bench.first(SMALL, "apply")
    assert any(idle["unchanged"] <= 0.010 for (idle,) in bench.tries((SMALL, "idle")))


def test_times_grow_no_faster_than_the_rows(bench: Bench) -> None:
    assert any(
        large["apply"] - large["restic"] < 2 * LARGE / SMALL * (small["apply"] - small["restic"])
        for small, large in bench.tries((SMALL, "apply"), (LARGE, "apply"))
    )


def test_a_dump_takes_at_most_three_times_as_long_as_sqlites_own(bench: Bench) -> None:
    needs_sqlite()
    assert any(dump["ratio"] <= 3 for (dump,) in bench.tries((LARGE, "dump")))


def test_the_version_is_told_in_a_quarter_of_a_second() -> None:
    """Nothing heavy is imported before it is needed."""
    command = [sys.executable, "-m", "replicator_kuma", "--version"]
    best = 1.0
    for _ in range(5):
        began = time.perf_counter()
        subprocess.check_output(command, cwd=ROOT, env=untraced(), timeout=30)
        best = min(best, time.perf_counter() - began)
    assert best < 0.25


def needs_sqlite() -> None:
    if shutil.which("sqlite3") is None:
        pytest.skip("sqlite3, the program, is not here to compare with")


def test_the_benchmark_runs_and_prints_its_verdicts(tmp_path: Path) -> None:
    needs_sqlite()
    command = [sys.executable, "-m", "scripts.bench", "--sizes", "100", "--only", "dump"]
    options = ["--runs", "1", "--dir", str(tmp_path)]
    text = subprocess.check_output([*command, *options], cwd=ROOT, env=untraced(), text=True)
    assert "read + dump, as a multiple of sqlite3 .dump" in text
    assert list(tmp_path.iterdir()) == []
