"""However many edits there are in an hour, the way back reaches the state before them."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from replicator_kuma.adapters.repository import Label, Listing, Position, Snapshot
from replicator_kuma.adapters.repository.restic import arguments
from replicator_kuma.adapters.repository.restic.maintenance import KeptRepository
from replicator_kuma.daemon.maintenance import run_now
from replicator_kuma.replication.apply import checkpoints, confirm
from replicator_kuma.replication.instance import Outcome
from replicator_kuma.replication.leader import housekeeping
from replicator_kuma.replication.leader.housekeeping import steps
from replicator_kuma.replication.leader.retention import Care, Keep, superfluous
from replicator_kuma.replication.snapshots import as_of
from tests.support.clock import Clock
from tests.support.cycles import db, follow, go_back, lead, name_of, rename, roll_back_to
from tests.support.instances import make_instance
from tests.support.tools import restic_018

NOW = datetime(2031, 6, 1, 12, 0, tzinfo=UTC).timestamp()
HOUR, DAY = 3600.0, 86400.0
EDITS = 300


def text(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat()


def snapshot(sequence: int, moment: float) -> Snapshot:
    label = Label("default", Position(1, sequence), "d" * 64, "5" * 16, "w", "leader")
    return Snapshot(f"{sequence:064x}", label, text(moment))


def tidied(snapshots: list[Snapshot]) -> list[Snapshot]:
    gone = superfluous(snapshots, Keep(), Position(9, 9))
    return [one for one in snapshots if one not in gone]


def test_a_roll_back_reaches_the_time_before_300_edits_in_an_hour_and_each_hour_of_a_week() -> None:
    """Housekeeping comes right after the edits, and a week of such days later."""
    calm = [snapshot(n, NOW - 9 * DAY + n * HOUR) for n in range(1, 50)]
    edits = [snapshot(50 + n, NOW - HOUR + n * HOUR / EDITS) for n in range(1, EDITS + 1)]
    left = Listing(tidied([*calm, *edits]))
    assert set(edits) <= set(left)
    assert as_of(left, NOW - 2 * HOUR) == calm[-1]
    # every twelve minutes for a week: whoever asks for an hour of it is given what it ended with
    week = [snapshot(n, NOW - 7 * DAY + n * 720) for n in range(1, 7 * 24 * 5)]
    left = Listing(tidied(week))
    for hour in range(1, 7 * 24 - 1):
        end = NOW - hour * HOUR
        assert end - as_of(left, end).moment <= HOUR
    assert len(left) <= 24 * 5 + 7 * 24 + Keep().daily


def test_an_undo_reaches_the_rows_before_300_applies_in_an_hour(tmp_path: Path) -> None:
    for number in range(1, EDITS + 1):
        moment = NOW + 600 + number * HOUR / EDITS
        before = tmp_path / "before"
        before.mkdir()
        (before / "manifest.json").write_text(f"the rows before {number}")
        to: dict[str, Any] = {"at": moment, "to": Position(1, number), "was": None, "undoes": 0}
        rest: dict[str, Any] = {"sentence": "", "policy": "", "arrived": (), "keeps_own": False}
        checkpoints.prepare(tmp_path, before, **to, **rest)
        checkpoints.commit(tmp_path, before)
    found = checkpoints.readable(tmp_path)
    # the hour begins at ten past: so two of the clock's hours have applies
    assert [one.number for one in found] == [1, 250, *range(296, 301)]
    assert (found[0].folder / "manifest.json").read_text() == "the rows before 1"
    order = []
    for number in range(EDITS + 1, EDITS + 8):  # undo after undo
        following = checkpoints.next_to_undo(found)
        assert isinstance(following, checkpoints.Checkpoint)
        order.append(following.number)
        found.append(replace(following, number=number, undoes=following.number))
    assert order == [300, 299, 298, 297, 296, 250, 1]
    assert checkpoints.next_to_undo(found) is None


def test_checkpoints_of_hours_go_after_a_day(tmp_path: Path) -> None:
    made = [
        checkpoints.Checkpoint(n, tmp_path, NOW + n * HOUR / 2, Position(1, n), "", 1)
        for n in range(1, 100)
    ]
    left = [one.number for one in checkpoints._staying(made)]
    assert left == [*range(52, 95, 2), *range(95, 100)]
    # an hour of the future, from a wrong clock, is no reason to keep anything for ever
    late = [replace(made[0], at=NOW + 900 * DAY), *made]
    assert checkpoints._staying(late) == checkpoints._staying(made)


def test_with_restic_both_ways_back_reach_it(
    tmp_path: Path, filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seven edits in an hour, housekeeping, then `undo` and `rollback --at 2h`."""
    clock = Clock(NOW - 3 * HOUR)
    backup = arguments.backup

    def timed(*given: Any) -> list[str]:
        at = datetime.fromtimestamp(clock.now).strftime("%Y-%m-%d %H:%M:%S")
        return [*backup(*given)[:-1], "--time", at, "."]

    monkeypatch.setattr(arguments, "backup", timed)
    monkeypatch.setattr(confirm, "time", SimpleNamespace(time=clock))
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "RESTIC_REPOSITORY": str(tmp_path / "repository"),
        "RESTIC_PASSWORD": "x",
    }
    repository = KeptRepository(restic_018(), environment, tmp_path / "cache", "test")
    repository.init()
    for name in ("leader", "replica"):
        shutil.copytree(filled, tmp_path / name)
    leader = make_instance(tmp_path / "leader", repository, name="leader")
    replica = make_instance(tmp_path / "replica", repository, name="replica")
    leader.repositories = (repository,)
    first = name_of(db(leader), 3)
    lead(leader)
    follow(replica, reconcile=True)
    for number in range(7):
        clock.now = NOW - HOUR + number * 500
        rename(db(leader), 3, f"edit {number}")
        assert lead(leader).outcome is Outcome.PUBLISHED
        assert follow(replica).outcome is Outcome.APPLIED
    clock.now = NOW
    done = run_now(leader, housekeeping.NAME, steps(leader, Care(Keep(last=2), 1)))
    assert "0 snapshots removed, 8 stay" in done
    seen = list[str]()
    while seen[-1:] != [first]:
        go_back(replica)
        seen.append(name_of(db(replica), 3))
    assert seen == [*(f"edit {number}" for number in (5, 4, 3, 2, 1)), first]
    assert roll_back_to(leader, at=NOW - 2 * HOUR).outcome is Outcome.PUBLISHED
    assert name_of(db(leader), 3) == first
