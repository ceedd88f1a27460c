"""Finds a snapshot of the fleet by id, position or time; fetches one and verifies it."""

from __future__ import annotations

from replicator_kuma.adapters.repository import Limits, Listing, Snapshot, missing
from replicator_kuma.base.errors import RepositoryUnreachable, SnapshotNotFound, TwoLeaders
from replicator_kuma.base.times import when
from replicator_kuma.dump.format import Dump, accepts
from replicator_kuma.replication.instance import Instance


def of_earlier(snapshots: Listing) -> str:
    """The rest of the sentence that a fleet has no snapshot, where v1 or v2 left some; else ""."""
    if snapshots.earlier is None:
        return ""
    return f"; {snapshots.earlier} (move the leader first: docs/moving.md)"


def find(snapshots: Listing, wanted: str) -> Snapshot:
    """The snapshot that a person names by an id, the beginning of an id, or a position."""
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

    Raises SnapshotNotFound; TwoLeaders if two differ at that position; RepositoryUnreachable if
    one of two repositories is away: only that one may hold a snapshot in between.
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
    """The snapshot that a person named, by id or time; raises SnapshotNotFound, TwoLeaders."""
    if wanted is not None:
        return find(snapshots, wanted)
    assert at is not None
    return as_of(snapshots, at)


def fetched(instance: Instance, snapshot: Snapshot, name: str) -> Dump:
    """Fetch a snapshot's dump into a new folder of the work folder, and verify it.

    Raises RepositoryErrors, SnapshotRefused.
    """
    folder = instance.work / name
    folder.mkdir(mode=0o700)
    instance.repository.fetch(snapshot, folder, accepts, Limits())
    return Dump.whole(folder, snapshot.label.digest, str(snapshot.position))
