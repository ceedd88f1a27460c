"""Reading what should be a regular file: never a link, a folder, or a pipe that waits."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from io import BufferedReader, FileIO
from pathlib import Path

_NONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO)
_BUFFER = 1 << 18


def open_regular(path: Path) -> BufferedReader | None:
    """A regular file, open to be read; None where there is none.

    Raises OSError for one that is there and cannot be read: that is not the same as none.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in _NONE:
            return None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    return BufferedReader(FileIO(descriptor), _BUFFER)


def hash_file(path: Path) -> str:
    """SHA-256 of a regular file in hex; empty where there is none. Raises OSError."""
    file = open_regular(path)
    if file is None:
        return ""
    with file:
        return hashlib.file_digest(file, "sha256").hexdigest()
