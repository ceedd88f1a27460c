"""What a leader decides: the leader's table of docs/architecture.md, line by line."""

from __future__ import annotations

import pytest

from replicator_kuma.adapters.repository import Listing, Position, Snapshot
from replicator_kuma.base.errors import (
    DatabaseMissing,
    DatabaseUnset,
    Fenced,
    RepositoryLost,
    ShrinkRefused,
)
from replicator_kuma.replication.leader.decide import Step, View, decide, own_newest
from replicator_kuma.replication.leader.publish import next_position
from replicator_kuma.replication.state.records import SnapshotRef
from replicator_kuma.replication.state.state import State
from tests.support.cycles import mark, snapshot
from tests.support.states import failing, state_with

ONE, TWO, THREE = (1, 1), (1, 2), (1, 3)


def view(
    *snapshots: Snapshot,
    state: State | None = None,
    digest: str | None = "d1",
    users: int = 1,
    monitors: int = 5,
    allow_shrink: bool = False,
) -> View:
    return View(
        name="here",
        state=state or State(writer="me"),
        snapshots=Listing(snapshots),
        digest=digest,
        schema="s1",
        users=users,
        monitors=monitors,
        allow_shrink=allow_shrink,
    )


def test_a_fleet_without_snapshots_that_never_published_begins() -> None:
    assert own_newest(view()) is None
    assert decide(view(), None) is Step.PUBLISH
    assert next_position(None, None) == Position(1, 1)


def test_no_snapshot_though_one_was_published_is_a_lost_repository() -> None:
    with pytest.raises(RepositoryLost, match=r"holds no snapshot.*1\.2"):
        own_newest(view(state=state_with("me", published=mark(TWO))))


def test_a_replica_that_was_told_to_lead_begins_no_fleet_anew() -> None:
    state = state_with("me", applied=mark(TWO, writer="other"))
    with pytest.raises(RepositoryLost, match=r"holds no snapshot.*1\.2 was applied here"):
        own_newest(view(state=state))


def test_a_newest_below_the_published_one_is_a_lost_repository() -> None:
    with pytest.raises(RepositoryLost, match=r"newest snapshot of this fleet is 1\.1, but 1\.2"):
        own_newest(view(snapshot(ONE), state=state_with("me", published=mark(TWO))))


def test_its_own_published_snapshot_is_where_it_goes_on() -> None:
    found = own_newest(view(snapshot(TWO), state=state_with("me", published=mark(TWO))))
    assert found == mark(TWO)


def test_its_intent_is_known_again() -> None:
    state = state_with("me", published=mark(ONE), publishing=mark(TWO, digest="d2"))
    found = own_newest(view(snapshot(ONE), snapshot(TWO, digest="d2"), state=state))
    assert found is not None
    assert found.position == Position(1, 2)
    assert state.leading.burned_with(found.position) is None


def test_an_intent_whose_snapshot_is_not_there_is_burned() -> None:
    """Its restic can live on after its leader was killed, and end after the listing."""
    state = state_with("me", published=mark(ONE), publishing=mark(TWO, digest="d2"))
    newest = own_newest(view(snapshot(ONE), state=state))
    assert newest == mark(ONE)
    assert state.leading.burned_with(newest.position) == Position(1, 2)
    assert next_position(newest, state.leading.burned_with(newest.position)) == Position(1, 3)


@pytest.mark.parametrize(
    ("state", "newest"),
    [
        pytest.param(
            state_with("me", published=mark(ONE)),
            snapshot(TWO, writer="other", leader="there"),
            id="another writer",
        ),
        pytest.param(
            state_with("me", published=mark(ONE)),
            snapshot(TWO, writer="other", leader="here"),
            id="another writer of the same name",
        ),
        pytest.param(
            state_with("me", published=mark(ONE)),
            snapshot(THREE, digest="d3"),
            id="its own, neither noted nor meant: the state is from an old disk image",
        ),
        pytest.param(
            state_with("me", published=mark(ONE), publishing=mark(TWO, digest="d2")),
            snapshot(TWO, digest="d9"),
            id="its own position with another content than it meant",
        ),
        pytest.param(
            state_with("me", applied=mark(ONE, writer="other")),
            snapshot(TWO, writer="other", leader="here"),
            id="a replica that was told to lead, by a name that it shares",
        ),
        pytest.param(
            State("me"), snapshot(TWO, writer="other", leader="there"), id="a second leader, new"
        ),
    ],
)
def test_a_newest_position_that_is_not_its_own_fences(state: State, newest: Snapshot) -> None:
    with pytest.raises(Fenced, match=f"has published position {newest.position}"):
        own_newest(view(snapshot(ONE), newest, state=state))


