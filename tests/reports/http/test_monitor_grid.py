"""Which monitors the page shows, which it folds, and in which order."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicator_kuma.base.times import Moment
from replicator_kuma.reports.fleet.documents import CellStatus, Judged, Monitor, Verdict
from replicator_kuma.reports.http.monitor_grid import Grid, Kind, grid, groups_of, kind_of
from tests.support import fleet_views
from tests.support.fleet_views import GROUP, SHOP, SUBGROUP
from tests.support.places import monitor

NOW = 1_935_583_570.0


def shown(view: fleet_views.FinishedView, *, query: str = "", all_rows: bool = False) -> Grid:
    return grid(view.fleet(), view.own(), {}, NOW, query=query, all_rows=all_rows)


@pytest.mark.parametrize(
    ("verdict", "states", "kind", "words", "besides"),
    [
        ("up", ("up", "absent"), "missing", "missing in place-1", ""),
        ("unknown", ("paused", "absent"), "missing", "missing in place-1", ""),
        (
            *("up", ("pending", "absent"), "missing"),
            *("not sure: pending in place-0; missing in place-1", ""),
        ),
        ("down", ("down", "absent"), "down", "down everywhere (1 of 1: place-0)", "missing in"),
    ],
)
def test_that_a_place_lacks_it_is_told_after_what_is_worse(
    verdict: Verdict, states: tuple[CellStatus, ...], kind: Kind, words: str, besides: str
) -> None:
    cells = {f"place-{number}": state for number, state in enumerate(states)}
    fell = ("place-0",) if verdict == "down" else ()
    one = Judged(
        *(1, "m", verdict, fell, fell, Moment(NOW - 9), cells),
        missing_in=("place-1",),
        missing_since=Moment(NOW - 70),
    )
    view = fleet_views.fine(NOW)
    (row,) = shown(replace(view, all=replace(view.fleet(), monitors=(one,)))).looks
    assert (row.kind, row.words) == (kind, words)
    assert row.besides.startswith(besides)
    assert row.since == NOW - (9 if kind == "down" else 70)


@pytest.mark.parametrize(
    ("verdict", "states", "kind"),
    [
        ("down", ("down", "down"), "down"),
        ("partial", ("down", "up"), "disagree"),
        ("up", ("up", "up"), "up"),
        ("up", ("up", "paused"), "up"),
        ("up", ("up", "pending"), "unsure"),
        # a silent place, or one that lacks the monitor, is told where instances are
        ("up", ("up", "silent"), "up"),
        ("up", ("up", "absent"), "up"),
        ("unknown", ("silent", "absent"), "unknown"),
        # its heartbeat is too old to vote
        ("unknown", ("down", "silent"), "unsure"),
        ("unknown", ("up", "silent"), "unknown"),
        ("unknown", ("paused", "paused"), "paused"),
        ("unknown", ("paused", "silent"), "paused"),
        ("unknown", ("maintenance", "paused"), "maintenance"),
        ("unknown", ("none", "none"), "none"),
    ],
)
def test_a_monitor_is_counted_once(
    verdict: Verdict, states: tuple[CellStatus, ...], kind: Kind
) -> None:
    cells = {f"place-{number}": state for number, state in enumerate(states)}
    assert kind_of(Judged(1, "m", verdict, (), (), None, cells)) == kind


@given(st.lists(st.sampled_from(["up", "down", "partial", "unknown"]), max_size=40), st.booleans())
def test_shown_and_folded_are_all(verdicts: list[Verdict], all_rows: bool) -> None:
    view = fleet_views.fine(NOW)
    cells: dict[str, CellStatus] = {"fra-1": "up"}
    judged = tuple(
        Judged(number, f"m{number}", verdict, (), (), None, cells)
        for number, verdict in enumerate(verdicts)
    )
    made = shown(replace(view, all=replace(view.fleet(), monitors=judged)), all_rows=all_rows)
    assert sum(count for _kind, count in made.counts) == len(judged) == made.matching
    assert len(made.looks) + len(made.rest) + made.hidden == len(judged)
    assert len({row.id for row in (*made.looks, *made.rest)}) == len(made.looks) + len(made.rest)
    assert all(row.judged.verdict in ("down", "partial") for row in made.looks)
    assert made.hidden == 0 or not all_rows


def test_a_filter_counts_what_it_leaves_and_what_it_folds() -> None:
    made = shown(fleet_views.many(NOW), query="http")
    assert made.matching == 950
    assert len(made.looks) + len(made.rest) == 100
    assert made.folded == (("up", 850),)


def test_the_worst_stands_first_as_the_document_has_it() -> None:
    view = fleet_views.down(NOW)
    monitors = view.fleet().monitors
    turned = (monitors[1], monitors[0], *monitors[2:])
    made = shown(replace(view, all=replace(view.fleet(), monitors=turned)))
    assert [row.id for row in made.looks] == [SHOP, GROUP]


def test_groups_that_lie_in_one_another_end() -> None:
    """A document of a peer may say anything."""
    view = fleet_views.fine(NOW)
    circle = tuple(
        replace(one, parent={GROUP: SUBGROUP, SUBGROUP: GROUP, SHOP: SHOP}.get(one.id, one.parent))
        for one in view.own().monitors
    )
    made = shown(replace(view, mine=replace(view.own(), monitors=circle)), all_rows=True)
    assert len(made.rest) == 7
    known = {one.id: one for one in circle}
    assert groups_of(known[SHOP], known) == ("Shop checkout",)
    assert len(groups_of(known[GROUP], known)) == 2


def test_a_thousand_groups_in_one_another_cost_no_more_than_a_few() -> None:
    """Each row and each filter asks for them: all the way up, a page would take minutes."""
    asked = []

    class Known(dict[int, Monitor]):
        def get(self, number: int, otherwise: Any = None) -> Any:
            asked.append(number)
            return super().get(number, otherwise)

    known = Known({n: monitor(n, name=f"g{n}", parent=n - 1 or None) for n in range(1, 1001)})
    assert groups_of(known[1000], known) == ("g996", "g997", "g998", "g999")
    assert asked == [999, 998, 997, 996]


def test_without_kuma_s_order_the_document_s_stands() -> None:
    view = fleet_views.fine(NOW)
    made = grid(view.fleet(), None, {}, NOW, all_rows=True)
    assert [row.id for row in made.rest] == [one.id for one in view.fleet().monitors]
    assert {row.groups for row in made.rest} == {()}
