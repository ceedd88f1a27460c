"""A leader whose next cycle is an hour away: an edit in its web interface is published at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support import weak_repository
from tests.support.cycles import state_of
from tests.support.supervised import Side
from tests.support.tools import restic_018
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.kuma, pytest.mark.restic, pytest.mark.slow]


@pytest.fixture
def leader(tmp_path: Path, kuma_folder: Path) -> Iterator[Side]:
    weak_repository.make(tmp_path / "repository")
    side = Side(tmp_path, "leader", "BACKUP", restic_018(), UPTIME_KUMA_DB_TYPE="sqlite")
    side.environment["REPLICATOR_BACKUP_INTERVAL"] = "1h"
    yield side
    side.kill()


def sequence(leader: Side) -> int:
    """That of the newest snapshot; 0 before the first."""
    found = state_of(leader.data_dir).leading.published
    return found.position.sequence if found else 0


def monitors(leader: Side) -> int:
    """The number in the newest snapshot."""
    return int(leader.json("status")["published"]["monitors"])


def cycled(leader: Side) -> float:
    """When the last cycle ended."""
    last = state_of(leader.data_dir).outcome.last
    return last.at if last else 0.0


def beats(leader: Side) -> int:
    return int(leader.query("SELECT count(*) FROM heartbeat")[0][0])


def watched(leader: Side) -> str | None:
    supervisor = leader.json("status")["supervisor"]
    return str(supervisor["change_watch"]) if supervisor else None


def test_edits_are_published_without_an_interval_and_heartbeats_cause_no_cycle(
    leader: Side, web: str
) -> None:
    leader.set_up(first=web)
    wait_until(lambda: watched(leader) == "works", "the watch", 60, 0.5)
    wait_until(lambda: sequence(leader), "the first snapshot", 60)
    before = sequence(leader)
    with closing(leader.page()) as page:
        page.add_monitor("second", web)
        wait_until(lambda: sequence(leader) == before + 1, "the edit is published", 60)
        for number in range(20):
            page.add_monitor(f"one of many {number}", web)
        names = "SELECT count(*) FROM monitor"
        assert leader.query(names) == [(22,)]
        wait_until(lambda: monitors(leader) == 22, "the burst is published", 60, 0.5)
    assert sequence(leader) - before <= 6, "one snapshot for many edits"
    ended, count = cycled(leader), beats(leader)
    wait_until(lambda: beats(leader) >= count + 25, "heartbeats", 180, 0.5)
    assert cycled(leader) == ended, leader.log_tail()
    assert leader.stop() == 0
