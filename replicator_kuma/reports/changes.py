"""What changed from each snapshot of a fleet to the next, newest first."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from replicator_kuma.adapters.repository import Position, Snapshot
from replicator_kuma.base.errors import RepositoryDamaged, SnapshotNotFound, SnapshotRefused
from replicator_kuma.replication.change_sets import UNREAD, Entry, Read, compared, first
from replicator_kuma.replication.instance import Instance
from replicator_kuma.replication.snapshots import fetched

_PASSED_OVER = (SnapshotRefused, RepositoryDamaged, SnapshotNotFound)
"""Errors of one snapshot, which is skipped; any other error is the repository's."""


def entries(
    instance: Instance,
    snapshots: Sequence[Snapshot],
    most: int | None = None,
    since: Position | None = None,
) -> Iterator[Entry]:
    """Yield entries for the newest ``most`` snapshots, or those after ``since``, newest first.

    Each snapshot is fetched once, and at most two are in the work folder. A snapshot that cannot
    be read becomes an entry that says so; the next newer one is then compared with an older one.
    An entry's plan is deleted when the next entry is read. Raises RepositoryErrors, StateError.
    """
    found = _all(instance, snapshots, since)
    for number, entry in enumerate(found, 1):
        yield entry
        if number == most:
            return


def _all(
    instance: Instance, snapshots: Sequence[Snapshot], since: Position | None
) -> Iterator[Entry]:
    newer: Read | None = None
    unread: list[Entry] = []
    for snapshot in reversed(snapshots):
        wanted = since is None or snapshot.position > since
        if not wanted and newer is None:
            return
        read = _read(instance, snapshot)
        if isinstance(read, Entry):
            if newer is None:
                yield read
            elif wanted:
                unread.append(read)
            continue
        if newer is not None:
            yield compared(newer, read, _changes(instance, newer))
            yield from unread
            _forget(instance, newer)
        newer, unread = read, []
        if not wanted:
            return
    if newer is not None:
        older = "no older one can be read" if unread else "the oldest snapshot that is kept"
        yield first(newer, older)
        yield from unread


def _read(instance: Instance, snapshot: Snapshot) -> Read | Entry:
    instance.step(f"fetching {snapshot.position}")
    try:
        return Read(snapshot, fetched(instance, snapshot, snapshot.id))
    except _PASSED_OVER as error:
        shutil.rmtree(instance.work / snapshot.id, ignore_errors=True)
        return Entry(snapshot, notes=(f"{UNREAD}: {error}",))


def _forget(instance: Instance, read: Read) -> None:
    shutil.rmtree(read.dump.folder, ignore_errors=True)
    shutil.rmtree(_changes(instance, read), ignore_errors=True)


def _changes(instance: Instance, read: Read) -> Path:
    return instance.work / f"{read.snapshot.id}.changes"
