"""Reading the heartbeats of a large fleet: 1,000 monitors, 2,000,000 heartbeats, each engine.

The limits are in processor seconds of ours, or wall time where a server does the work. They are
far above what a quiet machine takes, and far below a scan of the table: they notice a lost index.
`-s` shows the figures.
"""

from __future__ import annotations

import contextlib
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from replicator_kuma.adapters.database.beats import Beats
from tests.support.engines import Engine, MariadbEngine, SqliteEngine
from tests.support.heartbeats import statement
from tests.support.mariadb import Server

pytestmark = [pytest.mark.slow]

MONITORS, EACH = 1000, 2000
SLICE = 100
FIRST, NEXT, CHANGES, MEMORY = 2.0, 0.3, 6.0, 30 * 2**20
"""seconds of our processor, and bytes"""
SERVER = 4
"""so many times as long may a server take, which shares the machine with other tests"""
BEGAN = int(time.time()) - EACH * 60
TIME = {
    "sqlite": "strftime('%Y-%m-%d %H:%M:%f', {}, 'unixepoch')",
    "mariadb": "from_unixtime({})",
}
FILL = """
    INSERT INTO heartbeat (important, monitor_id, status, msg, time, duration)
    SELECT (a.id - 1 + {start} = 0) OR (a.id - 1 + {start} + m.id) % 400 IN (0, 3), m.id,
        (a.id - 1 + {start} + m.id) % 400 >= 3, 'connect ECONNREFUSED 10.0.0.1:443', {time}, 60
    FROM monitor AS a CROSS JOIN monitor AS m WHERE a.id <= {slice} ORDER BY a.id, m.id
"""
"""One beat a minute of each monitor; three of 400 are down, and each change is important."""


def filled(engine: Engine) -> Engine:
    engine.build(monitors=MONITORS, heartbeats=0)
    engine.edit("UPDATE monitor SET active = 1")
    for start in range(0, EACH, SLICE):
        at = TIME[engine.name].format(f"{BEGAN} + 60 * (a.id - 1 + {start})")
        engine.edit(FILL.format(start=start, time=at, slice=SLICE))
    return engine


@pytest.fixture(scope="module", params=["sqlite", "mariadb"])
def large(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    data_dir: Path = tmp_path_factory.mktemp("large") / "data"
    if request.param == "sqlite":
        return filled(SqliteEngine(data_dir))
    server: Server = request.getfixturevalue("mariadb")
    return filled(MariadbEngine("mariadb", lambda: server.database("large", data_dir)))


def seconds(engine: Engine, what: str, work: Callable[[], object], times: int = 3) -> float:
    """The least of some tries: our processor's seconds, or a share of those a server took."""
    clock = time.process_time if engine.name == "sqlite" else time.perf_counter
    took = []
    for _ in range(times):
        began = clock()
        work()
        took.append(clock() - began)
    print(f"{engine.name}: {what} {1000 * min(took):.1f} ms")
    return min(took) / (1 if engine.name == "sqlite" else SERVER)


def afresh(engine: Engine) -> Beats:
    beats = engine.store().beats()
    assert len(beats.monitors()) == MONITORS
    return beats


def test_no_read_grows_with_the_table(large: Engine) -> None:
    assert large.query("SELECT count(*) FROM heartbeat") == [(MONITORS * EACH,)]
    assert seconds(large, "the first read", lambda: afresh(large)) < FIRST
    with contextlib.closing(afresh(large)) as beats:
        assert seconds(large, "the same again", beats.monitors, 9) < NEXT
        number = 0

        def added() -> None:
            nonlocal number
            number += 1
            at = time.time() + number
            large.edit(*(statement(i, 1, at, marked=False) for i in range(1, 86)))

        took = []
        for _ in range(5):
            added()
            took.append(seconds(large, "85 heartbeats more", beats.monitors, 1))
        assert min(took) < NEXT
        newest = beats.monitors()
        assert (
            sum(one.newest is not None and one.newest.at > time.time() - 60 for one in newest) >= 85
        )
        day = time.time() - 86_400
        assert seconds(large, "the changes of a day", lambda: beats.changes(day), 1) < CHANGES
        assert seconds(large, "the same changes again", lambda: beats.changes(day)) < NEXT
        hour = time.time() - 3600
        assert seconds(large, "an hour of one monitor", lambda: beats.recent(7, hour)) < NEXT
        # three changes a monitor in 400 beats
        assert len(beats.changes(day)) > MONITORS * min(EACH, 1440) / 400


def test_memory_is_bounded(large: Engine) -> None:
    tracemalloc.start()
    try:
        beats = afresh(large)
        beats.changes(time.time() - 86_400)
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    print(f"{large.name}: {held / 2**20:.1f} MiB held, {peak / 2**20:.1f} MiB at most")
    assert peak < MEMORY
