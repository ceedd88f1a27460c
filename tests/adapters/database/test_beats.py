"""What is read of Kuma's monitors and heartbeats, on each engine; nothing is ever written."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest

from replicator_kuma.adapters.database.beat_log import (
    AGAIN,
    MOST_NEW,
    ROSTER_AGAIN,
    SUMS_AGAIN,
    BeatLog,
)
from replicator_kuma.adapters.database.beats import MOST_RECENT, Beat, Beats, MonitorBeats
from replicator_kuma.adapters.database.detect import open_store
from replicator_kuma.adapters.database.roster import monitors_sql
from replicator_kuma.adapters.database.sqlite.beats import SqliteBeats
from replicator_kuma.adapters.database.sqlite.store import SqliteStore
from replicator_kuma.base.errors import (
    DatabaseCorrupt,
    DatabaseError,
    DatabaseLocked,
    DatabaseMigrating,
    DatabaseMissing,
    DatabaseUnreachable,
)
from tests.support import databases
from tests.support.engines import Engine, SqliteEngine
from tests.support.fixtures import ROOT, SQLITE, needs_fixtures
from tests.support.heartbeats import DOWN, MAINTENANCE, PENDING, T0, UP, Kuma, history, since, text
from tests.support.mariadb import Embedded, Server, short_folder
from tests.support.tiers import by_tier


@pytest.fixture
def beats(engine: Engine) -> Iterator[Beats]:
    engine.build(monitors=12, heartbeats=0)
    with contextlib.closing(engine.store().beats()) as beats:
        yield beats


@pytest.fixture
def kuma(engine: Engine) -> Kuma:
    return Kuma(engine)


def seen(beats: Beats) -> dict[int, tuple[str, float] | None]:
    """Of each monitor the status, and since when in seconds after T0."""
    return {one.id: _of(one) for one in beats.monitors()}


def _of(one: MonitorBeats) -> tuple[str, float] | None:
    if one.newest is None or one.since is None:
        assert (one.newest, one.since) == (None, None)
        return None
    return one.newest.status, one.since - T0


def afresh(engine: Engine) -> dict[int, tuple[str, float] | None]:
    with contextlib.closing(engine.store().beats()) as beats:
        return seen(beats)


def test_monitors_come_in_kumas_order_below_their_groups(beats: Beats, engine: Engine) -> None:
    engine.edit(
        "UPDATE monitor SET parent = NULL, weight = 2000, active = 1, `interval` = 60",
        "UPDATE monitor SET name = 'b', type = 'group', weight = 2000 WHERE id = 1",
        "UPDATE monitor SET name = 'a' WHERE id = 2",
        "UPDATE monitor SET name = 'z', weight = 3000 WHERE id = 3",
        "UPDATE monitor SET name = 'y', parent = 1, type = 'group', active = 0 WHERE id = 4",
        "UPDATE monitor SET name = 'x', parent = 4, retry_interval = 7 WHERE id = 5",
        "UPDATE monitor SET name = 'c', parent = 1, weight = 1 WHERE id = 6",
        "DELETE FROM monitor_tag",
        "DELETE FROM monitor WHERE id > 6",
        "INSERT INTO monitor_tag (monitor_id, tag_id, value) VALUES (5, 1, 'eu'), (5, 1, '')",
        "UPDATE tag SET name = 'place' WHERE id = 1",
    )
    found = beats.monitors()
    assert [one.name for one in found] == ["z", "a", "b", "y", "x", "c"]
    by_id = {one.id: one for one in found}
    assert [i for i, one in by_id.items() if not one.active] == [4, 5]
    assert by_id[5].parent == 4
    assert by_id[5].tags == ("place", "place: eu")
    assert (by_id[5].interval, by_id[5].retry_interval) == (60, 7)
    engine.edit("UPDATE monitor SET parent = 5 WHERE id = 1")  # a circle
    assert {one.id for one in beats.monitors()} == {1, 2, 3, 4, 5, 6}


def test_an_edit_of_a_monitor_shows_at_the_next_read(beats: Beats, engine: Engine) -> None:
    assert isinstance(beats, BeatLog)
    now = time.time()
    beats._clock = lambda: now
    engine.edit(
        "UPDATE monitor SET parent = NULL, active = 1, `interval` = 60, retry_interval = 60, "
        "weight = 2000, name = 'm', type = 'http'",
        "DELETE FROM monitor_tag",
    )

    def of(number: int = 3) -> MonitorBeats:
        return next(one for one in beats.monitors() if one.id == number)

    assert of().active
    for sql, shows in (
        ("SET active = 0", lambda one: not one.active),
        ("SET active = 1", lambda one: one.active),
        ("SET `interval` = 20", lambda one: one.interval == 20),
        ("SET retry_interval = 30", lambda one: one.retry_interval == 30),
        ("SET parent = 1", lambda one: one.parent == 1),
        ("SET parent = NULL", lambda one: one.parent is None),
        ("SET name = 'longer'", lambda one: one.name == "longer"),
        ("SET type = 'keyword'", lambda one: one.type == "keyword"),
    ):
        engine.edit(f"UPDATE monitor {sql} WHERE id = 3")
        assert shows(of()), sql
    engine.edit("UPDATE monitor SET weight = 3000 WHERE id = 3")
    assert beats.monitors()[0].id == 3
    engine.edit("INSERT INTO monitor_tag (monitor_id, tag_id, value) VALUES (3, 1, 'eu')")
    assert len(of().tags) == 1
    engine.edit("UPDATE monitor_tag SET value = 'europe' WHERE monitor_id = 3")
    assert of().tags[0].endswith(": europe")
    engine.edit("DELETE FROM monitor WHERE id = 4")
    assert {one.id for one in beats.monitors()} == {*range(1, 13)} - {4}
    engine.edit("UPDATE monitor SET name = 'LONGER' WHERE id = 3")  # of the same length
    now += ROSTER_AGAIN + 1
    assert of().name == "LONGER"


def test_monitors_that_nobody_edits_are_not_read_again(
    beats: Beats, kuma: Kuma, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []

    def noted(columns: Any) -> str:
        read.append(columns)
        return monitors_sql(columns)

    monkeypatch.setattr("replicator_kuma.adapters.database.beat_log.monitors_sql", noted)
    kuma.run(1, [UP, UP])
    kuma.run(2, [UP])
    first = {one.id: one for one in beats.monitors()}
    kuma.run(2, [DOWN], start=60)
    second = {one.id: one for one in beats.monitors()}
    assert len(read) == 1
    assert [number for number, one in second.items() if one is not first[number]] == [2]


@pytest.mark.parametrize(
    "statuses",
    [
        (UP, UP, UP),
        (UP, DOWN, DOWN),
        (UP, PENDING, PENDING),
        (UP, PENDING, PENDING, DOWN, DOWN),
        (UP, DOWN, UP, PENDING, UP),
        (UP, MAINTENANCE, MAINTENANCE),
        (PENDING, UP, UP),
        (PENDING,),
        (UP, MAINTENANCE, PENDING, UP, UP),
    ],
)
def test_a_run_begins_where_the_status_became_what_it_is(
    beats: Beats, kuma: Kuma, engine: Engine, statuses: tuple[int, ...]
) -> None:
    expected = ("down", "up", "pending", "maintenance")[statuses[-1]], since(statuses)
    kuma.run(3, statuses[:1])
    seen(beats)
    for k, status in enumerate(statuses[1:], 1):
        kuma.beat((3, status, 20 * k))
        seen(beats)
    assert seen(beats)[3] == afresh(engine)[3] == expected
    assert seen(beats)[4] is None
    newest = next(one.newest for one in beats.monitors() if one.id == 3)
    assert newest is not None
    assert newest.msg == f"{expected[0]} at {20 * (len(statuses) - 1)}"


def test_what_is_read_by_and_by_equals_what_is_read_at_once(
    beats: Beats, kuma: Kuma, engine: Engine
) -> None:
    for seed in range(by_tier(3, 30)):
        engine.edit("DELETE FROM heartbeat")
        random, kuma.last = Random(seed), {}
        runs = {i: history(random, random.randrange(1, 30)) for i in range(1, 9)}
        at = 0
        while any(len(run) > at for run in runs.values()):
            step = random.randrange(1, 6)
            rows = [
                (monitor, status, 20 * (at + k))
                for k in range(step)
                for monitor, run in runs.items()
                for status in run[at + k : at + k + 1]
            ]
            kuma.beat(*rows)
            at += step
            assert seen(beats) == afresh(engine), seed
        assert {i: found for i, found in seen(beats).items() if found} == {
            i: (("down", "up", "pending", "maintenance")[run[-1]], since(run))
            for i, run in runs.items()
        }, seed


def test_what_is_read_where_nobody_looks_differs_by_heartbeats_that_change_nothing(
    beats: Beats, kuma: Kuma, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of monitors that stop to beat, and of so many pending ones that all rows are read."""
    assert isinstance(beats, BeatLog)
    engine.edit("UPDATE monitor SET active = 1, `interval` = 20, retry_interval = 20, parent = 0")
    looked: set[str] = set()
    for way in ("_read_new", "_read_all"):
        monkeypatch.setattr(BeatLog, way, noted(getattr(BeatLog, way), looked))
    for seed in range(by_tier(3, 30)):
        engine.edit("DELETE FROM heartbeat")
        random, kuma.last, at = Random(seed), {}, 0
        monkeypatch.setattr(
            "replicator_kuma.adapters.database.beat_log.MOST_DUE", random.choice((1, 3, 100))
        )
        runs = {i: history(random, random.randrange(1, 40)) for i in range(1, 13)}
        seen(beats)
        while any(len(run) + 5 > at for run in runs.values()):
            step = random.randrange(1, 4)
            for k in range(at, at + step):
                rows = ((i, run[k], 20 * k + i / 20) for i, run in runs.items() if k < len(run))
                kuma.beat(*rows)
            at += step
            now = T0 + 20 * at
            beats._clock = partial(float, now)
            found = beats.monitors(exact=random.random() < 0.2)
            with contextlib.closing(engine.store().beats()) as others:
                assert isinstance(others, BeatLog)
                others._clock = partial(float, now)
                exact = others.monitors()
            for one, other in zip(found, exact, strict=True):
                assert _of(one) == _of(other), (seed, at, one.id)
                assert one.fresh == other.fresh, (seed, at, one.id)
                assert one == other or (one.newest and one.newest.status == "up"), (seed, at)
    assert looked == {"_read_new", "_read_all"}


