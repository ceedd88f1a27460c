"""What an edit of a monitor must not do to its alerts, retries and resends.

Each on a monitor whose checks are quick, and where it can be told apart also on one whose checks
take longer than its interval: 2.x then sets its timer to 1 ms, and a check is nearly always in
flight.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise

import pytest

from tests.support.databases import insertion
from tests.support.live_kuma import (
    DOWN,
    MAINTENANCE,
    PENDING,
    UP,
    Watched,
    every,
    is_1,
)
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.kuma, pytest.mark.slow]

either = pytest.mark.parametrize("slow", [False, True], ids=["quick checks", "long checks"])


class Monitor:
    """A monitor at a path of its own, whose target answers as told."""

    def __init__(self, watched: Watched, slow: bool = False, **columns: object) -> None:
        self.watched, self.kuma, self.web = watched, watched.kuma, watched.web
        self.path = watched.path()
        self.delay = 1.5 if slow else 0.0
        self._edits = 0
        self.answer(200)
        self.id = watched.monitor(self.path, **({"interval": 1} if slow else {}) | columns)

    def answer(self, status: int, delay: float | None = None) -> None:
        self.web.answers[self.path] = (status, self.delay if delay is None else delay)

    def edit(self, **columns: object) -> None:
        """Change a part of its URL that the target does not mind, and what else is named."""
        self._edits += 1
        self.kuma.update(self.id, url=f"{self.watched.url(self.path)}?{self._edits}", **columns)
        report = self.kuma.settled(ids=[self.id], rows=True)
        assert self.id in report["changed"]

    def wait(self, status: int) -> None:
        self.kuma.wait_status(self.id, status)

    @property
    def alerts(self) -> list[int]:
        return self.web.alerts_of(self.id)

    @property
    def beats(self) -> list[dict[str, object]]:
        return self.kuma.beats(self.id)

    def wait_asked(self) -> None:
        """Wait until a check begins."""
        seen = len(self.checks())
        wait_until(lambda: len(self.checks()) > seen, f"{self.path} is asked for")

    def checks(self) -> list[float]:
        """When its checks began, whatever its address was."""
        return self.web.times(self.path, with_query=True)

    def asked(self, edit: int) -> list[float]:
        return self.web.times(f"{self.path}?{edit}")


def test_edits_of_a_monitor_that_is_up_beat_at_once_and_keep_its_step(watched: Watched) -> None:
    monitor = Monitor(watched, interval=6)
    monitor.wait(UP)
    watched.kuma.wait_beats(monitor.id, 2)
    (*_, last) = watched.web.times(monitor.path)
    every(0.4, monitor.edit, 5)
    wait_until(lambda: len(monitor.asked(5)) >= 2, "a beat at the old due time")
    for edit in range(1, 6):
        assert monitor.asked(edit)[0] < last + 5, "at once"
    at_once, in_step = monitor.asked(5)[:2]
    assert -0.5 < in_step - last - 6 < (at_once - last) / 2, "nearer to the old step than to a new"
    assert monitor.alerts == []


def test_edits_of_a_monitor_without_a_quiet_moment_reach_it(watched: Watched) -> None:
    monitor = Monitor(watched, slow=True)
    monitor.wait(UP)
    for edit in range(1, 6):
        began = time.monotonic()
        monitor.edit()
        assert time.monotonic() - began < 45, "the rest of a check: the agent waits 90 s for one"
        wait_until(partial(monitor.asked, edit), "the new value")
    assert monitor.alerts == []


@pytest.mark.parametrize("interval", [2, 5], ids=["longer than the interval", "shorter"])
def test_a_check_in_flight_that_turns_alerts_once(watched: Watched, interval: int) -> None:
    monitor = Monitor(watched, interval=interval)
    monitor.wait(UP)
    for status in (500, 200):
        monitor.answer(status, 3)
        monitor.wait_asked()
        time.sleep(0.5)
        monitor.edit()
        monitor.wait(UP if status == 200 else DOWN)
    assert monitor.alerts == [DOWN, UP]
    assert [b["status"] for b in monitor.beats if b["important"]] == [UP, DOWN, UP]


def test_the_values_of_two_rows_never_meet_in_one_check(watched: Watched) -> None:
    """Upside down is asked at a check's begin and at its end: a change between them alerts."""
    monitor = Monitor(watched, interval=20)
    monitor.wait(UP)
    dead = watched.path()
    watched.web.answers[dead] = (500, 0.0)
    monitor.answer(200, 3)
    watched.kuma.update(monitor.id, description="beat")
    watched.kuma.settled(ids=[monitor.id])
    wait_until(lambda: len(monitor.checks()) == 2, "a check in flight")
    watched.kuma.update(monitor.id, upside_down=1, url=watched.url(dead))
    watched.kuma.settled(ids=[monitor.id])
    wait_until(lambda: watched.web.times(dead), "a check of the new row")
    beats = watched.kuma.wait_beats(monitor.id, 3)
    assert [b["status"] for b in beats] == [UP] * 3
    assert monitor.alerts == []


