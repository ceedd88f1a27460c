"""Kuma's database in SQLite: consistent reads that never disturb Kuma, and looks at its health."""

from __future__ import annotations

import contextlib
import copy
import errno
import os
import sqlite3
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import TYPE_CHECKING, Any
from urllib.parse import quote as url_quote

from replicator_kuma.adapters.database.holders import Holder, holders
from replicator_kuma.adapters.database.migrations import read_migrations
from replicator_kuma.adapters.database.sql import SelectSql, double_quoted
from replicator_kuma.adapters.database.sqlite.trusted_file import require_open, vouch
from replicator_kuma.base.effects import effect
from replicator_kuma.base.errors import (
    DatabaseCorrupt,
    DatabaseError,
    DatabaseLocked,
    DatabaseMissing,
)
from replicator_kuma.dump.catalog import HISTORY, LOCAL, SETTINGS, TABLES, Dangle
from replicator_kuma.dump.schema import Column, Schema, TableSchema
from replicator_kuma.dump.select import Dangling, Select
from replicator_kuma.dump.transform.represent import Representation

if TYPE_CHECKING:
    from replicator_kuma.adapters.database.sqlite.writer import SqliteWriter

BUSY_TIMEOUT = 5.0
"""Seconds to wait for another connection's lock; Kuma itself waits as long (since 2.3.1)."""
_NOT_OURS = (
    "Look at the rights of kuma.db, of its -wal and -shm and of their folder, and whether they are "
    "mounted read-only. Run the replicator as root, or as Kuma's own user."
)
_NO_FILE = (
    "Look what made it: Docker makes a folder where a file that it is to mount is not there. Mount "
    "the folder that holds kuma.db, and no single file."
)
_SETTLE_NS = 2_000_000_000
"""A file changed within the last two seconds can change again without a new time stamp."""
_LINKS = tuple(n for n, t in TABLES.items() if t.unkeyed and t.key[0] == "monitor_id")
"""Links of a monitor: those that an instance chose not to replicate go with it too."""
_DEFINITION = (
    "Nothing was published or changed. SQLite cannot read the definition that is named in "
    "brackets, and so no table. If somebody made it by hand (or with a newer SQLite), the rows are "
    "whole: copy kuma.db, stop Kuma, and drop that object with the SQLite that made it."
)
_PURGE_ROWS = 2_000
"""Rows a transaction of `purge_history`: well under 500 ms, so that Kuma's HTTP does not wait."""


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Turn sqlite3's errors into DatabaseErrors by their code, never by their text."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        # a row's value can stand in the text of no sqlite3 error but these of a constraint,
        # which the writer translates itself
        raise _translate(error) from error


def _translate(error: sqlite3.DatabaseError) -> DatabaseError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    match code:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return DatabaseLocked("Kuma's database is locked by another program")
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            # the code is that of any damage: only the text tells what one definition is at fault
            hint = _DEFINITION if str(error).startswith("malformed database schema (") else None
            return DatabaseCorrupt(f"Kuma's database is damaged: {error}", hint=hint)
        case sqlite3.SQLITE_CANTOPEN:
            # it is there and readable (`_require_file`): what SQLite makes beside it is not
            return DatabaseError(f"Kuma's database cannot be opened: {error}", hint=_NOT_OURS)
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
            return DatabaseError(f"Kuma's database cannot be written: {error}", hint=_NOT_OURS)
        case sqlite3.SQLITE_FULL:
            return DatabaseError(
                "no space left for Kuma's database; nothing was changed",
                hint="Free some space in DATA_DIR and in TMPDIR.",
            )
        case sqlite3.SQLITE_IOERR:
            return DatabaseError(
                f"Kuma's database cannot be read or written: {error}",
                hint="Look at the disk, or at the server that the folder comes from: dmesg, df.",
            )
    return DatabaseError(f"Kuma's database: {error}")


