"""What `replicator run` costs at rest: processor and memory, beside 50 heartbeats a second.

`python -m scripts.bench_run run FOLDER MONITORS SECONDS` prints one JSON object: percent of a core,
without what children take, and MB. The control is the same leader without a single heartbeat.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing import Process
from pathlib import Path

from scripts.bench_measures import Figures
from tests.support import databases, weak_repository
from tests.support.kuma_server import free_port
from tests.support.supervised import Side
from tests.support.tools import restic_018
from tests.support.waiting import wait_until

PEERS = 5
BEATS = 50
"""a second: 1,000 monitors at 20 s; with statistics some 490 frames of the log"""
_TICK = os.sysconf("SC_CLK_TCK")
_STATISTICS = (("stat_minutely", 60), ("stat_hourly", 3_600), ("stat_daily", 86_400))


def measure(folder: Path, monitors: int, seconds: int) -> Figures:
    figures: Figures = {}
    for name, place, mode, beats, peers in (
        ("leader", "fleet", "BACKUP", BEATS, 0),
        ("replica", "fleet", "RESTORE", BEATS, 0),
        ("with the page and peers", "seen", "BACKUP", BEATS, PEERS),
        ("control", "other", "BACKUP", 0, 0),
    ):
        side = _side(folder / place, name.replace(" ", "-"), mode)
        databases.build(side.database, monitors=monitors, heartbeats=5, wal=True)
        with _beating(side.database, monitors, beats), _seen_by(side, monitors, peers):
            try:
                side.run()
                wait_until(partial(_watches, side), f"the {name} is at rest", 120, 0.5)
                before = _processor(side)
                time.sleep(seconds)
                figures[name] = 100 * (_processor(side) - before) / seconds
                figures[f"{name} MB"] = _resident(side)
            finally:
                side.stop()
    return figures


@contextmanager
def _seen_by(side: Side, monitors: int, peers: int) -> Iterator[None]:
    """So many instances that exchange states with this one, for the block."""
    others = {}
    for number in range(1, peers + 1):
        other = _side(side.data_dir.parent, f"peer-{number}", "RESTORE")
        databases.build(other.database, monitors=monitors, heartbeats=5, wal=True)
        others[other] = free_port()
    if others:
        here = free_port()
        _exchanges(side, here, {other.name: port for other, port in others.items()})
        for other, port in others.items():
            _exchanges(other, port, {side.name: here})
    try:
        for other in others:
            other.run()
        for other in others:
            wait_until(partial(_watches, other), f"the {other.name} is at rest", 120, 0.5)
        yield
    finally:
        for other in others:
            other.stop()


def _exchanges(side: Side, port: int, peers: Mapping[str, int]) -> None:
    named = (f"{name}=http://127.0.0.1:{there}" for name, there in peers.items())
    side.environment |= {
        "REPLICATOR_HTTP": f"127.0.0.1:{port}",
        "REPLICATOR_HTTP_TOKEN": "what-they-all-share",
        "REPLICATOR_PEERS": ",".join(named),
    }


def _side(folder: Path, name: str, mode: str) -> Side:
    """One that heals, with a program that serves Kuma's page and nothing else."""
    if not folder.exists():
        folder.mkdir(parents=True)
        weak_repository.make(folder / "repository")
    side = Side(folder, name, mode, restic_018(), notes=folder / f"{name}-notes")
    side.environment["RESTORE_MERGE_STRATEGY"] = "DEFAULT"
    for variable in ("REPLICATOR_BACKUP_INTERVAL", "REPLICATOR_RESTORE_INTERVAL"):
        side.environment[variable] = "5m"
    return side


def _watches(side: Side) -> bool:
    supervisor = side.json("status")["supervisor"]
    return bool(supervisor and supervisor["change_watch"] == "works" and not supervisor["job"])


def _processor(side: Side) -> float:
    """Seconds of the process itself."""
    assert side.process is not None
    stat = Path(f"/proc/{side.process.pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(stat[11]) + int(stat[12])) / _TICK


def _resident(side: Side) -> float:
    assert side.process is not None
    pages = int(Path(f"/proc/{side.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@contextmanager
def _beating(database: Path, monitors: int, beats: int) -> Iterator[None]:
    """A second process that stores heartbeats as Kuma does, for the block."""
    process = Process(target=_beat, args=(database, monitors, beats), daemon=True)
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()


def _beat(database: Path, monitors: int, beats: int) -> None:
    link = sqlite3.connect(database, isolation_level=None)
    link.execute("PRAGMA synchronous = NORMAL")
    link.execute("SELECT count(*) FROM user").fetchall()
    began, number = time.monotonic(), 0
    while True:
        number += 1
        due = began + number / beats if beats else began + 1e6
        time.sleep(max(0.0, due - time.monotonic()))
        monitor, now = number % monitors + 1, int(time.time())
        moment = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(now))
        link.execute(
            "INSERT INTO heartbeat (monitor_id, status, msg, time, ping, duration) "
            "VALUES (?, 1, '200 - OK', ?, 12, 20)",
            (monitor, f"{moment}.{number % 1000:03}"),
        )
        for table, span in _STATISTICS:
            begins = now // span * span
            where = "WHERE monitor_id = ? AND timestamp = ?"
            sql = f"UPDATE {table} SET up = up + 1 {where}"
            if not link.execute(sql, (monitor, begins)).rowcount:
                link.execute(
                    f"INSERT INTO {table} (monitor_id, timestamp, ping, up, down) "
                    "VALUES (?, ?, 12, 1, 0)",
                    (monitor, begins),
                )


def main(arguments: Sequence[str]) -> None:
    _name, folder, monitors, seconds = arguments
    print(json.dumps(measure(Path(folder), int(monitors), int(seconds))))


if __name__ == "__main__":
    main(sys.argv[1:])