def test_edits_use_up_no_retry(watched: Watched) -> None:
    monitor = Monitor(watched, retry_interval=4, maxretries=6)
    monitor.wait(UP)
    monitor.answer(500)
    monitor.wait(PENDING)
    first = len(monitor.beats)
    every(0.4, monitor.edit, 3)
    beats = watched.kuma.wait_beats(monitor.id, first + 3)[first - 1 :]
    times = monitor.checks()[-4:]
    assert [b["status"] for b in beats] == [PENDING] * 4
    # a busy machine checks late; an edit that used up a retry would have checked early
    assert all(3.6 < after - before < 15 for before, after in pairwise(times))
    if not is_1():
        assert [b["retries"] for b in beats] == [1, 2, 3, 4]
    assert monitor.alerts == []
    assert monitor.asked(3), "the last edit's values are in use"


@either
def test_edits_use_up_no_resend(watched: Watched, slow: bool) -> None:
    monitor = Monitor(watched, slow, resend_interval=5)
    monitor.wait(UP)
    monitor.answer(500)
    monitor.wait(DOWN)
    first = len(monitor.beats)
    every(0.3, monitor.edit, 5)
    beats = watched.kuma.wait_beats(monitor.id, first + 6, 40)[first - 1 :][:7]
    assert [b["down_count"] for b in beats] == [0, 1, 2, 3, 4, 0, 1]
    assert monitor.alerts == [DOWN, DOWN]
    first_of_seven, *_, last = monitor.checks()[-7:]
    assert last - first_of_seven > 6 * (1.5 if slow else 2) - 1.5, "each at its own time"


@either
def test_edits_of_a_monitor_that_is_down_alert_no_more(watched: Watched, slow: bool) -> None:
    monitor = Monitor(watched, slow, maxretries=2, retry_interval=1)
    monitor.wait(UP)
    monitor.answer(500)
    monitor.wait(DOWN)
    down = len(monitor.beats)
    for _ in range(3):
        monitor.edit()
        watched.kuma.wait_beats(monitor.id, len(monitor.beats) + 1)
    assert {b["status"] for b in monitor.beats[down:]} == {DOWN}
    assert monitor.alerts == [DOWN]


@either
def test_an_edit_under_maintenance_alerts_nobody(watched: Watched, slow: bool) -> None:
    monitor = Monitor(watched, slow)
    monitor.wait(UP)
    under_maintenance(watched, monitor.id)
    watched.kuma.settled(rows=True)
    monitor.wait(MAINTENANCE)
    monitor.answer(500)
    for _ in range(2):
        monitor.edit()
        watched.kuma.wait_beats(monitor.id, len(monitor.beats) + 1)
    assert monitor.beats[-1]["status"] == MAINTENANCE
    assert monitor.alerts == []


