"""The least time between two restarts of Kuma: its arithmetic, its clocks, and what is shown."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from replicator_kuma.base.times import when
from replicator_kuma.config.settings import Settings
from replicator_kuma.replication.restart_cooldown import LONGEST, Beats, Wait, left
from replicator_kuma.replication.state.file import StateFile
from replicator_kuma.replication.state.records import Restart
from replicator_kuma.reports import terminal
from replicator_kuma.reports.document import as_json
from replicator_kuma.reports.status import status
from tests.support.clock import Clocks
from tests.support.states import edit_state


def test_a_start_is_measured_once_all_monitors_have_beaten() -> None:
    assert Beats(40, 40, 2.0, 27.5).start() == 27.5


def test_until_then_it_is_estimated_by_those_that_have() -> None:
    assert Beats(40).start() == pytest.approx(26.0), "0.65 s a monitor"
    assert Beats(40, 1, 5.0, 5.0).start() == pytest.approx(5.0 + 39 * 0.65)
    assert Beats(40, 11, 5.0, 15.0).start() == pytest.approx(44.0), "a slow machine's second each"
    assert Beats().start() == 0.0


def test_one_that_never_beats_makes_it_longer_by_its_share_only() -> None:
    assert Beats(40, 39, 2.0, 28.6).start() == pytest.approx(29.3)


@pytest.mark.parametrize(
    ("every", "start", "least"),
    [
        (60.0, 0.0, 55.0),
        (60.0, 18.0, 55.0),
        (60.0, 30.0, 90.0),
        (12.0, 0.0, 10.8),
        (12.0, 28.0, 84.0),
        (360.0, 28.0, 355.0),
        (12.0, 659.0, LONGEST),
        (86_400.0, 28.0, LONGEST),
    ],
)
def test_the_longer_of_interval_and_three_starts_counts_and_at_most_15_minutes(
    every: float, start: float, least: float
) -> None:
    assert left(every, 0.0, 0.0, start) == pytest.approx(least)
    assert left(every, least - 1, 0.0, start) == pytest.approx(1.0)
    assert left(every, least, 0.0, start) <= 0


def test_the_interval_counts_from_the_cycle_that_restarted_kuma() -> None:
    """Cron's next cycle begins an interval after that one: it has not to wait for a third."""
    assert left(60.0, 52.0, 8.0, 0.0) <= 0
    assert left(60.0, 20.0, 8.0, 30.0) == pytest.approx(70.0), "the start counts from Kuma's own"


def test_a_wait_says_why() -> None:
    until = Clocks().wall + 1510.0
    so_long = "1.11 waits until 2031-06-01T04:25:10Z: Kuma restarted 40 s ago"
    starts = Wait(until, 40.2, 28.0, 12.0).sentence("1.11")
    assert starts == f"{so_long} and needs its monitors to beat first"
    assert Wait(until, 40.2, 28.0, 360.0).sentence("1.11") == (
        f"{so_long}, and REPLICATOR_RESTORE_INTERVAL is the least time between two restarts"
    )


def test_the_age_of_a_restart_of_this_process_is_told_by_no_clock_that_is_set() -> None:
    clocks = Clocks()
    mine = clocks.cooldown(12.0)
    mine.begin()
    clocks.pass_by(2)
    mine.starting()
    clocks.pass_by(8)
    restart = mine.restarted()
    mine.end()
    assert restart == Restart(clocks.wall - 8, clocks.wall - 10)
    clocks.wall -= 86_400
    clocks.pass_by(30)
    assert mine.age(restart) == pytest.approx(38.0)
    assert clocks.cooldown(12.0).age(restart) < 0, "another process has the wall clock alone"


def test_a_way_back_counts_from_its_own_start() -> None:
    clocks = Clocks()
    mine = clocks.cooldown(12.0)
    mine.begin()
    mine.starting()
    clocks.pass_by(120)
    restart = mine.restarted(long_since=False)
    assert restart == Restart(clocks.wall, clocks.wall - 120)


# --- status ----------------------------------------------------------------------------------


def settings(folder: Path, mode: str = "RESTORE") -> Settings:
    return Settings.load({"DATA_DIR": str(folder), "REPLICATOR_MODE": mode})


def test_status_says_until_when_a_change_waits(tmp_path: Path) -> None:
    until = time.time() + 300
    state = StateFile(tmp_path / "replicator")
    edit_state(state, restart=Restart(1.0, 0.0), waits_until=until)
    known = status(settings(tmp_path))
    shown = when(until)
    assert dict(terminal.lines(known))["waits"] == (
        f"a change is applied at {shown}: Kuma was restarted at 1970-01-01T00:00:01Z, and its "
        "monitors are to beat first (at once: replicator restore --now)"
    )
    assert as_json(known)["waits_until"] == shown
    assert known.exit_code == 0


@pytest.mark.parametrize("ahead", [0.0, -1.0, LONGEST + 60])
def test_what_is_over_or_cannot_be_is_not_shown(tmp_path: Path, ahead: float) -> None:
    until = time.time() + ahead if ahead else 0.0
    edit_state(StateFile(tmp_path / "replicator"), waits_until=until)
    known = status(settings(tmp_path))
    assert "waits" not in dict(terminal.lines(known))
    assert as_json(known)["waits_until"] is None


def test_a_leader_waits_for_nothing(tmp_path: Path) -> None:
    edit_state(StateFile(tmp_path / "replicator"), waits_until=time.time() + 300)
    assert as_json(status(settings(tmp_path, "BACKUP")))["waits_until"] is None
