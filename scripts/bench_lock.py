"""How long an apply to a running Kuma holds its SQLite database.

`python -m scripts.bench_lock lock FOLDER MONITORS RUNS` goes on from what the measure `prepare`
left in FOLDER. A second process stands for Kuma: it stores 50 heartbeats a second, and tells how
long each took. The control is the shortest transaction that writes the same rows.
"""

from __future__ import annotations

import shutil
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from replicator_kuma.adapters.repository import Position
from replicator_kuma.base.effects import set_hook
from replicator_kuma.replication.apply import begin
from replicator_kuma.replication.apply.confirm import confirm
from replicator_kuma.replication.apply.prepare import Planned, prepare
from replicator_kuma.replication.apply.transaction import carry_out
from replicator_kuma.replication.instance import Instance
from replicator_kuma.replication.observe import observed_dump
from replicator_kuma.replication.state.records import SnapshotRef
from scripts.bench_measures import Bench, Figures, report
from tests.support.instances import make_instance

ROWS = 100
_RENAME = "UPDATE monitor SET name = ? || id WHERE id <= ?"
_KUMA = """
import select, sqlite3, sys, time
link = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=5)
link.execute("PRAGMA synchronous = NORMAL")
print(link.execute("SELECT count(*) FROM user").fetchone()[0], flush=True)
due, took, number = time.monotonic(), [], 0
while not select.select([sys.stdin], [], [], max(0, due - time.monotonic()))[0]:
    began, number = time.monotonic(), number + 1
    link.execute(
        "INSERT INTO heartbeat (monitor_id, status, msg, time, ping, duration)"
        " VALUES (?, 1, 'OK', '2026-11-21 00:00:00', 7, 60)",
        (number % int(sys.argv[2]) + 1,),
    )
    took.append(time.monotonic() - began)
    due += 0.02
print(*took)
"""


@contextmanager
def heartbeats(database: Path, monitors: int) -> Iterator[list[float]]:
    """The second process, for the block; then the list has the seconds of each heartbeat."""
    command = [sys.executable, "-c", _KUMA, str(database), str(monitors)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        took = list[float]()
        assert process.stdout is not None
        process.stdout.readline()
        yield took
        took += map(float, process.communicate("")[0].split())


class Locked:
    """A database with a Kuma beside it, and another one whose rows it is to get."""

    def __init__(self, bench: Bench) -> None:
        self.bench, self.number = bench, 0
        self.here, self.other = self._instance("locked"), self._instance("wanted")
        self.database = self.here.data_dir / "kuma.db"

    def _instance(self, name: str) -> Instance:
        folder = self.bench.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        shutil.copyfile(self.bench.folder / "leader" / "kuma.db", folder / "kuma.db")
        return make_instance(folder, self.bench.repository, name=name)

    def apply(self, rows: int) -> tuple[float, float]:
        """An apply that changes so many rows: the time between BEGIN and the end of COMMIT.

        In seconds by the clock, and of this process's CPU: on a busy machine that says more.
        """
        planned = self._plan(rows)
        mark = SnapshotRef(Position(1, self.number), "digest", "writer")
        first = begin.first_pending(self.here, planned.plan, mark, restart=False, unread=True)
        begin.note(self.here, planned, first, stops=False)
        at = dict[str, tuple[float, float]]()
        hook = set_hook(lambda step: at.update({step: (time.perf_counter(), time.process_time())}))
        try:
            carry_out(self.here, planned, lambda _again: None)
        finally:
            set_hook(hook)
        confirm(self.here)
        (begun, cpu), (ended, cpu_then) = at["transaction begun"], at["committed"]
        return ended - begun, cpu_then - cpu

    def _plan(self, rows: int) -> Planned:
        self.number += 1
        with closing(sqlite3.connect(self.other.data_dir / "kuma.db")) as link, link:
            link.execute(_RENAME, (f"edited {self.number} ", rows))
        wanted, _observation = observed_dump(self.other, f"wanted-{self.number}")
        return prepare(self.here, wanted, own=True)

    def plain(self, rows: int) -> float:
        """The same of a transaction that only changes the rows."""
        self.number += 1
        with closing(sqlite3.connect(self.database, isolation_level=None)) as link:
            link.execute("BEGIN IMMEDIATE")
            began = time.perf_counter()
            link.execute(_RENAME, (f"edited {self.number} ", rows))
            link.execute("COMMIT")
            return time.perf_counter() - began


def lock(bench: Bench, runs: int) -> Figures:
    """One row and a hundred, each beside its control."""
    locked, figures = Locked(bench), Figures()
    with heartbeats(locked.database, bench.monitors) as beats:
        time.sleep(2)
    figures["beat control"] = max(beats)
    for name, rows in (("row", 1), ("rows", ROWS)):
        with heartbeats(locked.database, bench.monitors) as beats:
            found = [(*locked.apply(rows), locked.plain(rows)) for _run in range(runs)]
        for figure, times in zip(("", " CPU", " control"), zip(*found, strict=True), strict=True):
            figures[name + figure] = statistics.median(times)
        figures[f"{name} beat"] = max(beats)
    return figures


def main(arguments: Sequence[str]) -> None:
    _name, folder, monitors, runs = arguments
    report(lock(Bench(Path(folder), int(monitors)), int(runs)))


if __name__ == "__main__":
    main(sys.argv[1:])