@either
def test_a_maintenance_that_comes_with_a_dead_target_keeps_it_quiet(
    watched: Watched, slow: bool
) -> None:
    monitor = Monitor(watched, slow)
    monitor.wait(UP)
    dead = watched.path()
    watched.web.answers[dead] = (500, 0.0)
    maintenance = under_maintenance(watched, monitor.id, linked=False)
    watched.kuma.execute(
        ("UPDATE monitor SET url = ? WHERE id = ?", [watched.url(dead), monitor.id]),
        (
            "INSERT INTO monitor_maintenance (monitor_id, maintenance_id) VALUES (?, ?)",
            [monitor.id, maintenance],
        ),
    )
    watched.kuma.settled(rows=True)
    monitor.wait(MAINTENANCE)
    assert monitor.alerts == []


@either
def test_an_edit_to_a_dead_target_alerts_once(watched: Watched, slow: bool) -> None:
    monitor = Monitor(watched, slow)
    monitor.wait(UP)
    dead = watched.path()
    watched.web.answers[dead] = (500, 0.0)
    watched.kuma.update(monitor.id, url=watched.url(dead))
    watched.kuma.settled(ids=[monitor.id], rows=True)
    monitor.wait(DOWN)
    watched.kuma.wait_beats(monitor.id, len(monitor.beats) + 2)
    assert monitor.alerts == [DOWN]


def test_an_edit_of_a_push_monitor_beats_nothing(watched: Watched) -> None:
    kuma = watched.kuma
    token = f"push{time.time_ns()}"
    push = watched.monitor("/", type="push", push_token=token, interval=30, url=None)
    assert watched.web_get(f"{kuma.url}/api/push/{token}?status=up") == 200
    kuma.wait_beats(push, 1)
    for number in range(3):
        kuma.update(push, name=f"push {number}")
        assert push in kuma.settled(ids=[push], rows=True)["changed"]
    time.sleep(1.5)
    assert [b["status"] for b in kuma.beats(push)] == [UP]
    assert watched.web.alerts_of(push) == []


@either
def test_another_monitor_under_the_same_id_begins_anew(watched: Watched, slow: bool) -> None:
    kuma = watched.kuma
    monitor = Monitor(watched, slow)
    kuma.wait_beats(monitor.id, 2)
    path = watched.path()
    row = watched.row(path, id=monitor.id, name="another", created_date="2020-02-02 02:02:02")
    stats = [] if is_1() else ["stat_minutely", "stat_hourly", "stat_daily"]
    if slow:
        monitor.wait_asked()
        time.sleep(0.1)  # Kuma notes its beat's time before it asks
    now = datetime.now(UTC).isoformat(sep=" ", timespec="milliseconds")[:23]
    kuma.execute(
        *(
            (f"DELETE FROM {table} WHERE monitor_id = ?", [monitor.id])
            for table in ["heartbeat", *stats]
        ),
        ("DELETE FROM monitor WHERE id = ?", [monitor.id]),
        (insertion("monitor", row), [*row.values()]),
    )
    kuma.settled(ids=[monitor.id], replaced=[monitor.id], rows=True)
    wait_until(lambda: watched.web.times(path), "its first beat")
    others = [b for b in kuma.wait_beats(monitor.id, 2) if b["important"]]
    assert len(others) == 1, "the first one"
    first = min(str(beat["time"]) for beat in kuma.wait_beats(monitor.id, 3))
    assert first >= now[: len(first)], "no check of the old monitor"
    if stats:
        (sums,) = kuma.query(
            "SELECT sum(up + down) AS beats FROM stat_minutely WHERE monitor_id = ?", monitor.id
        )
        assert sums["beats"] <= len(kuma.beats(monitor.id)) + 1
    assert monitor.alerts == []


def under_maintenance(watched: Watched, monitor: int, *, linked: bool = True) -> int:
    """A maintenance that is on until somebody ends it."""
    maintenance = watched.kuma.insert(
        "maintenance",
        title="now",
        description="",
        user_id=watched.user,
        active=1,
        strategy="manual",
        start_date="2020-01-01 00:00:00",
        end_date="2099-01-01 00:00:00",
    )
    if linked:
        watched.kuma.insert("monitor_maintenance", monitor_id=monitor, maintenance_id=maintenance)
    return maintenance