def noted(call: Any, into: set[str]) -> Any:
    def noting(*arguments: Any) -> Any:
        into.add(call.__name__)
        return call(*arguments)

    return noting


def test_heartbeats_that_change_nothing_are_left_in_the_database(
    beats: Beats, kuma: Kuma, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(beats, BeatLog)
    engine.edit("UPDATE monitor SET active = 1, `interval` = 20, parent = NULL")
    now = T0
    beats._clock = lambda: now
    kuma.beat(*((i, UP, 0) for i in range(1, 13)))
    first = beats.monitors()
    added: list[int] = []
    plain = BeatLog._add

    def add(log: BeatLog, *row: Any) -> None:
        added.append(row[1])
        plain(log, *row)

    monkeypatch.setattr(BeatLog, "_add", add)
    for k in range(1, 25):  # six minutes
        now = T0 + 15 * k
        kuma.beat(*((i, UP, 15 * k) for i in range(1, 13) if k < 12 or i != 7))
        found = beats.monitors(exact=False)
        if now < T0 + AGAIN - 15:
            assert {one.id for one in found if not one.fresh} == ({7} if k >= 15 else set()), k
            # at 14 the newest one of the monitor that stops is looked for
            assert (found is first) == (k < 14), "no row is made anew"
    assert len([monitor for monitor in added if monitor != 7]) <= 11, "all are read once"
    kuma.beat((3, DOWN, 400))
    now = T0 + 400
    found = beats.monitors(exact=False)
    assert [one.id for one in found if one.newest and one.newest.status == "down"] == [3]


def test_a_new_monitor_is_listed_soon(beats: Beats, kuma: Kuma, engine: Engine) -> None:
    """By its first heartbeat, before the sums over all are asked for again."""
    assert isinstance(beats, BeatLog)
    now = time.time()
    beats._clock = lambda: now
    engine.edit(
        "DELETE FROM monitor_tag WHERE monitor_id = 12", "DELETE FROM monitor WHERE id = 12"
    )
    assert len(beats.monitors()) == 11
    engine.edit(
        "INSERT INTO monitor (id, name, active, type, `interval`) VALUES (77, 'n', 1, 'http', 60)"
    )
    assert len(beats.monitors(exact=False)) == 11
    kuma.beat((77, UP, now - T0))
    beats.monitors(exact=False)
    found = {one.id: one for one in beats.monitors(exact=False)}
    assert found[77].newest is not None
    engine.edit("UPDATE monitor SET active = 0 WHERE id = 3")
    now += SUMS_AGAIN
    assert not {one.id: one for one in beats.monitors(exact=False)}[3].active


@pytest.mark.parametrize(
    ("status", "age", "interval", "retry", "fresh"),
    [
        (UP, 179, 60, 60, True),
        (UP, 181, 60, 60, False),
        (UP, 900, 600, 60, True),
        (PENDING, 181, 60, 300, True),
        (UP, 181, 60, 300, False),
        (UP, -300, 60, 60, False),  # written before the clock was set back
        (DOWN, 5, 60, 60, True),
    ],
)
@pytest.mark.parametrize("exact", [True, False])
def test_a_heartbeat_grows_too_old_by_time_alone(
    engine: Engine, status: int, age: int, interval: int, retry: int, fresh: bool, exact: bool
) -> None:
    engine.build(monitors=2, heartbeats=0)
    values = f"active = 1, `interval` = {interval}, retry_interval = {retry}"
    engine.edit(f"UPDATE monitor SET {values}, parent = NULL")
    Kuma(engine).beat((1, status, 0))
    with contextlib.closing(engine.store().beats()) as beats:
        assert isinstance(beats, BeatLog)
        beats._clock = lambda: T0 + min(age, 0)
        beats.monitors()
        beats._clock = lambda: T0 + age
        found = {one.id: one.fresh for one in beats.monitors(exact=exact)}
        assert found == {1: fresh, 2: False}
        engine.edit("UPDATE monitor SET active = 0")
        assert not any(one.fresh for one in beats.monitors())


def test_history_that_is_gone_is_forgotten(beats: Beats, kuma: Kuma, engine: Engine) -> None:
    kuma.run(1, [UP] * 5)
    kuma.run(2, [UP, DOWN, DOWN])
    assert seen(beats)[2] == ("down", 20)
    engine.edit("DELETE FROM heartbeat")
    assert set(seen(beats).values()) == {None}
    kuma.run(2, [DOWN], start=100)  # ids go on or begin again: both are other rows
    assert seen(beats) == afresh(engine)
    engine.edit("DELETE FROM heartbeat WHERE monitor_id = 2", "DELETE FROM monitor WHERE id = 2")
    assert 2 not in seen(beats)


def test_one_monitors_cleared_history_is_noticed_in_time(
    beats: Beats, kuma: Kuma, engine: Engine
) -> None:
    assert isinstance(beats, BeatLog)
    kuma.run(1, [UP, DOWN])
    kuma.run(2, [UP])
    now = time.time()
    beats._clock = lambda: now
    assert seen(beats)[1] == ("down", 20)
    engine.edit("DELETE FROM heartbeat WHERE monitor_id = 1")
    now += AGAIN + 1
    assert seen(beats)[1] is None
    now -= 10 * AGAIN  # the clock is set back: all is read anew
    engine.edit("DELETE FROM heartbeat WHERE monitor_id = 2 AND id < 0")
    assert seen(beats)[2] == ("up", 0)


def test_purged_events_leave_the_oldest_beat(beats: Beats, kuma: Kuma, engine: Engine) -> None:
    kuma.run(1, [UP] * 450)
    kuma.run(2, [UP, DOWN, *[UP] * 20])
    engine.edit("UPDATE heartbeat SET important = 0")  # «Clear events»
    assert afresh(engine)[1] == ("up", 0)
    assert afresh(engine)[2] == ("up", 40)
    engine.edit("DELETE FROM heartbeat WHERE monitor_id = 1 AND time < '" + text(T0 + 60) + "'")
    assert afresh(engine)[1] == ("up", 60)


def test_a_clock_that_was_set_back_deceives_nobody(
    beats: Beats, kuma: Kuma, engine: Engine
) -> None:
    kuma.run(1, [UP, UP], start=0)
    kuma.run(1, [DOWN], start=7200)
    kuma.run(1, [UP, UP, UP], start=3600)  # an hour is lived twice
    assert seen(beats)[1] == ("up", 3600)
    kuma.run(1, [UP] * 300, start=7300)
    assert seen(beats)[1] == afresh(engine)[1] == ("up", 3600)


def test_changes_and_recent_beats(beats: Beats, kuma: Kuma, engine: Engine) -> None:
    kuma.run(1, [UP, PENDING, DOWN, DOWN, UP])
    kuma.run(2, [UP])

    def changes(after: float) -> list[tuple[int, float, str]]:
        return [(c.monitor, c.at - T0, c.status) for c in beats.changes(T0 + after)]

    assert changes(0) == [(1, 0, "up"), (1, 40, "down"), (1, 80, "up"), (2, 0, "up")]
    kuma.beat((2, DOWN, 100))
    assert changes(50) == [(1, 80, "up"), (2, 100, "down")]
    assert changes(-100)[0] == (1, 0, "up")
    engine.edit("DELETE FROM heartbeat WHERE monitor_id = 2")
    assert changes(50) == [(1, 80, "up")]
    recent = beats.recent(1, T0 + 40)
    assert [(beat.at - T0, beat.status, beat.msg) for beat in recent] == [
        (40, "down", "down at 40"),
        (60, "down", "down at 60"),
        (80, "up", "up at 80"),
    ]
    kuma.run(1, [UP] * (MOST_RECENT + 5), start=100)
    recent = beats.recent(1, T0)
    assert len(recent) == MOST_RECENT
    assert recent[-1].at - T0 == 100 + 20 * (MOST_RECENT + 4)


def test_many_new_rows_are_read_at_once(
    beats: Beats, kuma: Kuma, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("replicator_kuma.adapters.database.beat_log.MOST_NEW", 5)
    kuma.run(1, [UP, UP])
    seen(beats)
    changes = beats.changes(T0)
    assert len(changes) == 1
    kuma.run(1, [DOWN, *[UP] * 10], start=100)
    assert seen(beats)[1] == ("up", 120)
    assert [c.status for c in beats.changes(T0)] == ["up", "down", "up"]
    assert MOST_NEW > 1000  # an hour of beats of a large fleet


def test_nothing_is_written_and_nothing_stays_open(
    beats: Beats, kuma: Kuma, engine: Engine
) -> None:
    kuma.run(1, [UP, DOWN])
    before = engine.writes()
    store = engine.store()
    for _ in range(3):
        beats.monitors()
        beats.changes(T0)
        beats.recent(1, T0)
        assert not store.in_use() or engine.name == "embedded"
    assert engine.writes() == before


def test_a_writer_disturbs_no_read(beats: Beats, kuma: Kuma, engine: Engine) -> None:
    kuma.run(1, [UP])
    with engine.held("UPDATE monitor SET name = 'held' WHERE id = 1"):
        began = time.monotonic()
        assert seen(beats)[1] == ("up", 0)
        assert time.monotonic() - began < 20  # a lock is held until the end of the block
        assert "held" not in {one.name for one in beats.monitors()}


def test_tables_that_are_not_there_yet(beats: Beats, kuma: Kuma, engine: Engine) -> None:
    kuma.run(1, [UP])
    seen(beats)
    engine.edit("ALTER TABLE heartbeat RENAME TO heartbeat_2")  # in the middle of a migration
    with pytest.raises(DatabaseError):
        beats.monitors()
    with pytest.raises(DatabaseMigrating):
        beats.monitors()
    engine.edit("ALTER TABLE heartbeat_2 RENAME TO heartbeat")
    assert seen(beats)[1] == ("up", 0)


@pytest.mark.parametrize("column", ["parent", "retry_interval"])
def test_columns_of_later_versions_may_lack(tmp_path: Path, column: str) -> None:
    engine = SqliteEngine(tmp_path / "data")
    engine.build(monitors=3, heartbeats=1)
    old = engine.columns()["monitor"].keys() - {column}
    names = ", ".join(f"`{name}`" for name in sorted(old))
    engine.edit(
        f"CREATE TABLE old AS SELECT {names} FROM monitor",
        "DROP TABLE monitor",
        "ALTER TABLE old RENAME TO monitor",
    )
    found = engine.store().beats().monitors()
    assert len(found) == 3
    assert {one.newest and one.newest.status for one in found} == {"up"}


def test_odd_values_hurt_nobody(tmp_path: Path) -> None:
    engine = SqliteEngine(tmp_path / "data")
    engine.build(monitors=6, heartbeats=0)
    kuma = Kuma(engine)
    for monitor in range(1, 7):
        kuma.run(monitor, [UP, DOWN])
    engine.edit(
        "UPDATE monitor SET parent = NULL",
        "UPDATE monitor SET name = CAST(X'FF41' AS TEXT), `interval` = 'often' WHERE id = 1",
        "UPDATE monitor SET name = X'4142', weight = 'heavy', active = 'yes' WHERE id = 2",
        "UPDATE heartbeat SET time = 'soon' WHERE monitor_id = 3",
        "UPDATE heartbeat SET status = 7 WHERE monitor_id = 4 AND important = 1",
        "UPDATE heartbeat SET time = 1796000000123 WHERE monitor_id = 5 AND status = 0",
        "UPDATE heartbeat SET msg = CAST(X'FFFE' AS TEXT) WHERE monitor_id = 6",
    )
    found = {one.id: one for one in engine.store().beats().monitors()}
    assert found[1].name == "\ufffdA"
    assert found[2].name == "AB"
    assert found[3].newest is None
    assert found[4].newest is None
    assert found[5].since == 1796000000.123
    assert found[6].newest is not None
    assert found[6].newest.msg == "\ufffd\ufffd"


def test_a_database_that_takes_anothers_place(tmp_path: Path) -> None:
    engine, other = SqliteEngine(tmp_path / "data"), SqliteEngine(tmp_path / "other")
    for one, statuses in ((engine, [UP, UP, UP]), (other, [UP, DOWN, DOWN, DOWN])):
        one.build(monitors=3, heartbeats=0)
        Kuma(one).run(2, statuses)
    beats = engine.store().beats()
    assert seen(beats)[2] == ("up", 0)
    other.edit("UPDATE monitor SET name = 'of the other'")
    databases.query(other.path, "PRAGMA wal_checkpoint(TRUNCATE)")
    engine.load(other.path)
    assert seen(beats)[2] == ("down", 20)
    assert {one.name for one in beats.monitors()} == {"of the other"}


def test_a_lock_is_not_waited_for_and_damage_is_named(tmp_path: Path) -> None:
    engine = SqliteEngine(tmp_path / "data")
    engine.build(monitors=3, heartbeats=2)
    beats = engine.store().beats()
    beats.monitors()
    with contextlib.closing(sqlite3.connect(engine.path, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        began = time.monotonic()
        with pytest.raises(DatabaseLocked):
            beats.monitors()
        assert time.monotonic() - began < 4  # 5 s where a lock is waited for
        other.execute("ROLLBACK")
    assert len(beats.monitors()) == 3
    engine.path.write_bytes(b"no database at all" * 400)
    with pytest.raises(DatabaseCorrupt):
        beats.monitors()
    engine.path.unlink()
    with pytest.raises(DatabaseMissing):
        beats.monitors()


def test_no_read_waits_for_a_server_that_is_gone() -> None:
    with short_folder() as folder, Embedded(folder / "data") as server:
        database = server.kuma()
        database.load(databases_sql())
        beats = open_store(database.data_dir).beats()
        assert beats.monitors() == ()
        server.kill()
        with pytest.raises(DatabaseUnreachable) as caught:
            beats.monitors()
        assert "embedded MariaDB runs inside Kuma" in (caught.value.hint or "")
        server.start()
        assert beats.monitors() == ()


def databases_sql() -> str:
    """The tables that are read, as MariaDB has them."""
    return (
        "CREATE TABLE monitor (id INT UNSIGNED PRIMARY KEY AUTO_INCREMENT, name VARCHAR(150),"
        " type VARCHAR(20), active TINYINT(1), weight INT, `interval` INT);"
        "CREATE TABLE heartbeat (id INT UNSIGNED PRIMARY KEY AUTO_INCREMENT, important TINYINT(1),"
        " monitor_id INT UNSIGNED, status SMALLINT, msg TEXT, time DATETIME,"
        " KEY heartbeat_monitor_id_index (monitor_id));"
    )


@needs_fixtures
@pytest.mark.fixtures
@pytest.mark.parametrize("state", ["fresh", "leader-1", "leader-2"])
@pytest.mark.parametrize("version", [*SQLITE, "2.3.2-mariadb"])
def test_the_databases_of_real_servers(
    request: pytest.FixtureRequest, tmp_path: Path, version: str, state: str
) -> None:
    """Each newest heartbeat as plain SQL finds it, and each run as all its beats tell."""
    engine: Engine = SqliteEngine(tmp_path / "data")
    source = ROOT / version / f"{state}.db"
    if "mariadb" in version:
        from tests.support.engines import MariadbEngine

        server: Server = request.getfixturevalue("mariadb")
        engine = MariadbEngine("mariadb", lambda: server.database("beats", tmp_path / "data"))
        source = ROOT / version / f"{state}.sql.gz"
    engine.load(source)
    rows = engine.query("SELECT monitor_id, status, time FROM heartbeat ORDER BY id")
    ids = {row[0] for row in engine.query("SELECT id FROM monitor")}
    found = engine.store().beats().monitors()
    assert {one.id for one in found} == ids
    assert (len(found) > 40) == (state != "fresh")
    for one in found:
        own = [row for row in rows if row[0] == one.id]
        if not own:
            assert one.newest is None
            continue
        assert one.newest is not None
        assert one.newest.status == ("down", "up", "pending", "maintenance")[own[-1][1]]
        expected = own[round(since([row[1] for row in own], step=1))][2]
        assert one.since is not None
        assert text(one.since) == str(expected)[:19]


def test_statements_go_by_kumas_indexes(tmp_path: Path) -> None:
    """However many heartbeats there are: no table of them is scanned or sorted."""
    engine = SqliteEngine(tmp_path / "data")
    engine.build(monitors=5, heartbeats=3)
    store = engine.store()
    assert isinstance(store, SqliteStore)
    asked: list[str] = []

    def traced() -> sqlite3.Connection:
        connection = store._readable(timeout=0.0)
        connection.set_trace_callback(asked.append)
        return connection

    beats = SqliteBeats(traced)
    beats.monitors()
    beats.monitors()
    beats.changes(T0)
    beats.recent(1, T0)
    about = [sql for sql in asked if " heartbeat" in sql and sql.startswith("SELECT")]
    assert len(about) >= 6
    with contextlib.closing(store._readable()) as connection:
        for sql in about:
            plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}")]
            scans = [step for step in plan if step.startswith(("SCAN h", "SCAN b"))]
            by_newest_id = "ORDER BY id DESC LIMIT 1" in sql and "WHERE" not in sql
            assert not scans or by_newest_id, (sql, plan)
            assert not any("important_index (important=?)" in step for step in plan), (sql, plan)


def test_statements_read_few_rows_in_mariadb(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the server's own count: a plan that names an index may still go through all of it."""
    from replicator_kuma.adapters.database.mariadb.connection import Link
    from tests.support.engines import MariadbEngine

    monitors, each = 40, 60
    server: Server = request.getfixturevalue("mariadb")
    engine = MariadbEngine("mariadb", lambda: server.database("plans", tmp_path / "data"))
    engine.build(monitors=monitors, heartbeats=each)
    engine.query('ANALYZE TABLE "heartbeat"')
    counted: list[tuple[str, int, int]] = []
    plain = Link.all

    def reads(link: Link) -> int:
        rows = plain(link, "SHOW SESSION STATUS LIKE 'Handler_read_%'")
        return sum(int(value) for _name, value in rows)

    def noted(link: Link, sql: str) -> list[tuple[object, ...]]:
        before = reads(link)
        found = plain(link, sql)
        # what it costs to ask is the same each time
        counted.append((sql, 2 * reads(link) - before - reads(link), len(found)))
        return found

    monkeypatch.setattr(Link, "all", noted)
    with contextlib.closing(engine.store().beats()) as beats:
        beats.monitors()
        beats.monitors()
        beats.changes(T0)
        beats.recent(1, T0)
        assert isinstance(beats, BeatLog)
        with beats._opened() as ask:  # what looks for a run that is longer than most
            beats._searched(ask, 1, 1, Beat(T0, "up"))
            beats._oldest(ask, 1, Beat(T0, "up"), T0)
    about = [one for one in counted if " heartbeat" in one[0] and "_schema" not in one[0]]
    assert len({sql for sql, _, _ in about}) >= 7
    for sql, rows, found in about:
        assert rows <= 5 * monitors + 2 * found, (sql, rows, found)
