"""`kill -9` at random instants of a restore, and of a publish with a real restic."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from replicator_kuma.adapters.repository import Position
from replicator_kuma.adapters.repository.restic.client import ResticRepository
from replicator_kuma.dump.format import Dump, accepts
from replicator_kuma.replication.instance import CycleResult, Instance, Outcome
from replicator_kuma.replication.observe import observe
from tests.support import cycles, databases, tools, weak_repository
from tests.support.cycles import db, follow, lead, rename
from tests.support.fleet import NEW_LOGO, Fleet, Start, assert_at_rest, logo
from tests.support.instances import make_instance
from tests.support.thorough import one_in

KILLS = 50
PUBLISH_KILLS = 12 // one_in(2, 4)
MONITORS = 300


def killed_after(seconds: float, work: Callable[[], object]) -> bool:
    """Run ``work`` in a process that gets SIGKILL after so long; whether it was still at it."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            os.setsid()
            os.write(writer, b"b")
            work()
            code = 0
        finally:
            os._exit(code)
    os.close(writer)
    os.read(reader, 1)
    os.close(reader)
    time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in (0, -signal.SIGKILL), f"it failed by itself: {code}"
    return code != 0


def instants(chance: random.Random, number: int, duration: float) -> list[float]:
    """One random instant in each of ``number`` equal parts of a duration, and a little beyond."""
    part = 1.05 * duration / number
    return [part * (index + chance.random()) for index in range(number)]


def taken_by(work: Callable[[], CycleResult]) -> float:
    """Seconds of a restore."""
    started = time.monotonic()
    assert work().outcome is Outcome.APPLIED
    return time.monotonic() - started


def at_instants_within(
    chance: random.Random,
    number: int,
    duration: Callable[[], float],
    killed: Callable[[float], bool],
) -> None:
    """Kill at random instants of a work that takes ``duration``; again where most came too late.

    (On a machine that was busier while the work was measured.)
    """
    within = 0
    for _ in range(4):
        for instant in instants(chance, number, duration()):
            within += killed(instant)
        if within > number // 2:
            return
    raise AssertionError("most instants are to lie within the work")


@pytest.fixture(scope="module", params=["wal", "delete", "live"])
def before(request: pytest.FixtureRequest, memory: Path) -> Start:
    """A replica that holds 1.1, with 1.2 published: every third monitor differs."""
    folder = memory / f"start-{request.param}"
    live = request.param == "live"
    cycles.fill(folder / "leader", monitors=MONITORS, wal=request.param != "delete")
    fleet = Fleet(folder, mortal=True, live=live)
    for instance in (fleet.leader, fleet.replica):
        instance.kuma.start()
    fleet.begin()
    old = cycles.copy_of(fleet.replica_db, "old.db")
    database = fleet.leader_db
    databases.edit(
        database,
        "UPDATE monitor SET name = name || ' edited' WHERE id % 3 = 0",
        "DELETE FROM monitor_tag WHERE monitor_id % 30 = 1",
        "DELETE FROM monitor_notification WHERE monitor_id % 30 = 1",
        "UPDATE monitor SET created_date = '2031-01-01' WHERE id % 50 = 0",
    )
    cycles.delete_monitor(database, 7)
    cycles.add_monitor(database, 7_000)
    (fleet.leader.data_dir / "upload" / "logo2.png").write_bytes(NEW_LOGO)
    lead(fleet.leader)
    return Start(folder, old, cycles.copy_of(database, "new.db"), live)


@pytest.mark.slow
def test_a_restore(before: Start, memory: Path, chance: random.Random) -> None:
    def duration() -> float:
        fleet = before.fleet(before.copied(memory))
        return taken_by(lambda: follow(fleet.replica))

    def killed(instant: float) -> bool:
        folder = before.copied(memory)
        died = killed_after(instant, lambda: follow(before.fleet(folder).replica))
        after = before.fleet(folder)
        database = after.replica_db
        found = before.rows(database)
        integrity = databases.query(database, "PRAGMA integrity_check")
        assert integrity == [("ok",)], f"killed after {instant:.4f} s, on the {found} rows"
        after.follow()
        assert (before.rows(database), logo(after.replica.data_dir)) == ("new", "new")
        after.assert_sound(before.old)
        assert_at_rest(after.replica)
        shutil.rmtree(folder.parent)
        return died

    at_instants_within(chance, KILLS // 2, duration, killed)


def restic_at(folder: Path, cache: Path) -> ResticRepository:
    environment = {"RESTIC_REPOSITORY": str(folder), "RESTIC_PASSWORD": weak_repository.PASSWORD}
    return ResticRepository(tools.restic_018(), environment, cache, "leader")


@pytest.mark.restic
@pytest.mark.slow
def test_a_publish(memory: Path, chance: random.Random) -> None:
    """Its restic, in a session of its own, lives on and may end after the next leader looked."""
    place = weak_repository.make(memory / "restic")
    repository = restic_at(place, memory / "cache")
    cycles.fill(memory / "publisher", monitors=MONITORS)

    def publisher() -> Instance:
        return make_instance(memory / "publisher", repository, name="publisher")

    leader = publisher()
    lead(leader)
    rename(db(leader), 3, "measured")
    started = time.monotonic()
    lead(leader)
    duration = time.monotonic() - started
    published = {}
    for number, instant in enumerate(instants(chance, PUBLISH_KILLS, duration)):
        rename(db(leader), 3, f"edit {number}")
        killed_after(instant, lambda: lead(leader))
        if number % 2:
            rename(db(leader), 3, f"edit {number} and another")
        result = lead(publisher())
        assert result.position not in published, f"killed after {instant:.4f} s"
        assert result.digest == observe(leader).manifest.digest
        published[result.position] = result.digest
    assert lead(leader, verify=True).outcome is Outcome.NOTHING
    listed = repository.snapshots("default")
    used = [s.position for s in listed]
    assert len(used) == len(set(used))
    assert used[-1] > Position(1, PUBLISH_KILLS)
    assert published.items() <= {s.position: s.label.digest for s in listed}.items()
    newest = memory / "newest"
    newest.mkdir()
    repository.fetch(listed[-1], newest, accepts)
    dump = Dump.open(newest)
    dump.verify()
    assert dump.manifest.digest == observe(leader).manifest.digest
