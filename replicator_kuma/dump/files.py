"""A dump's files: reading what should be a regular one, making new ones, a second name for one."""

from __future__ import annotations

import hashlib
import os
import shutil
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

from replicator_kuma.base.folders import NONE, READ, opened_regular


def open_regular(path: Path) -> BufferedReader | None:
    """A regular file, open to be read; None for a link, a folder, a pipe, and where nothing is.

    Raises OSError for one that is there and cannot be read: that is not the same as none.
    """
    try:
        return opened_regular(os.open(path, READ))
    except OSError as error:
        if error.errno in NONE:
            return None
        raise


def create(path: Path) -> BinaryIO:
    """A new file of this user's own, open to be written; raises OSError where there is one."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    return os.fdopen(descriptor, "wb", buffering=1 << 18)


def hash_file(path: Path) -> str:
    """SHA-256 of a regular file in hex; empty where there is none. Raises OSError."""
    file = open_regular(path)
    if file is None:
        return ""
    with file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def link_or_copy(source: Path | str, target: Path | str) -> None:
    """A second name for a file that nobody writes to again; a copy where links do not exist."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
        Path(target).chmod(0o600)
