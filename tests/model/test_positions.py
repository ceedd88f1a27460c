"""Positions under random interleavings: of leaders, replicas, promotes, crashes and mishaps.

REPLICATOR_TEST_INTERLEAVINGS sets how many (`make soak` plays many more). What fails is printed as
a schedule, shrunk, with the seed and the choices that play it again.
"""

from __future__ import annotations

import logging
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from replicator_kuma.adapters.repository import Listing, Snapshot
from replicator_kuma.base.errors import Fenced
from replicator_kuma.replication.leader import cycle as leader
from replicator_kuma.replication.leader import promote, publish
from replicator_kuma.replication.leader.decide import View
from replicator_kuma.replication.replica import cycle as replica
from replicator_kuma.replication.state.records import SnapshotRef
from replicator_kuma.replication.state.state import Leading, State
from tests.model.world import Choices, Violation, World, let_go, play
from tests.support.tiers import by_tier

INTERLEAVINGS = int(os.environ.get("REPLICATOR_TEST_INTERLEAVINGS", by_tier(200, 3000)))
FIRST_SEED = int(os.environ.get("REPLICATOR_TEST_SEED", "0"))
PARTS = 4
"""Tests that share them: each reports by itself"""
ENOUGH = 1000
"""Interleavings within which each known mutation must be found"""
MEMORY = "/dev/shm"


@pytest.fixture(autouse=True)
def quick() -> Iterator[None]:
    """On one processor a turn is handed over in half the time; nobody reads the log."""
    processors = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(processors)})
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)
    os.sched_setaffinity(0, processors)


def steps_of(seed: int) -> int:
    """Short schedules find most; some are longer."""
    return 8 + Random(seed).randrange(14) + (40 if seed % 20 == 0 else 0)


def played(choices: Choices, steps: int) -> str:
    """What went wrong, empty when nothing did."""
    place = MEMORY if os.access(MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="replicator-model-", dir=place) as folder:
        try:
            play(World(Path(folder), choices), steps)
        except Violation as error:
            return str(error)
        finally:
            let_go(Path(folder))
    return ""


def kind(failure: str) -> str:
    """A failure without its numbers: while it shrinks it must stay the same one."""
    return re.sub(r"\d+", "N", failure.split("\n")[0])


def shrunk(made: Sequence[int], steps: int, failure: str) -> tuple[list[int], str]:
    """Fewer choices, and smaller ones, that fail in the same way."""
    best, why = list(made), failure
    size = len(best) // 2
    while size:
        at = 0
        while at < len(best):
            for candidate in (
                best[:at] + best[at + size :],
                best[:at] + [0] * size + best[at + size :],
            ):
                if candidate != best and kind(found := played(Choices(None, candidate), steps)) == (
                    kind(why)
                ):
                    best, why = candidate, found
                    break
            else:
                at += size
        size //= 2
    return best, why


def first_failure(seeds: range) -> tuple[int, str, Choices] | None:
    for seed in seeds:
        choices = Choices(seed)
        if failure := played(choices, steps_of(seed)):
            return seed, failure, choices
    return None


@pytest.mark.parametrize("part", range(PARTS))
def test_no_interleaving_breaks_a_promise(part: int) -> None:
    count = -(-INTERLEAVINGS // PARTS)
    first = FIRST_SEED + part * count
    found = first_failure(range(first, first + count))
    if found is not None:
        seed, failure, choices = found
        steps = steps_of(seed)
        best, why = shrunk(choices.made, steps, failure)
        pytest.fail(f"seed {seed}, {steps} steps, choices {best}: {why}")


# --- what the model would find ----------------------------------------------------------------


def _no_list_after_publish(monkeypatch: pytest.MonkeyPatch) -> None:
    def confirm(
        instance: Any, before: State, intent: SnapshotRef, previous: Snapshot | None
    ) -> SnapshotRef:
        return intent

    monkeypatch.setattr(publish, "_confirm_alone", confirm)


def _burned_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    next_position = publish.next_position
    monkeypatch.setattr(
        leader, "next_position", lambda newest, _burned: next_position(newest, None)
    )


def _intents_are_not_burned(monkeypatch: pytest.MonkeyPatch) -> None:
    """The restic of a killed leader can end later than its next cycle looks."""
    monkeypatch.setattr(Leading, "burned_with", lambda leading, _newest: leading.burned)


def _fenced_by_an_epoch_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def own_newest(view: View) -> SnapshotRef | None:
        newest, published = view.newest, view.state.leading.published
        if newest is None:
            return None
        if published is not None and newest.position.epoch > published.position.epoch:
            raise Fenced(f"{newest.label.leader} has published")
        return SnapshotRef.of(newest)

    monkeypatch.setattr(leader, "own_newest", own_newest)


def _two_writers_are_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        replica, "newest_to_follow", lambda _s, _fleet, found: found[-1] if found else None
    )


def _a_hint_is_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hinted snapshot is followed, at the position that the hint says."""
    listed = replica.listed

    def trusting(instance: Any) -> Listing:
        found, hint = listed(instance), instance.run.hint
        named = [s for s in found if hint is not None and s.id == hint.snapshot]
        told = [replace(s, label=replace(s.label, position=hint.position)) for s in named]
        return Listing(told) or found

    monkeypatch.setattr(replica, "listed", trusting)


def _a_promote_opens_no_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    epoch = promote._epoch
    monkeypatch.setattr(promote, "_epoch", lambda *known: max(epoch(*known) - 1, 0))


@pytest.mark.parametrize(
    "mutation",
    [
        _no_list_after_publish,
        _burned_is_ignored,
        _intents_are_not_burned,
        _fenced_by_an_epoch_only,
        _two_writers_are_followed,
        _a_hint_is_trusted,
        _a_promote_opens_no_epoch,
    ],
    ids=lambda mutation: mutation.__name__.strip("_"),
)
def test_the_model_finds_what_is_known_to_be_wrong(
    mutation: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutation(monkeypatch)
    assert first_failure(range(ENOUGH)) is not None


def test_a_seed_plays_the_same_again() -> None:
    once, again = Choices(5), Choices(5)
    assert played(once, 30) == played(again, 30) == ""
    assert once.made == again.made
    assert len(once.made) > 30


def test_a_failure_shrinks_to_a_short_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    _no_list_after_publish(monkeypatch)
    found = first_failure(range(ENOUGH))
    assert found is not None
    seed, failure, choices = found
    best, why = shrunk(choices.made, steps_of(seed), failure)
    assert kind(why) == kind(failure)
    assert len(best) < len(choices.made)
    assert len(why) < len(failure)
