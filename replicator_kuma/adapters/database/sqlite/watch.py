"""Notices edits of Kuma's rows in SQLite: pages in the log are the filter, a digest is the judge.

A heartbeat writes pages of other tables. So one read of a few bytes a page tells that nobody has
edited anything, and the rows themselves are read only after a hit.
"""

from __future__ import annotations

import contextlib
import hashlib
import marshal
import sqlite3
from collections.abc import Callable, Collection
from pathlib import Path

from replicator_kuma.adapters.database.sql import double_quoted
from replicator_kuma.adapters.database.sqlite.reader import explained
from replicator_kuma.adapters.database.sqlite.wal import News, Tail, pages_of
from replicator_kuma.dump.catalog import TABLES

_ROWS = 256
_EXACT = 2
"""marshal's last format whose bytes depend on the values alone"""


class SqliteWatch:
    """See `Watch`. While Kuma has the database open, its connections here last for a digest only.

    A connection that stays open would look like a Kuma that has not ended (`Store.in_use`).
    """

    def __init__(
        self,
        path: Path,
        tables: Collection[str],
        settings: Collection[str],
        connect: Callable[[], sqlite3.Connection],
        readable: Callable[[], sqlite3.Connection],
    ) -> None:
        """``connect`` opens the database; ``readable`` does so, inside a read transaction."""
        self._tables = [name for name in TABLES if name in tables]
        self._settings = sorted(settings)
        self._connect = connect
        self._readable = readable
        self._tail = Tail(path)
        self._pages: Collection[int] | None = None
        """those of the tables, at the last digest; None if this SQLite cannot tell"""
        self._version = 0
        self._unproved = False
        """the last digest may lack a transaction that was being committed"""

    def stirred(self) -> bool:
        unproved, self._unproved = self._unproved, False
        news = self._tail.news()
        if news is None or self._pages is None:
            return news != News() or unproved
        hit = not news.pages.isdisjoint(self._pages)
        return hit or unproved or news.version not in (None, self._version)

    def digest(self) -> str:
        self._await_commit()
        with contextlib.closing(self._readable()) as connection, explained():
            pages = pages_of(connection, self._tables)
            self._pages = None if pages is None else frozenset(pages)
            self._version = connection.execute("PRAGMA schema_version").fetchone()[0]
            hasher = hashlib.sha256()
            for name in self._tables:
                self._hash(connection, name, hasher.update)
        return hasher.hexdigest()

    def close(self) -> None:
        self._tail.close()

    def _await_commit(self) -> None:
        """Wait until the rows of each transaction can be read whose end is in the log.

        Its writer holds SQLite's one write lock until then. Raises DatabaseError.
        """
        with contextlib.closing(self._connect()) as connection, explained():
            try:
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("ROLLBACK")
            except sqlite3.OperationalError as error:
                code = error.sqlite_errorcode & 0xFF
                if code not in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN):
                    raise
                self._unproved = True  # this user may only read: so the rows are read once more

    def _hash(
        self, connection: sqlite3.Connection, table: str, add: Callable[[bytes], object]
    ) -> None:
        known = TABLES[table]
        found = connection.execute("SELECT name FROM pragma_table_xinfo(?)", (table,))
        columns = sorted({str(name) for (name,) in found} - known.not_compared)
        add(marshal.dumps((table, columns), _EXACT))
        if not columns:
            return
        chosen = ", ".join(map(double_quoted, columns))
        order = chosen if known.unkeyed else ", ".join(map(double_quoted, known.key))
        keys = self._settings if table == "setting" else []
        where = f"WHERE key IN ({','.join('?' * len(keys))})" if table == "setting" else ""
        sql = f"SELECT {chosen} FROM {double_quoted(table)} {where} ORDER BY {order}"
        connection.text_factory = str
        try:
            _add_rows(connection.execute(sql, keys), add)
        except sqlite3.OperationalError as error:
            # CPython raises this for text that is not UTF-8, without an SQLite error code
            if getattr(error, "sqlite_errorcode", None) is not None:
                raise
            connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
            _add_rows(connection.execute(sql, keys), add)


def _add_rows(cursor: sqlite3.Cursor, add: Callable[[bytes], object]) -> None:
    while rows := cursor.fetchmany(_ROWS):
        add(marshal.dumps(rows, _EXACT))
