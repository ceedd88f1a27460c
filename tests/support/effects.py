"""What happens at a named step of the program (`replicator_kuma.base.effects`)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator

from replicator_kuma.base.effects import set_hook
from tests.support.forked import DIED, forked


@contextlib.contextmanager
def at_every_effect(call: Callable[[str], object]) -> Iterator[None]:
    """Call ``call`` with the name of each step that the program comes to in the block."""
    before = set_hook(call)
    try:
        yield
    finally:
        set_hook(before)


@contextlib.contextmanager
def at_effect(name: str, call: Callable[[], object], *, times: int | None = None) -> Iterator[None]:
    """Call ``call`` at one step, each time or the first ``times``; fails if it never comes."""
    came = 0

    def hook(step: str) -> None:
        nonlocal came
        if step == name:
            came += 1
            if times is None or came <= times:
                call()

    with at_every_effect(hook):
        yield
    assert came, f"the program never came to: {name}"


def raising(error: BaseException) -> Callable[[], object]:
    """A call for `at_effect` that raises."""

    def call() -> None:
        raise error

    return call


def dies_at(name: str, work: Callable[[], object]) -> None:
    """Run ``work`` in a child that dies at a step, with no clean-up at all."""

    def child() -> None:
        with at_effect(name, lambda: os._exit(DIED)):
            work()

    assert forked(child) == DIED
