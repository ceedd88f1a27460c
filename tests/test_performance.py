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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from replicator_kuma.adapters.database.mariadb.connection import Link
from replicator_kuma.dump import values
from replicator_kuma.replication.instance import CycleResult, Instance, Outcome
from replicator_kuma.replication.leader.cycle import Leader
from replicator_kuma.replication.replica.cycle import cycle as restore_cycle

# LEFT
from scripts import bench as bench_program
from scripts.bench_mariadb import Engines
from scripts.bench_measures import PASSWORD, Figures, TimedRepository
from scripts.bench_measures import Bench as Measured
from tests.conftest import need_mariadb
from tests.support import databases, weak_repository
from tests.support.cycles import rename
from tests.support.folder_repository import FolderRepository
from tests.support.mariadb import Server
from tests.support.tools import ROOT, ToolMissingError

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
        here = self._folder / str(size)
        if not here.exists():
            weak_repository.make(here / "repository", password=PASSWORD)
            self.first(size, "prepare")
            self.first(size, "publish")
        if (size, name) not in self._known:
            self._known[size, name] = self.anew(size, name)
        return self._known[size, name]

    def anew(self, size: int, name: str) -> Figures:
        here = self._folder / str(size)
        module = bench_program.MODULES.get(name, "scripts.bench_measures")
        command = [sys.executable, "-m", module, name, str(here), str(size), "1"]
        output = subprocess.check_output(command, cwd=ROOT, env=untraced(), timeout=600)
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


@pytest.mark.parametrize("name", ["dump", "publish", "apply", "mariadb"])
def test_memory_does_not_grow_with_the_rows(bench: Bench, name: str) -> None:
    """A monitor more is a kilobyte more on disk, and nothing in memory."""
    if name == "dump":
        needs_sqlite()
    if name == "mariadb":
        need_mariadb()
    large = bench.first(LARGE, name)["memory MB"]
    assert large < 100
    assert large - bench.first(SMALL, name)["memory MB"] < 8


def test_an_unchanged_leader_checks_in_ten_milliseconds(bench: Bench) -> None:
    bench.first(SMALL, "apply")
    bench.anew(SMALL, "apply")  # whatever was published since
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
    best = {"-mreplicator_kuma": 1.0, "-mthis": 1.0}
    for _ in range(5):
        for module in best:
            began = time.perf_counter()
            command = [sys.executable, module, "--version"]
            subprocess.check_output(command, cwd=ROOT, env=untraced(), timeout=30)
            best[module] = min(best[module], time.perf_counter() - began)
    ours, bare = best.values()
    assert ours < max(0.25, 6 * bare)  # Python's own start tells how busy the machine is


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


# ----------------------------------------------------------------- across engines

FEW, MANY = 300, 1_500


@dataclass
class Work:
    """What a cycle asked of MariaDB and of the snapshot: no clock, so no busy machine either."""

    statements: int = 0
    written: int = 0
    """statements that insert"""
    streamed: int = 0
    """rows of tables that came over"""
    fetched: int = 0
    """rows of other answers"""
    checked: int = 0
    """rows of a snapshot that were looked at value by value"""


@contextmanager
def counted() -> Iterator[Work]:
    work = Work()
    run, ask, stream, look = Link.run, Link.all, Link.stream, values.canonical_rows

    def counted_run(link: Link, sql: str | bytes, table: str = "") -> int:
        work.statements += 1
        # (not those that only ask whether this login may)
        work.written += sql[:6] in ("INSERT", b"INSERT") and "WHERE 1 = 0" not in str(sql[-20:])
        return run(link, sql, table)

    def counted_all(link: Link, sql: str) -> list[tuple[Any, ...]]:
        rows = ask(link, sql)
        work.statements += 1
        work.fetched += len(rows)
        return rows

    def counted_stream(link: Link, sql: str) -> Iterator[tuple[Any, ...]]:
        work.statements += 1
        for row in stream(link, sql):
            work.streamed += 1
            yield row

    def counted_look(lines: Sequence[bytes], columns: int) -> list[tuple[values.Value, ...]]:
        work.checked += len(lines)
        return look(lines, columns)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Link, "run", counted_run)
        patch.setattr(Link, "all", counted_all)
        patch.setattr(Link, "stream", counted_stream)
        patch.setattr(values, "canonical_rows", counted_look)
        yield work


