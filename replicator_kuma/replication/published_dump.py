"""The published dump that this instance knows best, kept in the state directory.

A leader keeps what it published last. The next publish compares with it and need not fetch the
snapshot before. A replica keeps what it fetched last, as the leader published it. The next
snapshot's patch begins with it (`replica/patched.py`). It is never trusted: its digest is compared
with the listed snapshot's, and each file with the manifest. It holds secrets, as kuma.db does: its
folder has mode 0700, its files 0600.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from replicator_kuma.base.effects import effect
from replicator_kuma.base.errors import SnapshotRefused
from replicator_kuma.base.state_directory import affordable
from replicator_kuma.dump.format import Dump

FOLDER = "published"


def keep(state: Path, dump: Dump) -> None:
    """Move a published dump to where the next cycle looks for it. Never raises."""
    with suppress(OSError):
        forget(state)
        effect("the published dump before is forgotten")
        paths = [dump.folder, *dump.folder.rglob("*")]
        if affordable(state, sum(path.stat().st_size for path in paths)):
            for path in paths:
                path.chmod(0o700 if path.is_dir() else 0o600)
            dump.folder.rename(state / FOLDER)


def kept(state: Path, digest: str) -> Dump | None:
    """The kept dump, if it is whole and has this digest."""
    with suppress(SnapshotRefused):
        return Dump.whole(state / FOLDER, digest, FOLDER)
    return None


def opened(state: Path) -> Dump | None:
    """The kept dump by its manifest; its other files may be damaged. None if there is none."""
    with suppress(SnapshotRefused):
        return Dump.open(state / FOLDER)
    return None


def forget(state: Path) -> bool:
    """Delete the kept dump, or what else has its name; whether something was deleted."""
    folder = state / FOLDER
    if not os.path.lexists(folder):
        return False
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):
        folder.unlink(missing_ok=True)  # a link, or no folder
    return not os.path.lexists(folder)
