"""The way back from an apply: what is kept, what an undo puts back, and where it dies."""

from __future__ import annotations

import errno
import json
import shutil
import stat
from pathlib import Path

import pytest

from replicator_kuma.base.errors import KumaError, NothingKept, SettingsError
from replicator_kuma.config.settings import Strategy
from replicator_kuma.dump.transform.policy import Policy
from replicator_kuma.replication.apply import checkpoints
from replicator_kuma.replication.instance import Instance, Outcome
from replicator_kuma.replication.observe import observe
from replicator_kuma.replication.state.records import Hold
from replicator_kuma.replication.undo import preview
from tests.support import cycles, databases
from tests.support.compare import config_differences, damage, orphans
from tests.support.cycles import (
    db,
    follow,
    go_back,
    go_on,
    lead,
    left_behind,
    name_of,
    publish,
    rename,
    step,
    take_over,
)
from tests.support.effects import at_effect, dies_at, raising
from tests.support.fleet import Start, a_supervisor_starts, assert_at_rest, logo, start
from tests.support.folder_repository import FolderRepository
from tests.support.instances import RecordingKuma
from tests.support.rules import PAUSED, rules
from tests.support.states import edit_state
from tests.support.thorough import one_in


def sets(instance: Instance) -> list[checkpoints.Checkpoint]:
    return checkpoints.readable(instance.state.folder)


def test_a_confirmed_apply_keeps_what_it_replaced(leader: Instance, replica: Instance) -> None:
    before = observe(replica).manifest.digest
    step(leader, replica, "two")
    (one,) = sets(replica)
    assert one.words == "1.1 → 1.2: 1 monitor changed"
    assert json.loads((one.folder / "manifest.json").read_text())["digest"] == before
    root = replica.state.folder / "kept"
    assert all(
        stat.S_IMODE(p.stat().st_mode) == (0o700 if p.is_dir() else 0o600)
        for p in (root, *root.rglob("*"))
    )
    assert left_behind(replica) == []


def test_a_heal_and_an_apply_that_kuma_refused(
    leader: Instance, replica: Instance, kuma: RecordingKuma
) -> None:
    """What was put right is kept; what Kuma has never confirmed is not."""
    rename(db(replica), 4, "drifted")
    follow(replica, reconcile=True)
    assert [one.words for one in sets(replica)] == ["1.1 → 1.1: 1 monitor changed"]
    publish(leader, "two")
    kuma.refuses_to_be_ready = [True]
    with pytest.raises(KumaError):
        follow(replica)
    assert len(sets(replica)) == 1
    assert left_behind(replica) == []


