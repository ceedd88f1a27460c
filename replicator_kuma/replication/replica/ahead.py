"""Reads ahead of the listing what a hint names: the snapshot, and the live rows it would replace.

A hint is never trusted. The listing alone decides which snapshot is followed; what was fetched
counts only if that is the one, and its digest is compared with the listed tags.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from concurrent.futures import Future

from replicator_kuma.adapters.repository import Label, Limits, Listing, Snapshot
from replicator_kuma.base.errors import KumaError, ReplicatorError
from replicator_kuma.base.threads import started
from replicator_kuma.dump.format import Dump, accepts
from replicator_kuma.replication.apply.choose import restart_wait
from replicator_kuma.replication.apply.prepare import observe_live
from replicator_kuma.replication.instance import Hint, Instance
from replicator_kuma.replication.observe import Observed
from replicator_kuma.replication.replica import patched
from replicator_kuma.replication.state.state import State

LEAST = 60.0
"""seconds until the next fetch ahead, after a hint of a snapshot that is not the fleet's"""


class Ahead:
    """What is read beside a listing; ``close`` ends it and waits for its threads."""

    def __init__(self, instance: Instance, hint: Hint) -> None:
        self._instance, self._hint = instance, hint
        self._folder = instance.work / "hinted"
        self._unwanted = False
        self._source = started("fetch ahead", self._fetch)
        self.seen: Future[Observed] = started("read ahead", lambda: observe_live(instance))
        """the live rows; their error is raised by ``result``"""

    def _fetch(self) -> Dump | None:
        """Fetch the hinted snapshot; its dump, if it was made by a patch and so verified."""
        # an id is all that a fetch needs; nothing else of it is known yet
        unknown = Label(self._instance.fleet, self._hint.position, "", "", "", "")
        named = Snapshot(self._hint.snapshot, unknown, "")
        folder = self._instance.work / "hinted-patched"
        if dump := patched.hinted(self._instance, named, folder, lambda: self._unwanted):
            return dump
        self._folder.mkdir(mode=0o700)
        self._instance.repository.fetch(
            named, self._folder, accepts, Limits(), unwanted=lambda: self._unwanted
        )
        return None

    def listed(self, snapshots: Listing) -> None:
        """Compare the hint with the listing: a fetch of any but the newest snapshot is given up.

        If the fleet has no such snapshot, hints are not fetched ahead for a while.
        """
        newest = snapshots[-1] if snapshots else None
        self._unwanted = newest is None or not self._names(newest)
        if not any(map(self._names, snapshots)):
            self._instance.hint_limit.free_at = time.monotonic() + LEAST

    def _names(self, snapshot: Snapshot) -> bool:
        hint = self._hint
        return (snapshot.id, snapshot.position) == (hint.snapshot, hint.position)

    def dump(self, snapshot: Snapshot) -> Dump | None:
        """The dump of a listed snapshot; None if another one was fetched, or if that failed.

        Raises SnapshotRefused if its content is not what its tags say.
        """
        if self._unwanted or not self._names(snapshot):
            return None
        try:
            dump = self._source.result()
        except (ReplicatorError, OSError):
            return None  # the usual fetch tries again, and tells why it fails
        if dump is not None:
            return dump if dump.manifest.digest == snapshot.label.digest else None
        return Dump.whole(self._folder, snapshot.label.digest, str(snapshot.position))

    def close(self) -> None:
        self._unwanted = True
        for future in (self._source, self.seen):
            future.exception()  # waits


@contextlib.contextmanager
def ahead_of_listing(instance: Instance) -> Iterator[Ahead | None]:
    """For the block, read ahead what the hint of this run names; None if that is not worth it."""
    hint = instance.run.hint
    if hint is None or not _worth(instance, instance.state.load(), hint):
        yield None
        return
    ahead = Ahead(instance, hint)
    try:
        yield ahead
    finally:
        ahead.close()


def _worth(instance: Instance, state: State, hint: Hint) -> bool:
    """Whether the hinted snapshot could be applied at once, if it exists."""
    applied = state.highest_applied()
    return (
        instance.pair is None  # its snapshots have other ids in each repository
        and time.monotonic() >= instance.hint_limit.free_at
        and state.following.hold is None
        and not state.promoted
        and (applied is None or hint.position > applied)
        and hint.snapshot not in state.applying.bad
        and instance.store.exists()
        and _may_begin(instance)
    )


def _may_begin(instance: Instance) -> bool:
    with contextlib.suppress(KumaError):
        return restart_wait(instance) is None
    return False
