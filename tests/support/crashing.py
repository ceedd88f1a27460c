"""A process that dies at its n-th effect on the world: after each single step, one run."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from replicator_kuma.base.state_directory import real_path
from tests.support.effects import at_every_effect
from tests.support.forked import DIED, forked

_CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "shutil.rmtree")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Counter:
    """Ends the process, with no clean-up at all, when the n-th effect is about to happen.

    Of many alike in one folder (the rows from before are two dozen links) the first two count.
    """

    def __init__(self, limit: int, scratch: tuple[str, ...]) -> None:
        self.left = limit
        self.scratch = (*(str(real_path(Path(each))) for each in scratch), "/dev/null")
        self._in_scratch = False
        self._last = ("", "")
        self._times = 0

    def tick(self) -> None:
        self.left -= 1
        if self.left == 0:
            os._exit(DIED)

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        """File effects, as Python's own audit events tell of them; scratch files aside."""
        if event == "open":
            path, _mode, flags = arguments
            if isinstance(flags, int) and flags & _WRITES and not str(path).endswith(".tmp"):
                self._effect(event, path)
        elif event in _CHANGES:
            self._effect(event, arguments[0])

    def _effect(self, event: str, path: Any) -> None:
        name = os.fsdecode(path) if isinstance(path, (str, bytes, os.PathLike)) else ""
        name = str(real_path(Path(name))) if name.startswith("/proc/") else name
        if event == "shutil.rmtree":
            self._in_scratch = name.startswith(self.scratch)
        if name.startswith("/"):
            changes = os.path.lexists(name) != (event in ("os.mkdir", "open"))
            if name.startswith(self.scratch) or not changes:
                return
        elif self._in_scratch:
            return  # a part of rmtree, relative to its folder
        kind = (event, str(Path(name).parent))
        self._times = self._times + 1 if kind == self._last else 1
        self._last = kind
        if self._times <= 2:
            self.tick()


Steps = Callable[[Callable[[str], object]], AbstractContextManager[None]]


def crash_at(
    number: int, work: Callable[[], object], *scratch: Path, steps: Steps = at_every_effect
) -> int:
    """Run ``work`` in a child that dies at its n-th effect; its exit code, 0 when it got through.

    Effects are ``steps``, and changes of files that are not below ``scratch``.
    """

    def child() -> None:
        counter = Counter(number, tuple(map(str, scratch)))
        sys.addaudithook(counter.audit)
        with steps(lambda _name: counter.tick()):
            work()

    return forked(child)
