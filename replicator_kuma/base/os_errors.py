"""Turns faults of the machine into errors of ours: they are no bugs of the program."""

from __future__ import annotations

import errno
import os
import tempfile
from typing import IO

from replicator_kuma.base.errors import MachineError

_REFUSED = frozenset(
    (
        *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG, errno.ESTALE),
        *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EACCES, errno.EPERM),
    )
)


def refusal(error: BaseException) -> MachineError | None:
    """The MachineError for an error that the machine has caused; None for any other error.

    Such as a full, read-only or failing disk, no memory, no file descriptors.
    """
    if isinstance(error, MemoryError):
        return MachineError("the machine has no memory left for this")
    if not isinstance(error, OSError) or error.errno not in _REFUSED:
        return None
    name = error.filename
    where = f": {os.fsdecode(name)}" if isinstance(name, str | bytes) else ""
    return MachineError(
        f"the machine refuses: {os.strerror(error.errno)}{where}", hint=remedy(error)
    )


def remedy(error: BaseException) -> str | None:
    """What to do about an OSError of a local file or folder; None if that is unclear."""
    match getattr(error, "errno", None):
        case errno.EACCES | errno.EPERM:
            return (
                f"This is user {os.geteuid()}, who has no permission for it. Look at its owner and "
                "rights, and at those of the folders above it."
            )
        case errno.EROFS:
            return "It is mounted read-only. Mount it so that it can be written to."
        case errno.ENOSPC | errno.EDQUOT:
            return "Make room there. Try: df -h, df -i (and the quota, where there is one)"
        case errno.EMFILE | errno.ENFILE:
            return "Raise the limit of open files (ulimit -n), or find out what has them open."
        case errno.EIO:
            return "The disk fails: look at dmesg."
    return None


def unnamed_file() -> IO[bytes]:
    """A file for a program's output: in TMPDIR, or in memory if TMPDIR cannot be used."""
    try:
        return tempfile.TemporaryFile()
    except OSError:
        return os.fdopen(os.memfd_create("output"), "w+b")
