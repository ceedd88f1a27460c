"""What a machine refuses, as an error of ours: not every such end is somebody's bug."""

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
    """The MachineError for an end that the machine itself has made; None for any other.

    A full disk, one that is read-only or fails, no memory, no file descriptors: in any call.
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
    """What to do about an OSError of a local file or folder; None where nothing is sure."""
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
    """A file for what a program prints: in TMPDIR, or in memory where that cannot be used."""
    try:
        return tempfile.TemporaryFile()
    except OSError:
        return os.fdopen(os.memfd_create("output"), "w+b")
