"""Kuma's database: one small protocol, implemented for SQLite and MariaDB."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from replicator_kuma.adapters.database.beats import Beats
from replicator_kuma.base.processes import Process
from replicator_kuma.dump.catalog import TABLES
from replicator_kuma.dump.format import Lines
from replicator_kuma.dump.manifest import TableEntry
from replicator_kuma.dump.schema import Schema
from replicator_kuma.dump.select import Dangling, Select
from replicator_kuma.dump.transform.represent import Representation

Row = tuple[Any, ...]

ADDED = (
    "Kuma makes no triggers and keeps its keys: look at what a script has changed in its database. "
    "sqlite3 kuma.db .schema shows it, DROP TRIGGER removes one."
)
"""The hint for objects that prevent writing rows."""


def notes_of(dump: Path) -> Path:
    """The file beside a dump's folder in which `Reader.remember` noted how its rows lay."""
    return dump.with_name(f"{dump.name}.notes")


@dataclass(frozen=True)
class Account:
    """The user of a scratch that `Store.quieten` prepared, and the monitors in it."""

    username: str
    password: str = field(repr=False)
    """the hash in the user's row"""
    secret: str = field(repr=False)
    """the key of Kuma's sessions (setting jwtSecret), for this scratch only"""
    monitors: Mapping[int, str]
    """names by id"""


class Reader(Protocol):
    """The tables at one instant: all results come from one read transaction."""

    @property
    def schema(self) -> Schema: ...

    def rows(self, select: Select, keys: Sequence[Any] | None = None) -> Iterator[Row]:
        """Rows in ``select``'s columns and order, values exact; invalid UTF-8 by surrogateescape.

        ``keys``, at most a few hundred, ask for these rows only (`id`, or `key` of setting).
        Raises DatabaseError.
        """

    def lines(self, select: Select, *, faultless: bool) -> Iterator[Lines] | None:
        """See `dump.format.Source.lines`. Raises DatabaseError."""

    def known(self, select: Select) -> TableEntry | None:
        """See `dump.format.Source.known`. Raises DatabaseError."""

    def remember(self, folder: Path, entries: Mapping[str, TableEntry]) -> None:
        """Note what `Store.read` needs of the dump in ``folder``, which was read by this.

        The file is `notes_of` the folder, a new one. It is not made for a small database. Only
        for a reader that was opened with ``earlier``. Raises DatabaseError, OSError.
        """

    def as_stored(self, tables: Iterable[str]) -> None:
        """Look no reference of these tables up: rows whose references dangle are read as they are.

        `dangling` ends that for a table. Enough to see whether rows are still those in which
        nothing dangled: if all are, nothing dangles now.
        """

    def dangling(self, select: Select) -> list[Dangling]:
        """Dangling references of ``select``'s table, and how `rows` treats them."""

    def count(self, table: str) -> int:
        """The number of all rows of a table, with those that `rows` leaves out."""

    def fingerprint(self) -> str:
        """`Store.fingerprint` at this instant or shortly before.

        A writer's fingerprint is exact: nobody can change rows before its transaction ends.
        """

    def query(self, sql: str) -> list[Row]:
        """All rows of a SELECT that every engine understands, and whose result is small."""

    def triggers(self) -> list[Row]:
        """The name and table of each trigger: with one, a write can change other rows."""

    def definitions(self) -> list[Row]:
        """Definitions that affect writes of rows (triggers; in SQLite all definitions).

        For a fingerprint only.
        """


class Writer(Reader, Protocol):
    """One write transaction: committed if the block ends without an error, else rolled back."""

    @property
    def unchanged(self) -> Collection[str]:
        """Tables that nobody can have written since ``look`` of `Store.write` was called."""

    def sweep(self, select: Select) -> int:
        """Delete rows and empty references that `rows` leaves out; returns the number of rows."""

    def park_history(self, monitors: Iterable[int]) -> None:
        """Set aside the history of monitors whose ids now belong to other monitors."""

    def unpark_history(self, monitors: Iterable[int]) -> None:
        """Give set-aside history back (when a failed apply is reverted).

        ``monitors`` are the ids that belong to the former monitors again: history written to
        these ids meanwhile is deleted.
        """

    def delete(self, table: str, keys: Iterable[Any]) -> None:
        """Delete rows by key (`id`, or `key` of setting)."""

    def make_room(self, table: str, rows: Iterable[tuple[Any, Sequence[str]]]) -> None:
        """Free old UNIQUE values first, where rows swap them: (key, columns) for each row."""

    def upsert(
        self, table: str, columns: Sequence[str], keep: Collection[str], rows: Iterable[Row]
    ) -> None:
        """Insert rows; if a key exists, update its row except the columns in ``keep``.

        Raises SnapshotRefused if the rows break a rule of the table (UNIQUE, NOT NULL, CHECK).
        """

    def broken_references(self, tables: Iterable[str]) -> list[str]:
        """Declared references that are dangling now, in words, at most ten."""


def named_triggers(reader: Reader) -> list[str]:
    """The triggers on replicated tables, in words; Kuma itself has none."""
    return [f"{name} on {table}" for name, table in reader.triggers() if table in TABLES]


