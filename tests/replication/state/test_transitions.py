"""The state's transitions: what any sequence of them keeps, and that a wrong name is found."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from replicator_kuma.adapters.repository import Position
from replicator_kuma.replication.state import transitions
from replicator_kuma.replication.state.codec import decode_state, encode_state
from replicator_kuma.replication.state.records import (
    DRIFT,
    HOLD,
    Drill,
    FailedAttempt,
    Hold,
    JobRecord,
    Last,
    LiveApply,
    LiveOff,
    NewestSeen,
    Pending,
    RepositoryUpkeep,
    Restart,
    Restored,
    SnapshotRef,
    Standing,
)
from replicator_kuma.replication.state.state import (
    Applying,
    Following,
    Leading,
    State,
    Upkeep,
)

# --- what holds in each section -------------------------------------------------------------------


def leading_holds(leading: Leading) -> None:
    failed, rivals = leading.failed_digests, leading.rivals
    assert len(failed) == len(set(failed)) <= transitions.MOST_FAILED
    assert not failed or leading.burned is not None, "a failed publish burns its position"
    assert not rivals or leading.fenced is not None, "rivals are those of a fence"
    assert len(rivals) <= transitions.MOST_FAILED
    # what is known of the last publish is of one digest
    assert leading.identities[:1] == leading.published_files[:1]


def following_holds(following: Following) -> None:
    assert not following.healed_at or following.healed, "it counts from a heal"


def applying_holds(applying: Applying) -> None:
    assert len(applying.bad) == len(set(applying.bad)) <= transitions.MOST_BAD
    assert {name for name, _ in applying.bad_listed} <= set(applying.bad)
    assert applying.waits_until >= 0
    pending = applying.pending
    if pending is not None and pending.earlier is not None:
        assert pending.earlier.earlier is None, "one apply over one that is not confirmed"


def upkeep_holds(upkeep: Upkeep) -> None:
    for records in (upkeep.jobs, upkeep.repositories):
        names = [each.name for each in records]
        assert names == sorted(set(names)), "one of a name, in order"


def problems_hold(state: State) -> None:
    names = [one.what for one in state.problems]
    assert names == sorted(set(names)), "one of a name, in order"
    for one in state.problems:
        assert one.since or (one.recovered_at and not one.told), "open, or just over"
        assert bool(one.since) == bool(one.told), "an open one was told, or is held back"
        assert len(one.told) <= transitions.MOST_TOLD
    assert state.following.hold is not None or state.problem(HOLD) is None


# --- what may happen ------------------------------------------------------------------------------

moments = st.floats(1.0, 1e10)
digests = st.sampled_from("abcdef")
ids = st.sampled_from(["", "x", "y", "z"])
words = st.sampled_from(["", "why", "another why"])
positions = st.builds(Position, st.integers(1, 3), st.integers(1, 4))
snapshots = st.builds(
    SnapshotRef,
    positions,
    digests,
    st.just("schema"),
    snapshot=ids,
    writer=st.sampled_from("vw"),
    monitors=st.integers(0, 9),
    shrunk=st.none() | positions,
)
listings = st.builds(NewestSeen, moments, st.none() | positions, moments, st.none() | positions)
arrived = st.sampled_from([(), (("proxy", (1, 2)),)])
simple = st.builds(
    Pending,
    snapshots,
    digests,
    digests,
    files=st.sampled_from([(), (("upload/a.png", None),)]),
    purge=st.booleans(),
    rollback=st.booleans(),
    writing=st.booleans(),
    drifted=st.booleans(),
    seen=st.booleans(),
    replaced=digests,
    digest=digests,
    policy=digests,
    arrived=arrived,
    undoes=st.integers(0, 2),
    back_to=st.none() | snapshots,
)
pendings = st.builds(dataclasses.replace, simple, earlier=st.none() | simple)
holds = st.builds(Hold, moments, st.none() | snapshots, st.integers(0, 3))
befores = st.builds(lambda hold: transitions.hold_is(State(writer="w"), hold), st.none() | holds)
outcomes = st.sampled_from(["nothing", "waiting"])
lasts = st.builds(Last, moments, st.just(True), words, outcomes)
failures = st.builds(Last, moments, st.just(False), words, error=st.just("X"))
attempts = st.builds(FailedAttempt, ids, words, st.integers(1, 3), moments, words)
drills = st.builds(Drill, moments, st.booleans(), words, kuma=st.booleans())
restarts = st.builds(Restart, moments, moments)
restored = st.builds(Restored, st.integers(0, 2**60), moments)
fleet = st.just("default")
names = st.sampled_from(["one", "two", "three"])
lives = st.builds(LiveApply, moments, positions, moments, words, digests)
offs = st.builds(LiveOff, words, digests, words)
jobs = st.builds(JobRecord, names, words, moments)
repositories = st.builds(RepositoryUpkeep, names, moments)

Change = Callable[[State], State]


@st.composite
def publishes(draw: st.DrawFn) -> Change:
    snapshot, digest = draw(snapshots), draw(digests)
    now, fingerprint = draw(moments), draw(words)
    return lambda state: transitions.published(
        state,
        snapshot,
        identities=(digest, "i"),
        files=(digest, "3"),
        fingerprint=fingerprint,
        now=now,
    )


def change(transition: Callable[..., State], *values: Any, **named: Any) -> st.SearchStrategy[Any]:
    """A transition with whatever its arguments may be."""
    fixed, later = st.tuples(*values), st.fixed_dictionaries(named)
    return st.builds(
        lambda given, more: lambda state: transition(state, *given, **more), fixed, later
    )


def stands(on: st.SearchStrategy[SnapshotRef | None]) -> st.SearchStrategy[Standing]:
    return st.builds(Standing, on, digests, arrived, st.booleans())


hashed = {"digest": digests}
kinds = st.sampled_from(["one", "another"])
problems = st.sampled_from([DRIFT, "cycle", "housekeeping"])
CHANGES: dict[Callable[..., State], st.SearchStrategy[Any]] = {
    transitions.published: publishes(),
    **{
        transition: change(transition, *values, **named)
        for transition, values, named in (
            (transitions.unchanged, (words,), {}),
            (transitions.level, (words,), {}),
            (transitions.equivalent, (words, words), {}),
            (transitions.listed, (st.none() | snapshots, moments, st.none() | listings), {}),
            (transitions.publishing, (snapshots,), {}),
            (transitions.publish_failed, (snapshots,), {}),
            (
                transitions.fenced,
                (words, st.lists(ids, max_size=3), st.none() | snapshots, st.none() | listings),
                {},
            ),
            (transitions.history_restored, (restored,), {}),
            (transitions.history_compared, (), {}),
            (transitions.took_back, (snapshots,), {}),
            (transitions.rollback_begun, (st.none() | positions,), {}),
            (transitions.rollback_applied, (snapshots,), {}),
            (transitions.rollback_over, (), {}),
            (transitions.leads_with, (digests,), {}),
            (transitions.promoted, (digests,), {"led_from": st.integers(0, 5), "at": moments}),
            (transitions.to_verify, (), {}),
            (transitions.listed_as_replica, (listings,), {}),
            (transitions.saw, (listings,), {}),
            (transitions.shrink_refused, (words,), {}),
            (transitions.held, (holds,), {}),
            (transitions.hold_is, (st.none() | holds,), {}),
            (transitions.hold_was, (befores,), {}),
            (transitions.resumed, (), {}),
            (transitions.rows_equal, (st.none() | words,), {"now": moments}),
            (transitions.drifted, (digests,), {}),
            (transitions.found_equal, (stands(snapshots), fleet), {**hashed, "now": moments}),
            (transitions.undone_already, (stands(st.none() | snapshots),), hashed),
            (transitions.apply_begun, (pendings,), {"stops": st.booleans()}),
            (transitions.pending_is, (st.none() | pendings,), {}),
            (transitions.kuma_stopped, (), {}),
            (transitions.kuma_started, (), {}),
            (transitions.restarted, (restarts,), {}),
            (transitions.restart_was, (restarts,), {}),
            (transitions.waits, (moments,), {}),
            (transitions.confirmed, (pendings, fleet), {}),
            (transitions.reverted, (pendings,), {}),
            (transitions.history_purged, (), {}),
            (transitions.suspected, (pendings, fleet, words), {"now": moments}),
            (transitions.unsuspected, (), {}),
            (transitions.called_bad, (snapshots, fleet, words), {"now": moments}),
            (transitions.attempt_failed, (attempts,), {}),
            (transitions.live_begun, (lives,), {}),
            (transitions.not_live, (words,), {}),
            (transitions.ended_after_live, (offs,), {}),
            (transitions.reopened, (pendings, stands(st.none() | snapshots)), {}),
            (transitions.doubt_over, (), {}),
            (transitions.agent_hung, (digests,), {}),
            (transitions.agent_again, (), {}),
            (transitions.job_noted, (jobs,), {}),
            (transitions.repository_kept, (repositories, st.frozensets(names)), {}),
            (transitions.drilled, (drills,), {}),
            (transitions.killed, (st.none() | drills,), {}),
            (
                transitions.cycle_ended,
                (lasts | failures, words, st.tuples(moments, words)),
                {"waits_until": moments},
            ),
            (
                transitions.raised,
                (problems, kinds, words),
                {"now": moments, "goes_by": st.booleans(), "tells": st.booleans()},
            ),
            (
                transitions.cleared,
                (problems,),
                {"now": st.just(0.0) | moments, "told": st.booleans()},
            ),
        )
    },
}


def test_each_transition_is_among_them() -> None:
    public = {
        value
        for name, value in vars(transitions).items()
        if not name.startswith("_")
        and callable(value)
        and getattr(value, "__module__", "") == transitions.__name__
    }
    assert public <= CHANGES.keys()


@settings(max_examples=400, deadline=None)
@given(st.lists(st.one_of(*CHANGES.values()), max_size=12))
def test_any_sequence_keeps_what_holds_and_can_be_written(sequence: list[Change]) -> None:
    state = State(writer="w")
    for step in sequence:
        state = step(state)
        leading_holds(state.leading)
        following_holds(state.following)
        applying_holds(state.applying)
        upkeep_holds(state.upkeep)
        problems_hold(state)
    assert decode_state(encode_state(state)) == state


WRONG = """
from replicator_kuma.replication.state.transitions import replace
from replicator_kuma.replication.state.state import State
from replicator_kuma.replication.state.file import StateFile
from replicator_kuma.replication.state import transitions


def misspelt(state: State) -> State:
    return replace(state, leading=replace(state.leading, publshed=None))


def another_type(state: State) -> State:
    return replace(state, applying=replace(state.applying, purge="yes"))


def an_argument(file: StateFile) -> None:
    file.change(transitions.waits, untill=1.0)


def a_read(state: State) -> object:
    return state.leading.publishd
"""


def test_mypy_finds_a_wrong_field_in_a_transition(tmp_path: Path) -> None:
    (tmp_path / "wrong.py").write_text(WRONG)
    root = Path(__file__).parents[3]
    checked = subprocess.run(
        (sys.executable, "-m", "mypy", "--strict", "--cache-dir", root / ".mypy_cache", tmp_path),
        cwd=root,
        capture_output=True,
        text=True,
        timeout=300,
    )
    found = [line for line in checked.stdout.splitlines() if "error:" in line]
    for wrong in ("publshed", "purge", "untill", "publishd"):
        assert any(wrong in line for line in found), (wrong, checked.stdout, checked.stderr)
