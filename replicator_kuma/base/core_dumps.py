"""Prevents core files: a dump of the replicator's or restic's memory would hold passwords.

Kuma, and what starts it, keeps the limit with which the replicator was started.
"""

from __future__ import annotations

import contextlib
import resource
import threading
from collections.abc import Iterator

_PR_SET_DUMPABLE = 4
_lock = threading.Lock()
_before: int | None = None
"""the soft limit before `forbid`; None if `forbid` was not called"""


def forbid() -> None:
    """Prevent core files of this process and of its children, except inside `allowed`.

    The hard limit stays, so that Kuma's limit can be restored.
    """
    global _before
    with _lock:
        soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
        if _before is None:
            _before = soft
        resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    # With a limit of 0 a kernel may still pipe a core to a program: see core(5). The mark also
    # hides this process's environment from a Kuma of the same user. It ends with exec: restic,
    # docker and Kuma do not have it. Without ctypes or prctl, the limit still applies.
    with contextlib.suppress(ImportError, OSError, AttributeError):
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


@contextlib.contextmanager
def allowed() -> Iterator[None]:
    """Processes that are started inside have the limit from before `forbid`."""
    with _lock:
        soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
        resource.setrlimit(resource.RLIMIT_CORE, (soft if _before is None else _before, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


@contextlib.contextmanager
def forbidden() -> Iterator[None]:
    """Processes that are started inside leave no core file, even if another thread starts a Kuma.

    A limit belongs to the process, not to a thread; a child gets it at its start.
    """
    with _lock:
        yield
