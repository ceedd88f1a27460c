"""Logos and certificates of a leader whose disk was lost: Litestream brings back rows only."""

from __future__ import annotations

import logging

from replicator_kuma.base.events import as_event
from replicator_kuma.base.text import counted
from replicator_kuma.replication.apply import staging
from replicator_kuma.replication.instance import Instance
from replicator_kuma.replication.observe import file_stats
from replicator_kuma.replication.snapshots import fetched

log = logging.getLogger(__name__)


def bring_back(instance: Instance) -> None:
    """Put in place the files of this leader's own newest snapshot that are not here.

    Call within a cycle, before the instance is observed. Does nothing where the newest snapshot is
    another's. Raises RepositoryErrors, SnapshotRefused, and what `staging` raises.
    """
    snapshots = instance.listed()
    if not snapshots or snapshots[-1].label.leader != instance.name:
        return
    instance.step(f"looking for the files of {snapshots[-1].position}")
    dump = fetched(instance, snapshots[-1], "restored-files")
    there = dict(file_stats(instance.data_dir))
    files = tuple((name, sha) for name, sha in dump.manifest.files.items() if name not in there)
    staging.stage(instance.data_dir, dump.folder, files)
    staging.finish(instance.data_dir, files)
    if files:
        log.info(
            "%s brought back from %s",
            counted(len(files), "file"),
            snapshots[-1].position,
            extra=as_event("files_restored"),
        )
