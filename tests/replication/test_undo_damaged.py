"""An undo never passes a damaged set over, and one that is refused is no failure of cycles."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from replicator_kuma.base.errors import KeptDamaged, NothingKept, ReplicatorError, SnapshotNotFound
from replicator_kuma.replication import runner
from replicator_kuma.replication.actions import Restore, Undo
from replicator_kuma.replication.apply import checkpoints
from replicator_kuma.replication.instance import CycleResult, Instance, Outcome, Run
from tests.support.cycles import (
    db,
    follow,
    go_back,
    name_of,
    publish,
    step,
    take_over,
)

NAMES = ("two", "three", "four")


@pytest.fixture
def three(leader: Instance, replica: Instance) -> Instance:
    """A replica with three checkpoints: rows from before "two", "three", "four"."""
    for name in NAMES:
        step(leader, replica, name)
    return replica


def place(instance: Instance, number: int) -> Path:
    return instance.state.folder / "kept" / str(number)


def without_note(folder: Path) -> None:
    (folder / "note.json").unlink()


def without_rows(folder: Path) -> None:
    shutil.rmtree(folder / "rows")


def half_a_note(folder: Path) -> None:
    (folder / "note.json").write_text('{"at": 17')


def altered_rows(folder: Path) -> None:
    with (folder / "rows" / "tables" / "monitor.jsonl").open("a") as file:
        file.write("[]\n")


DAMAGE = (without_note, without_rows, half_a_note, altered_rows)


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda each: each.__name__)
def test_the_newest_set_is_named_with_its_reason_and_not_passed_over(
    three: Instance, damage: Callable[[Path], None]
) -> None:
    damage(place(three, 3))
    for number in (None, 3):
        with pytest.raises(KeptDamaged, match="the rows kept as 3 cannot be put back: ") as caught:
            go_back(three, number)
        assert "replicator undo 2." in caught.value.hint
        assert "snapshot" not in f"{caught.value}{caught.value.hint}"
    assert (name_of(db(three), 3), three.state.load().following.hold) == ("four", None)
    assert go_back(three, 2).outcome is Outcome.APPLIED
    assert name_of(db(three), 3) == "two"


def note_with(folder: Path, **fields: object) -> str:
    return json.dumps({**json.loads((folder / "note.json").read_text()), **fields})


def test_a_note_that_nobody_could_have_written_ends_no_undo_and_no_cycle(
    three: Instance, leader: Instance
) -> None:
    folder = place(three, 3)
    notes = [
        note_with(folder, at=float("inf")),
        note_with(folder, at=float("nan")),
        note_with(folder, at=10**400),
        note_with(folder, at=1e18),
        note_with(folder, at=-1),
        note_with(folder, bytes=float("inf")),
        note_with(folder, undoes=float("inf")),
        "[" * 100_000,
    ]
    for note in notes:
        (folder / "note.json").write_text(note)
        kept = checkpoints.read_all(three.state.folder)
        lost = [one.number for one in kept if isinstance(one, checkpoints.Damaged)]
        assert lost == [3], note[:80]
        with pytest.raises(KeptDamaged, match=r"kept as 3 .*: note\.json cannot"):
            go_back(three)
    publish(leader, "five")
    assert follow(three).outcome is Outcome.APPLIED
    assert [one.number for one in checkpoints.readable(three.state.folder)] == [1, 2, 4]


def test_a_damaged_set_further_back_is_met_when_its_turn_comes(three: Instance) -> None:
    without_note(place(three, 2))
    go_back(three)
    assert name_of(db(three), 3) == "three"
    with pytest.raises(KeptDamaged, match="kept as 2"):
        go_back(three)


@pytest.mark.parametrize(
    ("damage", "number"), [(half_a_note, None), (half_a_note, 4), (altered_rows, 4)]
)
def test_further_back_is_what_differs_from_the_rows_here(
    three: Instance, damage: Callable[[Path], None], number: int | None
) -> None:
    go_back(three)
    damage(place(three, 4))  # of the undo: what it put back is here, and kept as 3
    with pytest.raises(KeptDamaged, match="kept as 4") as caught:
        go_back(three, number)
    assert "replicator undo 2." in caught.value.hint
    go_back(three, 2)
    assert name_of(db(three), 3) == "two"


def test_where_nothing_further_back_differs_none_is_named(three: Instance) -> None:
    for number in (1, 2):
        shutil.rmtree(place(three, number))
    go_back(three)
    half_a_note(place(three, 4))
    with pytest.raises(KeptDamaged, match="kept as 4") as caught:
        go_back(three)
    assert "replicator undo 3" not in caught.value.hint
    assert "replicator undo --list" in caught.value.hint


def test_the_oldest_has_nothing_further_back(three: Instance) -> None:
    for number in (1, 2, 3):
        without_note(place(three, number))
    with pytest.raises(KeptDamaged, match="kept as 3") as caught:
        go_back(three)
    assert "replicator undo --list" in caught.value.hint


def test_what_an_undo_has_put_behind_it_is_in_nobody_s_way(three: Instance) -> None:
    go_back(three, 2)
    without_note(place(three, 3))
    go_back(three)
    assert name_of(db(three), 3) != "two"


def test_a_damaged_set_goes_when_its_turn_comes_and_not_before(
    three: Instance, leader: Instance
) -> None:
    without_note(place(three, 1))
    for number, name in enumerate(("five", "six", "seven"), 4):
        assert place(three, 1).exists()
        step(leader, three, name)
        assert place(three, number).exists()
    assert [one.number for one in checkpoints.readable(three.state.folder)] == [2, 3, 4, 5, 6]
    assert not place(three, 1).exists()


def test_a_damaged_set_from_before_a_promote_is_a_replica_s_too(three: Instance) -> None:
    """Else an undo on the new leader meets it: it is none of the leader's."""
    half_a_note(place(three, 3))
    take_over(three)
    assert three.state.load().leading.led_from == 3
    for hold in (True, False):  # before its mode is set, and after
        with pytest.raises(NothingKept, match="since this instance became the leader") as refused:
            go_back(three, hold=hold)
        assert not isinstance(refused.value, KeptDamaged)


@pytest.mark.parametrize(
    ("number", "kind"), [(77, NothingKept), (3, KeptDamaged), (None, KeptDamaged)]
)
def test_an_undo_that_is_refused_is_no_failure_of_cycles(
    three: Instance, number: int | None, kind: type[ReplicatorError]
) -> None:
    half_a_note(place(three, 3))
    before = runner.run(three, "RESTORE", Restore().run, Run())
    with pytest.raises(kind):
        runner.run(three, "RESTORE", Undo(number).run, Run())
    state = three.state.load()
    assert state.outcome.last is not None
    assert (state.outcome.last.ok, state.outcome.last.sentence) == (True, before.sentence)
    assert state.failing_since == 0


def test_a_snapshot_that_is_not_there_is_no_failure_of_cycles_unless_a_cycle_misses_it(
    three: Instance,
) -> None:
    runner.run(three, "RESTORE", Restore().run, Run())
    with pytest.raises(SnapshotNotFound):
        runner.run(three, "RESTORE", Restore(snapshot="1.77").run, Run())
    assert not three.state.load().failing_since

    def misses(_instance: Instance, _run: Run) -> CycleResult:
        raise SnapshotNotFound("what it holds is not in the repository any more")

    with pytest.raises(SnapshotNotFound):
        runner.run(three, "RESTORE", misses, Run())
    assert three.state.load().failing_since
