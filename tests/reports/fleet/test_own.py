"""The document of this instance, from its state, its clock and what was read of Kuma's tables."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, cast

import pytest

from replicator_kuma.adapters.database.beats import Beat, Beats, MonitorBeats
from replicator_kuma.adapters.repository import Position
from replicator_kuma.base.errors import DatabaseError, DatabaseLocked, DatabaseUnreachable
from replicator_kuma.config.settings import Settings
from replicator_kuma.replication.state.file import StateFile
from replicator_kuma.replication.state.records import Last, NewestSeen, SnapshotRef
from replicator_kuma.reports.fleet import own
from replicator_kuma.reports.fleet.documents import Monitors
from replicator_kuma.reports.fleet.envelope import Envelope, Ledger, written
from replicator_kuma.reports.fleet.own_states import LOCKED_FOR, OwnStates
from tests.support.engines import SqliteEngine
from tests.support.places import NOW, heard, place
from tests.support.states import edit_state

SEEN = NewestSeen(at=NOW, position=Position(1, 7), made_at=NOW - 50, held=Position(1, 7))
HELD = SnapshotRef(Position(1, 7), "d" * 64, "a8e38070b2b7a8b2", "a" * 64)


def settings(folder: Path, mode: str = "RESTORE") -> Settings:
    return Settings.load(
        {"DATA_DIR": str(folder), "REPLICATOR_MODE": mode, "REPLICATOR_INSTANCE": "beta"}
    )


def beats(
    number: int = 1, status: Any = "up", age: float = 5.0, since: float = 100.0, **members: Any
) -> MonitorBeats:
    newest = None if status is None else Beat(NOW - age, status, "200 - OK")
    made = MonitorBeats(
        id=number,
        name=f"m{number}",
        type="http",
        active=True,
        parent=None,
        tags=("a: b",),
        interval=60,
        retry_interval=60,
        newest=newest,
        fresh=newest is not None,
        since=None if newest is None else NOW - since,
    )
    return dataclasses.replace(made, **members)


def told(folder: Path, *monitors: MonitorBeats, mode: str = "RESTORE", **more: Any) -> Monitors:
    return own.document(settings(folder, mode), monitors, more.get("heard", ()), NOW)


def test_a_replica_that_holds_the_newest(tmp_path: Path) -> None:
    edit_state(StateFile(tmp_path / "replicator"), applied=HELD, newest_seen=SEEN)
    found = told(tmp_path, beats())
    assert (found.instance, found.fleet, found.role) == ("beta", "default", "replica")
    assert (found.position, found.behind, found.state) == (Position(1, 7), 0, "equal")
    assert found.kuma == "2.5.1 to 2.5.3"
    assert found.sentence == "beta: holds snapshot 1.7, the newest"
    assert found.changed_at == NOW - 50
    assert found.beats_at == NOW
    only = found.monitors[0]
    assert (only.status, only.votes, only.msg) == ("up", True, "200 - OK")
    assert (only.since, only.beat_at) == (NOW - 100, NOW - 5)


def test_a_leader_and_one_that_has_begun_nothing(tmp_path: Path) -> None:
    empty = told(tmp_path, mode="BACKUP")
    assert (empty.role, empty.position, empty.behind, empty.kuma) == ("leader", None, None, None)
    edit_state(StateFile(tmp_path / "replicator"), published=HELD, fenced="c published 1.9")
    found = told(tmp_path, mode="BACKUP")
    assert (found.position, found.state) == (Position(1, 7), "fenced")
    unread = own.document(settings(tmp_path), None, (), NOW, kuma="2.5.3")
    assert (unread.beats_at, unread.monitors, unread.kuma) == (None, (), "2.5.3")


@pytest.mark.parametrize(
    ("one", "status", "votes"),
    [
        (beats(status="down"), "down", True),
        (beats(status="pending"), "pending", True),
        (beats(status="maintenance"), "maintenance", False),
        (beats(status=None), "none", False),
        (beats(active=False, fresh=False), "paused", False),
        (beats(status=None, active=False), "paused", False),
        (beats(fresh=False), "up", False),
        (beats(status="pending", fresh=False), "pending", False),
    ],
)
def test_whose_beats_vote(one: MonitorBeats, status: str, votes: bool) -> None:
    found = own.monitor(one)
    assert (found.status, found.votes) == (status, votes)


def test_it_is_isolated_where_the_repository_is_gone_too(tmp_path: Path) -> None:
    file, fell = StateFile(tmp_path / "replicator"), [beats(k, "down", since=30) for k in range(6)]
    away = Last(NOW, False, "no answer", error="RepositoryUnreachable")
    edit_state(file, applied=HELD, newest_seen=SEEN, last=away)
    silent, answers = heard(place("c"), missed=3), heard(place("d"))
    assert told(tmp_path, *fell, heard=[silent]).isolated
    assert not told(tmp_path, *fell, heard=[silent, answers]).isolated
    edit_state(file, last=dataclasses.replace(away, error="KumaError"))
    assert not told(tmp_path, *fell, heard=[silent]).isolated


def test_nobody_tells_a_version_where_there_is_no_agent(tmp_path: Path) -> None:
    assert own.kuma_version(settings(tmp_path)) is None


def test_a_lock_is_no_reason_to_lose_the_vote_and_lasts_no_longer_than_a_moment(
    tmp_path: Path,
) -> None:
    class Locked:
        why: DatabaseError | None = None

        def monitors(self, *, exact: bool) -> tuple[MonitorBeats, ...]:
            if self.why is not None:
                raise self.why
            return (beats(),)

        def close(self) -> None: ...

    database, now = Locked(), 1000.0
    opened: list[Beats] = []

    def open_it() -> Beats:
        opened.append(cast("Beats", database))
        return opened[-1]

    states = OwnStates(settings(tmp_path), beats=open_it, clock=lambda: now)
    assert len(states.document(()).monitors) == 1
    database.why = DatabaseLocked("database is locked")
    now += LOCKED_FOR - 1
    held = states.document(())
    assert (len(held.monitors), held.beats_at is None) == (1, False)
    now += 2
    assert states.document(()).beats_at is None
    assert len(opened) == 1
    database.why = None
    assert states.document(()).beats_at is not None
    database.why = DatabaseUnreachable("Kuma is away")
    assert states.document(()).beats_at is None


def test_another_snapshot_comes_with_its_monitors(tmp_path: Path) -> None:
    """Else a monitor that a change deleted would be shown here, and be missing elsewhere."""
    asked: list[bool] = []

    class Noting:
        def monitors(self, *, exact: bool) -> tuple[MonitorBeats, ...]:
            asked.append(exact)
            return (beats(),)

        def close(self) -> None: ...

    states = OwnStates(settings(tmp_path), beats=lambda: cast("Beats", Noting()))
    states.document((), exact=False)
    states.document((), exact=False)
    edit_state(StateFile(tmp_path / "replicator"), applied=HELD, newest_seen=SEEN)
    states.document((), exact=False)
    states.document((), exact=False)
    assert asked == [False, False, False, True, False]


def test_rows_that_serve_again_are_what_new_ones_would_be() -> None:
    rows, found = own.Rows(), (beats(1), beats(2, status=None), beats(3, status="pending"))
    first = rows.of(found)
    assert rows.of(found) is first
    later = rows.of((beats(1, status="down"), *found[1:]))
    assert [one.status for one in later] == ["down", "none", "pending"]
    assert later[1:] == first[1:]
    assert later[1] is first[1]
    assert [one.id for one in rows.of(found[:0:-1])] == [3, 2]


ODD_ROWS = (
    "UPDATE monitor SET active = 1, interval = 1e308 WHERE id = 1",
    "UPDATE monitor SET active = 1, interval = -9e999, retry_interval = 9e999 WHERE id = 2",
    "UPDATE monitor SET active = 1, name = printf('%.*c', 3000000, 'x') WHERE id = 3",
    "UPDATE monitor SET active = 1, weight = 9e999, type = printf('%.*c', 9999, 'y') WHERE id = 4",
    "UPDATE monitor SET name = CAST(x'00ff0a1b' AS TEXT) WHERE id = 5",
    "UPDATE tag SET name = printf('%.*c', 3000000, 'z')",
    "DELETE FROM heartbeat",
)
ODD_TIMES = ("9e999", "1e17", "-1e17", "'0001-01-01 00:00:00'", "'9999-12-31 23:59:59'", "0", "x''")


def test_peers_can_read_what_is_told_of_any_rows(tmp_path: Path) -> None:
    """A user of Kuma's own interface must not be able to take this instance out of the fleet."""
    engine = SqliteEngine(tmp_path)
    engine.build(monitors=10, heartbeats=1)
    beat = "INSERT INTO heartbeat (important, monitor_id, status, time) VALUES (1, {}, 1, {})"
    times = (beat.format(number, at) for number, at in enumerate(ODD_TIMES, 1))
    engine.edit(*ODD_ROWS, *times)
    found = engine.store().beats().monitors()
    ledger = Ledger()
    ledger.take(own.document(settings(tmp_path), found, (), NOW))
    body = written(Envelope("process-1", "beta", "default", 0), ledger.since(None))
    assert len(body) < 100_000
    read = Envelope.of(body).document
    assert read is not None
    assert {one.id for one in read.monitors} == {one.id for one in found}
