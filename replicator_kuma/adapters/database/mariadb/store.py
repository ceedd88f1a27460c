"""Kuma's database in MariaDB: reads of one instant while Kuma runs, writes and checks."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from replicator_kuma.adapters.database import Reader, Store
from replicator_kuma.adapters.database.db_config import Login
from replicator_kuma.adapters.database.mariadb.beats import MariadbBeats
from replicator_kuma.adapters.database.mariadb.connection import (
    CONNECT_TIMEOUT,
    DAMAGED,
    TIMEOUT,
    Link,
    literal,
    quoted,
)
from replicator_kuma.adapters.database.mariadb.reader import _KUMA, MariadbReader, _tables
from replicator_kuma.adapters.database.mariadb.watch import MariadbWatch
from replicator_kuma.adapters.database.mariadb.writer import MariadbHistory, MariadbWriter
from replicator_kuma.base.effects import effect
from replicator_kuma.base.errors import (
    DatabaseCorrupt,
    DatabaseError,
    DatabaseLocked,
    DatabaseMigrating,
    DatabaseMissing,
)
from replicator_kuma.base.processes import Process
from replicator_kuma.dump.catalog import SETTINGS, TABLES
from replicator_kuma.dump.transform.represent import Representation

_WAITED = ("Lock wait timeout", "Deadlock found")
"""What CHECK TABLE reports as an error, although the table is intact."""
_OUTDATED = ("Table rebuild required", "Table upgrade required", "Upgrade required")
"""What CHECK TABLE reports for a table that an older server made."""
_OTHERS = (
    "SELECT count(*) FROM information_schema.processlist "
    "WHERE db = database() AND id <> connection_id()"
)
_LEAVING = 0.5
"""Seconds until a closed connection has left the server's list."""


