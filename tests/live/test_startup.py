"""A reconcile while Kuma starts its monitors one after another, a fast start, and deaths."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.kuma_server import KumaClient
from tests.support.live_kuma import PASSWORD, USER, AgentError, LiveKuma, Watched, Web
from tests.support.tools import kuma_version
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.kuma, pytest.mark.slow]


@pytest.fixture
def stopped(tmp_path: Path, web: Web, kuma_folder: Path) -> Iterator[Watched]:
    """A Kuma that has a user, and does not run."""
    with LiveKuma(tmp_path) as kuma:
        watched = Watched(kuma, web)
        kuma.stop()
        yield watched


def monitors(watched: Watched, count: int, **columns: object) -> dict[int, str]:
    """Rows of monitors that alert; id → path."""
    made = {}
    for _ in range(count):
        path = watched.path()
        monitor = watched.kuma.insert("monitor", **watched.row(path, **columns))
        watched.kuma.insert(
            "monitor_notification", monitor_id=monitor, notification_id=watched.hook
        )
        made[monitor] = path
    return made


def started(kuma: LiveKuma, count: int) -> None:
    """Start it, and wait until so many monitors have begun."""
    kuma.start()
    kuma.wait_phase("starting")
    wait_until(lambda: kuma.hello()["started"] >= count, f"{count} monitors have begun", 30, 0.02)


def test_changes_during_start_up(stopped: Watched) -> None:
    kuma, web = stopped.kuma, stopped.web
    made = monitors(stopped, 15)
    ids = list(made)
    started(kuma, 3)
    first, late, doomed, resting = ids[0], ids[-1], ids[-2], ids[-3]
    new_first, new_late, fresh = stopped.path(), stopped.path(), stopped.path()
    added = max(ids) + 1
    row = stopped.row(fresh, id=added)
    kuma.execute(
        ("UPDATE monitor SET url = ? WHERE id = ?", [stopped.url(new_first), first]),
        ("UPDATE monitor SET url = ? WHERE id = ?", [stopped.url(new_late), late]),
        ("DELETE FROM monitor WHERE id = ?", [doomed]),
        ("UPDATE monitor SET active = 0 WHERE id = ?", [resting]),
        (
            f"INSERT INTO monitor ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})",
            [*row.values()],
        ),
    )
    report = kuma.settled(ids=[first, late], rows=True)
    assert kuma.hello()["unreached"] > 5, "it was still starting"
    assert set(report["changed"]) == {first, late}
    assert set(report["stopped"]) == {doomed, resting}
    assert report["started"] == [added]
    kuma.wait_phase("ready")
    kuma.wait_beats(late, 2)
    assert kuma.beats(doomed) == kuma.beats(resting) == []
    assert web.times(made[late]) == web.times(made[doomed]) == web.times(made[resting]) == []
    assert web.times(new_first)
    assert web.times(new_late)
    assert web.times(fresh)
    assert web.alerts == []
    assert kuma.errors() == []
    assert kuma.settled()["any"] == 0


def test_a_page_s_edit_of_a_monitor_that_start_up_has_not_reached(stopped: Watched) -> None:
    """Plain Kuma comes back to the old values and runs both: the agent lets one loop run."""
    kuma, web = stopped.kuma, stopped.web
    made = monitors(stopped, 24, interval=600)
    late = list(made)[-1]
    started(kuma, 1)
    new = stopped.path()
    with KumaClient(kuma.url) as page:
        page.login(USER, PASSWORD)
        page.edit_monitor(late, url=stopped.url(new), interval=600)
    assert kuma.hello()["phase"] == "starting"
    kuma.wait_phase("ready")
    time.sleep(2)
    assert web.times(made[late]) == []
    assert len(web.times(new)) == 1
    kuma.settled()


def test_a_commit_that_nobody_reconciled_is_found_later(stopped: Watched) -> None:
    kuma = stopped.kuma
    kuma.start()
    kuma.wait_phase("ready")
    one, two, three = (stopped.monitor(stopped.path()) for _ in range(3))
    kuma.wait_beats(three, 1)
    kuma.execute(
        ("UPDATE monitor SET description = 'x' WHERE id IN (?, ?)", [one, two]),
        ("DELETE FROM monitor WHERE id = ?", [three]),
    )
    kuma.wait_beats(one, len(kuma.beats(one)) + 2)
    report = kuma.settled()
    assert (set(report["changed"]), report["stopped"]) == ({one, two}, [three])


@pytest.mark.parametrize("sure", [False, True], ids=["SIGTERM", "SIGKILL"])
def test_an_end_after_the_commit_leaves_nothing_to_do(stopped: Watched, sure: bool) -> None:
    kuma = stopped.kuma
    kuma.start()
    kuma.wait_phase("ready")
    monitor = stopped.monitor(stopped.path())
    kuma.wait_beats(monitor, 1)
    kuma.update(monitor, description="after its death")
    if sure:
        kuma.kill()
        assert kuma.socket.exists(), "the next one takes it over"
    else:
        kuma.stop()
    kuma.start()
    kuma.wait_phase("ready")
    assert kuma.reconcile()["any"] == 0
    assert kuma.differ() == {}


def test_a_reconcile_while_kuma_ends_starts_nothing(stopped: Watched) -> None:
    kuma, web = stopped.kuma, stopped.web
    kuma.start()
    kuma.wait_phase("ready")
    path = stopped.path()
    monitor = stopped.monitor(path)
    kuma.wait_beats(monitor, 1)
    assert kuma.process is not None
    kuma.process.terminate()
    refused = wait_until(lambda: refusal(kuma), "it says that it ends", 30, 0.01)
    asked = len(web.times(path))
    assert refused == "not ready: stopping"
    assert kuma.process.wait(30) == 0
    assert len(web.times(path)) <= asked + 1


def refusal(kuma: LiveKuma) -> str:
    try:
        kuma.reconcile()
    except AgentError as error:
        return str(error)
    return ""


def test_a_fast_start_ends_long_before_kuma_s_own(tmp_path: Path, kuma_folder: Path) -> None:
    """Its pace is that of many new monitors in test_agent.py."""
    with closing(Web()) as web:
        with LiveKuma(tmp_path) as kuma:
            watched = Watched(kuma, web)
            kuma.stop()
            made = list(monitors(watched, 30, interval=300))
            for number, monitor in enumerate(made):
                # nobody has to listen there: a check that fails has begun, too
                kuma.update(monitor, url=f"http://127.0.0.{2 + number % 5}:1/")
            slow = kuma.insert("monitor", **watched.row("/", type="docker", docker_host=1))
        versions = f"0.9.9 {kuma_version(kuma_folder)}"
        with LiveKuma(tmp_path, REPLICATOR_FAST_START=versions) as kuma:
            assert kuma.hello()["fast_start"] is True
            kuma.wait_beats(slow, 1)
            begun = {
                row["monitor_id"]: row["at"]
                for row in kuma.query(
                    "SELECT monitor_id, (julianday(time) - 2440587.5) * 86400 AS at FROM heartbeat"
                )
            }
            assert set(begun) == {*made, slow}
            late = begun.pop(slow)
            assert late - max(begun.values()) > 5, "Kuma's own pace brings it last"
            assert kuma.settled()["any"] == 0