def test_a_rival_at_the_same_position_fences() -> None:
    state = state_with("me", published=mark(TWO))
    for name in ("0", "z"):
        rival = snapshot(TWO, writer="other", leader="there", name=name)
        with pytest.raises(Fenced, match="there has published"):
            own_newest(view(snapshot(TWO), rival, state=state))


def test_a_rival_below_its_own_newest_fences() -> None:
    state = state_with("me", published=mark(ONE), publishing=mark(THREE, digest="d3"))
    rival = snapshot(TWO, writer="other", leader="there")
    with pytest.raises(Fenced, match=r"there has published position 1\.2"):
        own_newest(view(snapshot(ONE), rival, snapshot(THREE, digest="d3"), state=state))


def test_without_any_memory_its_name_is_its_identity() -> None:
    found = own_newest(
        view(snapshot(TWO, writer="lost"), state=state_with("me", problems=failing("KumaError")))
    )
    assert found is not None
    assert found.writer == "lost"


def test_what_a_failed_publish_left_is_its_own_and_not_trusted() -> None:
    state = state_with("me", published=mark(ONE), burned=Position(1, 2))
    newest = own_newest(view(snapshot(ONE), snapshot(TWO), state=state))
    assert newest is not None
    assert state.leading.doubtful(newest)
    assert decide(view(snapshot(TWO), state=state), newest) is Step.PUBLISH
    assert next_position(newest, state.leading.burned) == Position(1, 3)


def test_a_burned_position_that_is_not_there_makes_no_doubt() -> None:
    state = state_with("me", published=mark(ONE), burned=Position(1, 2))
    newest = own_newest(view(snapshot(ONE), state=state))
    assert newest is not None
    assert not state.leading.doubtful(newest)
    assert decide(view(snapshot(ONE), state=state), newest) is Step.NOTHING


def test_equal_digest_and_schema_are_nothing() -> None:
    assert decide(view(), mark(ONE)) is Step.NOTHING
    assert decide(view(digest="d2"), mark(ONE)) is Step.PUBLISH


def test_a_lost_database_is_taken_back() -> None:
    assert decide(view(digest=None, users=0, monitors=0), mark(ONE)) is Step.TAKE_BACK
    assert decide(view(digest="empty", users=0, monitors=0), mark(ONE)) is Step.TAKE_BACK


def test_nothing_is_published_without_a_user() -> None:
    with pytest.raises(DatabaseUnset):
        decide(view(users=0, monitors=0), None)
    with pytest.raises(DatabaseUnset):
        decide(view(users=0, monitors=3), mark(ONE))
    with pytest.raises(DatabaseMissing):
        decide(view(digest=None, users=0, monitors=0), None)


@pytest.mark.parametrize(
    ("before", "now", "refused"),
    [(10, 5, True), (10, 6, False), (9, 4, False), (9, 0, True)],
)
def test_monitors_that_are_gone_have_to_be_meant(before: int, now: int, refused: bool) -> None:
    newest = SnapshotRef.of(snapshot(ONE, monitors=before))
    seen = view(digest="d2", monitors=now)
    meant = view(digest="d2", monitors=now, allow_shrink=True)
    assert decide(meant, newest) is Step.PUBLISH
    if refused:
        with pytest.raises(ShrinkRefused, match=f"{before - now} of {before} monitors"):
            decide(seen, newest)
    else:
        assert decide(seen, newest) is Step.PUBLISH


def test_the_next_position_passes_what_was_burned() -> None:
    assert next_position(mark((2, 4)), None) == Position(2, 5)
    assert next_position(mark((2, 4)), Position(2, 7)) == Position(2, 8)
    assert next_position(mark((2, 4)), Position(1, 9)) == Position(2, 5)
    assert next_position(None, Position(1, 1)) == Position(1, 2)


def test_clocks_decide_nothing() -> None:
    state = state_with("me", published=mark(TWO))
    old = snapshot(ONE, time="2999-01-01T00:00:00Z")
    new = snapshot(TWO, time="1970-01-01T00:00:00Z")
    assert own_newest(view(old, new, state=state)) == mark(TWO)
