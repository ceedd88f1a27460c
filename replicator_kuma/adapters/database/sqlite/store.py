"""Kuma's database in SQLite: consistent reads that never disturb Kuma, writes and checks."""

from __future__ import annotations

import contextlib
import copy
import errno
import os
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from urllib.parse import quote as url_quote

from replicator_kuma.adapters.database import Account, Reader
from replicator_kuma.adapters.database.holders import holders
from replicator_kuma.adapters.database.sqlite import pages
from replicator_kuma.adapters.database.sqlite.beats import SqliteBeats
from replicator_kuma.adapters.database.sqlite.reader import (
    _NOT_OURS,
    Proof,
    SqliteReader,
    _translate,
    explained,
)
from replicator_kuma.adapters.database.sqlite.trusted_file import require_open, vouch
from replicator_kuma.adapters.database.sqlite.wal import (
    SETTLE_NS,
    pages_of,
    pages_since,
    read_log,
)
from replicator_kuma.adapters.database.sqlite.watch import SqliteWatch
from replicator_kuma.adapters.database.sqlite.writer import SqliteHistory, SqliteWriter
from replicator_kuma.base.effects import effect
from replicator_kuma.base.errors import (
    DatabaseError,
    DatabaseLocked,
    DatabaseMissing,
)
from replicator_kuma.base.processes import Process
from replicator_kuma.dump.catalog import SETTINGS, TABLES
from replicator_kuma.dump.transform.represent import Representation

BUSY_TIMEOUT = 5.0
"""Seconds to wait for another connection's lock; Kuma itself waits as long (since 2.3.1)."""
_NO_FILE = (
    "Look what made it: Docker makes a folder where a file that it is to mount is not there. Mount "
    "the folder that holds kuma.db, and no single file."
)
_SETTLE_NS = SETTLE_NS


