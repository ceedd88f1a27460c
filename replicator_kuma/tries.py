"""What publishes of this instance that failed may have left in the repository."""

from __future__ import annotations

from replicator_kuma.repository import Snapshot
from replicator_kuma.state import State


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
