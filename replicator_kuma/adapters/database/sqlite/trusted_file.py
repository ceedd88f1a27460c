"""Ensures that root opens Kuma's kuma.db, and no file that Kuma's user put in its place.

SQLite looks up the path itself, and follows a link at kuma.db. It opens the files beside it (-wal,
-shm, -journal) without following links, and gives them to the owner of kuma.db. This module must
open a database's files by O_PATH only: to close any other descriptor of such a file drops SQLite's
locks on it.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from replicator_kuma.base.errors import DatabaseError, DatabaseMissing
from replicator_kuma.base.folders import Folder, HardLinkRefused, LinkRefused

_BESIDE = ("-wal", "-shm", "-journal")
_HINT = (
    "Set DATA_DIR to the folder itself, let nobody but root write where the link lies, or run the "
    "replicator as Kuma's own user."
)

Identity = tuple[int, int]
"""Device and inode."""


def vouch(path: Path) -> Identity | None:
    """The file that SQLite may open at this path; None if we are not root: any may be opened.

    Raises DatabaseError for a link, at the path or beside it, that another user may have made,
    DatabaseMissing if there is no file.
    """
    if os.geteuid() != 0:
        return None
    try:
        with Folder.open(path.parent) as above, above.end(path.name) as (folder, name):
            found = folder.stat(name, follow=True)
            for suffix in _BESIDE:
                _look(folder, f"{name}{suffix}")
    except (LinkRefused, HardLinkRefused) as error:
        raise DatabaseError(f"{path} is not opened: {error.strerror}", hint=_HINT) from error
    except OSError as error:
        raise DatabaseMissing(f"there is no database {path}: {error.strerror}") from error
    if found is None or not stat.S_ISREG(found.st_mode):
        raise DatabaseMissing(f"there is no database {path}")
    return found.st_dev, found.st_ino


def _look(folder: Folder, name: str) -> None:
    found = folder.stat(name)
    if found is None:
        return
    if stat.S_ISLNK(found.st_mode):
        raise LinkRefused(name)
    if not stat.S_ISREG(found.st_mode):
        raise DatabaseError(
            f"{name} beside Kuma's database is no regular file",
            hint="SQLite makes that file by itself. Stop Kuma, and move away what is there.",
        )
    folder.stat(name, follow=True)  # raises for another's hard link


def require_open(path: Path, expected: Identity | None) -> None:
    """After SQLite has opened a database, check that it is the file that was vouched for.

    Raises DatabaseError: somebody is changing names at this moment.
    """
    if expected is not None and (expected not in _open_files() or vouch(path) != expected):
        raise DatabaseError(f"{path} became another file while it was opened", hint=_HINT)


def _open_files() -> set[Identity]:
    """The identities of all files that this process has open; it opens none of them."""
    found = set()
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
        try:
            status = os.stat(f"/proc/self/fd/{name}")  # noqa: PTH116
        except OSError:
            continue
        found.add((status.st_dev, status.st_ino))
    return found
