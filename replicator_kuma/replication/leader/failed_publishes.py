"""What publishes of this instance that failed may have left in the repository."""

from __future__ import annotations

from replicator_kuma.adapters.repository import Position, Snapshot
from replicator_kuma.replication.state.records import SnapshotRef
from replicator_kuma.replication.state.state import State


def tried(state: State, digest: str) -> tuple[str, ...]:
    """`State.tried` after one more failed publish, of this digest; the last fifty."""
    return (*(known for known in state.tried if known != digest), digest)[-50:]


def attempted(state: State, snapshot: Snapshot) -> bool:
    """Whether this writer's failed publishes may have left this snapshot, in part or whole.

    Its content counts, not the position alone: a copy of this instance has the same writer id.
    """
    label, after = snapshot.label, state.published
    if label.writer != state.writer or state.burned is None or label.position > state.burned:
        return False
    late = after is None or label.position > after.position
    # (0.2.0 noted no contents)
    return late and (not state.tried or label.digest in state.tried)


def doubtful(state: State, newest: SnapshotRef) -> bool:
    """Whether a publish at this position failed: its content may be there in part, or whole."""
    if state.burned is None or newest.position > state.burned:
        return False
    return state.published is None or newest.position > state.published.position


def burned_with(state: State, newest: SnapshotRef | Snapshot | None) -> Position | None:
    """What must not be used again: also the position of an intent whose snapshot is not there.

    The restic of a leader that was killed lives on, and can end after we looked.
    """
    positions = [state.burned] if state.burned is not None else []
    if state.intent is not None and (newest is None or newest.position != state.intent.position):
        positions.append(state.intent.position)
    return max(positions, default=None)
