"""Shows what a restore would change, without changing anything."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from replicator_kuma.adapters.repository import Snapshot
from replicator_kuma.base.errors import SnapshotNotFound
from replicator_kuma.dump.plan import Plan
from replicator_kuma.replication.instance import Instance
from replicator_kuma.replication.mode_mismatch import promoted
from replicator_kuma.replication.replica.decide import newest_to_follow
from replicator_kuma.replication.replica.take import plan_of
from replicator_kuma.replication.snapshots import chosen, of_earlier
from replicator_kuma.replication.state.hold_words import told
from replicator_kuma.replication.state.records import Hold
from replicator_kuma.replication.state.state import State
from replicator_kuma.replication.workspace import preview_workspace


@dataclass(frozen=True)
class Preview:
    """A plan that was not carried out."""

    snapshot: Snapshot
    plan: Plan
    state: State
    """the state of this instance when the plan was made"""
    live_digest: str
    """the digest of the live rows"""
    hold: Hold | None = None
    """the hold that a person set; the previewed snapshot may be another one"""


@contextlib.contextmanager
def preview(
    instance: Instance, snapshot: str | None = None, at: float | None = None
) -> Iterator[Preview]:
    """What a restore would change; only reads, so it needs no lock.

    ``snapshot`` or ``at`` (epoch seconds) name another snapshot than the newest. The plan's files
    exist until the block ends, in a scratch folder of their own.
    """
    with preview_workspace(instance) as beside:
        snapshots = beside.repository.snapshots(beside.fleet)
        if snapshot is not None or at is not None:
            newest: Snapshot | None = chosen(snapshots, snapshot, at)
        else:
            newest = newest_to_follow(beside.state.load(), beside.fleet, snapshots)
        if newest is None:
            raise SnapshotNotFound(
                f"fleet {instance.fleet!r} has no snapshot yet{of_earlier(snapshots)}",
                hint=SnapshotNotFound.none_yet,
            )
        state = beside.state.load()
        own = promoted(state) is not None and state.has_published(newest.key)
        planned = plan_of(beside.as_leader() if own else beside, newest)
        digest = planned.live.manifest.digest
        yield Preview(newest, planned.plan, state, digest, told(state))
