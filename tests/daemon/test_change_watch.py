"""When an edit calls for a cycle: on a real SQLite, by a clock that the test sets."""

from __future__ import annotations

import logging
import random
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from replicator_kuma.adapters.database.sqlite.watch import SqliteWatch
from replicator_kuma.daemon.change_watch import LONGEST, ChangeWatch
from replicator_kuma.daemon.heartbeat import WORKS
from replicator_kuma.dump.transform.policy import Policy
from replicator_kuma.replication.instance import Instance
from replicator_kuma.replication.observe import observe
from tests.adapters.database.test_wal import BEAT, connected
from tests.adapters.database.test_watch import EDITS, NO_EDITS
from tests.support.clock import Clock
from tests.support.databases import build, edit
from tests.support.fleet import Fleet
from tests.support.tiers import by_tier

EDIT = "UPDATE tag SET name = 'edit ' || random() WHERE id = 1"
NOTICED = 2.0
SETTLED = 1.0


class Watched:
    """An instance that is watched, a Kuma that beats, and the times at which a cycle was asked."""

    def __init__(self, instance: Instance, kuma: sqlite3.Connection) -> None:
        self.instance, self.kuma = instance, kuma
        self.clock, self.free = Clock(1_000.0), threading.RLock()
        self.asked = list[float]()
        self.watch = ChangeWatch(
            instance, self.free, lambda: self.asked.append(self.clock.now), self.clock
        )

    def edit(self, *statements: str) -> float:
        """The time at which it was committed."""
        for statement in statements:
            self.kuma.execute(statement).fetchall()
        return self.clock.now

    def around_its_end(self, work: Callable[[], object]) -> None:
        """Do something while its Kuma does not run."""
        self.kuma.close()
        work()
        self.kuma = connected(self.instance.data_dir / "kuma.db")

    def wait(self, seconds: float, *, beats: int = 12) -> None:
        """Let time go by: before each look Kuma has written so many heartbeats."""
        end = self.clock.now + seconds
        while self.clock.now + self.watch.pause <= end:
            self.clock.now += self.watch.pause
            self.edit(*[BEAT] * beats)
            self.watch.look()
        self.clock.now = end

    def at_rest(self) -> None:
        """Until the first cycle, which a new watch always asks for, has been asked for."""
        self.wait(4 * LONGEST)
        self.asked.clear()

    def asked_after(self, edited: float, within: float) -> float:
        """How long after an edit a cycle was asked for; fails where it was not."""
        end = edited + within
        while not self.asked and self.clock.now < end:
            self.wait(self.watch.pause)
        assert self.asked, "it was missed, or seen too late"
        return self.asked.pop(0) - edited


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    fleet = Fleet(tmp_path)
    for database in (fleet.leader_db, fleet.replica_db):
        build(database, monitors=30, heartbeats=4, wal=True)
    fleet.leader.leads, fleet.replica.leads = True, False
    fleet.replicate()
    return fleet


def watching(instance: Instance) -> Iterator[Watched]:
    watched = Watched(instance, connected(instance.data_dir / "kuma.db"))
    watched.at_rest()
    yield watched
    watched.watch.stop()
    watched.watch._run()
    watched.kuma.close()


@pytest.fixture
def leader(fleet: Fleet) -> Iterator[Watched]:
    yield from watching(fleet.leader)


@pytest.fixture
def replica(fleet: Fleet) -> Iterator[Watched]:
    """Of a replica whose strategy heals."""
    fleet.replica.policy = lambda: Policy(heal=True)
    yield from watching(fleet.replica)