def test_the_last_five_are_kept_within_their_bytes(
    leader: Instance, replica: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(2, 9):
        step(leader, replica, f"name {number}")
    # with the first of the hour
    assert [str(one.to) for one in sets(replica)] == ["1.2", "1.4", "1.5", "1.6", "1.7", "1.8"]
    monkeypatch.setattr(checkpoints, "MOST_BYTES", sets(replica)[-1].bytes * 5 // 2)
    step(leader, replica, "nine")
    assert [str(one.to) for one in sets(replica)] == ["1.8", "1.9"]
    monkeypatch.setattr(checkpoints, "MOST_BYTES", 1)
    step(leader, replica, "ten")
    assert [str(one.to) for one in sets(replica)] == ["1.10"]


def test_the_rows_from_before_come_back_and_stay(leader: Instance, replica: Instance) -> None:
    old = cycles.copy_of(db(replica))
    logo = (replica.data_dir / "upload" / "logo2.png").read_bytes()
    cycles.delete_monitor(db(leader), 4)
    (leader.data_dir / "upload" / "logo2.png").write_bytes(b"another")
    step(leader, replica, "two")
    result = go_back(replica)
    assert result.outcome is Outcome.APPLIED
    assert "put the rows from before 1.2 back, those of 1.1" in result.sentence
    assert result.sentence.endswith("; holding them, to go on: replicator restore --resume")
    assert config_differences(db(replica), old) == []
    assert (replica.data_dir / "upload" / "logo2.png").read_bytes() == logo
    assert [*orphans(db(replica)), *damage(db(replica)), *left_behind(replica)] == []
    # cycles leave it there, also those at a start
    for reconcile in (False, True):
        assert follow(replica, reconcile=reconcile).outcome is Outcome.NOTHING
    assert name_of(db(replica), 3) != "two"
    assert go_on(replica).outcome is Outcome.APPLIED
    assert config_differences(db(replica), db(leader)) == []


def test_run_again_it_goes_one_further_back_and_by_number_anywhere(
    leader: Instance, replica: Instance
) -> None:
    first = name_of(db(replica), 3)
    for name in ("two", "three", "four"):
        step(leader, replica, name)
    seen = []
    for _ in range(3):
        go_back(replica)
        seen.append(name_of(db(replica), 3))
    assert seen == ["three", "two", first]
    with pytest.raises(NothingKept, match="no further apply"):
        go_back(replica)
    (last,) = [one.number for one in sets(replica) if one.undoes == 3]
    go_back(replica, last)  # what the first undo replaced
    assert name_of(db(replica), 3) == "four"
    go_on(replica)
    step(leader, replica, "five")
    go_back(replica)
    assert name_of(db(replica), 3) == "four"
    assert replica.state.load().following.hold is not None


def test_an_undo_that_was_undone_is_passed_over_with_what_undid_it(
    leader: Instance, replica: Instance
) -> None:
    for name in ("two", "three", "four"):
        step(leader, replica, name)
    go_back(replica)
    go_back(replica, sets(replica)[-1].number)
    assert name_of(db(replica), 3) == "four"
    go_back(replica)
    assert name_of(db(replica), 3) == "three"
    go_back(replica)
    assert name_of(db(replica), 3) == "two"


def test_an_apply_that_kuma_has_not_confirmed_is_not_passed_over(
    leader: Instance, replica: Instance, kuma: RecordingKuma
) -> None:
    """A person stopped Kuma: the rows that the apply replaced are in no set yet."""
    step(leader, replica, "two")
    step(leader, replica, "three")
    kuma.up = False
    step(leader, replica, "four")
    for attempt in (lambda: go_back(replica), lambda: preview(replica).__enter__()):
        with pytest.raises(KumaError, match=r"the rows of 1\.4 are in place") as refused:
            attempt()
        assert "Start Kuma first" in refused.value.hint
    assert (name_of(db(replica), 3), replica.state.load().following.hold) == ("four", None)
    kuma.up = True
    go_back(replica)
    assert name_of(db(replica), 3) == "three"


def test_by_number_it_goes_below_what_kuma_has_not_confirmed(
    leader: Instance, replica: Instance, kuma: RecordingKuma
) -> None:
    step(leader, replica, "two")
    step(leader, replica, "three")
    kuma.up = False
    step(leader, replica, "four")
    go_back(replica, sets(replica)[-1].number)
    assert name_of(db(replica), 3) == "two"
    go_back(replica)
    assert name_of(db(replica), 3) not in ("two", "three", "four")


def test_rows_that_a_person_put_right_already_are_passed_over(
    leader: Instance, replica: Instance
) -> None:
    first = name_of(db(replica), 3)
    step(leader, replica, "two")
    step(leader, replica, "three")
    rename(db(replica), 3, "two")
    go_back(replica)
    assert name_of(db(replica), 3) == first


@pytest.mark.parametrize("strategy", [Strategy.SNAPSHOT, Strategy.DEFAULT])
def test_going_on_heals_rows_of_the_newest_position_that_an_undo_put_back(
    leader: Instance, replica: Instance, strategy: Strategy
) -> None:
    """They were edited here by hand, healed, and came back: their position is the newest's."""
    rules(replica, "", strategy)
    step(leader, replica, "two")
    rename(db(replica), 4, "edited here")
    follow(replica, reconcile=True)
    go_back(replica)
    assert follow(replica, reconcile=True).outcome is Outcome.NOTHING
    assert name_of(db(replica), 4) == "edited here"
    assert go_on(replica).outcome is Outcome.APPLIED
    assert config_differences(db(replica), db(leader)) == []


def test_what_a_mistaken_rule_did_stays_undone_until_it_goes_on(
    leader: Instance, replica: Instance, kuma: RecordingKuma
) -> None:
    step(leader, replica, "two")
    paused = cycles.count(db(replica), "monitor", "active = 0")
    rules(replica, PAUSED, Strategy.DEFAULT)
    follow(replica)
    assert cycles.count(db(replica), "monitor", "active = 0") > paused
    go_back(replica)
    kuma.log.clear()
    for reconcile in (False, True):
        assert follow(replica, reconcile=reconcile).outcome is Outcome.NOTHING
    assert (cycles.count(db(replica), "monitor", "active = 0"), kuma.log) == (paused, [])
    with_one_more = PAUSED + '[[rule]]\ntable = "tag"\nset = { color = "#123456" }\n'
    rules(replica, with_one_more, Strategy.DEFAULT)
    assert follow(replica).outcome is Outcome.APPLIED, "a later change is meant"
    go_back(replica)
    assert go_on(replica).outcome is Outcome.APPLIED
    assert cycles.count(db(replica), "tag", "color != '#123456'") == 0


def test_rules_that_cannot_be_read_do_not_bar_the_way_back(
    leader: Instance, replica: Instance
) -> None:
    first = name_of(db(replica), 3)
    path = rules(replica, "")
    step(leader, replica, "two")
    path.write_text("no rules at all")
    with pytest.raises(SettingsError):
        replica.policy()
    go_back(replica)
    assert name_of(db(replica), 3) == first


def test_there_is_nothing_to_undo_and_a_preview_touches_nothing(
    leader: Instance, replica: Instance, kuma: RecordingKuma
) -> None:
    with pytest.raises(NothingKept, match="no apply to undo"):
        go_back(replica)
    assert replica.state.load().following.hold is None
    step(leader, replica, "two")
    kuma.log.clear()
    with preview(replica) as seen:
        assert seen.plan.summary.sentence() == "1 monitor changed"
    assert (name_of(db(replica), 3), kuma.log) == ("two", [])
    assert left_behind(replica) == []
    with pytest.raises(NothingKept, match="nothing is kept as 77"):
        go_back(replica, 77)


def test_the_first_apply_of_all(
    leader: Instance, repository: FolderRepository, tmp_path: Path
) -> None:
    """What was there before anything came from a leader has no position."""
    lead(leader)
    cycles.fill(tmp_path / "other", monitors=3)
    other = cycles.instance(tmp_path / "other", repository, name="other")
    old = cycles.copy_of(db(other))
    follow(other)
    go_back(other)
    assert config_differences(db(other), old) == []
    assert other.state.load().following.applied is None
    said = follow(other, reconcile=True).sentence
    assert said.startswith("holding the rows from before any apply since ")
    rename(db(other), 2, "edited")
    assert follow(other, reconcile=True).sentence.endswith("; rows here differ from it")
    assert go_on(other).outcome is Outcome.APPLIED


def test_on_a_leader_what_came_back_is_published_as_a_change(
    leader: Instance, replica: Instance
) -> None:
    """(It had taken its rows back when its disk was lost.)"""
    shutil.rmtree(leader.data_dir / "replicator")
    db(leader).unlink()
    databases.create(db(leader))
    lead(leader)
    assert cycles.count(db(leader), "monitor") == 12
    publish(leader, "two")
    applied = leader.state.load().following.applied
    result = go_back(leader, hold=False)
    assert result.sentence.endswith("; the next cycle publishes them")
    assert cycles.count(db(leader), "monitor") == 0
    assert (leader.state.load().following.hold, leader.state.load().following.applied) == (
        None,
        applied,
    )


def test_a_leader_that_was_promoted_undoes_nothing_from_when_it_was_a_replica(
    replica: Instance,
) -> None:
    """Its rules of that time would be the whole fleet's; unless a person names such a set."""
    rules(replica, '[[rule]]\ntable = "monitor"\nset = { active = false }\n')
    follow(replica)
    assert cycles.count(db(replica), "monitor", "active = 0") == 12
    replica.leading = replica.tables
    take_over(replica)
    paused = cycles.count(db(replica), "monitor", "active = 0")
    for hold in (True, False):  # before its mode is set, and after
        with pytest.raises(NothingKept, match="since this instance became the leader") as refused:
            go_back(replica, hold=hold)
        assert "by its number" in refused.value.hint
    replica.policy = lambda: Policy()
    rename(db(replica), 3, "made since")
    lead(replica, verify=True)
    with pytest.raises(NothingKept), preview(replica, hold=False):
        pass
    cycles.roll_back_to(replica, "2.1")
    assert name_of(db(replica), 3) != "made since"
    go_back(replica, hold=False)
    assert name_of(db(replica), 3) == "made since"
    with pytest.raises(NothingKept):
        go_back(replica, hold=False)
    assert cycles.count(db(replica), "monitor", "active = 0") == paused
    go_back(replica, 2, hold=False)
    assert cycles.count(db(replica), "monitor", "active = 0") == 12


def test_a_promote_whose_rows_kuma_has_not_confirmed_counts_them_as_a_replica_s(
    leader: Instance, replica: Instance, kuma: RecordingKuma
) -> None:
    publish(leader, "two")
    kuma.up = False
    take_over(replica)
    kuma.up = True
    lead(replica, verify=True)
    (one,) = sets(replica)
    assert replica.state.load().leading.led_from == one.number
    with pytest.raises(NothingKept):
        go_back(replica, hold=False)


def test_numbers_do_not_begin_again_below_a_promote(leader: Instance, replica: Instance) -> None:
    """A person may have removed the sets from before it."""
    for name in ("two", "three"):
        step(leader, replica, name)
    take_over(replica)
    shutil.rmtree(replica.state.folder / "kept")
    for name in ("four", "five"):
        publish(replica, name)
    cycles.roll_back_to(replica, "2.2")
    cycles.roll_back_to(replica, "2.1")
    go_back(replica, hold=False)
    assert name_of(db(replica), 3) == "four"


def test_a_leader_holds_nothing_and_follows_once_it_is_a_replica_again(
    leader: Instance, replica: Instance
) -> None:
    step(leader, replica, "two")
    take_over(replica)
    go_back(replica, sets(replica)[-1].number)  # its mode was not set yet
    assert replica.state.load().following.hold is not None
    lead(replica, verify=True)
    assert replica.state.load().following.hold is None
    follow(leader)
    take_over(leader)
    step(leader, replica, "five")
    assert name_of(db(replica), 3) == "five"


def test_a_leader_s_hold_ends_also_where_it_has_nothing_to_publish(
    leader: Instance, replica: Instance
) -> None:
    lead(leader)
    edit_state(leader.state, hold=Hold(1.0, leader.state.load().leading.published))
    assert lead(leader, verify=True).outcome is Outcome.NOTHING
    assert leader.state.load().following.hold is None


def test_a_kuma_that_does_not_start_on_the_old_rows(
    leader: Instance, replica: Instance, kuma: RecordingKuma
) -> None:
    """Then those of the apply are in place again, nothing is called bad, and nothing is held."""
    step(leader, replica, "two")
    kuma.refuses_to_be_ready = [True]
    with pytest.raises(KumaError):
        go_back(replica)
    state = replica.state.load()
    assert (name_of(db(replica), 3), state.applying.bad, state.following.hold) == ("two", (), None)
    assert follow(replica).sentence == "the rows equal 1.2; nothing to do"


def test_what_had_arrived_comes_again_when_it_goes_on(
    leader: Instance, replica: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A local entity's row that came with the undone apply is no row that a person deleted."""
    monkeypatch.setattr(replica, "policy", lambda: Policy(local=frozenset({"tag"})))
    follow(replica)
    databases.edit(db(leader), "INSERT INTO tag (id, name, color) VALUES (90, 'late', '#fff')")
    step(leader, replica, "two")
    assert cycles.count(db(replica), "tag", "id = 90") == 1
    arrived = dict(replica.state.load().following.arrived)
    go_back(replica)
    assert cycles.count(db(replica), "tag", "id = 90") == 0
    assert dict(replica.state.load().following.arrived) == {
        "tag": tuple(sorted({*arrived["tag"]} - {90}))
    }
    go_on(replica)
    assert cycles.count(db(replica), "tag", "id = 90") == 1
    # but one that a person did delete here
    databases.edit(db(replica), "DELETE FROM tag WHERE id = 90")
    go_back(replica)
    go_on(replica)
    assert cycles.count(db(replica), "tag", "id = 90") == 0


# --- a full disk ----------------------------------------------------------------------------


def test_a_full_disk_takes_the_oldest_sets_and_never_the_apply(
    leader: Instance, replica: Instance
) -> None:
    for name in ("two", "three", "four"):
        step(leader, replica, name)

    def fills() -> None:
        if len(sets(replica)) > 1:
            raise OSError(errno.ENOSPC, "no space left")

    with at_effect("keeping the rows from before", fills):
        step(leader, replica, "five")
    assert name_of(db(replica), 3) == "five"
    assert [str(one.to) for one in sets(replica)] == ["1.4", "1.5"]


def test_where_nothing_can_be_kept_the_apply_is_done_all_the_same(
    leader: Instance, replica: Instance
) -> None:
    full = OSError(errno.ENOSPC, "no space left")
    with at_effect("noting a checkpoint", raising(full)):
        step(leader, replica, "two")
    assert (name_of(db(replica), 3), sets(replica)) == ("two", [])
    assert left_behind(replica) == []


def test_older_sets_make_room_for_the_note_of_the_newest(
    leader: Instance, replica: Instance
) -> None:
    for name in ("two", "three"):
        step(leader, replica, name)

    def fills() -> None:
        if sets(replica):
            raise OSError(errno.ENOSPC, "no space left")

    with at_effect("noting a checkpoint", fills):
        step(leader, replica, "four")
    assert [str(one.to) for one in sets(replica)] == ["1.4"]
    assert left_behind(replica) == []


# --- ends in the middle ---------------------------------------------------------------------


@pytest.fixture(params=["restart", "live"])
def before(request: pytest.FixtureRequest, tmp_path: Path) -> Start:
    """A replica at 1.2, which can go back to 1.1."""
    made = start(tmp_path / "fleet", live=request.param == "live")
    follow(made.fleet(made.folder).replica)
    return made


@pytest.mark.slow
def test_dead_after_the_effects_of_an_undo(before: Start, tmp_path: Path) -> None:
    """Either nothing was begun, or the next cycle ends it: a death never lets it follow 1.2."""
    ends: set[tuple[str, bool]] = set()
    found = before.deaths(tmp_path, lambda fleet: go_back(fleet.replica), step=one_in(3, 9))
    for number, after, died in found:
        held = after.replica.state.load().following.hold is not None
        ends.add((before.rows(after.replica_db), held))
        if not died:
            continue
        if number % 2:
            a_supervisor_starts(after.replica)
        follow(after.replica, reconcile=True)
        follow(after.replica)
        side = "old" if held else "new"
        assert (before.rows(after.replica_db), logo(after.replica.data_dir)) == (side, side)
        assert_at_rest(after.replica)
        if held:
            state = after.replica.state.load()
            assert state.following.hold is not None
            assert state.following.hold.kept == 0
            assert [one.undoes for one in sets(after.replica)] == [0, 1]
            assert go_on(after.replica).outcome is Outcome.APPLIED
            assert before.rows(after.replica_db) == "new"
    assert ends == {("new", False), ("new", True), ("old", True)}


def test_an_undo_that_cannot_be_ended_is_tried_once(leader: Instance, replica: Instance) -> None:
    """After a death: it stays where it is then, and says so, instead of failing for ever."""
    step(leader, replica, "two")
    (one,) = sets(replica)

    dies_at("keeping the rows from before", lambda: go_back(replica))
    shutil.rmtree(one.folder)
    with pytest.raises(NothingKept):
        follow(replica)
    assert "holding 1.2 since" in follow(replica).sentence
    step(leader, replica, "three")
    assert name_of(db(replica), 3) == "two"
