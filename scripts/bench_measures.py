"""What the benchmark measures, each in a process of its own: `python -m scripts.bench_measures`.

Prints one JSON object: seconds and megabytes by name. Peak memory is this process's alone
(VmHWM), restic's that of the largest child.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from replicator_kuma.adapters.repository import Label, Limits, Listing, Repository, Snapshot
from replicator_kuma.adapters.repository.restic.client import ResticRepository
from replicator_kuma.base.threads import never
from replicator_kuma.dump.catalog import TABLES
from replicator_kuma.replication.instance import CycleResult, Instance, Outcome
from replicator_kuma.replication.leader.cycle import Leader
from replicator_kuma.replication.observe import observe
from replicator_kuma.replication.replica.cycle import cycle as restore_cycle
from scripts.bench_data import fill
from tests.support.databases import create
from tests.support.instances import make_instance
from tests.support.tools import ToolMissingError, restic_014, restic_018

Figures = dict[str, float]

PASSWORD = "benchmark"
_SETTLE = 2.1
"""A database's files must be this old before their time stamps are believed (sqlite.py)."""


class TimedRepository:
    """A repository that adds up how long its calls take: restic's share."""

    def __init__(self, inner: Repository) -> None:
        self.inner = inner
        self.seconds = 0.0

    def init(self) -> bool:
        with self._timed():
            return self.inner.init()

    def snapshots(self, fleet: str) -> Listing:
        with self._timed():
            return self.inner.snapshots(fleet)

    def publish(self, folder: Path, label: Label) -> str:
        with self._timed():
            return self.inner.publish(folder, label)

    def fetch(
        self,
        snapshot: Snapshot,
        into: Path,
        accept: Callable[[str], bool],
        limits: Limits = Limits(),  # noqa: B008  (as the protocol has it)
        unwanted: Callable[[], bool] = never,
    ) -> None:
        with self._timed():
            self.inner.fetch(snapshot, into, accept, limits, unwanted)

    def read(
        self,
        snapshot: Snapshot,
        name: str,
        limit: int,
        unwanted: Callable[[], bool] = never,
    ) -> bytes:
        with self._timed():
            return self.inner.read(snapshot, name, limit, unwanted)

    @contextlib.contextmanager
    def _timed(self) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - began


class Bench:
    """One size's folder: a leader, an empty database, one repository."""

    def __init__(self, folder: Path, monitors: int) -> None:
        self.folder, self.monitors = folder, monitors
        self.repository = TimedRepository(self._restic())

    def _restic(self) -> ResticRepository:
        environment = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(self.folder),
            "RESTIC_REPOSITORY": str(self.folder / "repository"),
            "RESTIC_PASSWORD": PASSWORD,
        }
        return ResticRepository(restic(), environment, self.folder / "cache", "bench")

    def instance(self, name: str) -> Instance:
        return make_instance(self.folder / name, self.repository, name=name)

    def new_replica(self) -> Instance:
        shutil.rmtree(self.folder / "replica", ignore_errors=True)
        (self.folder / "replica").mkdir()
        shutil.copyfile(self.folder / "empty.db", self.folder / "replica" / "kuma.db")
        return self.instance("replica")

    def edit(self, text: str) -> None:
        """One monitor gets another name, as if somebody had pressed Save."""
        connection = sqlite3.connect(self.folder / "leader" / "kuma.db")
        with connection:
            middle = self.monitors // 2
            connection.execute("UPDATE monitor SET name = ? WHERE id = ?", (text, middle))
        connection.close()


def restic() -> Path:
    """The newest restic that is here."""
    try:
        return restic_018()
    except ToolMissingError:
        return restic_014()


def timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def prepare(bench: Bench) -> Figures:
    """The databases and the repository; nothing of it is measured."""
    (bench.folder / "leader").mkdir()
    create(bench.folder / "empty.db", "2.3", wal=True)
    leader = bench.folder / "leader" / "kuma.db"
    shutil.copyfile(bench.folder / "empty.db", leader)
    fill(leader, bench.monitors)
    bench.repository.init()
    return {"kuma.db MB": leader.stat().st_size / 1e6}


def dump(bench: Bench, runs: int) -> Figures:
    """Read and dump all tables into a folder, in turn with `sqlite3 .dump` of the same ones."""
    leader, target = bench.instance("leader"), bench.folder / "dumped"
    ours, theirs = [], []
    for _run in range(runs):
        theirs.append(timed(lambda: _sqlite_dump(bench.folder / "leader" / "kuma.db", target)))
        target.unlink()
        ours.append(timed(lambda: observe(leader, target)))
        size = sum(path.stat().st_size for path in target.rglob("*.jsonl"))
        shutil.rmtree(target)
    return {
        "dump": statistics.median(ours),
        ".dump": statistics.median(theirs),
        "ratio": statistics.median(a / b for a, b in zip(ours, theirs, strict=True)),
        "dump MB": size / 1e6,
    }