@pytest.fixture
def digests(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What each look at the rows has found."""
    found, real = list[str](), SqliteWatch.digest

    def noted(watch: SqliteWatch) -> str:
        found.append(real(watch))
        return found[-1]

    monkeypatch.setattr(SqliteWatch, "digest", noted)
    return found


def test_heartbeats_cause_nothing(leader: Watched, digests: list[str]) -> None:
    leader.wait(120)
    assert leader.asked == []
    assert digests == []
    assert leader.watch.state == WORKS


def test_an_edit_is_noticed_within_a_second_and_settles_for_another(leader: Watched) -> None:
    edited = leader.edit(EDIT)
    leader.wait(3)
    assert len(leader.asked) == 1
    assert leader.asked[0] - edited <= 1.0 + SETTLED
    leader.wait(60)
    assert len(leader.asked) == 1


def test_a_burst_is_one_cycle(leader: Watched) -> None:
    for _ in range(100):
        leader.edit(EDIT)
        leader.wait(0.01)
    leader.wait(10)
    assert len(leader.asked) == 1


def test_edits_without_an_end_are_a_cycle_each_five_seconds(leader: Watched) -> None:
    for _ in range(40):
        leader.edit(EDIT)
        leader.wait(0.5, beats=2)
    gaps = [after - before for before, after in zip(leader.asked, leader.asked[1:], strict=False)]
    assert 3 <= len(leader.asked) <= 4
    assert min(gaps) >= 5.0


def test_while_a_job_works_nobody_looks_and_nothing_is_lost(
    leader: Watched, digests: list[str]
) -> None:
    work, done = threading.Event(), threading.Event()

    def job() -> None:
        with leader.free:
            work.set()
            done.wait(30)

    worker = threading.Thread(target=job)
    worker.start()
    work.wait(30)
    leader.edit(EDIT)
    leader.wait(20)
    assert (leader.asked, digests) == ([], [])
    done.set()
    worker.join()
    assert leader.asked_after(leader.clock.now, NOTICED + SETTLED)


def test_what_kuma_writes_again_and_again_is_looked_at_less_and_less(
    leader: Watched, digests: list[str]
) -> None:
    """A monitor of type dns whose answers change at each check."""
    for _ in range(300):
        leader.edit("UPDATE monitor SET dns_last_result = random() WHERE id = 4")
        leader.wait(1, beats=5)
    assert leader.asked == []
    assert 300 / LONGEST <= len(digests) <= 300 / LONGEST + 6
    leader.asked_after(leader.edit(EDIT), LONGEST + NOTICED + SETTLED)
    leader.wait(120)
    leader.asked_after(leader.edit(EDIT), NOTICED + SETTLED)


def test_no_edit_is_noticed_late(leader: Watched, digests: list[str]) -> None:
    chance = random.Random(3)
    edits = [edit for edit in EDITS if not edit.startswith(("ALTER", "DROP"))]
    others = [what for what in NO_EDITS if what.startswith("PRAGMA")]
    count = by_tier(20, 500)
    for _ in range(count):
        leader.edit(*(BEAT for _ in range(chance.randrange(20))))
        if chance.random() < 0.3:
            leader.edit(chance.choice(others))
        before = observe(leader.instance).manifest.digest
        while observe(leader.instance).manifest.digest == before:  # some edit nothing
            edited = leader.edit(chance.choice(edits))
        leader.asked_after(edited, NOTICED + SETTLED)
        leader.wait(chance.choice((0.5, 2.0, 20.0)))
        assert leader.asked == []
    assert len(digests) <= 2 * count, "in vain at most once for each"


def test_a_file_that_rows_name_is_watched_too(leader: Watched) -> None:
    upload = leader.instance.data_dir / "upload"
    upload.mkdir(exist_ok=True)
    (upload / "logo1.png").write_bytes(b"another")
    leader.asked_after(leader.clock.now, 5.0 + NOTICED + SETTLED)


def test_where_it_cannot_look_it_says_so_once_and_looks_again_later(
    leader: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="replicator_kuma.daemon.change_watch")
    database = leader.instance.data_dir / "kuma.db"
    away = database.with_name("away")
    leader.edit("PRAGMA wal_checkpoint(TRUNCATE)")
    database.rename(away)
    leader.wait(300)
    assert "there is no database" in leader.watch.state
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    away.rename(database)
    leader.wait(20)
    assert leader.watch.state == WORKS
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert leader.asked == []


def test_a_replica_that_heals_asks_for_drift_and_never_for_what_it_applied(
    replica: Watched, fleet: Fleet
) -> None:
    edit(fleet.leader_db, EDIT)
    replica.around_its_end(fleet.replicate)
    replica.wait(10)
    assert replica.asked == [], "its own apply"
    drifted = replica.edit("UPDATE monitor SET name = 'drifted' WHERE id = 2")
    replica.asked_after(drifted, NOTICED + SETTLED)
    replica.around_its_end(fleet.follow)
    replica.wait(10)
    assert replica.asked == [], "the rows are right again"


def test_drift_that_comes_again_and_again_is_a_cycle_a_minute(
    replica: Watched, fleet: Fleet
) -> None:
    for number in range(120):
        replica.edit(f"UPDATE monitor SET name = 'drifted {number}' WHERE id = 2")
        replica.wait(1, beats=3)
    assert 2 <= len(replica.asked) <= 3
