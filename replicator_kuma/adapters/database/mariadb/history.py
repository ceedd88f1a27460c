"""History of monitors in MariaDB: set aside, given back, and purged once nobody needs it.

In slices: a statement over the history of a whole fleet takes longer than the server may be
silent, and each new attempt would be an outage that ends in the same way.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Sequence

from replicator_kuma.adapters.database.mariadb.connection import Link, quoted
from replicator_kuma.adapters.database.sql import MONITOR_LINKS
from replicator_kuma.dump.catalog import HISTORY

_PURGE_ROWS = 2_000
"""Rows a transaction of `purge_history`: no lock that Kuma would wait for."""
PARKED = 2**31
"""Set-aside history has its monitor's id and this: the ids are unsigned here."""
_SLICE = 10_000
"""Rows a statement: half a second or so."""
_IDS = 500


class History:
    """The ``tables`` of history that there are, in the transaction of ``link``."""

    def __init__(self, link: Link, tables: Sequence[str]) -> None:
        self._link = link
        self._tables = tables

    def park(self, monitors: Iterable[int]) -> None:
        """See `Writer.park_history`."""
        for ids in _chunks(monitors):
            # a monitor may have the very id that the place would be (none ever had, so far):
            # then there is no place, and the history goes at once
            taken = {i - PARKED for i in self._monitors(i + PARKED for i in ids)}
            gone = taken | {i for i in ids if i >= PARKED}
            # what is there already is older: that of the rows from before two applies
            gone |= {i - PARKED for i in self._having(f"IN ({_listed(ids, PARKED)})")}
            for table in self._tables:
                for i in self._having(f"IN ({_listed(ids)})", table):
                    self._remove(table, i) if i in gone else self._move(table, i, i + PARKED)

    def unpark(self, monitors: Iterable[int]) -> None:
        """See `Writer.unpark_history`."""
        places = self._having(f">= {PARKED}")
        aside = {i - PARKED for i in places - self._monitors(places)}
        back = self._monitors(aside)
        for ids in _chunks(sorted(back.union(monitors))):
            for table in self._tables:
                for i in self._having(f"IN ({_listed(ids)})", table):
                    self._remove(table, i)
        for ids in _chunks(sorted(back)):
            for table in self._tables:
                for place in self._having(f"IN ({_listed(ids, PARKED)})", table):
                    self._move(table, place, place - PARKED)

    def _monitors(self, ids: Iterable[int]) -> set[int]:
        """Which of these ids monitors have."""
        found = set[int]()
        for chunk in _chunks(ids):
            sql = f"SELECT id FROM monitor WHERE id IN ({_listed(chunk)})"
            found.update(row[0] for row in self._link.all(sql))
        return found

    def _having(self, which: str, *tables: str) -> set[int]:
        """Ids of monitors that have a row in one of the tables (of all of them, unless named)."""
        found = set[int]()
        for table in tables or self._tables:
            sql = f"SELECT DISTINCT monitor_id FROM {quoted(table)} WHERE monitor_id {which}"
            found.update(row[0] for row in self._link.all(sql))
        return found

    def _move(self, table: str, old: int, new: int) -> None:
        self._in_slices(table, f"UPDATE {quoted(table)} SET monitor_id = {new}", old)

    def _remove(self, table: str, monitor: int) -> None:
        self._in_slices(table, f"DELETE FROM {quoted(table)}", monitor)

    def _in_slices(self, table: str, change: str, monitor: int) -> None:
        sql = f"{change} WHERE monitor_id = {monitor} LIMIT {_SLICE}"
        while self._link.run(sql, table) == _SLICE:
            pass


def _listed(ids: Iterable[int], more: int = 0) -> str:
    return ", ".join(str(int(i) + more) for i in ids)


def _chunks(ids: Iterable[int]) -> Iterator[list[int]]:
    waiting = iter(ids)
    while chunk := list(itertools.islice(waiting, _IDS)):
        yield chunk


def purge(link: Link, there: Collection[str]) -> int:
    """Delete links and history of monitors that are gone; how many rows of history.

    ``there``: the tables that there are.
    """
    for table in MONITOR_LINKS:
        if table in there:
            _purge(link, table)
    return sum(_purge(link, table) for table in HISTORY if table in there)


def _purge(link: Link, table: str) -> int:
    lost = link.all(
        f"SELECT had.monitor_id FROM (SELECT DISTINCT monitor_id FROM {quoted(table)}) AS had "
        "LEFT JOIN monitor AS m ON m.id = had.monitor_id "
        "WHERE m.id IS NULL AND had.monitor_id IS NOT NULL"
    )
    gone = 0
    for (monitor,) in lost:
        while True:
            # asked again in each transaction: Kuma may have made a monitor with this id
            rows = link.run(
                f"DELETE FROM {quoted(table)} WHERE monitor_id = {int(monitor)} AND NOT EXISTS "
                f"(SELECT 1 FROM monitor WHERE id = {int(monitor)}) LIMIT {_PURGE_ROWS}"
            )
            gone += rows
            if rows < _PURGE_ROWS:
                break
    return gone
