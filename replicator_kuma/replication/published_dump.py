"""The dump that this leader published last, kept in the state directory.

The next publish compares with it and need not fetch the snapshot before. It is never trusted: its
digest is compared with the listed snapshot's, and each file with the manifest. It holds secrets,
as kuma.db does: its folder has mode 0700, its files 0600.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from replicator_kuma.base.errors import SnapshotRefused
from replicator_kuma.dump.format import Dump

FOLDER = "published"
MOST_BYTES = 256 * 1024**2
"""A larger dump is not kept: the snapshot is fetched instead."""


def keep(state: Path, dump: Dump) -> None:
    """Move a published dump to where the next publish looks for it. Never raises."""
    with suppress(OSError):
        forget(state)
        paths = [dump.folder, *dump.folder.rglob("*")]
        if sum(path.stat().st_size for path in paths) <= MOST_BYTES:
            for path in paths:
                path.chmod(0o700 if path.is_dir() else 0o600)
            dump.folder.rename(state / FOLDER)


def kept(state: Path, digest: str) -> Dump | None:
    """The kept dump, if it is whole and has this digest."""
    with suppress(SnapshotRefused):
        return Dump.whole(state / FOLDER, digest, FOLDER)
    return None


def forget(state: Path) -> bool:
    """Delete the kept dump; whether there was one."""
    there = (state / FOLDER).exists()
    shutil.rmtree(state / FOLDER, ignore_errors=True)
    return there
