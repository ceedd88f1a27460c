"""Work in a thread beside other work.

The threads are daemons: those of a ThreadPoolExecutor would keep a process from ending.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from typing import TypeVar

T = TypeVar("T")


def never() -> bool:
    """The answer of nobody who would end a piece of work before its end."""
    return False


@contextlib.contextmanager
def beside(work: Callable[[], T]) -> Iterator[Future[T]]:
    """Run ``work`` in a thread during the block; the block's end waits for it."""
    future = started("beside", work)
    try:
        yield future
    finally:
        wait([future])


def within(seconds: float, work: Callable[[], T], otherwise: T) -> T:
    """The result or error of ``work``; ``otherwise`` if it takes longer than ``seconds``."""
    future = started("within", work)
    try:
        return future.result(seconds)
    except TimeoutError:
        if future.done():  # its own
            raise
        return otherwise


def started(name: str, work: Callable[[], T]) -> Future[T]:
    """Start ``work`` in a thread of this name; returns its future."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return future
