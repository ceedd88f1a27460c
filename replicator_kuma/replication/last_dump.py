"""The dump of a large database that was read last, kept so that the next read needs less.

Beside it lies what `Reader.remember` noted. Of the next dump only the rows are read whose pages
have changed since. It is a cache: a reader believes nothing of it that it cannot prove, and without
it all rows are read. It holds secrets, as kuma.db does: its folder has mode 0700, its files 0600.
Mostly its files are hard links to those of a checkpoint or of the published dump.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from replicator_kuma.adapters.database import notes_of
from replicator_kuma.base.state_directory import affordable
from replicator_kuma.dump.files import link_or_copy

FOLDER = "last-read"
_PARTS = ("tables", "runtime")


def _kept(state: Path) -> Path:
    return state / FOLDER / "dump"


def earlier(state: Path, folder: Path | None = None) -> Path | None:
    """What `Store.read` is given for a dump into ``folder``, or for a hash of all rows.

    None if that gains nothing: a hash is not kept.
    """
    there = folder is not None or notes_of(_kept(state)).exists()
    return _kept(state) if there else None


def keep(state: Path, dump: Path) -> None:
    """Keep a dump in place of the one before, if its reader noted something. Never raises."""
    notes = notes_of(dump)
    with suppress(OSError):
        if not notes.exists():
            forget(state)
            return
        paths = [path for part in _PARTS for path in (dump / part).glob("*.jsonl")]
        if not affordable(state, sum(path.stat().st_size for path in paths)):
            forget(state)
            return
        made = dump.with_name(f"{dump.name}.{FOLDER}")
        for folder in (made, made / "dump", *(made / "dump" / part for part in _PARTS)):
            folder.mkdir(mode=0o700)
        for path in paths:
            link_or_copy(path, made / "dump" / path.parent.name / path.name)
        notes.rename(notes_of(made / "dump"))
        forget(state)
        made.rename(state / FOLDER)


def forget(state: Path) -> bool:
    """Delete the kept dump; whether there was one."""
    folder = state / FOLDER
    if not os.path.lexists(folder):
        return False
    shutil.rmtree(folder, ignore_errors=True)
    return not os.path.lexists(folder)