def _sqlite_dump(database: Path, target: Path) -> None:
    with target.open("wb") as out:
        subprocess.run(
            ["sqlite3", "-readonly", str(database), f".dump {' '.join(TABLES)}"],
            stdout=out,
            check=True,
        )


def publish(bench: Bench, runs: int) -> Figures:
    """The leader's first publish; it happens once, so it is measured once."""
    leader = Leader(bench.instance("leader"))
    seconds = cycle_seconds(leader.cycle, Outcome.PUBLISHED)
    return {"publish": seconds, "restic": bench.repository.seconds}


def apply(bench: Bench, runs: int) -> Figures:
    """Everything into an empty replica: fetch, verify, plan, write, verify. Kuma's restart is
    that of a service that does nothing."""
    totals, shares = [], []
    for _run in range(runs):
        replica = bench.new_replica()
        bench.repository.seconds = 0.0
        totals.append(cycle_seconds(partial(restore_cycle, replica), Outcome.APPLIED))
        shares.append(bench.repository.seconds)
    return {"apply": statistics.median(totals), "restic": statistics.median(shares)}


def change(bench: Bench, runs: int) -> Figures:
    """One row changed on the leader: `backup --now`, and `restore --now` on the replica."""
    leader, replica = Leader(bench.instance("leader")), bench.instance("replica")
    figures: dict[str, list[float]] = {}
    for run in range(runs):
        bench.edit(f"edited {run} {time.time()}")
        for name, cycle, outcome in (
            ("publish", partial(leader.cycle, verify=True), Outcome.PUBLISHED),
            ("apply", partial(restore_cycle, replica, reconcile=True), Outcome.APPLIED),
        ):
            bench.repository.seconds = 0.0
            figures.setdefault(name, []).append(cycle_seconds(cycle, outcome))
            figures.setdefault(f"{name} restic", []).append(bench.repository.seconds)
            ours = figures[name][-1] - bench.repository.seconds
            figures.setdefault(f"{name} ours", []).append(ours)
    return {name: statistics.median(values) for name, values in figures.items()}


def idle(bench: Bench, runs: int) -> Figures:
    """Checks that find nothing: files unchanged, a heartbeat later, and a replica's poll."""
    leader, replica = Leader(bench.instance("leader")), bench.instance("replica")
    kuma = sqlite3.connect(bench.folder / "leader" / "kuma.db")  # keeps the WAL, as Kuma does
    kuma.execute("SELECT count(*) FROM user").fetchone()
    time.sleep(_SETTLE)
    cycle_seconds(leader.cycle, Outcome.NOTHING)
    unchanged = [cycle_seconds(leader.cycle, Outcome.NOTHING) for _run in range(40)]
    beats = []
    for _run in range(runs):
        with kuma:
            kuma.execute(
                "INSERT INTO heartbeat (monitor_id, status, msg, time, ping, duration)"
                " VALUES (1, 1, 'OK', '2026-11-21 00:00:00', 7, 60)"
            )
        beats.append(cycle_seconds(leader.cycle, Outcome.NOTHING))
    kuma.close()
    bench.repository.seconds = 0.0
    poll = cycle_seconds(partial(restore_cycle, replica), Outcome.NOTHING)
    return {
        "unchanged": statistics.median(unchanged),
        "heartbeat": statistics.median(beats),
        "poll": poll,
        "poll restic": bench.repository.seconds,
    }


def cycle_seconds(cycle: Callable[[], CycleResult], wanted: Outcome) -> float:
    """How long a cycle takes; one that ends otherwise than it should ends the benchmark."""
    began = time.perf_counter()
    result = cycle()
    seconds = time.perf_counter() - began
    if result.outcome is not wanted:
        raise SystemExit(f"a cycle ended with {result.outcome.value!r}: {result.sentence}")
    return seconds


def peak_memory() -> float:
    """The most that this process ever held, in MB (2^20 bytes)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise OSError("the kernel tells no VmHWM")


MEASURES: dict[str, Callable[[Bench, int], Figures]] = {
    "dump": dump,
    "publish": publish,
    "apply": apply,
    "change": change,
    "idle": idle,
}


def main(arguments: Sequence[str]) -> None:
    name, folder, monitors, runs = arguments
    bench = Bench(Path(folder), int(monitors))
    report(prepare(bench) if name == "prepare" else MEASURES[name](bench, int(runs)))


def report(figures: Figures) -> None:
    """Print what a process measured, and how much memory it took for it."""
    figures["memory MB"] = peak_memory()
    figures["restic MB"] = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(json.dumps(figures))


if __name__ == "__main__":
    main(sys.argv[1:])
