"""How long a real Uptime Kuma does not answer: at its own restart, and at a restore's.

`python -m scripts.bench_kuma kuma FOLDER MONITORS RUNS` prints one JSON object, in seconds.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import multiprocessing
import shutil
import sqlite3
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from replicator_kuma.adapters.kuma.child import ChildKuma
from replicator_kuma.adapters.kuma.process import STOP_DEADLINE
from replicator_kuma.adapters.kuma.readiness import wait_ready
from replicator_kuma.replication.instance import Instance, Outcome
from replicator_kuma.replication.leader.cycle import Leader
from replicator_kuma.replication.replica.cycle import cycle as restore_cycle
from scripts.bench_data import fill
from scripts.bench_measures import Bench, Figures
from tests.support.kuma_server import free_port, kuma_command, kuma_environment, prepare_data_dir
from tests.support.tools import kuma_dir

CHANGES = 100
_EVERY = 0.01
_LATER = 1.5
"""So long does it go on answering before and after a restart."""


class TimedKuma(ChildKuma):
    """Notes how long Kuma was not even being started: what a restore adds to a restart."""

    held = 0.0
    _stopped = 0.0

    def stop(self, timeout: float = STOP_DEADLINE) -> None:
        super().stop(timeout)
        self._stopped = time.monotonic()

    def start(
        self,
        extra_environment: Mapping[str, str] | None = None,
        abandoned: Callable[[], bool] = lambda: False,
    ) -> None:
        self.held = time.monotonic() - self._stopped
        super().start(extra_environment, abandoned)


def outage(folder: Path, monitors: int, runs: int) -> Figures:
    """A plain restart and a restore of a hundred changes, in turn, on one running server."""
    bench = _prepare(folder, monitors)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    kuma = _kuma(folder, port)
    replica = bench.instance("replica")
    replica.kuma, replica.wait_ready = kuma, lambda: wait_ready(url, kuma.running)
    figures: dict[str, list[float]] = {"plain": [], "restore": [], "beyond": [], "held": []}
    kuma.start()
    try:
        replica.wait_ready()
        for run in range(runs):
            with _probed(port) as plain:
                _restart(replica)
            _edit(folder / "leader" / "kuma.db", run)
            _must(Leader(bench.instance("leader")).cycle().outcome, Outcome.PUBLISHED)
            with _probed(port) as restore:
                _must(restore_cycle(replica).outcome, Outcome.APPLIED)
            figures["plain"].append(plain())
            figures["restore"].append(restore())
            figures["beyond"].append(restore() - plain())
            figures["held"].append(kuma.held)
    finally:
        kuma.stop()
    return {name: statistics.median(values) for name, values in figures.items()}


def _prepare(folder: Path, monitors: int) -> Bench:
    """A database that a real server has made, filled while it is stopped, on both instances."""
    folder.mkdir(parents=True)
    bench = Bench(folder, monitors)
    bench.repository.init()
    prepare_data_dir(folder / "replica")
    port = free_port()
    kuma = _kuma(folder, port)
    kuma.start()
    try:
        wait_ready(f"http://127.0.0.1:{port}", kuma.running)
    finally:
        kuma.stop()
    database = folder / "replica" / "kuma.db"
    fill(database, monitors)
    connection = sqlite3.connect(database)
    with connection:  # monitors that only wait: their checks are no part of what is measured
        connection.execute("UPDATE monitor SET type = 'push'")
    connection.close()
    (folder / "leader").mkdir()
    shutil.copyfile(database, folder / "leader" / "kuma.db")
    return bench


def _kuma(folder: Path, port: int) -> TimedKuma:
    quiet = ["sh", "-c", 'exec "$@" >>"$0" 2>&1', str(folder / "kuma.log"), *kuma_command()]
    return TimedKuma(quiet, kuma_dir(), kuma_environment(folder / "replica", port))


def _restart(instance: Instance) -> None:
    instance.kuma.stop()
    instance.kuma.start()
    instance.wait_ready()


def _edit(database: Path, run: int) -> None:
    connection = sqlite3.connect(database)
    with connection:
        connection.execute(
            "UPDATE monitor SET name = name || ? WHERE id % 10 = ? AND id <= ?",
            (f" {run}", run % 10, CHANGES * 10),
        )
    connection.close()


@contextlib.contextmanager
def _probed(port: int) -> Iterator[Callable[[], float]]:
    """Asks /api/entry-page all the time; the result tells how long it did not answer."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_probe, args=(port, theirs))
    process.start()
    ours.recv()  # it has answered once
    gaps: list[float] = []
    try:
        yield lambda: max(gaps)
        time.sleep(_LATER)
    finally:
        ours.send(None)
        gaps.extend(ours.recv())
        process.join()


def _probe(port: int, parent: Connection) -> None:
    """In a process of its own, which nothing delays: all gaps between answers, in seconds."""
    gaps, last, told = [0.0], time.monotonic(), False
    while not parent.poll():
        if _answers(port):
            now = time.monotonic()
            gaps.append(now - last)
            last = now
            if not told:
                parent.send(None)
                told, gaps = True, [0.0]
        time.sleep(_EVERY)
    parent.send(gaps)


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", "/api/entry-page")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _must(outcome: Outcome, wanted: Outcome) -> None:
    if outcome is not wanted:
        raise SystemExit(f"a cycle ended with {outcome.value!r} instead of {wanted.value!r}")


def main(arguments: Sequence[str]) -> None:
    _name, folder, monitors, runs = arguments
    print(json.dumps(outage(Path(folder), int(monitors), int(runs))))


if __name__ == "__main__":
    main(sys.argv[1:])
