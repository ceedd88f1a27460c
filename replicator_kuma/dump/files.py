"""A dump's files: opens only regular ones, creates new ones, hashes and links them."""

from __future__ import annotations

import hashlib
import os
import shutil
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

from replicator_kuma.base.folders import NONE, READ, opened_regular


def open_regular(path: Path) -> BufferedReader | None:
    """Open a regular file for reading; None for a link, a folder, a pipe, or if nothing is there.

    Raises OSError for a file that is there but cannot be read: it must not count as missing.
    """
    try:
        return opened_regular(os.open(path, READ))
    except OSError as error:
        if error.errno in NONE:
            return None
        raise


def create(path: Path) -> BinaryIO:
    """Create a file for this user only, open for writing; raises OSError if it exists."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    return os.fdopen(descriptor, "wb", buffering=1 << 18)


def hash_file(path: Path) -> str:
    """SHA-256 of a regular file in hex; empty if there is none. Raises OSError."""
    file = open_regular(path)
    if file is None:
        return ""
    with file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def link_or_copy(source: Path | str, target: Path | str) -> None:
    """Hard-link a file that nobody writes to again; copy it where links are not possible."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
        Path(target).chmod(0o600)
