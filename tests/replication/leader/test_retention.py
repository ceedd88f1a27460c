"""Which snapshots may go: by position, whatever their times say."""

from __future__ import annotations

import dataclasses
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicator_kuma.adapters.repository import Label, Listing, Position, Snapshot
from replicator_kuma.base.errors import Fenced
from replicator_kuma.replication.leader.housekeeping import going
from replicator_kuma.replication.leader.retention import Keep, superfluous
from replicator_kuma.replication.state.records import SnapshotRef
from replicator_kuma.replication.state.state import State
from tests.support.states import state_with, with_fields

ABOVE = Position(10**6, 1)


def made(epoch: int, sequence: int, day: str, writer: str = "w") -> Snapshot:
    position = Position(epoch, sequence)
    label = Label("default", position, "d" * 64, "5" * 16, writer, "leader")
    return Snapshot(f"{epoch:032x}{sequence:032x}", label, f"{day}T10:00:00.5+01:00")


days = st.dates(date(2000, 1, 1)).map(str)
fleets = st.builds(
    lambda items: [made(e, s, day, f"w{e}") for (e, s), day in items.items()],
    st.dictionaries(st.tuples(st.integers(1, 3), st.integers(1, 40)), days, max_size=40),
)
few = st.integers(0, 5)
keeps = st.builds(Keep, st.integers(1, 6), st.integers(0, 50), few, few, few)


def gone(snapshots: list[Snapshot], keep: Keep, below: Position = ABOVE) -> set[Position]:
    return {s.position for s in superfluous(snapshots, keep, below)}


