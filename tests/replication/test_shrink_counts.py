"""What counts as a shrink: pure."""

from __future__ import annotations

from dataclasses import replace

import pytest

from replicator_kuma.adapters.repository import Label, Position
from replicator_kuma.replication.shrink import Limit, carried, held
from replicator_kuma.replication.state.state import State
from tests.support.cycles import MARK, PENDING, mark, snapshot
from tests.support.states import state_with


@pytest.mark.parametrize(
    ("text", "percent"), [("50%", 50), ("50", 50), (" 1 % ", 1), ("100%", 100), ("OFF", None)]
)
def test_a_limit_as_people_write_it(text: str, percent: int | None) -> None:
    assert Limit.parse(text) == Limit(percent)


@pytest.mark.parametrize(
    "text", ["", "0%", "101%", "-5", "half", "5.5%", "5%%", "\u0665\u0660", "on"]
)
def test_what_is_no_limit(text: str) -> None:
    with pytest.raises(ValueError, match="neither a percentage"):
        Limit.parse(text)


@pytest.mark.parametrize(
    ("percent", "before", "gone", "exceeded"),
    [(50, 10, 5, True), (50, 10, 4, False), (50, 9, 8, False), (50, 9, 9, True), (50, 0, 0, False),
     (50, 1, 1, True), (25, 12, 3, True), (25, 12, 2, False), (100, 100, 99, False),
     (100, 100, 100, True), (1, 10, 0, False), (1, 1000, 9, False), (1, 1000, 10, True),
     (None, 100, 100, False), (50, 12, -30, False)],
)  # fmt: skip
def test_a_part_of_ten_or_more_or_all_of_some(
    percent: int | None, before: int, gone: int, exceeded: bool
) -> None:
    assert Limit(percent).exceeded(before, gone, before - gone) is exceeded


def test_the_latest_that_is_known_is_carried_on() -> None:
    one, two, three = (replace(MARK, shrunk=Position(1, n)) for n in (1, 2, 3))
    label = replace(snapshot((1, 9)).label, shrunk=Position(1, 2))
    previous = replace(snapshot((1, 9)), label=label)
    assert carried(State("me"), None) is None
    assert carried(state_with("me", published=MARK), snapshot((1, 9))) is None
    assert carried(state_with("me", published=one), previous) == Position(1, 2)
    assert carried(state_with("me", published=one, applied=three), previous) == Position(1, 3)
    assert carried(state_with("me", applied=two), None) == Position(1, 2)


def test_what_an_instance_stands_on() -> None:
    applied, published = mark((1, 5)), mark((1, 2))
    assert held(State("me")) is None
    assert held(state_with("me", published=published)) == published
    assert held(state_with("me", published=published, applied=applied)) == applied
    assert held(state_with("me", applied=applied, pending=PENDING)) == PENDING.mark
    back = replace(PENDING, rollback=True)
    assert held(state_with("me", applied=applied, pending=back)) == applied


def test_a_mark_is_a_tag_and_never_of_a_later_position() -> None:
    label = Label("f", Position(2, 3), "d", "s", "w", "l", shrunk=Position(1, 9))
    assert "shrunk=1.9" in label.tags()
    assert Label.from_tags(label.tags()) == label
    assert Label.from_tags(replace(label, shrunk=Position(2, 3)).tags()) is not None
    for shrunk in (Position(2, 4), Position(3, 1)):
        assert Label.from_tags(replace(label, shrunk=shrunk).tags()) is None
    assert Label.from_tags([*replace(label, shrunk=None).tags(), "shrunk="]) is None
