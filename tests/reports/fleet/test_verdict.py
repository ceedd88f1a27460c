"""What the fleet's document says of monitors and places, case by case."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from replicator_kuma.adapters.repository import Position
from replicator_kuma.base.text import plain_json
from replicator_kuma.base.times import Moment
from replicator_kuma.reports.document import as_json
from replicator_kuma.reports.fleet.documents import Fleet, Judged
from replicator_kuma.reports.fleet.sentence import LONGEST
from replicator_kuma.reports.fleet.verdict import judge
from replicator_kuma.reports.fleet.voters import isolated, quorum
from tests.support.clock import untraced_seconds
from tests.support.places import NOW, heard, monitor, place


def judged(*cells: str, names: str = "abcdefg", **own: Any) -> Judged:
    """Monitor 1, whose status in each place is this; the first place is the one that judges."""
    places = [place(name, [cell]) for name, cell in zip(names, cells, strict=False)]
    first = dataclasses.replace(places[0], **own)
    return judge(first, [heard(one) for one in places[1:]], NOW, None).monitors[0]


@pytest.mark.parametrize(
    ("cells", "verdict", "down_in"),
    [
        (["up"], "up", ""),
        (["down"], "down", "a"),
        (["pending"], "up", ""),
        (["paused"], "unknown", ""),
        (["none"], "unknown", ""),
        (["maintenance"], "unknown", ""),
        (["down", "up"], "partial", "a"),
        (["down", "down"], "down", "ab"),
        (["down", "paused"], "down", "a"),
        (["down", "maintenance", "up"], "partial", "a"),
        (["up", "down", "up"], "partial", "b"),
        (["down", "down", "up"], "down", "ab"),
        (["down", "down", "up", "up"], "partial", "ab"),
        (["down", "down", "down", "up"], "down", "abc"),
        (["down", "down", "down", "up", "up"], "down", "abc"),
        (["down", "down", "pending"], "down", "ab"),
    ],
)
def test_the_majority_of_voters_decides_and_of_two_both(
    cells: list[str], verdict: str, down_in: str
) -> None:
    found = judged(*cells)
    assert found.verdict == verdict
    assert found.down_in == tuple(down_in)
    assert list(found.states.values()) == cells


def test_the_quorum_of_each_number() -> None:
    assert [quorum(n) for n in range(8)] == [0, 1, 2, 2, 3, 3, 4, 4]


@pytest.mark.parametrize(
    ("change", "cell"),
    [
        ({"age": None}, "silent"),
        ({"age": 31.0}, "silent"),
        ({"missed": 3}, "silent"),
        ({"document": None}, "silent"),
        ({"url": None, "age": 21.0}, "silent"),
        ({"trouble": "its answer is no such document"}, "silent"),
        ({"age": 29.0, "missed": 2}, "down"),
        ({"url": None, "age": 19.0}, "down"),
    ],
)
def test_who_is_silent_has_no_vote(change: dict[str, Any], cell: str) -> None:
    other = dataclasses.replace(heard(place("b", ["down"])), **change)
    fleet = judge(place("a", ["down"]), [other, heard(place("c", ["up"]))], NOW, None)
    found = fleet.monitors[0]
    assert found.states == {"a": "down", "b": cell, "c": "up"}
    assert found.verdict == ("down" if cell == "down" else "partial")
    states = {one.name: one.state for one in fleet.instances}
    assert states == {"a": "equal", "b": "silent" if cell == "silent" else "equal", "c": "equal"}


@pytest.mark.parametrize(
    "change",
    [
        {"isolated": True},
        {"beats_at": None},
        {"monitors": (monitor(1, "down", votes=False),)},
        {"monitors": (monitor(1, "down", active=False),)},
        {"monitors": (monitor(1, "paused", votes=True),)},
        {"monitors": (monitor(1, "maintenance", votes=True),)},
    ],
)
def test_who_cannot_know_has_no_vote(change: dict[str, Any]) -> None:
    blind = dataclasses.replace(place("b", ["down"]), **change)
    up, down = place("a", ["up"]), place("c", ["down"])
    found = judge(up, [heard(blind), heard(down)], NOW, None).monitors[0]
    assert found.voters == ("a", "c")
    found = judge(blind, [heard(up)], NOW, None).monitors[0]
    assert (found.verdict, found.voters) == ("up", ("a",))


def test_an_instance_alone_judges_by_itself() -> None:
    fleet = judge(place("a", ["up", "down", "paused"]), [], NOW, None)
    assert {one.id: one.verdict for one in fleet.monitors} == {1: "up", 2: "down", 3: "unknown"}
    assert [one.id for one in fleet.monitors] == [2, 1, 3]
    assert fleet.sentence == "«m2» is down."
    quiet = judge(place("a", ["up"], changed_at=Moment(NOW - 7200)), [], NOW, None)
    assert quiet.sentence == "All is well: a holds snapshot 1.7, 1 monitor, last change 2 h ago."


@pytest.mark.parametrize("names", [["b", "b"], ["a", "c"]])
def test_a_name_that_comes_twice_is_nobodys(names: list[str]) -> None:
    others = [heard(place(name, ["down"]), url=f"https://{k}") for k, name in enumerate(names)]
    fleet = judge(place("a", ["up"]), others, NOW, None)
    bad = [one for one in fleet.instances if "comes twice" in one.sentence]
    assert len(bad) == (2 if names == ["b", "b"] else 1)
    assert {one.state for one in bad} == {"silent"}
    assert "down" not in {fleet.monitors[0].states[one.name] for one in bad}
    assert fleet.monitors[0].voters == (("a",) if names == ["b", "b"] else ("a", "c"))
    assert "comes twice" in fleet.sentence


def test_answers_of_another_fleet_or_under_another_name_are_not_used() -> None:
    foreign = heard(place("b", ["down"], fleet="office"))
    other = heard(place("x", ["down"]), name="c")
    fleet = judge(place("a", ["up"]), [foreign, other], NOW, None)
    assert fleet.monitors[0].verdict == "up"
    assert fleet.monitors[0].voters == ("a",)
    said = {one.name: one.sentence for one in fleet.instances}
    assert "belongs to fleet office" in said["b"]
    assert "calls itself x" in said["c"]


def test_a_monitor_that_a_place_lacks_is_absent_there() -> None:
    fleet = judge(place("a", ["up", "up"]), [heard(place("b", ["down"]))], NOW, None)
    assert fleet.monitors[0].states == {"a": "up", "b": "down"}
    assert fleet.monitors[1].states == {"a": "up", "b": "absent"}
    assert fleet.monitors[1].verdict == "up"


def test_a_verdict_keeps_its_time_while_it_stands() -> None:
    def at(seconds: float, cell: str, before: Fleet | None) -> Fleet:
        own = place("a", [monitor(1, cell, since=Moment(NOW + seconds - 7))])
        return judge(own, [], Moment(NOW + seconds), before)

    def since(fleet: Fleet) -> float:
        at = fleet.monitors[0].since
        assert at is not None
        return at - NOW

    first = at(0, "up", None)
    assert since(first) == -7
    again = at(50, "up", first)
    assert since(again) == -7
    down = at(60, "down", again)
    assert since(down) == 60
    assert since(at(70, "down", down)) == 60
    assert since(at(-1000, "down", down)) == -1000  # the clock was set back


def test_no_clock_of_another_machine_is_believed() -> None:
    """A peer a day ahead says when it went down by its own clock: how long ago it was counts."""
    day = 86_400.0
    peer = place(
        "b",
        [monitor(1, "down", since=Moment(NOW + day - 40))],
        beats_at=Moment(NOW + day),
    )
    own = place("a", [monitor(1, "down", since=Moment(NOW - 90))])
    found = judge(own, [heard(peer, age=3.0)], NOW, None).monitors[0]
    assert found.since == NOW - 43  # the second of two makes the quorum
    partial = place("a", [monitor(1, "up", since=Moment(NOW - 900))])
    found = judge(partial, [heard(peer, age=3.0)], NOW, None).monitors[0]
    assert (found.verdict, found.since) == ("partial", NOW - 43)


def test_an_instance_that_has_not_looked_yet_is_behind() -> None:
    own = place("a", ["up"], role="leader", position=Position(1, 9))
    late = heard(place("b", ["up"], position=Position(1, 7)))
    old = heard(place("c", ["up"], position=Position(1, 6), state="behind", behind=1))
    gone = heard(place("d", ["up"], position=Position(2, 1)), missed=3)
    fleet = judge(own, [late, old, gone], NOW, None)
    assert {p.name: (p.state, p.behind) for p in fleet.instances} == {
        "a": ("equal", 0),
        "b": ("behind", 2),
        "c": ("behind", 3),
        "d": ("silent", 0),
    }
    assert [p.name for p in fleet.instances] == ["d", "b", "c", "a"]
    said = "b: holds snapshot 1.7, and has not looked since snapshot 1.9 was made"
    assert next(p.sentence for p in fleet.instances if p.name == "b") == said


def test_what_needs_a_look_stands_first() -> None:
    own = place("a", ["up", "down", "paused", "up", "none", "pending", "up"])
    other = heard(place("b", ["up", "down", "paused", "down", "none", "up", "maintenance"]))
    fleet = judge(own, [other], NOW, None)
    assert [one.id for one in fleet.monitors] == [2, 4, 6, 5, 1, 7, 3]


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        (["up", "up", "up"], "Everything is equal: 3 instances hold snapshot 1.7, 1 monitor."),
        (["down", "down", "down"], "«m1» is down everywhere (3 of 3)."),
        (["down", "up", "up"], "«m1» is down in a only (1 of 3)."),
        (["down", "down", "up"], "«m1» is down in a, b (2 of 3)."),
        (["down", "down", "up", "up"], "«m1» is down in a, b only (2 of 4)."),
    ],
)
def test_the_sentence_of_the_fleet(cells: list[str], said: str) -> None:
    places = [place(name, [cell]) for name, cell in zip("abcd", cells, strict=False)]
    fleet = judge(places[0], [heard(one) for one in places[1:]], NOW, None)
    assert fleet.sentence == said


def test_the_sentence_names_places_and_spares_groups() -> None:
    own = place("a", [monitor(1, "down", type="group"), monitor(2, "down"), *["up"] * 3])
    late = place(
        "b", [], state="behind", behind=2, sentence="b: holds snapshot 1.5, 2 snapshots behind"
    )
    fleet = judge(own, [heard(late), heard(place("c"), age=400.0)], NOW, None)
    assert fleet.sentence == (
        "«m2» is down everywhere (1 of 1). c: has not answered for 6 min. "
        "b: holds snapshot 1.5, 2 snapshots behind."
    )
    alone = judge(place("a", [monitor(1, "down", type="group")]), [], NOW, None)
    assert alone.sentence == "«m1» is down."


def test_the_sentence_says_who_is_blind_and_what_nobody_can_judge() -> None:
    stale = [monitor(1, votes=False), monitor(2, "paused"), monitor(3)]
    fleet = judge(place("a", stale), [], NOW, None)
    assert fleet.sentence == "Nobody can judge 1 monitor now: no fresh heartbeat."
    lost = heard(place("b", ["up"], isolated=True))
    assert "b: is isolated" in judge(place("a", ["up"]), [lost], NOW, None).sentence
    unread = heard(place("b", beats_at=None))
    assert judge(place("a", ["up"]), [unread], NOW, None).sentence == (
        "b: holds snapshot 1.7, the newest; its Kuma's database cannot be read."
    )
    own = judge(place("a", ["down"] * 6, isolated=True), [], NOW, None)
    assert own.sentence == (
        "a is isolated: no peer and no repository answers, so it votes nowhere."
    )
    # that nobody is heard follows from it
    gone = heard(place("b", ["up"]), age=400.0)
    assert judge(place("a", ["down"] * 6, isolated=True), [gone], NOW, None).sentence == (
        own.sentence
    )


def test_a_place_whose_kuma_cannot_be_read_has_no_vote_and_is_said() -> None:
    blind = heard(place("z", ["down"], beats_at=None))
    fleet = judge(place("a", ["up"], role="leader"), [heard(place("b", ["up"])), blind], NOW, None)
    assert [(one.name, one.unreadable) for one in fleet.instances] == [
        *(("z", True), ("a", False), ("b", False)),
    ]
    assert (fleet.monitors[0].voters, fleet.monitors[0].states["z"]) == (("a", "b"), "silent")
    own = judge(place("a", beats_at=None), [heard(place("b", ["down"]))], NOW, None)
    assert own.instances[0].unreadable
    assert own.sentence.startswith("The monitors of a cannot be read: Kuma's database does not")
    assert own.monitors[0].voters == ("b",)


def test_a_place_says_of_itself_that_it_is_isolated() -> None:
    lost = heard(place("z", ["up"], isolated=True))
    fleet = judge(place("a", ["up"], role="leader"), [heard(place("b", ["up"])), lost], NOW, None)
    assert [(one.name, one.isolated) for one in fleet.instances] == [
        *(("z", True), ("a", False), ("b", False)),
    ]
    silent = dataclasses.replace(lost, missed=3, why="no connection")
    (gone, _own) = judge(place("a", ["up"]), [silent], NOW, None).instances
    assert not gone.isolated  # what it said last is old
    assert gone.sentence == "z: has not answered for 10 s (no connection)"


def test_sentences_are_bounded_and_plain_whatever_the_names() -> None:
    evil = "\x1b[31m\n\u202e" + "Ä" * 5000
    own = place(
        "a",
        [monitor(k, "down" if k % 2 else "up", name=f"{k}{evil}") for k in range(300)],
        sentence=evil,
        state="drift",
    )
    others = [
        heard(place(f"{k}{evil}", [monitor(2, "down")], sentence=evil, state="fenced"), age=age)
        for k, age in enumerate((1.0, 2.0, 500.0, 600.0))
    ]
    fleet = judge(own, others, NOW, None)
    for said in (fleet.sentence, *(one.sentence for one in fleet.instances)):
        assert len(said) <= LONGEST
        assert said.isprintable()
    assert json.loads(plain_json(as_json(fleet)))["sentence"] == fleet.sentence


def fallen(down: int, up: int = 0, spread: float = 60.0, **more: Any) -> list[Any]:
    step = spread / max(1, down - 1)
    return [
        *(monitor(k, "down", since=Moment(NOW - 30 - k * step), **more) for k in range(down)),
        *(monitor(100 + k) for k in range(up)),
    ]


@pytest.mark.parametrize(
    ("monitors", "expected"),
    [
        (fallen(5), True),
        (fallen(4), False),
        (fallen(8, up=2), True),
        (fallen(7, up=2), False),
        (fallen(10, spread=3600), False),
        ([*fallen(5), *(monitor(50 + k, "paused") for k in range(20))], True),
        ([*fallen(4), *fallen(3, type="group")], False),
        ([*fallen(4), monitor(9, "pending", since=Moment(NOW - 3))], True),
    ],
)
def test_an_instance_is_isolated_when_all_fell_together(
    monitors: list[Any], expected: bool
) -> None:
    away = [heard(place("b"), missed=3)]
    assert isolated(monitors, away, repository_answers=False) is expected
    assert isolated(monitors, [], repository_answers=False) is expected
    assert not isolated(monitors, away, repository_answers=True)
    assert not isolated(monitors, [*away, heard(place("c"))], repository_answers=False)


def test_a_large_fleet_is_judged_fast() -> None:
    """1,000 monitors in 6 places; the target is 20 ms on a machine of its own."""
    cells = ["down" if k % 50 == 0 else "up" for k in range(1000)]
    own, others = place("a", cells), [heard(place(name, cells)) for name in "bcdef"]
    before = judge(own, others, NOW, None)
    took = min(untraced_seconds(lambda: judge(own, others, NOW, before)) for _ in range(5))
    assert took < 0.1
