"""Who opens or changes something below a folder by its path, as Python's audit events tell.

What is opened by a descriptor has a relative name: no event of that names a path.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import unquote

import replicator_kuma
from replicator_kuma.base import state_directory

_PACKAGE = str(Path(replicator_kuma.__file__).parent)
_UNFORESEEN = re.compile(r"/[0-9a-f]{16}/")
_EVENTS = frozenset(
    {
        *("open", "sqlite3.connect"),
        *(
            f"os.{name}"
            for name in (
                *("chmod", "chown", "link", "listdir", "mkdir", "remove", "rename", "rmdir"),
                *("scandir", "symlink", "truncate", "utime", "setxattr", "removexattr", "walk"),
            )
        ),
        *(
            f"shutil.{name}"
            for name in ("rmtree", "copyfile", "copymode", "copystat", "copytree", "chown", "move")
        ),
    }
)


class Opens:
    """Collects (module, event, path) of what lies below ``roots`` and in none of ``without``."""

    def __init__(self, roots: Collection[Path], without: Collection[Path] = ()) -> None:
        self._roots = tuple(f"{root}/" for root in roots)
        self._without = tuple(f"{path}/" for path in without)
        self.found = set[tuple[str, str, str]]()
        self.on = False
        sys.addaudithook(self._hook)  # it stays until the process ends: use a forked one

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on or event not in _EVENTS:
            return
        self.on = False
        try:
            for argument in arguments[:2]:
                if isinstance(argument, (str, bytes, os.PathLike)):
                    self._look(event, os.fsdecode(argument))
        finally:
            self.on = True

    def _held(self, event: str, path: str) -> bool:
        """Whether it begins with the descriptor of a state directory, which nobody can swap.

        SQLite looks for the real path again: a part of that has to be a name none can foresee.
        """
        held = path.startswith("/proc/self/fd/") and (
            int(path.split("/")[4]) in state_directory._anchors.values()
        )
        return held and (event != "sqlite3.connect" or _UNFORESEEN.search(path) is not None)

    def _look(self, event: str, path: str) -> None:
        if event == "sqlite3.connect" and path.startswith("file:"):
            path = unquote(path.removeprefix("file:").partition("?")[0])
        if not path.startswith("/") or self._held(event, path):
            return
        for each in (path, os.path.realpath(path)):
            inside = f"{each}/".startswith(self._roots)
            if inside and not f"{each}/".startswith(self._without):
                self.found.add((_caller(), event, path))
                return


def _caller() -> str:
    """The innermost module of ours on the stack."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(_PACKAGE):
            return name.removeprefix(f"{_PACKAGE}/")
        frame = frame.f_back
    return "?"


def opened_by_path(
    work: Callable[[], object], roots: Collection[Path], without: Collection[Path] = ()
) -> set[tuple[str, str, str]]:
    """What ``work`` opens by path below ``roots``; call it in a process of its own."""
    opens = Opens(roots, without)
    opens.on = True
    try:
        work()
    finally:
        opens.on = False
    return opens.found
