"""History of monitors in SQLite: set aside, given back, and purged once nobody needs it."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Collection, Iterable, Sequence

from replicator_kuma.adapters.database.sql import MONITOR_LINKS
from replicator_kuma.dump.catalog import HISTORY

_IDS = 1_000
_PURGE_ROWS = 2_000
"""Rows a transaction of `purge_history`: well under 500 ms, so that Kuma's HTTP does not wait."""


class History:
    """The ``tables`` of history that there are, in the transaction of ``connection``."""

    def __init__(self, connection: sqlite3.Connection, tables: Sequence[str]) -> None:
        self._connection = connection
        self._tables = tables

    def park(self, monitors: Iterable[int]) -> None:
        """See `Writer.park_history`."""
        waiting = iter(monitors)
        while ids := set(itertools.islice(waiting, _IDS)):
            # what is set aside already is older: that of the rows from before two applies
            kept = ids & self._aside()
            for table in self._tables:
                self._of(f"DELETE FROM {table} WHERE monitor_id = ?", kept)
                move = f"UPDATE {table} SET monitor_id = -monitor_id WHERE monitor_id = ?"
                self._of(move, ids - kept)

    def unpark(self, monitors: Iterable[int]) -> None:
        """See `Writer.unpark_history`."""
        there = self._connection.execute("SELECT id FROM monitor")
        back = self._aside().intersection(row[0] for row in there)
        gone = back.union(monitors)
        for table in self._tables:
            self._of(f"DELETE FROM {table} WHERE monitor_id = ?", gone)
            move = f"UPDATE {table} SET monitor_id = -monitor_id WHERE monitor_id = -?"
            self._of(move, back)

    def _of(self, sql: str, monitors: Collection[int]) -> None:
        self._connection.executemany(sql, ((monitor,) for monitor in sorted(monitors)))

    def _aside(self) -> set[int]:
        """Monitors of which history is set aside, in any table."""
        found = set[int]()
        for table in self._tables:
            sql = f"SELECT DISTINCT -monitor_id FROM {table} WHERE monitor_id < 0"
            found.update(row[0] for row in self._connection.execute(sql))
        return found


def purge(connection: sqlite3.Connection) -> int:
    """Delete links and history of monitors that are gone; how many rows of history."""
    for table in MONITOR_LINKS:
        _purge(connection, table)
    return sum(_purge(connection, table) for table in HISTORY)


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
