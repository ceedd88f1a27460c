"""SQLite's log, which Kuma writes, Litestream holds and checkpoints, and we read: no harm is done.

Litestream keeps a read transaction open, so that nobody but itself can begin the log anew.
"""

from __future__ import annotations

import dataclasses
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from replicator_kuma.adapters.database.sqlite.store import SqliteStore
from replicator_kuma.adapters.litestream.child import Child
from replicator_kuma.dump.catalog import TABLES
from replicator_kuma.replication.instance import Instance
from tests.adapters.litestream.test_restore import read
from tests.support import cycles
from tests.support.cycles import db, follow, go_back, lead, name_of, rename
from tests.support.databases import query
from tests.support.folder_repository import FolderRepository
from tests.support.litestream import replica as litestream_replica
from tests.support.tiers import by_tier
from tests.support.waiting import wait_until

SECONDS = by_tier(6, 60)
MOST = 64 << 20
"""bytes; seen after a minute of 500 pages a second: 5 MB"""


@contextmanager
def streaming(folder: Path, database: Path) -> Iterator[Child]:
    """A Litestream of its own for the block; all is sent after it."""
    made = litestream_replica(folder, f"file://{folder / 'store'}")
    child = Child(dataclasses.replace(made, database=database))
    child.start()
    try:
        wait_until(lambda: read(child, time.time()), "it streams", 60)
        yield child
    finally:
        assert child.end()


@contextmanager
def written(database: Path, pause: float) -> Iterator[Callable[[], int]]:
    """Heartbeats as Kuma writes them, a transaction each, for the block; gives how many."""
    end, count = threading.Event(), [0]

    def write() -> None:
        with closing(sqlite3.connect(database, timeout=30)) as kuma:
            while not end.wait(pause):
                with kuma:
                    kuma.execute(
                        "INSERT INTO heartbeat (monitor_id, status, time, msg) "
                        "VALUES (1, 1, datetime('now'), 'OK')"
                    )
                count[0] += 1

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield lambda: count[0]
    finally:
        end.set()
        thread.join(60)


def test_no_edit_is_missed_and_the_log_does_not_grow_for_ever(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    database = cycles.fill(folder, wal=True)
    log, sizes, missed, vain = Path(f"{database}-wal"), list[int](), list[int](), 0
    watch = SqliteStore(folder).watch(TABLES)
    with streaming(tmp_path / "litestream", database) as child, written(database, 0.003) as count:
        watch.stirred()
        before, end, number = watch.digest(), time.monotonic() + SECONDS, 0
        while time.monotonic() < end:
            number += 1
            rename(database, 1, f"edit {number}")
            if not watch.stirred() or watch.digest() == before:
                missed.append(number)
            before = watch.digest()
            time.sleep(0.25)
            if watch.stirred():
                vain += 1
            assert watch.digest() == before
            sizes.append(log.stat().st_size)
        assert read(child, time.time())
        assert count() > SECONDS  # it wrote all the time
    watch.close()
    assert missed == []
    # Kuma's own checkpoints and Litestream's have met all the time: what was sent is whole
    back = litestream_replica(tmp_path / "litestream", f"file://{tmp_path / 'litestream/store'}")
    back.restore()
    assert query(back.database, "PRAGMA integrity_check") == [("ok",)]
    beats = "SELECT count(*) FROM heartbeat"
    assert query(back.database, beats) == query(database, beats)
    assert name_of(back.database, 1) == f"edit {number}"
    assert max(sizes) < MOST
    assert sizes[-1] < max(MOST, 2 * sizes[len(sizes) // 2])
    print(f"\n{number} edits, {count()} beats: log {max(sizes) >> 10} KiB at most; {vain} in vain")


def test_rows_are_applied_and_undone_beside_it(
    leader: Instance, replica: Instance, repository: FolderRepository, tmp_path: Path
) -> None:
    """All that an apply does to a database, while Litestream reads and Kuma beats."""
    rounds = by_tier(3, 20)
    with (
        streaming(tmp_path / "litestream", db(replica)) as child,
        written(db(replica), 0.02) as count,
    ):
        replica.streamed_by = lambda: child.pid
        replica.listens = lambda: False
        for number in range(rounds):
            rename(db(leader), 1, f"round {number}")
            lead(leader)
            follow(replica)
            assert name_of(db(replica), 1) == f"round {number}"
        go_back(replica)
        assert name_of(db(replica), 1) == f"round {rounds - 2}"
        assert read(child, time.time())
        beats = count()
    assert query(db(replica), "SELECT count(*) FROM heartbeat WHERE msg = 'OK'")[0][0] >= beats


def test_our_own_litestream_is_no_news_in_the_log(
    leader: Instance,
    replica: Instance,
    repository: FolderRepository,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with streaming(tmp_path / "litestream", db(replica)) as child:
        replica.listens = lambda: False
        replica.streamed_by = lambda: child.pid
        rename(db(leader), 1, "another")
        lead(leader)
        follow(replica)
    assert name_of(db(replica), 1) == "another"
    assert "litestream" not in caplog.text
