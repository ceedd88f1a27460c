"""How long an apply to a running Kuma holds its database, and what a writer beside it sees of it.

`python -m scripts.bench_lock lock FOLDER MONITORS RUNS` goes on from what the measure `prepare`
left in FOLDER. A second process stands for Kuma: it stores 50 heartbeats a second through one
connection, and reports how long each one took.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from replicator_kuma.base.effects import set_hook
from replicator_kuma.replication.apply import begin
from replicator_kuma.replication.apply.prepare import Planned, prepare
from replicator_kuma.replication.apply.transaction import carry_out
from replicator_kuma.replication.instance import Instance
from replicator_kuma.replication.observe import observed_dump
from replicator_kuma.replication.state.records import SnapshotRef
from replicator_kuma.adapters.repository import Position
from scripts.bench_measures import Bench, Figures, report
from tests.support.instances import make_instance

A_SECOND = 50
"""heartbeats"""

_KUMA = f"""
import json, sqlite3, sys, time
path, monitors = sys.argv[1], int(sys.argv[2])
link = sqlite3.connect(path, isolation_level=None, timeout=5)
link.execute("PRAGMA synchronous = NORMAL")
link.execute("SELECT count(*) FROM user").fetchone()
print("ready", flush=True)
took, late, due, number = [], [], time.monotonic(), 0
import select
while not select.select([sys.stdin], [], [], max(0, due - time.monotonic()))[0]:
    began = time.monotonic()
    number += 1
    link.execute(
        "INSERT INTO heartbeat (monitor_id, status, msg, time, ping, duration)"
        " VALUES (?, 1, 'OK', '2026-11-21 00:00:00', 7, 60)", (number % monitors + 1,))
    ended = time.monotonic()
    took.append(ended - began)
    due += 1 / {A_SECOND}
print(json.dumps(took))
"""


@contextmanager
def heartbeats(database: Path, monitors: int) -> Iterator[list[float]]:
    """The second process for the block; afterwards the list holds the seconds of each heartbeat."""
    command = [sys.executable, "-c", _KUMA, str(database), str(monitors)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        took: list[float] = []
        assert process.stdout is not None
        process.stdout.readline()
        yield took
        output, _ = process.communicate("")
        took += json.loads(output)


class Locked:
    def __init__(self, bench: Bench) -> None:
        self.monitors = bench.monitors
        folder = bench.folder / "locked"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        shutil.copyfile(bench.folder / "leader" / "kuma.db", folder / "kuma.db")
        self.here = make_instance(folder, bench.repository, name="locked")
        other = bench.folder / "wanted"
        shutil.rmtree(other, ignore_errors=True)
        other.mkdir()
        shutil.copyfile(bench.folder / "leader" / "kuma.db", other / "kuma.db")
        self.other = make_instance(other, bench.repository, name="wanted")
        self.number = 0

    def plan(self, rows: int) -> Planned:
        self.number += 1
        with closing(sqlite3.connect(self.other.data_dir / "kuma.db")) as link, link:
            link.execute(
                "UPDATE monitor SET name = ? || id WHERE id <= ?",
                (f"edited {self.number} ", rows),
            )
        wanted, _ = observed_dump(self.other, f"wanted-{self.number}")
        return prepare(self.here, wanted, own=True)

    def write(self, planned: Planned) -> dict[str, float]:
        mark = SnapshotRef(Position(1, self.number), "digest", "writer")
        first = begin.first_pending(self.here, planned.plan, mark, restart=False, unread=True)
        begin.note(self.here, planned, first, stops=False)
        at: dict[str, float] = {}
        set_hook(lambda name: at.setdefault(name, time.perf_counter()))
        try:
            carry_out(self.here, planned, lambda _: None)
        finally:
            set_hook(None)
        from replicator_kuma.replication.apply.confirm import confirm

        confirm(self.here)
        t0 = at["transaction begun"]
        return {k: v - t0 for k, v in at.items() if v >= t0 and k != "transaction begun"}


def main(arguments: Sequence[str]) -> None:
    _name, folder, monitors, runs = arguments
    bench = Bench(Path(folder), int(monitors))
    locked = Locked(bench)
    with heartbeats(locked.here.data_dir / "kuma.db", bench.monitors) as control:
        time.sleep(5)
    out = {}
    for rows in (1, 100):
        found = []
        with heartbeats(locked.here.data_dir / "kuma.db", bench.monitors) as took:
            for _ in range(int(runs)):
                found.append(locked.write(locked.plan(rows)))
        for name in found[0]:
            values = [f[name] * 1000 for f in found]
            print(
                rows, f"{name:30} median {statistics.median(values):8.1f} worst {max(values):8.1f}"
            )
        print(
            rows,
            "beats",
            len(took),
            f"median {statistics.median(took) * 1000:.1f} worst {max(took) * 1000:.1f}",
        )
    print(
        "control",
        len(control),
        f"median {statistics.median(control) * 1000:.1f} worst {max(control) * 1000:.1f}",
    )


if __name__ == "__main__":
    main(sys.argv[1:])
