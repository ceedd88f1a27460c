"""Decides by pure functions which snapshot a replica follows."""

from __future__ import annotations

from replicator_kuma.adapters.repository import Listing, Snapshot, missing
from replicator_kuma.base.errors import SnapshotRefused, TwoLeaders
from replicator_kuma.base.times import when
from replicator_kuma.replication.state.state import State


def newest_to_follow(state: State, fleet: str, snapshots: Listing) -> Snapshot | None:
    """The snapshot that a replica follows, by its state and the listing; a pure function.

    None in a fleet that has published nothing. Raises RepositoryLost, TwoLeaders: the replica
    then keeps its rows; it never goes back by itself.
    """
    applied = state.highest_applied()
    if not snapshots:
        if applied is not None:
            raise missing(
                snapshots,
                f"the repository holds no snapshot of fleet {fleet!r}, but {applied} "
                "was applied here",
            )
        if snapshots.away:
            raise missing(snapshots, f"no snapshot of fleet {fleet!r} is known yet")
        return None
    newest = snapshots[-1]
    if applied is not None and newest.position < applied:
        raise missing(
            snapshots,
            f"the newest snapshot is {newest.position}, but {applied} was applied here",
        )
    tied = [s for s in snapshots if s.position == newest.position]
    if len({s.label.digest for s in tied}) > 1:
        raise TwoLeaders(
            f"{len(tied)} snapshots are {newest.position}: this replica keeps its rows"
        )
    epoch = [s for s in snapshots if s.position.epoch == newest.position.epoch]
    writers = sorted({s.label.writer for s in epoch})
    if len(writers) > 1:
        leaders = sorted({s.label.leader for s in epoch})
        raise TwoLeaders(
            f"epoch {newest.position.epoch} has {len(writers)} writers "
            f"({', '.join(leaders)}): this replica keeps its rows"
        )
    return newest


def refuse_bad(state: State, newest: Snapshot) -> None:
    """Raise SnapshotRefused if the snapshot was called bad: only a person may retry it."""
    if not frozenset(state.applying.bad).isdisjoint(newest.ids):
        why = "it was refused here, or Kuma did not start on it"
        last = state.applying.bad_why
        if last is not None and last.position == str(newest.position):
            why = f"{last.sentence}, {when(last.at)}"
        raise SnapshotRefused(
            f"{newest.position} is not tried again: {why}",
            hint="Look at the logs. To try it all the same: replicator restore --now",
        )
