"""What is read of a real Kuma's monitors while they go through each state that there is.

It is read beside the running Kuma at every step, and no step may cost Kuma an error.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from replicator_kuma.adapters.database.beats import Beats, MonitorBeats
from replicator_kuma.adapters.database.detect import open_store
from replicator_kuma.base.times import Moment
from replicator_kuma.reports.fleet.documents import Monitor
from replicator_kuma.reports.fleet.own import monitor as told
from replicator_kuma.reports.fleet.verdict import judge
from tests.support.live_kuma import Watched
from tests.support.places import place
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.kuma, pytest.mark.slow]


class Reading:
    def __init__(self, watched: Watched, beats: Beats) -> None:
        self.watched, self.beats = watched, beats

    def of(self, number: int) -> MonitorBeats:
        return next(one for one in self.beats.monitors(exact=False) if one.id == number)

    def told(self, number: int) -> Monitor:
        return told(self.of(number))

    def wait(self, number: int, status: str, also: Callable[[Monitor], bool] = bool) -> Monitor:
        """The monitor as the document has it, once it has this status."""

        def reached() -> list[Monitor]:
            found = self.told(number)
            return [found] if found.status == status and also(found) else []

        return wait_until(reached, f"monitor {number} {status}", 40)[0]

    def verdict(self, number: int) -> str:
        monitors = tuple(told(one) for one in self.beats.monitors(exact=False))
        own = place("a", monitors, beats_at=Moment(time.time()))
        fleet = judge(own, [], Moment(time.time()), None)
        return next(one.verdict for one in fleet.monitors if one.id == number)


def test_each_state_that_a_monitor_can_have(watched: Watched) -> None:
    kuma, web = watched.kuma, watched.web
    path = watched.path()
    group = kuma.insert("monitor", **watched.row("", type="group", url=None, name="a group"))
    kuma.reconcile(ids=[group], rows=True)
    number = watched.monitor(path, maxretries=3, parent=group)
    store = open_store(kuma.data_dir, watched.kuma._environment)
    with contextlib.closing(store.beats()) as beats:
        reading = Reading(watched, beats)
        up = reading.wait(number, "up")
        assert up.votes
        assert up.parent == group
        assert up.since is not None
        assert up.beat_at is not None
        again = reading.wait(number, "up", lambda one: one.beat_at != up.beat_at)
        assert again.since == up.since
        assert reading.wait(group, "up").type == "group"

        web.answers[path] = (500, 0.0)
        pending = reading.wait(number, "pending")
        assert pending.votes
        assert reading.verdict(number) == "up"
        down = reading.wait(number, "down")
        assert down.since is not None
        assert pending.since is not None
        assert down.since > pending.since > up.since
        assert "500" in (down.msg or "")
        assert reading.verdict(number) == "down"
        important = kuma.query(
            "SELECT time FROM heartbeat WHERE monitor_id = ? AND important = 1 ORDER BY id", number
        )
        assert _seconds(str(important[-1]["time"])) == pytest.approx(down.since)
        reading.wait(group, "down")

        web.answers[path] = (200, 0.0)
        mended = reading.wait(number, "up")
        assert mended.since is not None
        assert mended.since > down.since
        changes = [c.status for c in beats.changes(up.since - 1) if c.monitor == number]
        assert changes == ["up", "down", "up"]
        recent = beats.recent(number, up.since - 1)
        assert {beat.status for beat in recent} == {"up", "pending", "down"}
        assert [beat.at for beat in recent] == sorted(beat.at for beat in recent)

        _maintain(watched, number)
        window = reading.wait(number, "maintenance")
        assert not window.votes
        assert reading.verdict(number) == "unknown"

        kuma.update(number, active=0)
        kuma.reconcile(ids=[number], rows=True)
        assert reading.wait(number, "paused").since is None
        kuma.update(number, active=1)
        kuma.update(group, active=0)
        kuma.reconcile(ids=[number, group], rows=True)
        assert not reading.wait(number, "paused").active, "its group is paused"
    # the module's fixture looks through Kuma's log of errors


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def _maintain(watched: Watched, number: int) -> None:
    """A maintenance by hand, which covers the monitor from now on."""
    kuma, now = watched.kuma, datetime.now(UTC)
    window = kuma.insert(
        "maintenance",
        title="a window",
        description="",
        user_id=watched.user,
        active=1,
        strategy="manual",
        start_date=(now - timedelta(days=1)).strftime("%Y-%m-%d %H:%M:%S"),
        end_date=(now + timedelta(days=1)).strftime("%Y-%m-%d %H:%M:%S"),
        weekdays=json.dumps([]),
        days_of_month=json.dumps([]),
    )
    kuma.insert("monitor_maintenance", monitor_id=number, maintenance_id=window)
    kuma.reconcile(ids=[number], rows=True)
