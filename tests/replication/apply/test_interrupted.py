"""A restore, a way back, a publish and a promote: dead after every single step, then run again.

(Patroni's tests do this to its state machine; here each death is one of a real process.)
"""

from __future__ import annotations

from pathlib import Path

import pytest

from replicator_kuma.base.errors import KumaError
from replicator_kuma.replication.apply import checkpoints
from replicator_kuma.replication.instance import Outcome
from replicator_kuma.replication.observe import observe
from tests.support import cycles
from tests.support.cycles import follow, go_back, lead, left_behind, positions, take_over
from tests.support.fleet import (
    Fleet,
    Start,
    a_supervisor_starts,
    assert_at_rest,
    assert_kuma_comes_first,
    logo,
    start,
    until_refused,
)
from tests.support.memory_agent import MemoryKuma
from tests.support.thorough import one_in

AS_IN_A_RESTORE = 25
"""A way back and a promote begin with as many effects of a restore, which has more."""

KEPT = (
    "1.1 → 1.2: 1 monitor added, 1 changed, 1 replaced, 1 deleted; 2 links added, 6 deleted; 1 file"
)


@pytest.fixture(scope="module", params=["restart", "live"])
def before(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Start:
    folder = tmp_path_factory.mktemp("start") / "fleet"
    return start(folder, live=request.param == "live")


def on_new_rows(fleet: Fleet) -> bool:
    return cycles.name_of(fleet.replica_db, 3) == "two"


def refuse_new_rows(fleet: Fleet) -> None:
    """A running Kuma does not take them, and a restarted one is not ready on them."""
    fleet.file_kuma.refuses = lambda: on_new_rows(fleet)
    if isinstance(fleet.kuma, MemoryKuma):
        fleet.kuma.agent.refuses = lambda: "a monitor does not start" * on_new_rows(fleet)


def look_at_each_start(fleet: Fleet, before: Start) -> None:
    """Kuma never starts on the rows of one snapshot with the files of another."""

    def look() -> None:
        assert before.rows(fleet.replica_db) == logo(fleet.replica.data_dir)

    fleet.kuma.on_start = look


def assert_ended(fleet: Fleet, before: Start, side: str) -> None:
    database = fleet.replica_db
    assert (before.rows(database), logo(fleet.replica.data_dir)) == (side, side)
    fleet.assert_sound(before.old)
    beats = {m: cycles.count(database, "heartbeat", f"monitor_id = {m}") for m in (4, 5, -5)}
    assert beats == ({4: 0, 5: 0, -5: 0} if side == "new" else {4: 2, 5: 2, -5: 0})
    assert_at_rest(fleet.replica)


@pytest.mark.slow
def test_a_restore(before: Start, memory: Path) -> None:
    """After every other death a one-shot command comes next, after the others a supervisor.

    The rows that it replaced are kept, and can be put back.
    """
    ends = []
    found = before.deaths(memory, lambda fleet: follow(fleet.replica), step=one_in(1, 5))
    for number, after, died in found:
        look_at_each_start(after, before)
        if not died:
            assert_ended(after, before, "new")
            continue
        ends.append(before.rows(after.replica_db))
        if number % 2:
            assert_kuma_comes_first(after.replica)
        else:
            a_supervisor_starts(after.replica)
        follow(after.replica, reconcile=True)
        assert_ended(after, before, "new")
        assert follow(after.replica).sentence == "1.2 is applied; nothing newer"
        (kept,) = checkpoints.readable(after.replica.state.folder)
        assert kept.words == KEPT
        if number >= AS_IN_A_RESTORE:
            go_back(after.replica)
            assert before.rows(after.replica_db) == "old"
    assert len(ends) > AS_IN_A_RESTORE // one_in(1, 5)
    assert set(ends) == {"old", "new"}


@pytest.mark.slow
def test_the_way_back(before: Start, memory: Path) -> None:
    """Kuma is never ready on the new rows: wherever it dies, it ends on the old ones."""

    def refused(fleet: Fleet) -> None:
        refuse_new_rows(fleet)
        with pytest.raises(KumaError):
            follow(fleet.replica)

    seen = 0
    found = before.deaths(memory, refused, first=AS_IN_A_RESTORE, step=one_in(3, 9))
    for _number, after, died in found:
        refuse_new_rows(after)
        look_at_each_start(after, before)
        before.rows(after.replica_db)
        if died:
            assert_kuma_comes_first(after.replica)
            until_refused(after.replica)
        assert_ended(after, before, "old")
        assert len(set(after.replica.state.load().applying.bad)) == 1
        seen += died
    assert seen > AS_IN_A_RESTORE // one_in(3, 9)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["publish", "promote"])
def test_a_publish(before: Start, memory: Path, what: str) -> None:
    """No position is used twice, and what is newest at the end is whole and equals the rows."""

    def work(fleet: Fleet) -> object:
        return lead(fleet.leader) if what == "publish" else take_over(fleet.replica)

    seen = 0
    first, quick = (1, 5) if what == "publish" else (AS_IN_A_RESTORE, 9)
    step = one_in(1, quick)
    for _number, after, died in before.deaths(memory, work, first=first, step=step):
        writer = after.leader if what == "publish" else after.replica
        if died:
            work(after)
        found = positions(after.repository)
        assert len(found) == len(set(found))
        newest = after.repository.snapshots("default")[-1]
        assert newest.label.digest == observe(writer).manifest.digest
        assert lead(writer, verify=True).outcome is Outcome.NOTHING
        assert left_behind(writer) == []
        seen += died
    assert seen > 5 if step == 1 else seen > 1
