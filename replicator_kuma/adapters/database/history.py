"""History of monitors: sets it aside, gives it back, and deletes it once it is not needed.

On a server it works in slices. One statement over a whole fleet's history would exceed the
timeout of a silent connection, and each retry would be an outage that fails in the same way.

`purge` runs beside Kuma. So its transactions are short, and it pauses after each: a writer that
finds SQLite locked looks again after a while, and would find the next transaction.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable

from replicator_kuma.adapters.database import Reader, Row
from replicator_kuma.adapters.database.sql import MONITOR_LINKS, chunks
from replicator_kuma.dump.catalog import HISTORY

FEWEST, MOST = 50, 10_000
"""Rows that a transaction of `purge` deletes: it starts with few, and finds what fits."""
FAST, SLOW = 0.010, 0.025
"""Seconds of such a transaction: below it may delete more, above it has to delete fewer."""
_PAUSE = 2.0
"""The pause after a transaction of `purge`, in its own lengths."""
SLICE = 10_000
"""Rows a statement: half a second or so."""
_IDS = 500


class History(ABC):
    """The history in one database. An engine defines where it is set aside."""

    aside: str
    """a condition on ids: they are places"""
    limit = ""
    """the SQL that limits a statement to SLICE rows; empty: one statement changes all"""

    def __init__(
        self,
        ask: Callable[[str], list[Row]],
        run: Callable[[str, str], int],
        there: Collection[str],
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        """``run`` runs a statement that changes a table, and returns the number of rows.

        ``there``: the existing tables. ``sleep`` is called between transactions of `purge`.
        """
        self._sleep, self._most = sleep, FEWEST
        self._ask, self._run, self._there = ask, run, there
        self._tables = [table for table in HISTORY if table in there]

    @abstractmethod
    def place(self, monitor: int) -> int | None:
        """The id under which a monitor's history is set aside; None if there is no such id."""

    @abstractmethod
    def origin(self, place: int) -> int:
        """The id of the monitor whose history is set aside at ``place``."""

    @abstractmethod
    def some(self, table: str, which: str, most: int) -> str:
        """A statement that deletes at most ``most`` rows."""

    def park(self, monitors: Iterable[int]) -> None:
        """See `Writer.park_history`."""
        for ids in chunks(monitors, _IDS):
            places = {place: i for i in ids if (place := self.place(i)) is not None}
            # a monitor may have the very id that the place would be (none ever had, so far); and
            # what is there already is older: that of the rows from before two applies
            taken = self._monitors(places) | self._having(f"IN ({_listed(places)})")
            free = {i: place for place, i in places.items() if place not in taken}
            for table in self._tables:
                for i in self._having(f"IN ({_listed(ids)})", table):
                    self._move(table, i, free[i]) if i in free else self._remove(table, i)

    def unpark(self, monitors: Iterable[int]) -> None:
        """See `Writer.unpark_history`."""
        places = self._having(self.aside)
        aside = {self.origin(place): place for place in places - self._monitors(places)}
        back = self._monitors(aside)
        for ids in chunks(sorted(back.union(monitors)), _IDS):
            for table in self._tables:
                for i in self._having(f"IN ({_listed(ids)})", table):
                    self._remove(table, i)
        for ids in chunks(sorted(back), _IDS):
            for table in self._tables:
                for place in self._having(f"IN ({_listed(aside[i] for i in ids)})", table):
                    self._move(table, place, self.origin(place))

    def purge(self) -> int:
        """Delete links and history of deleted monitors; returns the number of history rows."""
        if "monitor" not in self._there:
            return 0
        for table in MONITOR_LINKS:
            if table in self._there:
                self._purge(table)
        return sum(map(self._purge, self._tables))

    def _purge(self, table: str) -> int:
        lost = self._ask(
            f"SELECT had.monitor_id FROM (SELECT DISTINCT monitor_id FROM {table}) AS had "
            "LEFT JOIN monitor AS m ON m.id = had.monitor_id "
            "WHERE m.id IS NULL AND had.monitor_id IS NOT NULL"
        )
        gone = 0
        for (monitor,) in lost:
            # checked again in each transaction: Kuma may have made a monitor with this id
            alone = f"NOT EXISTS (SELECT 1 FROM monitor WHERE id = {int(monitor)})"
            which = f"monitor_id = {int(monitor)} AND {alone}"
            rows = most = 1
            while rows >= most:
                most, began = self._most, time.monotonic()
                rows = self._run(self.some(table, which, most), table)
                gone += rows
                self._pace(time.monotonic() - began, full=rows == most)
        return gone

    def _pace(self, took: float, *, full: bool) -> None:
        """Let others write, and choose the size of the next transaction."""
        if took > SLOW:
            self._most = max(FEWEST, self._most // 2)
        elif took < FAST and full:
            self._most = min(MOST, self._most * 3 // 2)
        self._sleep(_PAUSE * took)

    def _monitors(self, ids: Iterable[int]) -> set[int]:
        """The ids among these that belong to monitors."""
        found = set[int]()
        for chunk in chunks(ids, _IDS):
            sql = f"SELECT id FROM monitor WHERE id IN ({_listed(chunk)})"
            found.update(row[0] for row in self._ask(sql))
        return found

    def _having(self, which: str, *tables: str) -> set[int]:
        """Ids of monitors that have a row in one of the tables (of all of them, unless named)."""
        found = set[int]()
        for table in tables or self._tables:
            sql = f"SELECT DISTINCT monitor_id FROM {table} WHERE monitor_id {which}"
            found.update(row[0] for row in self._ask(sql))
        return found

    def _move(self, table: str, old: int, new: int) -> None:
        self._in_slices(table, f"UPDATE {table} SET monitor_id = {new}", old)

    def _remove(self, table: str, monitor: int) -> None:
        self._in_slices(table, f"DELETE FROM {table}", monitor)

    def _in_slices(self, table: str, change: str, monitor: int) -> None:
        sql = f"{change} WHERE monitor_id = {monitor}{self.limit}"
        while self._run(sql, table) == SLICE and self.limit:
            pass


def rows_of(reader: Reader, monitors: Collection[int]) -> int:
    """How many rows of history these monitors have."""
    if not monitors:
        return 0
    where = f"WHERE monitor_id IN ({_listed(monitors)})"
    there = [table for table in HISTORY if table in reader.schema.tables]
    return sum(reader.query(f"SELECT count(*) FROM {table} {where}")[0][0] for table in there)


def _listed(ids: Iterable[int]) -> str:
    return ", ".join(str(int(i)) for i in ids) or "NULL"
