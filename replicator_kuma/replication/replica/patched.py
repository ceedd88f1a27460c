"""Makes a snapshot's dump of the kept one and the snapshot's patch, if it has one that fits.

That is one small file of the snapshot instead of all of them. Whatever is wrong with the kept dump
or with the patch, the whole snapshot is fetched.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

from replicator_kuma.adapters.repository import Position, Snapshot
from replicator_kuma.base.effects import effect
from replicator_kuma.base.errors import RepositoryDamaged, SnapshotRefused
from replicator_kuma.base.events import as_event
from replicator_kuma.base.threads import never
from replicator_kuma.dump import patch
from replicator_kuma.dump.files import create
from replicator_kuma.dump.format import Dump
from replicator_kuma.dump.manifest import MANIFEST
from replicator_kuma.replication import published_dump, snapshots
from replicator_kuma.replication.instance import Instance

log = logging.getLogger(__name__)


def fetched(instance: Instance, snapshot: Snapshot, name: str) -> Dump:
    """The dump of a listed snapshot, verified, in a new folder of the work folder.

    Raises RepositoryErrors, SnapshotRefused.
    """
    base = published_dump.opened(instance.state.folder)
    if base is not None and base.manifest.exact == snapshot.label.base:
        dump = _patched(instance, snapshot, base, instance.work / f"{name}-patched")
        if dump is not None and dump.manifest.digest == snapshot.label.digest:
            return dump
    return snapshots.fetched(instance, snapshot, name)


def hinted(
    instance: Instance, snapshot: Snapshot, folder: Path, unwanted: Callable[[], bool] = never
) -> Dump | None:
    """The dump of a snapshot of which only id and position are known, made in ``folder``.

    None if the kept dump is not that of the position before, or if there is no patch that fits.
    Raises RepositoryErrors, Interrupted.
    """
    applied = instance.state.load().following.applied
    base = published_dump.opened(instance.state.folder)
    if applied is None or base is None or base.manifest.digest != applied.digest:
        return None
    if snapshot.position != Position(applied.position.epoch, applied.position.sequence + 1):
        return None
    return _patched(instance, snapshot, base, folder, unwanted)


def _patched(
    instance: Instance,
    snapshot: Snapshot,
    base: Dump,
    folder: Path,
    unwanted: Callable[[], bool] = never,
) -> Dump | None:
    """The verified dump in ``folder``, a new one; None if the whole snapshot has to be fetched."""
    try:
        manifest = instance.repository.read(snapshot, MANIFEST, patch.MOST_MANIFEST, unwanted)
        effect("the manifest is read")
        folder.mkdir(mode=0o700)
        with create(folder / MANIFEST) as file:
            file.write(manifest)
        return patch.applied(base, folder)
    except (SnapshotRefused, RepositoryDamaged, OSError) as error:
        log.info(
            "%s is fetched as a whole: %s",
            snapshot.position,
            error,
            extra=as_event("fetched_whole"),
        )
        shutil.rmtree(folder, ignore_errors=True)
        return None