@given(fleets, keeps)
def test_the_newest_never_goes_and_none_that_the_leader_did_not_note(
    snapshots: list[Snapshot], keep: Keep
) -> None:
    newest = max((s.position for s in snapshots), default=None)
    assert newest not in gone(snapshots, keep)
    if newest is not None:
        noted = sorted(s.position for s in snapshots)[len(snapshots) // 2]
        assert all(position < noted for position in gone(snapshots, keep, noted))


@given(fleets, keeps)
def test_what_stays_stays_the_next_time(snapshots: list[Snapshot], keep: Keep) -> None:
    going = gone(snapshots, keep)
    left = [s for s in snapshots if s.position not in going]
    assert gone(left, keep) == set()


@given(fleets, keeps, keeps)
def test_who_keeps_more_loses_no_more(snapshots: list[Snapshot], keep: Keep, plus: Keep) -> None:
    both = (dataclasses.astuple(each) for each in (keep, plus))
    more = Keep(*map(sum, zip(*both, strict=True)))
    assert gone(snapshots, more) <= gone(snapshots, keep)


@given(fleets, keeps)
def test_the_order_of_a_listing_means_nothing(snapshots: list[Snapshot], keep: Keep) -> None:
    assert gone(snapshots[::-1], keep) == gone(snapshots, keep)


@given(fleets, keeps)
def test_the_last_ones_stay_whatever_the_clocks_say(snapshots: list[Snapshot], keep: Keep) -> None:
    last = sorted((s.position for s in snapshots), reverse=True)[: keep.last]
    assert not gone(snapshots, keep) & set(last)
    years = [dataclasses.replace(s, time=f"{9000 - s.position.sequence}-01-01") for s in snapshots]
    assert not gone(years, keep) & set(last)


def test_one_a_day_and_one_a_month_stay_by_their_highest_position() -> None:
    snapshots = [
        made(1, 1, "2031-01-05"),
        made(1, 2, "2031-01-05"),
        made(1, 3, "2031-02-01"),
        made(1, 4, "2031-02-02"),
        made(1, 5, "2031-02-02"),
        made(1, 6, "2031-03-09"),
        made(1, 7, "2031-03-10"),
    ]
    assert gone(snapshots, Keep(1, 0, 0, 0, 0)) == {Position(1, n) for n in range(1, 7)}
    # days: 03-10 (7), 03-09 (6), 02-02 (5); months: 03 (7), 02 (5), 01 (2)
    assert gone(snapshots, Keep(1, 0, 0, 3, 0)) == {Position(1, n) for n in (1, 2, 3, 4)}
    assert gone(snapshots, Keep(1, 0, 0, 0, 3)) == {Position(1, n) for n in (1, 3, 4, 6)}
    assert gone(snapshots, Keep(1, 0, 0, 3, 3)) == {Position(1, n) for n in (1, 3, 4)}


def test_the_defaults_keep_fifty_and_a_month_of_days_and_a_year_of_months() -> None:
    snapshots = [
        made(1, 28 * month + day, f"{2030 + month // 12}-{month % 12 + 1:02}-{day:02}")
        for month in range(24)
        for day in range(1, 29)
    ]
    left = len(snapshots) - len(gone(snapshots, Keep()))
    assert left == 168 + 6  # an hour of each day: days and some months are among them
    left = len(snapshots) - len(gone(snapshots, Keep(hourly=0)))
    assert left == 50 + 10  # the days are among the fifty, and so are two of the months


def test_a_day_from_a_wrong_clock_counts_by_its_position() -> None:
    snapshots = [made(1, 1, "2099-01-01"), made(1, 2, "2031-01-01"), made(1, 3, "2031-01-02")]
    assert gone(snapshots, Keep(1, 0, 0, 2, 0)) == {Position(1, 1)}


def test_nothing_goes_while_the_newest_epoch_has_two_writers() -> None:
    snapshots = [made(1, n, "2031-01-01") for n in range(1, 9)]
    assert gone(snapshots, Keep(1, 0, 0, 0, 0))
    snapshots[5] = made(1, 6, "2031-01-01", "another")
    assert gone(snapshots, Keep(1, 0, 0, 0, 0)) == set()
    snapshots.append(made(2, 1, "2031-01-01"))
    assert gone(snapshots, Keep(1, 0, 0, 0, 0)) == {Position(1, n) for n in range(1, 9)}


def test_off_keeps_all() -> None:
    assert gone([made(1, n, "2031-01-01") for n in range(1, 99)], Keep(None, 0, 0, 0, 0)) == set()


def noted(snapshot: Snapshot, **more: object) -> State:
    mark = dataclasses.replace(SnapshotRef.of(snapshot), writer="w")
    return with_fields(state_with("w", published=mark), **more)


def test_only_the_leader_that_noted_the_newest_removes_anything() -> None:
    snapshots = Listing(made(1, n, "2031-01-01") for n in range(1, 6))
    few = Keep(2, 0, 0, 0, 0)
    found, why = going("leader", noted(snapshots[-1]), {"one": snapshots}, few)
    assert ([s.position.sequence for s in found["one"]], why) == ([1, 2, 3], "")
    with pytest.raises(Fenced):
        going("leader", noted(snapshots[-1], fenced="another leads"), {"one": snapshots}, few)
    with pytest.raises(Fenced):
        going("leader", noted(snapshots[2]), {"one": snapshots}, few)
    rival = Listing([*snapshots, made(2, 1, "2031-01-01", "another")])
    with pytest.raises(Fenced):
        going("leader", noted(snapshots[-1]), {"one": rival}, few)
    for state in (noted(snapshots[-1], publishing=SnapshotRef.of(snapshots[-1])), State("w")):
        found, why = going("leader", state, {"one": snapshots}, few)
        assert (found, bool(why)) == ({"one": []}, True)


def test_what_lies_in_part_above_the_noted_position_is_not_touched() -> None:
    snapshots = Listing(made(1, n, "2031-01-01") for n in range(1, 6))
    state = noted(snapshots[3], burned=snapshots[4].position)
    found, why = going("leader", state, {"one": snapshots}, Keep(1, 0, 0, 0, 0))
    assert found == {"one": []}
    assert why


def test_of_two_repositories_each_keeps_its_own_newest() -> None:
    snapshots = Listing(made(1, n, "2031-01-01") for n in range(1, 9))
    listed = {"one": snapshots, "two": Listing(snapshots[:3])}
    found, _why = going("leader", noted(snapshots[-1]), listed, Keep(2, 0, 0, 0, 0))
    assert [s.position.sequence for s in found["one"]] == [1, 2, 3, 4, 5, 6]
    assert [s.position.sequence for s in found["two"]] == [1, 2]
