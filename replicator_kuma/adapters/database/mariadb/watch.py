"""Notices edits of Kuma's rows in MariaDB: times of the tables are the filter, sums the judge.

InnoDB keeps in memory when a table was last written. Heartbeats do not touch the time of monitor.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterator

from replicator_kuma.adapters.database.mariadb.connection import Link, literal
from replicator_kuma.adapters.database.mariadb.reader import MariadbReader
from replicator_kuma.base.errors import DatabaseError
from replicator_kuma.dump.catalog import TABLES

AGAIN = (1.2, 2.5)
"""Seconds after a change at which the rows are read once more: a second one may not have shown.

Times are whole seconds, and that of a transaction is when it began to write.
"""


class MariadbWatch:
    """See `Watch`. It keeps one connection, until `close` or an error."""

    def __init__(
        self, connect: Callable[[], Link], tables: Collection[str], settings: Collection[str]
    ) -> None:
        self._connect = connect
        self._tables = [name for name in TABLES if name in tables]
        self._settings = frozenset(settings)
        self._link: Link | None = None
        self._times: dict[str, object] | None = None
        """when each table was last written; None: to be asked"""
        self._again: list[float] = []
        """when to read the rows once more, by time.monotonic"""
        self._digest = ""
        names = ", ".join(map(literal, self._tables))
        self._sql = (
            "SELECT table_name, update_time FROM information_schema.tables "
            f"WHERE table_schema = database() AND table_name IN ({names})"
        )

    def stirred(self) -> bool:
        before, self._times = self._times, None
        with self._opened() as link:
            self._times = dict(link.all(self._sql))
        now = time.monotonic()
        # a server that was restarted, or had no room to remember a table, shows NULL for it
        if self._times != before:
            self._again = [now + seconds for seconds in AGAIN]
            return True
        due = [at for at in self._again if at <= now]
        self._again = self._again[len(due) :]
        return bool(due)

    def digest(self) -> str:
        with self._opened() as link:
            link.run("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
            found = MariadbReader(link, self._settings).digest(self._tables, quiet=False)
            link.run("ROLLBACK")
        if found != self._digest:
            now, self._digest = time.monotonic(), found
            self._again = [now + seconds for seconds in AGAIN]
        return found

    def close(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.close()

    @contextlib.contextmanager
    def _opened(self) -> Iterator[Link]:
        """The connection, for one use; it is closed after an error."""
        if self._link is None:
            self._link = self._connect()
            self._link.run("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            with contextlib.suppress(DatabaseError):  # MySQL 8 shows times of a day ago
                self._link.run("SET SESSION information_schema_stats_expiry = 0")
        try:
            yield self._link
        except BaseException:
            self.close()
            raise
