"""One hook at the steps where a crash, a fault or another program may interfere.

The program itself sets nothing here. A test sets it (tests/support/effects.py) to end the process,
to raise, or to change something at one named step.
"""

from __future__ import annotations

from collections.abc import Callable


def _nothing(_name: str) -> object:
    return None


_hook: Callable[[str], object] = _nothing


def effect(name: str) -> None:
    """Call the hook with the name of this step ("rows written"); the hook may raise."""
    _hook(name)


def set_hook(hook: Callable[[str], object] | None) -> Callable[[str], object]:
    """Set the hook, or remove it with None; returns the one that was set."""
    global _hook
    before, _hook = _hook, hook or _nothing
    return before
