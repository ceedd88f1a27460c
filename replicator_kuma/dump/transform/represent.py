"""How one engine stores the values of another, and which of them do not fit.

A dump keeps the leader's exact values. A replica on another engine stores some of them in another
form (`2031-05-01T10:00` is `2031-05-01 10:00:00` in MariaDB), and cannot store some.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Protocol

from replicator_kuma.dump.schema import Column
from replicator_kuma.dump.values import Value

Convert = Callable[[Value], Value]
"""Converts a value, not None, to the form that the column stores; raises Misfit."""


class Misfit(ValueError):
    """A value that a column cannot hold without loss; the text says why, and shows no value.

    The text follows a column's name: «has 151 characters where 150 fit». ``fitting`` is the value
    after it was cut to fit; None if no cut makes it fit.
    """

    def __init__(self, reason: str, fitting: Value = None) -> None:
        super().__init__(reason)
        self.fitting = fitting


class Representation(Protocol):
    """How one engine stores values. Pure except for `fold`, which may ask a server."""

    def converter(self, table: str, column: Column) -> Convert | None:
        """Converts a value of any engine to this column's form; None if all are stored unchanged.

        Idempotent: a converted value stays as it is.
        """

    def same(self, column: Column) -> Callable[[Value, Value], bool] | None:
        """A test whether two values mean the same in this column; None: only equal values do.

        `2031-05-01T10:00` in a live SQLite and a MariaDB leader's `2031-05-01 10:00:00` do: such a
        row is not changed.
        """

    def fold(self, column: Column, texts: Sequence[str]) -> Sequence[Hashable]:
        """The keys that UNIQUE compares: a column cannot have two texts with the same key.

        (`Admin` and `admin` in MariaDB.) May ask a server; then it may raise DatabaseError.
        """
