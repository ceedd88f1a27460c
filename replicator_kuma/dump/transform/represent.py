"""How an engine holds the values of another: what a plan compares, and what does not fit.

A dump keeps the leader's exact values. A replica on another engine holds some of them in another
form (`2031-05-01T10:00` is `2031-05-01 10:00:00` in MariaDB), and some not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Protocol

from replicator_kuma.dump.schema import Column
from replicator_kuma.dump.values import Value

Convert = Callable[[Value], Value]
"""A value that is not None as the column holds it; raises Misfit."""


class Misfit(ValueError):
    """A value that a column cannot hold without loss; the text says why, and shows no value.

    The text follows a column's name: «has 151 characters where 150 fit». ``fitting`` is what is
    left of the value once it is cut to fit; None where no cut makes it fit.
    """

    def __init__(self, reason: str, fitting: Value = None) -> None:
        super().__init__(reason)
        self.fitting = fitting


class Representation(Protocol):
    """One engine's way to hold values. Pure but for `fold`, which may ask a server."""

    def converter(self, table: str, column: Column) -> Convert | None:
        """How a value of any engine becomes this column's; None where each is held as it is.

        Idempotent: what came out of it, it leaves alone.
        """

    def same(self, column: Column) -> Callable[[Value, Value], bool] | None:
        """Whether two values mean the same in this column; None: only equal ones do.

        A live `2031-05-01T10:00` in SQLite and a MariaDB leader's `2031-05-01 10:00:00` do: such
        a row stays as it is.
        """

    def fold(self, column: Column, texts: Sequence[str]) -> Sequence[Hashable]:
        """What UNIQUE compares: two texts with the same one cannot stand in the column together.

        (`Admin` and `admin` in MariaDB.) May ask a server; then it may raise DatabaseError.
        """