class SqliteStore:
    """kuma.db in a data directory."""

    engine = "sqlite"
    embedded = False
    outlives_us = False
    shows_processes = True
    streamable = True
    lenient = True

    def __init__(self, data_dir: Path, settings: frozenset[str] = SETTINGS) -> None:
        self.path = data_dir / "kuma.db"
        self._settings = settings

    @property
    def file(self) -> Path:
        """The real file: if kuma.db is a link, SQLite keeps -wal and -shm beside its target."""
        return Path(os.path.realpath(self.path))

    @property
    def representation(self) -> Representation:
        from replicator_kuma.adapters.database.sqlite.values import SqliteRepresentation

        return SqliteRepresentation()

    def choosing(self, settings: Collection[str]) -> SqliteStore:
        made = copy.copy(self)
        made._settings = frozenset(settings)
        return made

    def exists(self) -> bool:
        try:
            self.path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            return True  # it is there, but unusable: `connect` explains why
        return True

    def connect(self, mode: str = "rw", timeout: float = BUSY_TIMEOUT) -> sqlite3.Connection:
        """A connection in autocommit; raises DatabaseMissing where there is no file."""
        self._require_file()
        expected = vouch(self.path)
        with explained():
            connection = sqlite3.connect(
                f"file:{url_quote(os.fsencode(self.path.absolute()))}?mode={mode}",
                uri=True,
                isolation_level=None,
                timeout=timeout,
                check_same_thread=False,
            )
        try:
            require_open(self.path, expected)
        except BaseException:
            connection.close()
            raise
        return connection

    def _require_file(self) -> None:
        """Raise DatabaseMissing or DatabaseError if SQLite would find no readable file.

        SQLite itself only says "unable to open database file", for every reason.
        """
        try:
            mode = self.path.stat().st_mode
        except OSError as error:
            raise self._unreachable(error) from error
        if not S_ISREG(mode):
            kind, hint = ("a folder", _NO_FILE) if S_ISDIR(mode) else ("no regular file", None)
            raise DatabaseMissing(f"{self.path} is {kind}, and no database", hint=hint)
        if not os.access(self.path, os.R_OK):
            raise DatabaseError(f"this user may not read {self.path}", hint=_NOT_OURS)

    def _unreachable(self, error: OSError) -> DatabaseError:
        """The error that says why the file cannot be reached."""
        if error.errno == errno.ELOOP:
            return DatabaseMissing(f"there is no database {self.path}: the link leads to itself")
        linked = os.path.islink(self.path)  # noqa: PTH114  (Path's raises, without permission)
        leads = f": it is a link to {self.file}" if linked else ""
        if isinstance(error, PermissionError):
            return DatabaseError(f"this user may not reach {self.path}{leads}", hint=_NOT_OURS)
        return DatabaseMissing(f"there is no database {self.path}{leads}")

    @contextlib.contextmanager
    def read(self, earlier: Path | None = None) -> Iterator[SqliteReader]:
        before = self.fingerprint()
        with self._proved(earlier) as (connection, proof):
            yield SqliteReader(connection, self._settings, before, proof=proof)

    @contextlib.contextmanager
    def _proved(self, earlier: Path | None) -> Iterator[tuple[sqlite3.Connection, Proof | None]]:
        """A connection inside a read transaction, and what proves which rows it sees.

        Nothing proves that for a small database, and without an ``earlier`` dump's folder.
        """
        with contextlib.ExitStack() as stack:
            reading: pages.Pages | None = None
            if earlier is not None:
                with contextlib.suppress(OSError):
                    if self.file.stat().st_size >= pages.LEAST_BYTES:
                        reading = stack.enter_context(pages.ended(pages.Pages(self.file)))
            if reading is None or earlier is None:
                yield stack.enter_context(contextlib.closing(self._readable())), None
                return
            connection, header = reading.opened(self._readable)
            stack.enter_context(contextlib.closing(connection))
            yield connection, Proof(reading, header, earlier) if header else None

    def _readable(self, timeout: float = BUSY_TIMEOUT) -> sqlite3.Connection:
        """A connection inside a read transaction.

        It is read-only if possible. After a crash SQLite has to roll back a journal or recover the
        WAL, which a read-only connection cannot do: only then is a writable connection used.
        """
        for mode in ("ro", "rw"):
            connection = self.connect(mode, timeout)
            try:
                connection.execute("BEGIN")
                connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
                return connection
            except sqlite3.DatabaseError as error:
                connection.close()
                code = getattr(error, "sqlite_errorcode", 0) & 0xFF
                recover = code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN)
                if mode == "rw" or not recover:
                    raise _translate(error) from error
        raise AssertionError("unreachable")

    @contextlib.contextmanager
    def write(
        self,
        look: Callable[[Reader], object] | None = None,
        monitors: Collection[int] | None = None,
        earlier: Path | None = None,
    ) -> Iterator[SqliteWriter]:
        connection = self.connect()
        try:
            with explained():
                # foreign keys off: with them on, replacing a row would delete its heartbeats, and
                # children could not be written before parents. References are checked before the
                # commit instead. The setting cannot be changed inside a transaction.
                connection.execute("PRAGMA foreign_keys = OFF")
                connection.execute("PRAGMA synchronous = FULL")
                writer = self._begin(connection, look, earlier)
            try:
                yield writer
                effect("committing")
                with explained():
                    connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise
        finally:
            connection.close()
        effect("committed")

    def _begin(
        self,
        connection: sqlite3.Connection,
        look: Callable[[Reader], object] | None,
        earlier: Path | None,
    ) -> SqliteWriter:
        """Begin the transaction, and prove by the log which tables are as ``look`` saw them.

        The read of ``look`` stays open until then. So the log can begin anew only where that read
        saw all of it, and everything that is written after the read is in the log at the end.
        """
        plain = connection.execute("PRAGMA journal_mode").fetchone() != ("wal",)
        if look is None or plain:
            connection.execute("BEGIN IMMEDIATE")
            effect("transaction begun")
            return SqliteWriter(connection, self._settings, self.fingerprint)
        before = read_log(self.file)
        # Whoever was committing has ended when this lock is ours. So the read sees every frame of
        # `before`, except frames that nobody will ever commit.
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
        with self._proved(earlier) as (reading, proof):
            # the fingerprint of this instant, not of one before: the log may have begun anew since
            reader = SqliteReader(reading, self._settings, self.fingerprint(), proof=proof)
            look(reader)
            places: dict[int, str] | None = {}
            version = _schema_version(reading)
            # where nobody writes, such as a stopped Kuma, no page has to be told from another
            busy = read_log(self.file) != before
            if busy:
                places = pages_of(reading, TABLES)
            effect("taking the lock")
            connection.execute("BEGIN IMMEDIATE")
            effect("transaction begun")
            written = pages_since(before, read_log(self.file))
            if written and not busy:
                places = pages_of(reading, TABLES)
            if places is None or _schema_version(connection) != version:
                return SqliteWriter(connection, self._settings, self.fingerprint)
            changed = {places.get(page) for page in written}
            unchanged = frozenset(TABLES) - changed
            return SqliteWriter(
                connection, self._settings, self.fingerprint, reader.schema, unchanged
            )

    def in_use(self) -> bool:
        """Whether another process has the database open.

        In WAL mode, which Kuma always sets, each connection holds a lock that an exclusive
        locking_mode cannot pass. A database in another mode belongs to no running Kuma.
        """
        if not self.exists():
            return False
        try:
            with contextlib.closing(self.connect(timeout=0)) as connection, explained():
                connection.execute("PRAGMA locking_mode = EXCLUSIVE")
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("ROLLBACK")
        except DatabaseLocked:
            return True
        return False

    def check(self, tables: Collection[str] | None = None) -> Sequence[str]:
        from replicator_kuma.adapters.database.sqlite.integrity import examine

        with contextlib.closing(self._readable()) as connection, explained():
            return examine(connection, self.path, tables, self._settings)

    def check_writable(self) -> None:
        self._require_file()
        if not (os.access(self.file, os.W_OK) and os.access(self.file.parent, os.W_OK)):
            raise DatabaseError(f"this user may not write to {self.path}", hint=_NOT_OURS)
        try:
            with contextlib.closing(self.connect()) as connection, explained():
                connection.execute("BEGIN IMMEDIATE")  # the lock is held for less than 1 ms
                connection.execute("ROLLBACK")
        except DatabaseLocked as error:
            found = ", ".join(map(str, self.holders()))
            who = f"; {found} {'have' if ',' in found else 'has'} it open" if found else ""
            raise DatabaseLocked(f"{error}{who}") from error

    def holders(self) -> tuple[Process, ...]:
        return holders(self.path)

    def fingerprint(self) -> str:
        newest, parts, file = 0, [], self.file
        for suffix in ("", "-wal", "-journal"):
            try:
                stat = Path(f"{file}{suffix}").stat()
            except (FileNotFoundError, NotADirectoryError):
                parts.append("-")
                continue
            except OSError as error:
                raise self._unreachable(error) from error
            if suffix and not stat.st_size:  # an empty one: a read creates it, so it is no change
                parts.append("-")
                continue
            # SQLite as root sets the WAL's owner at each open, which changes its ctime
            changed = stat.st_mtime_ns if suffix else max(stat.st_mtime_ns, stat.st_ctime_ns)
            newest = max(newest, changed)
            parts.append(f"{stat.st_ino}.{stat.st_size}.{changed}")
        if abs(time.time_ns() - newest) < _SETTLE_NS:
            return ""
        return ":".join(parts)

    def watch(self, tables: Collection[str]) -> SqliteWatch:
        return SqliteWatch(self.path, tables, self._settings, self.connect, self._readable)

    def beats(self) -> SqliteBeats:
        return SqliteBeats(lambda: self._readable(timeout=0.0))

    def purge_history(self) -> int:
        def run(sql: str, _table: str) -> int:
            return connection.execute(sql).rowcount

        with contextlib.closing(self.connect()) as connection, explained():
            # as Kuma has it: no wait for the disk with the lock held
            connection.execute("PRAGMA synchronous = NORMAL")
            tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            there = {name for (name,) in tables}
            return SqliteHistory(lambda sql: connection.execute(sql).fetchall(), run, there).purge()

    def obstacles(self, tables: Collection[str]) -> list[str]:
        from replicator_kuma.adapters.database.sqlite.rehearsal import obstacles

        with self.read() as reader:
            return obstacles(reader, tables)

    @contextlib.contextmanager
    def rehearsal(self, folder: Path, *, brief: bool) -> Iterator[SqliteWriter | None]:
        from replicator_kuma.adapters.database.sqlite.rehearsal import on_a_copy, taken_back

        if brief:
            with (
                contextlib.closing(self.connect()) as connection,
                taken_back(connection, self._settings) as writer,
            ):
                if writer is not None:
                    yield writer
                    return
        with on_a_copy(self.path, self._settings, folder) as writer:
            yield writer

    @contextlib.contextmanager
    def scratch(self, data_dir: Path) -> Iterator[SqliteStore]:
        from replicator_kuma.adapters.database.sqlite.scratch import create

        made = SqliteStore(data_dir, self._settings)
        with self.read() as live:
            create(live, made.path, made.connect)
        yield made

    def forget_scratch(self) -> None:
        """Do nothing: the scratch file is deleted with the drill's folder."""

    def quieten(self) -> Account:
        from replicator_kuma.adapters.database.sqlite.scratch import quieten

        return quieten(self.path, self.connect)


def _schema_version(connection: sqlite3.Connection) -> int:
    """Another one after each change of a definition, and after VACUUM, which moves all pages."""
    return int(connection.execute("PRAGMA schema_version").fetchone()[0])
