"""Core files: a dump of the replicator's or restic's memory would hold passwords.

Both run without any. Kuma, and what starts it, has the limit that the replicator was started with.
"""

from __future__ import annotations

import contextlib
import resource
import threading
from collections.abc import Iterator

_PR_SET_DUMPABLE = 4
_lock = threading.Lock()
_before: int | None = None
"""the soft limit that `forbid` found; None before it"""


def forbid() -> None:
    """Let nobody dump this process; whatever it starts leaves no core file, but for `allowed`.

    The hard limit stays: without it Kuma's could not be given back.
    """
    global _before
    with _lock:
        soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
        if _before is None:
            _before = soft
        resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    # A limit of 0 keeps no kernel from handing a core to a program: see core(5). The mark also
    # closes this process's environment to a Kuma that runs as the same user. It ends with exec:
    # restic, docker and Kuma have none. What has no ctypes or no prctl has the limit still.
    with contextlib.suppress(ImportError, OSError, AttributeError):
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


@contextlib.contextmanager
def allowed() -> Iterator[None]:
    """What is started inside has the limit from before `forbid`."""
    with _lock:
        soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
        resource.setrlimit(resource.RLIMIT_CORE, (soft if _before is None else _before, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


@contextlib.contextmanager
def forbidden() -> Iterator[None]:
    """What is started inside leaves no core file, although another thread may start a Kuma now.

    A limit belongs to the process, not to a thread, and a child gets it at its start.
    """
    with _lock:
        yield