class Watch(Protocol):
    """Tells whether rows of the catalog have changed, at next to no cost. Raises DatabaseErrors.

    It is used by one thread, and holds nothing of the database open after `close`.
    """

    def stirred(self) -> bool:
        """Whether the tables may have been written since the last call; True if nobody can tell.

        Heartbeats do not count, as far as the engine can tell. It reads no row.
        """

    def digest(self) -> str:
        """A digest of the rows now, exact, without runtime and quiet columns.

        A digest after `stirred` is of all that the call has seen.
        """

    def close(self) -> None:
        """Let go of what it holds; the next call opens it again, and misses nothing."""


class Store(Protocol):
    """The database of one instance. Methods raise DatabaseErrors and nothing else."""

    engine: str
    """sqlite, mariadb: for messages, and in what is published"""

    embedded: bool
    """It runs inside Kuma: it is reachable only while Kuma runs, and is written then."""

    outlives_us: bool
    """Its server may commit a transaction after its client died. A writer waits for that."""

    shows_processes: bool
    """True: `holders` are processes. False: they are connections of unknown owners."""

    streamable: bool
    """Litestream can stream it: all of it is one file of SQLite."""

    lenient: bool
    """It may hold values that another engine cannot hold."""

    @property
    def representation(self) -> Representation:
        """How this engine holds values of another engine."""

    def choosing(self, settings: Collection[str]) -> Store:
        """A copy of this store that replicates other keys of `setting`."""

    def read(self, earlier: Path | None = None) -> AbstractContextManager[Reader]:
        """One consistent read; never blocks Kuma, never writes.

        ``earlier``: the folder of a dump of this database, beside which `Reader.remember` noted
        how the rows lay then, or where one may be later. Rows that the engine can prove to be the
        same are taken from there. The folder need not exist, and may be damaged.
        """

    def write(
        self,
        look: Callable[[Reader], object] | None = None,
        monitors: Collection[int] | None = None,
        earlier: Path | None = None,
    ) -> AbstractContextManager[Writer]:
        """One transaction; rolled back when the block raises.

        ``look`` reads what the block relies on. It is called right before the transaction, while
        others may write, if the engine can prove later what they have not written
        (`Writer.unchanged`). What it raises is raised on.

        ``monitors``: the block changes the rows of no others. An engine that locks rows then lets
        Kuma write heartbeats of all others meanwhile.

        ``earlier``: as for `read`, for what ``look`` reads.
        """

    def exists(self) -> bool:
        """Whether there is a database at all (an empty data directory has none)."""

    def in_use(self) -> bool:
        """Whether another process (Kuma) has the database open."""

    def holders(self) -> tuple[Process, ...]:
        """Other users of the database, as far as they are visible."""

    def check(self, tables: Collection[str] | None = None) -> Sequence[str]:
        """Check for damage; returns findings, in words, that prevent nothing.

        With ``tables``, before a publish of them: raises DatabaseCorrupt for damage in them,
        RowFault for rows that Kuma's own tables would refuse. With None, before a write: raises
        DatabaseCorrupt for damage anywhere, because a write could spread it.
        """

    def check_writable(self) -> None:
        """Check, without a write, that rows can be written; call before Kuma is stopped.

        Raises DatabaseError.
        """

    def fingerprint(self) -> str:
        """A cheap text that changes when rows change. Empty if it cannot be trusted yet.

        Other writes (a heartbeat) may change it too.
        """

    def watch(self, tables: Collection[str]) -> Watch:
        """A watch over these tables; nothing is opened yet."""

    def beats(self) -> Beats:
        """What Kuma's monitors do; nothing is opened yet."""

    def purge_history(self) -> int:
        """Delete history of no monitor, in short transactions; returns the number of rows."""

    def obstacles(self, tables: Collection[str]) -> list[str]:
        """Why rows of these tables cannot be written, in words, as far as it shows before.

        Empty for an engine whose `check_writable` runs the statements.
        """
        return []

    def rehearsal(self, folder: Path, *, brief: bool) -> AbstractContextManager[Writer | None]:
        """A writer all of whose changes are taken back after the block; None if there is no way.

        ``brief``: it deletes no row and writes few. Then it may write in this database, in a
        transaction that is rolled back. Else it writes on a copy in ``folder``, which is created,
        and deleted after the block. Raises DatabaseError, OSError.
        """
        return nullcontext()

    def scratch(self, data_dir: Path) -> AbstractContextManager[Store]:
        """An empty database of the same schema for the block, for a drill; this one is only read.

        SQLite: kuma.db in ``data_dir``, which its caller removes. MariaDB: a database of its own
        on the same server, dropped after the block. Raises DatabaseErrors, StateError.
        """

    def forget_scratch(self) -> None:
        """Drop what a killed drill left outside its folder; raises DatabaseError."""
        return

    @property
    def quieten(self) -> Callable[[], Account] | None:
        """Prepare this scratch for a Kuma without active monitors, notifications and connections.

        None: no throw-away Kuma can boot on this engine. The call raises SnapshotRefused if no
        user could log in, DatabaseError, OSError.
        """
