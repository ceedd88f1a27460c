"""When the monitors first beat after a start of Kuma, read from each engine."""

from __future__ import annotations

import pytest

from replicator_kuma.replication.restart_cooldown import Beats, first_beats
from tests.support.clock import Clocks
from tests.support.engines import Engine

CLOCKS = Clocks()
ACTIVE = "SELECT id FROM monitor WHERE active = 1 AND type <> 'push' ORDER BY id"


@pytest.fixture
def active(engine: Engine) -> list[int]:
    """Ids of the monitors that Kuma starts; their old beats are long before the start."""
    engine.build(monitors=12, heartbeats=2)
    return [int(row[0]) for row in engine.query(ACTIVE)]


def beat(engine: Engine, monitor: int, seconds: float) -> None:
    """One heartbeat, so long after Kuma's start."""
    values = (monitor, 0, CLOCKS.text(seconds))
    sql = "INSERT INTO heartbeat (monitor_id, status, important, duration, time) VALUES "
    engine.edit((f"{sql} (?, ?, 0, 0, ?)", values))


def test_none_has_beaten_yet(engine: Engine, active: list[int]) -> None:
    assert len(active) > 3
    beat(engine, active[0], -1.0)
    assert first_beats(engine.store(), CLOCKS.wall) == Beats(len(active))


def test_the_last_first_beat_is_the_start_s_end(engine: Engine, active: list[int]) -> None:
    for number, monitor in enumerate(active):
        beat(engine, monitor, 2.0 + number)
        beat(engine, monitor, 60.0 + number)
    last = 2.0 + len(active) - 1
    assert first_beats(engine.store(), CLOCKS.wall) == Beats(len(active), len(active), 2.0, last)


def test_those_that_are_paused_or_pushed_do_not_count(engine: Engine, active: list[int]) -> None:
    paused, pushed, beats = active[:3]
    engine.edit(
        ("UPDATE monitor SET active = 0 WHERE id = ?", (paused,)),
        ("UPDATE monitor SET type = 'push' WHERE id = ?", (pushed,)),
    )
    for monitor in (paused, pushed):
        beat(engine, monitor, 500.0)
    beat(engine, beats, 4.0)
    assert first_beats(engine.store(), CLOCKS.wall) == Beats(len(active) - 2, 1, 4.0, 4.0)


def test_a_new_database_has_no_monitors(engine: Engine) -> None:
    engine.create()
    assert first_beats(engine.store(), CLOCKS.wall) == Beats()
