"""The sentence of an instance, and what it says of its place in the fleet, from its state alone."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from replicator_kuma.adapters.repository import Label, Position, Snapshot
from replicator_kuma.replication.state import transitions
from replicator_kuma.replication.state.codec import decode_state, encode_state
from replicator_kuma.replication.state.records import (
    CYCLE,
    DRIFT,
    Hold,
    Last,
    NewestSeen,
    Problem,
    SnapshotRef,
)
from replicator_kuma.replication.state.state import State
from replicator_kuma.reports.sentence import LONGEST, told
from tests.support.states import state_with

SEEN = NewestSeen(at=1.0, position=Position(1, 7), held=Position(1, 5), newer=2)


def ref(position: str = "1.7") -> SnapshotRef:
    return SnapshotRef(Position.parse(position), "d" * 64, "5" * 16, "a" * 64)


def failed(error: str, sentence: str, hint: str = "") -> Last:
    return Last(1.0, False, sentence, error=error, exit_code=1, hint=hint)


@pytest.mark.parametrize(
    ("state", "kind", "words"),
    [
        ({"applied": ref()}, "equal", "b: holds snapshot 1.7, the newest"),
        ({"applied": ref("1.5")}, "behind", "b: holds snapshot 1.5, 2 snapshots behind"),
        ({"applied": ref("1.6")}, "behind", "b: holds snapshot 1.6, 1 snapshot behind"),
        ({}, "behind", "b: holds no snapshot yet"),
        (
            {"applied": ref(), "newest_seen": None},
            "behind",
            "b: holds snapshot 1.7, not compared with the repository yet",
        ),
        (
            {"applied": ref("1.5"), "hold": Hold(1.0, ref("1.5"))},
            "behind",
            "2 snapshots behind: it is held: 1.5 since 1970-01-01T00:00:01Z (to go on: replicator "
            "restore --resume)",
        ),
        (
            {"applied": ref("1.5"), "last": failed("RepositoryUnreachable", "no answer")},
            "behind",
            "2 snapshots behind: cycles fail since 1970-01-01T00:00:09Z: no answer",
        ),
        (
            {"applied": ref(), "last": failed("KumaError", "Kuma does not stop")},
            "equal",
            "the newest that was seen, but cycles fail since 1970-01-01T00:00:09Z: Kuma does not",
        ),
        (
            {"applied": ref("1.5"), "shrink": "9 of 10 monitors would go"},
            "behind",
            "9 of 10 monitors would go. Nothing was applied. If it is meant: replicator restore",
        ),
        (
            {"applied": ref("1.5"), "last": failed("SchemaMismatch", "another schema", "Install")},
            "misfit",
            "another schema. Install",
        ),
        (
            {"applied": ref(), "problems": (Problem(DRIFT, "", 1.0, "1 tag differs"),)},
            "drift",
            "rows differ from snapshot 1.7 since 1970-01-01T00:00:01Z: 1 tag differs",
        ),
    ],
)
def test_of_a_replica(state: dict[str, Any], kind: str, words: str) -> None:
    if "last" in state and "problems" not in state:
        state = {**state, "problems": (Problem(CYCLE, "x", 9.0, "no luck", ("x",)),)}
    found = told(state_with("w", **{"newest_seen": SEEN, **state}), "b", follows=True)
    assert found.state == kind
    assert words in found.sentence
    assert found.sentence.startswith("b: ")


@pytest.mark.parametrize(
    ("state", "kind", "words"),
    [
        ({"published": ref()}, "equal", "a: leads, at snapshot 1.7"),
        ({"published": ref(), "newest_seen": None}, "equal", "a: leads, at snapshot 1.7"),
        ({}, "behind", "a: holds no snapshot yet"),
        (
            {"published": ref(), "fenced": "c published 1.9"},
            "fenced",
            "this leader is fenced: c published 1.9. Three ways:",
        ),
        (
            {"published": ref(), "last": failed("ShrinkRefused", "9 of 10 gone", "If it is meant")},
            "equal",
            "cycles fail: 9 of 10 gone. If it is meant",
        ),
    ],
)
def test_of_a_leader(state: dict[str, Any], kind: str, words: str) -> None:
    seen = dataclasses.replace(SEEN, held=Position(1, 7), newer=0)
    found = told(state_with("w", **{"newest_seen": seen, **state}), "a", follows=False)
    assert found.state == kind
    assert words in found.sentence


def test_it_is_one_plain_line_of_bounded_length() -> None:
    state = state_with("w", published=ref(), fenced="\x1b[2J\n\u202e" * 500)
    found = told(state, "n\n" * 300, follows=False)
    assert len(found.sentence) == LONGEST
    assert found.sentence.isprintable()


@pytest.mark.parametrize(
    ("held", "behind"),
    [("1.5", 2), ("1.6", 1), ("1.7", 0), ("1.8", 0), ("2.1", 0), (None, 7), ("1.2", 5)],
)
def test_how_far_behind_goes_by_what_was_seen(held: str | None, behind: int) -> None:
    at = Position.parse(held) if held else None
    seen = dataclasses.replace(SEEN, held=None, newer=7) if held is None else SEEN
    assert seen.behind(at) == behind


def test_across_epochs_nobody_counts() -> None:
    seen = NewestSeen(1.0, Position(2, 1), held=Position(1, 9), newer=1)
    assert seen.behind(Position(1, 9)) == 1
    assert seen.behind(Position(1, 8)) is None
    assert seen.behind(None) is None


def listing(*positions: str) -> list[Snapshot]:
    return [
        Snapshot(
            "a" * 64, Label("f", Position.parse(p), "d" * 64, "5", "w", "a"), "2031-05-01T10:00Z"
        )
        for p in positions
    ]


def test_a_listing_is_noted_and_the_same_again_only_once_a_minute() -> None:
    state = state_with("w", applied=ref("1.5"))

    def listed(before: State, at: float, *positions: str) -> State:
        seen = NewestSeen.of(listing(*positions), state.following.applied, at)
        return transitions.listed_as_replica(before, seen)

    three = ("1.5", "1.6", "1.7")
    first = listed(state, 1000.0, *three)
    seen = first.outcome.newest_seen
    assert seen is not None
    assert (seen.at, seen.position, seen.held, seen.newer) == (
        1000.0,
        Position(1, 7),
        Position(1, 5),
        2,
    )
    assert seen.made_at > 0
    assert listed(first, 1030.0, *three) == first
    later = listed(first, 1061.0, *three)
    assert later.outcome.newest_seen == dataclasses.replace(seen, at=1061.0)
    back = listed(first, 900.0, *three)
    assert back.outcome.newest_seen == dataclasses.replace(seen, at=900.0)
    empty = listed(first, 1001.0).outcome.newest_seen
    assert empty == NewestSeen(1001.0, held=Position(1, 5))
    ended = transitions.cycle_ended(first, Last(1.0, True, "x"), "RESTORE", (1.0, ""))
    assert ended.outcome.newest_seen == seen
    assert decode_state(encode_state(first)) == first


def test_a_publish_is_the_newest_that_is_known() -> None:
    done = transitions.published(
        State("w"), ref("1.8"), identities=(), files=(), fingerprint="", now=50.0
    )
    seen = done.outcome.newest_seen
    assert seen == NewestSeen(50.0, Position(1, 8), 50.0, Position(1, 8))
