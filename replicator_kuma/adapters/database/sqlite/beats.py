"""Heartbeats in SQLite, through a connection that lasts for one read."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from replicator_kuma.adapters.database import Row
from replicator_kuma.adapters.database.beat_log import INDEX, TABLES, Ask, BeatLog
from replicator_kuma.adapters.database.sqlite.reader import explained


class SqliteBeats(BeatLog):
    """See `Beats`. A connection that stayed open would look like a Kuma that has not ended."""

    def __init__(self, readable: Callable[[], sqlite3.Connection]) -> None:
        """``readable`` opens the database, inside a read transaction, and waits for no lock."""
        super().__init__()
        self._readable = readable

    @contextlib.contextmanager
    def _instant(self) -> Iterator[Ask]:
        with contextlib.closing(self._readable()) as connection, explained():

            def ask(sql: str, values: Sequence[object]) -> list[Row]:
                statement = sql.replace("%s", "?")
                try:
                    return connection.execute(statement, values).fetchall()
                except sqlite3.OperationalError as error:
                    # CPython raises this for text that is not UTF-8, without an SQLite error code
                    if getattr(error, "sqlite_errorcode", None) is not None:
                        raise
                # texts are shown here, and need not come back exactly
                connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
                return connection.execute(statement, values).fetchall()

            yield ask

    def _read_schema(self, ask: Ask) -> Mapping[str, Collection[str]]:
        found = {
            table: frozenset(
                row[0] for row in ask("SELECT name FROM pragma_table_info(%s)", [table])
            )
            for table in TABLES
        }
        return {table: columns for table, columns in found.items() if columns}

    def _by_important(self, ask: Ask) -> str:
        sql = "SELECT 1 FROM sqlite_master WHERE type = 'index' AND name = %s"
        # without it SQLite looks through all important heartbeats for each monitor
        return f"INDEXED BY {INDEX}" if ask(sql, [INDEX]) else ""
