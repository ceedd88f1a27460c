"""Snapshots of the fleet: one found by its id, position or time; one fetched and verified."""

from __future__ import annotations

from replicator_kuma.adapters.repository import Limits, Listing, Snapshot, missing
from replicator_kuma.base.errors import (
    RepositoryUnreachable,
    SnapshotNotFound,
    TwoLeaders,
)
from replicator_kuma.base.times import when
from replicator_kuma.dump.format import Dump, accepts
from replicator_kuma.replication.instance import Instance


def find(snapshots: Listing, wanted: str) -> Snapshot:
    """The snapshot that a person means by an id, the beginning of one, or a position."""
    found = [
        s
        for s in snapshots
        if str(s.position) == wanted or any(known.startswith(wanted) for known in s.ids)
    ]
    if snapshots.away and not found:
        raise missing(snapshots, f"no snapshot of this fleet matches {wanted!r}")
    if len(found) != 1:
        many = "more than one snapshot matches" if found else "no snapshot of this fleet matches"
        raise SnapshotNotFound(f"{many} {wanted!r}")
    return found[0]


def as_of(snapshots: Listing, at: float) -> Snapshot:
    """The snapshot of the highest position that was not published after ``at`` (epoch seconds).

    Raises SnapshotNotFound; TwoLeaders where two differ at that position; RepositoryUnreachable
    where one of two repositories is away: the one between may be in it alone.
    """
    if away := snapshots.unanswered:
        raise RepositoryUnreachable(
            f"which snapshot was the newest at {when(at)} cannot be told: {away} gave no answer",
            hint="Name one by its position: replicator snapshots, then --snapshot POSITION "
            "(rollback: POSITION)",
        )
    old = [s for s in snapshots if s.moment <= at]
    if not old:
        raise SnapshotNotFound(f"no snapshot of this fleet is as old as {when(at)}")
    tied = [s for s in old if s.position == old[-1].position]
    if len({s.label.digest for s in tied}) > 1:
        raise TwoLeaders(
            f"{len(tied)} snapshots are {old[-1].position}",
            hint="Name one by its id: replicator snapshots",
        )
    return old[-1]


def chosen(snapshots: Listing, wanted: str | None, at: float | None) -> Snapshot:
    """The snapshot that a person named by one of the two; raises SnapshotNotFound, TwoLeaders."""
    if wanted is not None:
        return find(snapshots, wanted)
    assert at is not None
    return as_of(snapshots, at)


def fetched(instance: Instance, snapshot: Snapshot, name: str) -> Dump:
    """A snapshot's dump, verified, in a new folder of the work folder.

    Raises RepositoryErrors, SnapshotRefused.
    """
    folder = instance.work / name
    folder.mkdir(mode=0o700)
    instance.repository.fetch(snapshot, folder, accepts, Limits())
    return Dump.whole(folder, snapshot.label.digest, str(snapshot.position))
