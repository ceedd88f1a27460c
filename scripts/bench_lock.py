"""How long an apply to a running Kuma holds its SQLite database.

`python -m scripts.bench_lock lock FOLDER MONITORS RUNS` goes on from what the measure `prepare`
left in FOLDER. A second process stands for Kuma: it stores 50 heartbeats a second, and tells how
long the slowest took. The control is the shortest transaction that writes the same rows.
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
due, worst, number = time.monotonic(), 0.0, 0
while not select.select([sys.stdin], [], [], max(0, due - time.monotonic()))[0]:
    began, number = time.monotonic(), number + 1
    link.execute(
        "INSERT INTO heartbeat (monitor_id, status, msg, time, ping, duration)"
        " VALUES (?, 1, 'OK', '2026-11-21 00:00:00', 7, 60)",
        (number % int(sys.argv[2]) + 1,),
    )
    worst, due = max(worst, time.monotonic() - began), due + 0.02
print(worst)
"""


class Locked:
    """A database with a Kuma beside it, and another one whose rows it is to get."""

    def __init__(self, bench: Bench) -> None:
        self.bench, self.number = bench, 0
        self.here, self.other = self._instance("locked"), self._instance("wanted")
        self.database = self.here.data_dir / "kuma.db"
        self.worst = 0.0
        """how long the slowest heartbeat took in the last `heartbeats`, in seconds"""

    def _instance(self, name: str) -> Instance:
        folder = self.bench.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        shutil.copyfile(self.bench.folder / "leader" / "kuma.db", folder / "kuma.db")
        return make_instance(folder, self.bench.repository, name=name)

    @contextmanager
    def heartbeats(self) -> Iterator[None]:
        """The second process, for the block."""
        command = [sys.executable, "-c", _KUMA, str(self.database), str(self.bench.monitors)]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
            assert process.stdout is not None
            process.stdout.readline()
            yield
            self.worst = float(process.communicate("")[0])

    def apply(self, rows: int) -> float:
        """The seconds between BEGIN and the end of COMMIT of an apply that changes so many rows."""
        planned = self._plan(rows)
        mark = SnapshotRef(Position(1, self.number), "digest", "writer")
        first = begin.first_pending(self.here, planned.plan, mark, restart=False, unread=True)
        begin.note(self.here, planned, first, stops=False)
        at = dict[str, float]()
        hook = set_hook(lambda step: at.update({step: time.perf_counter()}))
        try:
            carry_out(self.here, planned, lambda _again: None)
        finally:
            set_hook(hook)
        confirm(self.here)
        return at["committed"] - at["transaction begun"]

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
    with locked.heartbeats():
        time.sleep(2)
    figures["beat control"] = locked.worst
    for name, rows in (("row", 1), ("rows", ROWS)):
        with locked.heartbeats():
            pairs = [(locked.apply(rows), locked.plain(rows)) for _run in range(runs)]
        ours, plain = zip(*pairs, strict=True)
        figures[name], figures[f"{name} control"] = map(statistics.median, (ours, plain))
        figures[f"{name} beat"] = locked.worst
    return figures


def main(arguments: Sequence[str]) -> None:
    _name, folder, monitors, runs = arguments
    report(lock(Bench(Path(folder), int(monitors)), int(runs)))


if __name__ == "__main__":
    main(sys.argv[1:])