class Across:
    """From SQLite to MariaDB, and from there to another SQLite: ``work`` of each cycle by name."""

    def __init__(self, folder: Path, monitors: int, server: Server) -> None:
        bench = Measured(folder, monitors)
        (folder / "repository").mkdir(parents=True)
        bench.repository = TimedRepository(FolderRepository(folder / "repository"))
        self.engines = Engines(bench, server)
        self.source = databases.build(folder / "leader" / "kuma.db", monitors=monitors)
        self.work: dict[str, Work] = {}
        self.rows = 0
        """of all tables"""
        leader = self._to_mariadb(Leader(bench.instance("leader")))
        self._back(leader, self.engines.new_sqlite())

    def _to_mariadb(self, leader: Leader) -> Leader:
        leader.cycle()
        self.database, instance = self.engines.new_mariadb()
        self._count("first apply", partial(restore_cycle, instance), Outcome.APPLIED)
        rename(self.source, 7, "changed")
        leader.cycle()
        self._count("row", partial(restore_cycle, instance), Outcome.APPLIED)
        return self.engines.as_leader(instance)

    def _back(self, leader: Leader, replica: Instance) -> None:
        leader.cycle()
        (snapshot,) = self.engines.bench.repository.snapshots(replica.fleet)
        self.rows = snapshot.label.rows
        self._count("check", leader.cycle, Outcome.NOTHING)
        restore_cycle(replica)
        self.engines.rename(self.database, "changed")
        self._count("publish", leader.cycle, Outcome.PUBLISHED)
        self._count("row back", partial(restore_cycle, replica), Outcome.APPLIED)

    def _count(self, name: str, cycle: Callable[[], CycleResult], wanted: Outcome) -> None:
        with counted() as self.work[name]:
            assert cycle().outcome is wanted


@pytest.fixture(scope="module")
def across(tmp_path_factory: pytest.TempPathFactory, mariadb: Server) -> tuple[Across, Across]:
    """With few monitors, and with many."""
    folder = tmp_path_factory.mktemp("across")
    few, many = (Across(folder / str(size), size, mariadb) for size in (FEW, MANY))
    return few, many


def test_one_row_across_engines_reads_each_row_once(across: tuple[Across, Across]) -> None:
    few, many = across
    for one in across:
        assert one.rows * 0.9 < one.work["row"].streamed < one.rows * 1.05
    assert many.work["row"].fetched == few.work["row"].fetched


def test_one_row_across_engines_takes_as_many_statements_in_a_large_database(
    across: tuple[Across, Across],
) -> None:
    few, many = (one.work["row"] for one in across)
    assert (few.statements, few.written) == (many.statements, many.written)
    assert few.written == 1


@pytest.mark.parametrize("name", ["row", "row back"])
def test_only_rows_that_differ_are_looked_at(across: tuple[Across, Across], name: str) -> None:
    """The other rows are equal bytes, or were read from this engine a moment ago."""
    few, many = (one.work[name].checked for one in across)
    assert 0 < many <= few + 10


def test_a_first_apply_to_mariadb_sends_rows_by_the_hundred(
    across: tuple[Across, Across],
) -> None:
    few, many = across
    inserts = many.work["first apply"].written - few.work["first apply"].written
    assert 0 < inserts <= (many.rows - few.rows) / 400 + 3
    assert many.work["first apply"].streamed < many.rows * 1.05


def test_a_leader_on_mariadb_sees_that_nothing_changed_without_reading_rows(
    across: tuple[Across, Across],
) -> None:
    few, many = (one.work["check"] for one in across)
    assert few == many
    assert many.streamed == many.written == 0


def test_a_leader_on_mariadb_reads_its_rows_at_most_twice_to_publish_one(
    across: tuple[Across, Across],
) -> None:
    """Once to know that something changed, once for the dump."""
    few, many = across
    assert many.work["publish"].streamed < 2.1 * many.rows
    assert few.work["publish"].statements == many.work["publish"].statements


def test_the_benchmark_says_why_it_leaves_mariadb_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(name: str) -> str:
        raise ToolMissingError(f"{name} is not installed")

    monkeypatch.setattr(bench_program, "program", missing)
    monkeypatch.chdir(ROOT)
    options = ["--sizes", "100", "--only", "mariadb", "--dir", str(tmp_path)]
    assert bench_program.main(options) == 0
    said = capsys.readouterr()
    assert "bench: mariadb is left out: mariadbd is not installed" in said.err
    assert "MariaDB" not in said.out
