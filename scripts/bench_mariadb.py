"""From SQLite to MariaDB and back, with a server of its own.

`python -m scripts.bench_mariadb mariadb FOLDER MONITORS RUNS` goes on from what the measures
`prepare` and `publish` left in FOLDER, and prints one JSON object: seconds and megabytes by name.
CPU is this process's alone, "server CPU" is mariadbd's: on a busy machine they say more.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from replicator_kuma.adapters.database.detect import open_store
from replicator_kuma.replication.instance import CycleResult, Instance, Outcome
from replicator_kuma.replication.leader.cycle import Leader
from replicator_kuma.replication.replica.cycle import cycle as restore_cycle

# LEFT
from replicator_kuma.replication.state.file import StateFile
from scripts.bench_measures import Bench, Figures, cycle_seconds, report
from tests.support.databases import create as create_sqlite
from tests.support.instances import make_instance
from tests.support.mariadb import Database, Server, short_folder
from tests.support.mariadb_build import create as create_mariadb

_AS_INSTALLED = (  # the tests' server trades safety and memory for speed
    "--innodb-flush-log-at-trx-commit=1",
    "--innodb-flush-method=fsync",
    "--innodb-buffer-pool-size=128M",
    "--innodb-log-file-size=96M",
)
_BACK = "back"
"""The fleet that the MariaDB instance leads."""


class Engines:
    """The bench's leader, an instance on MariaDB that follows it, and one on SQLite after that."""

    def __init__(self, bench: Bench, server: Server) -> None:
        self.bench, self.server = bench, server
        self.figures: dict[str, list[float]] = {}

    def measure(
        self, name: str, cycle: Callable[[], CycleResult], wanted: Outcome, *, shares: bool = True
    ) -> None:
        """Time a cycle, with restic's share and this process's CPU where there are ``shares``."""
        repository = self.bench.repository
        repository.seconds, began, served = 0.0, time.process_time(), self._server_cpu()
        found = {name: cycle_seconds(cycle, wanted)}
        if shares:
            found[f"{name} CPU"] = time.process_time() - began
            found[f"{name} server CPU"] = self._server_cpu() - served
            found[f"{name} restic"] = repository.seconds
        for key, value in found.items():
            self.figures.setdefault(key, []).append(value)

    def _server_cpu(self) -> float:
        """Seconds that mariadbd has used a core."""
        words = Path(f"/proc/{self.server.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")

    def new_mariadb(self) -> tuple[Database, Instance]:
        """An empty replica; what an earlier run filled goes."""
        folder = self.bench.folder / "on-mariadb"
        shutil.rmtree(folder, ignore_errors=True)
        database = create_mariadb(self.server.database("bench", folder))
        return database, self._instance(folder)

    def new_sqlite(self) -> Instance:
        folder = self.bench.folder / "back"
        shutil.rmtree(folder, ignore_errors=True)
        create_sqlite(folder / "kuma.db", "2.3", wal=True)
        replica = self._instance(folder)
        replica.fleet = _BACK
        return replica

    def _instance(self, folder: Path) -> Instance:
        return make_instance(
            folder, self.bench.repository, name=folder.name, store=open_store(folder)
        )

    def as_leader(self, instance: Instance) -> Leader:
        """The same database as the leader of a fleet of its own."""
        state = StateFile(instance.data_dir / "as-leader")
        leader = make_instance(
            instance.data_dir, self.bench.repository, name="turned", store=instance.store
        )
        leader.fleet, leader.state = _BACK, state
        return Leader(leader)

    def rename(self, database: Database, text: str) -> None:
        middle = self.bench.monitors // 2
        database.edit(("UPDATE monitor SET name = ? WHERE id = ?", (text, middle)))


def mariadb(bench: Bench, runs: int) -> Figures:
    """First applies and single rows in both directions, and what a leader on MariaDB does."""
    with _server(bench.folder / "server") as server:
        engines = Engines(bench, server)
        for _run in range(runs):
            database, replica = engines.new_mariadb()
            engines.measure("first", partial(restore_cycle, replica), Outcome.APPLIED)
        source = Leader(bench.instance("leader"))
        for run in range(runs):
            bench.edit(f"edited for MariaDB {run} {time.time()}")
            cycle_seconds(source.cycle, Outcome.PUBLISHED)
            engines.measure("row", partial(restore_cycle, replica), Outcome.APPLIED)
        _back(engines, database, engines.as_leader(replica), runs)
    return {name: statistics.median(values) for name, values in engines.figures.items()}


def _back(engines: Engines, database: Database, leader: Leader, runs: int) -> None:
    """The MariaDB instance leads, and one on SQLite follows it."""
    cycle_seconds(leader.cycle, Outcome.PUBLISHED)
    for _run in range(runs):
        engines.measure("check", leader.cycle, Outcome.NOTHING, shares=False)
    for _run in range(runs):
        replica = engines.new_sqlite()
        engines.measure("back", partial(restore_cycle, replica), Outcome.APPLIED)
    for run in range(runs):
        engines.rename(database, f"edited in MariaDB {run}")
        engines.measure("publish", leader.cycle, Outcome.PUBLISHED)
        engines.measure("back row", partial(restore_cycle, replica), Outcome.APPLIED)


@contextlib.contextmanager
def _server(folder: Path) -> Iterator[Server]:
    """A private server with its data on the disk that is measured."""
    try:
        with (
            short_folder() as short,
            Server(folder, at=short / "m.sock", options=_AS_INSTALLED) as server,
        ):
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main(arguments: Sequence[str]) -> None:
    _name, folder, monitors, runs = arguments
    report(mariadb(Bench(Path(folder), int(monitors)), int(runs)))


if __name__ == "__main__":
    main(sys.argv[1:])