class SqliteReader:
    """Reads of one connection that is inside a transaction."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        settings: frozenset[str] = SETTINGS,
        fingerprint: str = "",
    ) -> None:
        """``fingerprint`` is of the files before the transaction began."""
        self._connection = connection
        self._before = fingerprint
        self.schema = read_schema(connection, settings)
        self._whole = set[str]()
        """tables of which no reference dangles at this instant"""

    def rows(self, select: Select, keys: Sequence[Any] | None = None) -> Iterator[tuple[Any, ...]]:
        key = double_quoted("key" if select.values is not None else "id")
        chosen = None if select.values is None else sorted(select.values)
        wanted = chosen if keys is None else keys
        where = f"t.{key} IN ({','.join('?' * len(wanted))})" if wanted is not None else ""
        sql = SelectSql(select, self.schema).rows(where, whole=select.table in self._whole)
        done = 0
        with explained():
            try:
                for row in self._connection.execute(sql, wanted or ()):
                    yield row
                    done += 1
                return
            except sqlite3.OperationalError as error:
                # CPython's own message for text that is no UTF-8; it has no SQLite error code
                if getattr(error, "sqlite_errorcode", None) is not None:
                    raise
            cursor = self._connection.cursor()
            with self._raw_text():
                for number, row in enumerate(cursor.execute(sql, wanted or ())):
                    if number >= done:
                        yield row

    @contextlib.contextmanager
    def _raw_text(self) -> Iterator[None]:
        """Text that is no UTF-8 keeps its bytes; a slower way, so only where it is needed."""
        self._connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
        try:
            yield
        finally:
            self._connection.text_factory = str

    def dangling(self, select: Select) -> list[Dangling]:
        found = []
        for reference, sql in SelectSql(select, self.schema).dangling():
            with explained():
                rows = self._connection.execute(sql).fetchone()[0]
            if rows:
                column, parent = reference.column, reference.table
                found.append(Dangling(select.table, column, parent, rows, reference.dangle))
        if all(dangling.dangle is Dangle.KEEP for dangling in found):
            self._whole.add(select.table)
        return found

    def count(self, table: str) -> int:
        with explained():
            sql = f"SELECT count(*) FROM {double_quoted(table)}"
            return int(self._connection.execute(sql).fetchone()[0])

    def setting(self, key: str) -> str | None:
        if "setting" not in self.schema.tables:
            return None
        with explained(), self._raw_text():
            row = self._connection.execute(
                'SELECT value FROM "setting" WHERE "key" = ?', (key,)
            ).fetchone()
        return None if row is None or row[0] is None else str(row[0])

    def fingerprint(self) -> str:
        return self._before

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """All rows of a statement whose result is small."""
        with explained():
            return self._connection.execute(sql).fetchall()


def read_schema(connection: sqlite3.Connection, settings: frozenset[str] = SETTINGS) -> Schema:
    """Tables, columns and migrations as they are; raises DatabaseMigrating while they change."""
    from sqlite_utils import Database

    with explained():
        database = Database(connection, recursive_triggers=False, execute_plugins=False)
        tables = {}
        for name in database.table_names():
            if name.startswith("sqlite_"):
                continue
            if name not in TABLES and name not in LOCAL:
                # nobody's business: it may need a module or a function that is not here
                tables[name] = TableSchema({})
                continue
            table = database.table(name)
            columns = {
                c.name: Column(c.name, c.type.lower(), bool(c.notnull), c.default_value)
                for c in table.columns
            }
            unique = tuple(
                tuple(index.columns)
                for index in table.indexes
                if index.unique and index.columns and None not in index.columns
            )
            tables[name] = TableSchema(columns, unique)
        migrations = read_migrations(
            tables, lambda sql: connection.execute(sql).fetchall(), double_quoted
        )
    return Schema(tables, migrations, settings)


class SqliteStore:
    """kuma.db in a data directory."""

    engine = "sqlite"
    embedded = False

    def __init__(self, data_dir: Path, settings: frozenset[str] = SETTINGS) -> None:
        self.path = data_dir / "kuma.db"
        self._settings = settings

    @property
    def file(self) -> Path:
        """The real file, as SQLite finds it: where kuma.db is a link, -wal and -shm lie there."""
        return Path(os.path.realpath(self.path))

    @property
    def representation(self) -> Representation:
        from replicator_kuma.adapters.database.sqlite.values import SqliteRepresentation

        return SqliteRepresentation()

    @property
    def settings(self) -> frozenset[str]:
        """The keys of `setting` that are replicated."""
        return self._settings

    def choosing(self, settings: Collection[str]) -> SqliteStore:
        made = copy.copy(self)
        made._settings = frozenset(settings)
        return made

    def beside(self, data_dir: Path) -> SqliteStore:
        """The same choice of settings in another data directory."""
        return SqliteStore(data_dir, self._settings)

    def exists(self) -> bool:
        try:
            self.path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            return True  # it is there, in a way that `connect` explains
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
        """Raise DatabaseMissing or DatabaseError where SQLite would find no file that it may read.

        SQLite itself says "unable to open database file", whatever the reason is.
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
        """Why there is no way to the file."""
        if error.errno == errno.ELOOP:
            return DatabaseMissing(f"there is no database {self.path}: the link leads to itself")
        linked = os.path.islink(self.path)  # noqa: PTH114  (Path's raises, without permission)
        leads = f": it is a link to {self.file}" if linked else ""
        if isinstance(error, PermissionError):
            return DatabaseError(f"this user may not reach {self.path}{leads}", hint=_NOT_OURS)
        return DatabaseMissing(f"there is no database {self.path}{leads}")

    @contextlib.contextmanager
    def read(self) -> Iterator[SqliteReader]:
        before = self.fingerprint()
        connection = self._readable()
        try:
            yield SqliteReader(connection, self._settings, before)
        finally:
            connection.close()

    def _readable(self) -> sqlite3.Connection:
        """A connection inside a read transaction.

        Read-only first. After a crash SQLite has to roll back a journal or recover the WAL, which
        a read-only connection may not do: then, and only then, one that may write.
        """
        for mode in ("ro", "rw"):
            connection = self.connect(mode)
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
    def write(self) -> Iterator[SqliteWriter]:
        from replicator_kuma.adapters.database.sqlite.writer import SqliteWriter

        connection = self.connect()
        try:
            with explained():
                # foreign keys off: with them on, a row that is replaced takes its heartbeats
                # along, and children could not come before parents; the references are checked
                # before the commit instead. Cannot be changed inside a transaction.
                connection.execute("PRAGMA foreign_keys = OFF")
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute("BEGIN IMMEDIATE")
            try:
                effect("transaction begun")
                yield SqliteWriter(connection, self._settings, self.fingerprint)
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

    def in_use(self) -> bool:
        """Whether another process has the database open.

        In WAL mode, which Kuma always sets, each connection holds a lock that an exclusive
        locking_mode cannot pass. A database in another mode belongs to no running Kuma.
        """
        if not self.exists():
            return False
        connection = self.connect(timeout=0)
        try:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
            return False
        except sqlite3.DatabaseError as error:
            if isinstance(_translate(error), DatabaseLocked):
                return True
            raise _translate(error) from error
        finally:
            connection.close()

    def check(self, tables: Collection[str] | None = None) -> Sequence[str]:
        from replicator_kuma.adapters.database.sqlite.integrity import examine

        connection = self._readable()
        try:
            with explained():
                return examine(connection, self.path, tables, self._settings)
        finally:
            connection.close()

    def check_writable(self) -> None:
        self._require_file()
        if not (os.access(self.file, os.W_OK) and os.access(self.file.parent, os.W_OK)):
            raise DatabaseError(f"this user may not write to {self.path}", hint=_NOT_OURS)
        connection = self.connect()
        try:
            with explained():
                connection.execute("BEGIN IMMEDIATE")  # and nothing else: it is held no millisecond
                connection.execute("ROLLBACK")
        except DatabaseLocked as error:
            found = ", ".join(map(str, self.holders()))
            who = f"; {found} {'have' if ',' in found else 'has'} it open" if found else ""
            raise DatabaseLocked(f"{error}{who}") from error
        finally:
            connection.close()

    def holders(self) -> tuple[Holder, ...]:
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
            if suffix and not stat.st_size:  # a read alone makes an empty one: there is nothing
                parts.append("-")
                continue
            # SQLite as root gives the WAL its owner at each open, which is a new ctime
            changed = stat.st_mtime_ns if suffix else max(stat.st_mtime_ns, stat.st_ctime_ns)
            newest = max(newest, changed)
            parts.append(f"{stat.st_ino}.{stat.st_size}.{changed}")
        if abs(time.time_ns() - newest) < _SETTLE_NS:
            return ""
        return ":".join(parts)

    def purge_history(self) -> int:
        connection = self.connect()
        try:
            with explained():
                for table in _LINKS:
                    _purge(connection, table)
                return sum(_purge(connection, table) for table in HISTORY)
        finally:
            connection.close()


def _purge(connection: sqlite3.Connection, table: str) -> int:
    known = connection.execute(
        "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = ?", (table,)
    ).fetchone()[0]
    if not known:
        return 0
    lost = [
        row[0]
        for row in connection.execute(
            f"SELECT DISTINCT monitor_id FROM {table} AS h "
            "WHERE NOT EXISTS (SELECT 1 FROM monitor AS m WHERE m.id = h.monitor_id)"
        )
    ]
    gone = 0
    for monitor in lost:
        while True:
            # asked again in each transaction: Kuma may have made a monitor with this id
            cursor = connection.execute(
                f"DELETE FROM {table} WHERE id IN (SELECT id FROM {table} WHERE monitor_id = ?1 "
                "AND NOT EXISTS (SELECT 1 FROM monitor WHERE id = ?1) LIMIT ?2)",
                (monitor, _PURGE_ROWS),
            )
            gone += cursor.rowcount
            if cursor.rowcount < _PURGE_ROWS:
                break
    return gone
