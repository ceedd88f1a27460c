"""Heartbeats in MariaDB, through a connection that lasts for one read."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence

from replicator_kuma.adapters.database import Row
from replicator_kuma.adapters.database.beat_log import INDEX, TABLES, Ask, BeatLog
from replicator_kuma.adapters.database.db_config import Login
from replicator_kuma.adapters.database.mariadb.connection import Link, literal

_CONNECT, _ANSWER = 2.0, 5.0
"""seconds: who reads beats has no time to wait for a server that hangs"""


class MariadbBeats(BeatLog):
    """See `Beats`. A connection that stayed open would look like a Kuma that has not ended."""

    joined = "STRAIGHT_JOIN"
    # max() reads all entries of a monitor; by id alone, the server may go through the whole table
    newest = (
        "SELECT b.id FROM heartbeat AS b WHERE b.monitor_id = m.id "
        "ORDER BY b.monitor_id DESC, b.id DESC LIMIT 1"
    )

    def __init__(self, login: Login) -> None:
        super().__init__()
        self._login = login

    @contextlib.contextmanager
    def _instant(self) -> Iterator[Ask]:
        with contextlib.closing(Link(self._login, _CONNECT, _ANSWER)) as link:
            link.run("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            link.run("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")

            def ask(sql: str, values: Sequence[object]) -> list[Row]:
                return link.all(sql % tuple(map(literal, values)))

            yield ask

    def _read_schema(self, ask: Ask) -> Mapping[str, Collection[str]]:
        found: dict[str, set[str]] = {}
        names = ", ".join(["%s"] * len(TABLES))
        for table, column in ask(
            "SELECT table_name, column_name FROM information_schema.columns "
            f"WHERE table_schema = database() AND table_name IN ({names})",
            TABLES,
        ):
            found.setdefault(table, set()).add(column)
        return found

    def _by_important(self, ask: Ask) -> str:
        sql = (
            "SELECT 1 FROM information_schema.statistics WHERE table_schema = database() "
            "AND table_name = 'heartbeat' AND index_name = %s LIMIT 1"
        )
        return f"FORCE INDEX ({INDEX})" if ask(sql, [INDEX]) else ""
