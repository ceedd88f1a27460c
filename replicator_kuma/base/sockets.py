"""Connects safely to a socket in a folder of another user."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from replicator_kuma.base.folders import Folder, HardLinkRefused

_PATH = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


@contextlib.contextmanager
def vouched_socket(path: Path, *, owned: bool) -> Iterator[str]:
    """A short path to exactly this socket, also if its name is changed.

    ``owned``: the socket has to belong to its folder's owner: root must not log in to another
    user's server. Raises LinkRefused, HardLinkRefused; other OSErrors if there is none.
    """
    with Folder.open(path.absolute().parent) as above, above.end(path.name) as (folder, last):
        descriptor = os.open(last, _PATH, dir_fd=folder.descriptor)
        try:
            uid, ours = os.fstat(descriptor).st_uid, folder.owner.uid
            if owned and os.geteuid() == 0 and ours not in (0, uid):
                raise HardLinkRefused(str(path))
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