class MariadbStore(Store):
    """One database of a MariaDB (or MySQL) server; each call makes a new connection.

    It has no `rehearsal`: a copy needs rights that Kuma's login may lack.
    """

    engine = "mariadb"
    outlives_us = True
    shows_processes = False
    streamable = False
    lenient = False
    quieten = None

    def __init__(
        self,
        login: Login,
        settings: frozenset[str] = SETTINGS,
        *,
        connect_timeout: float = CONNECT_TIMEOUT,
        timeout: float = TIMEOUT,
    ) -> None:
        self.login = login
        self.embedded = login.embedded
        self._settings = settings
        self._timeouts = (connect_timeout, timeout)

    @property
    def representation(self) -> Representation:
        from replicator_kuma.adapters.database.mariadb.collation import ask
        from replicator_kuma.adapters.database.mariadb.values import MariadbRepresentation

        return MariadbRepresentation(ask(self._ask))

    def _ask(self, sql: str, values: Sequence[str]) -> list[tuple[Any, ...]]:
        with self.connect() as link:
            return link.all(sql % tuple(map(literal, values)))

    def opened(self) -> Link:
        """A connection in autocommit, to be closed by the caller."""
        return Link(self.login, *self._timeouts)

    @contextlib.contextmanager
    def connect(self) -> Iterator[Link]:
        """A connection in autocommit for the block."""
        link = self.opened()
        try:
            yield link
        finally:
            link.close()

    def choosing(self, settings: Collection[str]) -> MariadbStore:
        made = copy.copy(self)
        made._settings = frozenset(settings)
        return made

    def exists(self) -> bool:
        try:
            with self.connect() as link:
                return set(_tables(link)) >= _KUMA
        except DatabaseMissing:
            return False

    @contextlib.contextmanager
    def read(self, earlier: Path | None = None) -> Iterator[MariadbReader]:
        with self.connect() as link:
            link.run("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            link.run("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
            yield MariadbReader(link, self._settings)

    @contextlib.contextmanager
    def write(
        self,
        look: Callable[[Reader], object] | None = None,
        monitors: Collection[int] | None = None,
        earlier: Path | None = None,
    ) -> Iterator[MariadbWriter]:
        """See `Store.write`; never calls ``look``: InnoDB tells nobody what was written."""
        with self.connect() as link:
            # nobody can change the rows that were read before the commit, not even a running Kuma
            link.run("SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE")
            link.run("START TRANSACTION READ WRITE")
            try:
                writer = MariadbWriter(link, self._settings)
                if "monitor" in writer.schema.tables:
                    # Kuma locks a monitor while it writes a heartbeat: to lock monitors after
                    # heartbeats could be a deadlock, and Kuma would lose the heartbeat. To lock
                    # for writing what we have locked for reading could be one, too.
                    ids = ", ".join(str(int(i)) for i in monitors or ()) or "NULL"
                    which = "" if monitors is None else f"WHERE id IN ({ids})"
                    link.value(
                        f"SELECT sum(id) FROM monitor FORCE INDEX (PRIMARY) {which} FOR UPDATE"
                    )
                effect("transaction begun")
                yield writer
                effect("committing")
                link.run("COMMIT")
            except Exception:
                # a signal may have interrupted an answer: then only closing rolls back
                with contextlib.suppress(DatabaseError):
                    link.run("ROLLBACK")
                raise
        effect("committed")

    def in_use(self) -> bool:
        """Whether somebody else stays connected to this database.

        The server lists a closed connection for a while, also our own last one: so it asks again.
        """
        end = time.monotonic() + _LEAVING
        try:
            with self.connect() as link:
                while link.value(_OTHERS):
                    if time.monotonic() >= end:
                        return True
                    time.sleep(_LEAVING / 10)
        except DatabaseMissing:
            pass
        return False

    def holders(self) -> tuple[Process, ...]:
        with self.connect() as link:
            found = link.all(
                "SELECT id, user, host FROM information_schema.processlist "
                "WHERE db = database() AND id <> connection_id() ORDER BY id"
            )
        return tuple(
            Process(int(number), "", f"{user} from {host}", maybe_kuma=True, kind="connection")
            for number, user, host in found
        )

    def check(self, tables: Collection[str] | None = None) -> Sequence[str]:
        with self.connect() as link:
            there = [name for name in _tables(link) if name in (tables or TABLES)]
            if not there:
                return []
            found = link.all(f"CHECK TABLE {', '.join(map(quoted, there))}")
        for table, _check, kind, text in found:
            if kind.lower() == "error" and not text.startswith(_OUTDATED):
                name = table.rpartition(".")[2]
                if text.startswith(_WAITED):
                    raise DatabaseLocked(f"another program has locked Kuma's table {name}")
                raise DatabaseCorrupt(
                    f"Kuma's database is damaged: table {name} does not pass CHECK TABLE",
                    hint=DAMAGED,
                )
        return []

    def fingerprint(self) -> str:
        try:
            with self.read() as reader:
                return reader.fingerprint()
        except (DatabaseMissing, DatabaseMigrating):
            return ""

    def watch(self, tables: Collection[str]) -> MariadbWatch:
        return MariadbWatch(self.opened, tables, self._settings)

    def beats(self) -> MariadbBeats:
        return MariadbBeats(self.login)

    def check_writable(self) -> None:
        from replicator_kuma.adapters.database.mariadb.write_check import check

        with self.connect() as link:
            check(link, sorted(set(TABLES).intersection(_tables(link))))

    def purge_history(self) -> int:
        with self.connect() as link:
            return MariadbHistory(link.all, link.run, _tables(link)).purge()

    @contextlib.contextmanager
    def scratch(self, data_dir: Path) -> Iterator[MariadbStore]:
        from replicator_kuma.adapters.database.mariadb.scratch import created, name_for

        made = copy.copy(self)
        made.login = dataclasses.replace(self.login, database=name_for(self.login.database))
        with created(self.connect, self.login.database, made.connect):
            yield made

    def forget_scratch(self) -> None:
        from replicator_kuma.adapters.database.mariadb.scratch import forget

        forget(self.connect, self.login.database)
