"""Decides what a leader does next, by pure functions. A fleet has at most one leader."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from replicator_kuma.adapters.repository import Listing, Snapshot, missing
from replicator_kuma.base.errors import (
    DatabaseMissing,
    DatabaseUnset,
    EarlierRepository,
    Fenced,
)
from replicator_kuma.replication.leader.publish import Since
from replicator_kuma.replication.observe import Observation
from replicator_kuma.replication.shrink import HALF, Limit, files_shrink, shrinks
from replicator_kuma.replication.state.records import SnapshotRef
from replicator_kuma.replication.state.state import State


class Step(enum.Enum):
    """What the leader does next."""

    TAKE_BACK = enum.auto()
    NOTHING = enum.auto()
    PUBLISH = enum.auto()
    WAIT = enum.auto()


@dataclass(frozen=True)
class View:
    """What a leader knows when it decides: frozen, so that deciding is a pure function.

    If the state remembers no snapshot, the instance is known by its name: a new container has a
    new writer id.
    """

    name: str
    state: State
    snapshots: Listing
    digest: str | None
    schema: str | None
    users: int
    monitors: int
    allow_shrink: bool = False
    back: SnapshotRef | None = None
    """the snapshot that a rollback put in place: a person meant to remove monitors with it"""
    limit: Limit = HALF

    @property
    def known(self) -> bool:
        """Whether the state remembers any snapshot of this fleet, also one that fenced it."""
        leading, applied = self.state.leading, self.state.following.applied
        return any((leading.published, leading.publishing, leading.burned, leading.fenced, applied))

    @property
    def newest(self) -> Snapshot | None:
        return self.snapshots[-1] if self.snapshots else None


def own_newest(view: View) -> SnapshotRef | None:
    """The newest snapshot, if this leader may go on from it; None if the fleet has none.

    Raises Fenced, RepositoryLost, EarlierRepository: the first five lines of the leader's table in
    docs/architecture.md. The caller notes the result as published; so a begun publish whose
    snapshot is listed counts as published.
    """
    newest, state, away = view.newest, view.state, view.snapshots.away
    if newest is None:
        held = state.leading.published or state.following.applied
        if held is not None:
            how = "published from" if state.leading.published else "applied"
            raise missing(
                view.snapshots,
                f"the repository holds no snapshot of this fleet, but position "
                f"{held.position} was {how} here",
            )
        if away:
            raise missing(view.snapshots, "no snapshot of this fleet is known yet")
        if (earlier := view.snapshots.earlier) is not None:
            raise EarlierRepository(str(earlier))
        return None
    if away and not view.known:
        raise missing(view.snapshots, f"{newest.position} is listed, and nothing known here")
    published, ours = state.leading.published, newest.label.writer == state.writer
    if published and (ours or away) and newest.position < published.position:
        raise missing(
            view.snapshots,
            f"the newest snapshot of this fleet is {newest.position}, but "
            f"{published.position} was published from here",
        )
    if found := rivals(view):
        raise Fenced(_fence(view, found[-1]))
    return SnapshotRef.of(newest)


def _fence(view: View, rival: Snapshot) -> str:
    """The message of the fence: who has published, and who leads now."""
    newest, label = view.newest or rival, rival.label
    namesake = ", another instance of this name," if label.leader == view.name else ""
    epoch = [s.label for s in view.snapshots if s.position.epoch == newest.position.epoch]
    alone = len({(each.writer, each.leader) for each in epoch}) == 1
    leads = (
        f"{newest.label.leader} leads fleet {label.fleet} now, at {newest.position}"
        if alone
        else f"nobody leads fleet {label.fleet} now: epoch {newest.position.epoch} has two writers"
    )
    return (
        f"{label.leader}{namesake} has published position {rival.position}: this instance does "
        f"not publish; {leads}"
    )


def rivals(view: View) -> list[Snapshot]:
    """The snapshots that fence this leader, by position: others' where it would go on.

    Snapshots that fenced it before count too. So does any snapshot of another writer in the
    newest epoch: replicas follow neither of two writers.
    """
    newest, published = view.newest, view.state.leading.published
    if newest is None:
        return []
    floor = min(published.position if published else newest.position, newest.position)
    ours = view.state.writer if view.known else newest.label.writer
    known = frozenset(view.state.leading.rivals)

    def fences(snapshot: Snapshot) -> bool:
        if snapshot.position >= floor and not _is_own(view, snapshot):
            return True
        same_epoch = snapshot.position.epoch == newest.position.epoch
        another = same_epoch and snapshot.label.writer != ours
        return another or not known.isdisjoint(snapshot.ids)

    return [snapshot for snapshot in view.snapshots if fences(snapshot)]


def _is_own(view: View, snapshot: Snapshot) -> bool:
    """Whether this instance wrote the snapshot, by what its state remembers."""
    state, label = view.state, snapshot.label
    if not view.known:
        return label.leader == view.name
    if label.writer != state.writer:
        return False
    known = (state.leading.published, state.leading.publishing)
    noted = [(mark.position, mark.digest) for mark in known if mark is not None]
    return (label.position, label.digest) in noted or state.attempted(label)


def own_publish(view: View) -> SnapshotRef | None:
    """The begun publish of this leader, if it is listed; None: none was begun, or it is not."""
    begun = view.state.leading.publishing
    listed = (s for s in view.snapshots if begun is not None and s.key == begun.meant)
    return next(map(SnapshotRef.of, listed), None)


def decide(view: View, newest: SnapshotRef | None) -> Step:
    """The next step, by the rest of that table. DatabaseUnset, DatabaseMissing, ShrinkRefused."""
    empty = view.digest is None or (view.users == 0 and view.monitors == 0)
    if newest is not None and (empty or outdated(view)):
        return Step.TAKE_BACK
    if view.digest is None:
        raise DatabaseMissing(
            "there is no database yet; Kuma has not been started here",
            hint="Start Kuma once, so that it makes one. If it has one already, check DATA_DIR.",
        )
    if view.users == 0:
        raise DatabaseUnset("Kuma has no user; nothing is published")
    if newest is None:
        return Step.PUBLISH
    same = view.schema == newest.schema and view.state.leading.equals(newest, view.digest)
    if same and not view.state.leading.doubtful(newest):
        return Step.NOTHING
    if view.state.applying.pending is not None:
        return Step.WAIT
    shrinks(view.limit, newest, view.monitors, allowed=view.allow_shrink or view.back is not None)
    return Step.PUBLISH


def outdated(view: View) -> bool:
    """Whether Litestream brought rows back that are older than this leader's newest snapshot."""
    restored, newest = view.state.live.restored, view.newest
    if restored is None or newest is None or newest.label.leader != view.name:
        return False
    if view.digest == newest.label.digest and view.schema == newest.label.schema:
        return False
    return restored.before(newest.label.history, newest.moment)


def _shrinks(view: View, newest: SnapshotRef | None, seen: Observation, since: Since) -> bool:
    before, limit, files = view.back or newest, view.limit, len(seen.manifest.files)
    allowed = shrinks(limit, before, seen.monitors, allowed=view.allow_shrink, gone=since.gone)
    meant = view.allow_shrink or view.back is not None
    allowed |= files_shrink(limit, newest, since.files, files, allowed=meant)
    return allowed or view.back is not None
