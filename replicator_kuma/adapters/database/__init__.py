"""Where Kuma's tables live: one small protocol, SQLite and MariaDB behind it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from replicator_kuma.base.processes import Process
from replicator_kuma.dump.catalog import TABLES
from replicator_kuma.dump.schema import Schema
from replicator_kuma.dump.select import Dangling, Select
from replicator_kuma.dump.transform.represent import Representation

Row = tuple[Any, ...]

ADDED = (
    "Kuma makes no triggers and keeps its keys: look at what a script has changed in its database. "
    "sqlite3 kuma.db .schema shows it, DROP TRIGGER removes one."
)
"""What to do about what stands in the way of writing rows."""


@dataclass(frozen=True)
class Account:
    """Who may look at a scratch that `Store.quieten` made ready, and what is to be seen there."""

    username: str
    password: str = field(repr=False)
    """the hash in the user's row"""
    secret: str = field(repr=False)
    """by which Kuma knows its sessions (setting jwtSecret); only this scratch has it"""
    monitors: Mapping[int, str]
    """names by id"""


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

    def fingerprint(self) -> str:
        """`Store.fingerprint` of this very instant, or of one before it.

        A writer's is of its own: nobody can change it before the end of the transaction.
        """

    def query(self, sql: str) -> list[Row]:
        """All rows of a SELECT that every engine understands, and whose result is small."""

    def triggers(self) -> list[Row]:
        """The name and the table of each trigger: writing a row can change another one then."""

    def definitions(self) -> list[Row]:
        """What decides how a write of rows goes (triggers; in SQLite all definitions).

        For a fingerprint only.
        """


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


def named_triggers(reader: Reader) -> list[str]:
    """The triggers on replicated tables, in words; Kuma itself has none."""
    return [f"{name} on {table}" for name, table in reader.triggers() if table in TABLES]


class Store(Protocol):
    """The database of one instance. Methods raise DatabaseErrors and nothing else."""

    engine: str
    """sqlite, mariadb: for messages, and in what is published"""

    embedded: bool
    """It lives inside Kuma: reachable only while Kuma runs, and loaded while it does."""

    outlives_us: bool
    """Its server may still commit a transaction whose client is dead. A writer waits for that."""

    shows_processes: bool
    """`holders` are processes. Else they are connections, and whose they are nobody knows."""

    lenient: bool
    """It may hold values that another engine cannot hold."""

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

    def holders(self) -> tuple[Process, ...]:
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

    def obstacles(self, tables: Collection[str]) -> list[str]:
        """Why rows of these tables could not be written, in words, as far as it shows unwritten."""

    def rehearsal(self, folder: Path) -> AbstractContextManager[Writer | None]:
        """A writer on a copy of the rows and of all that acts on them; None where there is no copy.

        The copy lies in ``folder``, which is made and goes with the block. This database is only
        read. Raises DatabaseError, OSError.
        """

    def scratch(self, data_dir: Path) -> AbstractContextManager[Store]:
        """An empty database of the same schema for the block, for a drill; this one is only read.

        SQLite: kuma.db in ``data_dir``, which its caller removes. MariaDB: a database of its own
        on the same server, dropped after the block. Raises DatabaseErrors, StateError.
        """

    def forget_scratch(self) -> None:
        """Drop what a killed drill left outside its folder; raises DatabaseError."""

    @property
    def quieten(self) -> Callable[[], Account] | None:
        """Make this scratch ready for a Kuma that watches nobody, tells nobody, and asks nobody.

        None: no throw-away Kuma boots on this engine. The call raises SnapshotRefused where no
        user could log in, DatabaseError, OSError.
        """
