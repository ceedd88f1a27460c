"""Where Kuma's tables live: one small protocol, SQLite and MariaDB behind it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from replicator_kuma.adapters.database.holders import Holder
from replicator_kuma.dump.schema import Schema
from replicator_kuma.dump.select import Dangling, Select
from replicator_kuma.dump.transform.represent import Representation

Row = tuple[Any, ...]


class Reader(Protocol):
    """The tables at one instant: all that it yields comes from one read transaction."""

    @property
    def schema(self) -> Schema: ...

    def rows(self, select: Select, keys: Sequence[Any] | None = None) -> Iterator[Row]:
        """Rows in ``select``'s columns and order, values exact; invalid UTF-8 by surrogateescape.

        ``keys``, at most a few hundred, ask for these rows only (`id`, or `key` of setting).
        Raises DatabaseError.
        """

    def dangling(self, select: Select) -> list[Dangling]:
        """References of ``select``'s table that point nowhere, and what `rows` does to them."""

    def count(self, table: str) -> int:
        """All rows of a table, those that ``rows`` leaves out too."""

    def setting(self, key: str) -> str | None:
        """The text of one setting, also of one that is never replicated."""

    def fingerprint(self) -> str:
        """`Store.fingerprint` of this very instant, or of one before it.

        A writer's is of its own: nobody can change it before the end of the transaction.
        """

    def query(self, sql: str) -> list[Row]:
        """All rows of a SELECT that every engine understands, and whose result is small."""


class Writer(Reader, Protocol):
    """One write transaction: what it did is there after a clean end of the block, or not at all."""

    def sweep(self, select: Select) -> int:
        """Delete rows, and empty references, that `rows` leaves out; the number of rows."""

    def park_history(self, monitors: Iterable[int]) -> None:
        """Set aside what belonged to monitors whose id now means another monitor."""

    def unpark_history(self, monitors: Iterable[int]) -> None:
        """Give set-aside history back (the way back after a failed apply).

        ``monitors`` are the ids that mean the former monitor again: what was written to them
        meanwhile goes.
        """

    def delete(self, table: str, keys: Iterable[Any]) -> None:
        """Delete rows by key (`id`, or `key` of setting)."""

    def make_room(self, table: str, rows: Iterable[tuple[Any, Sequence[str]]]) -> None:
        """Before UNIQUE values change places: (key, columns) whose old values must go first."""

    def upsert(
        self, table: str, columns: Sequence[str], keep: Collection[str], rows: Iterable[Row]
    ) -> None:
        """Insert rows; where the key is there, update it but for the columns in ``keep``.

        Raises SnapshotRefused when the rows break a rule of the table (UNIQUE, NOT NULL, CHECK).
        """

    def broken_references(self, tables: Iterable[str]) -> list[str]:
        """Declared references that point nowhere now, in words, at most ten."""

    @property
    def side_effects(self) -> bool:
        """Whether writing a row can change another one (triggers)."""


class Store(Protocol):
    """The database of one instance. Methods raise DatabaseErrors and nothing else."""

    engine: str
    """sqlite, mariadb"""

    embedded: bool
    """It lives inside Kuma: reachable only while Kuma runs, and loaded while it does."""

    @property
    def representation(self) -> Representation:
        """How this engine holds the values of another."""

    def choosing(self, settings: Collection[str]) -> Store:
        """The same database, with other keys of `setting` to replicate."""

    def read(self) -> AbstractContextManager[Reader]:
        """One consistent read; never blocks Kuma, never writes."""

    def write(self) -> AbstractContextManager[Writer]:
        """One transaction; rolled back when the block raises."""

    def exists(self) -> bool:
        """Whether there is a database at all (an empty data directory has none)."""

    def in_use(self) -> bool:
        """Whether another process (Kuma) has the database open."""

    def holders(self) -> tuple[Holder, ...]:
        """Other users of the database, as far as they can be seen."""

    def check(self, tables: Collection[str] | None = None) -> Sequence[str]:
        """Look for damage; in words, what is odd and bars nobody.

        ``tables``: these are to be published. Raises DatabaseCorrupt for damage in them, RowFault
        for rows of them that no table of Kuma's would take. None: the database is to be written.
        Raises DatabaseCorrupt for damage anywhere, which would grow.
        """

    def check_writable(self) -> None:
        """See whether rows may be written here, without writing any: before Kuma stops for it.

        Raises DatabaseError.
        """

    def fingerprint(self) -> str:
        """Changes when rows do; cheap. Empty when it cannot be trusted yet.

        What it cannot tell from a change of rows (a heartbeat) may change it too.
        """

    def purge_history(self) -> int:
        """Delete what belongs to no monitor, in short transactions; how many rows of history."""
