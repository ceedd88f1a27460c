"""A fleet whose replica is on an external MariaDB, set back to its start for each fault.

The replica holds 1.1; 1.2 is published: monitors changed, gone, new, another one; a logo. What
the two look like in MariaDB is judged once, by the rules of `plain` and `compare`; after that a
state is known again by the server's own checksums.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from replicator_kuma.adapters.database.mariadb.connection import Link
from replicator_kuma.replication.instance import Instance, Outcome
from tests.conftest import need_mariadb
from tests.support import mariadb_build
from tests.support.compare import (
    HISTORY,
    REPLICATED,
    config_differences,
    local_differences,
    orphans,
    staying_differences,
)
from tests.support.cycles import LOGO, follow, lead
from tests.support.engines import Engine, MariadbEngine, SqliteEngine
from tests.support.fleet import NEW_LOGO, Fleet, assert_at_rest, logo
from tests.support.instances import FileKuma
from tests.support.mariadb import Database, Server, short_folder
from tests.support.plain import mariadb_damage, plain

BORN = "2031-01-01 00:00:00"
_LINKS = ("monitor_notification", "monitor_tag", "monitor_group", "monitor_maintenance")
EDITS = (
    "UPDATE monitor SET name = 'two' WHERE id = 3",
    "UPDATE monitor SET parent = NULL WHERE parent = 4",
    *(f'DELETE FROM "{table}" WHERE monitor_id = 4' for table in (*_LINKS, *HISTORY)),
    "DELETE FROM monitor WHERE id = 4",
    f"UPDATE monitor SET created_date = '{BORN}' WHERE id = 5",
    "INSERT INTO monitor (id, name, type, user_id, created_date, active) "
    f"VALUES (7000, 'new', 'http', 1, '{BORN}', 1)",
    "INSERT INTO monitor_tag (monitor_id, tag_id, value) VALUES (7000, 1, 'v')",
    "INSERT INTO monitor_notification (monitor_id, notification_id) VALUES (7000, 1)",
    "UPDATE setting SET value = '99' WHERE \"key\" = 'keepDataPeriodDays'",
)
"""Monitors changed, gone, another one, new; a setting."""
MORE_EDITS = (
    "UPDATE monitor SET description = 'edited' WHERE id > 10 AND id % 3 = 0",
    "DELETE FROM monitor_tag WHERE monitor_id > 10 AND monitor_id % 30 = 1",
    f"UPDATE monitor SET created_date = '{BORN}' WHERE id > 10 AND id % 50 = 0",
)
"""For fleets of some hundred monitors: more than one statement of the writer holds."""


_WITH_A_STANDBY = (
    "--log-bin=binlog",
    "--rpl-semi-sync-master-wait-point=AFTER_SYNC",
    "--rpl-semi-sync-master-timeout=60000",
)


@contextlib.contextmanager
def own_server() -> Iterator[Server]:
    """A server for tests that kill it; its commits can be made to wait for a standby."""
    need_mariadb()
    with short_folder() as folder, Server(folder, options=_WITH_A_STANDBY) as made:
        yield made


@dataclass(frozen=True)
class Rows:
    """What a database's tables are: checksums that the server made, and settings by their key."""

    replicated: tuple[Any, ...]
    all: tuple[Any, ...]

    @classmethod
    def of(cls, database: Database) -> Rows:
        tables = [*REPLICATED, *HISTORY]
        with closing(database.connect()) as connection, connection.cursor() as cursor:
            names = ", ".join(f'"{table}"' for table in tables)
            cursor.execute(f"CHECKSUM TABLE {names} EXTENDED")
            sums = tuple(row[1] for row in cursor.fetchall())
            cursor.execute('SELECT "key", value, type FROM setting ORDER BY "key"')
            settings = tuple(cursor.fetchall())
        return cls((*sums[: len(REPLICATED)], settings), (*sums, settings))


class MariadbFleet:
    """``folder`` is the fleet's for good; its MariaDB databases go by ``name``."""

    def __init__(
        self, folder: Path, server: Server, leader: str, *, name: str, monitors: int = 7
    ) -> None:
        self.folder, self.server, self.name = folder, server, name
        self.kept = folder.with_name(f"{folder.name}-kept")
        self.database = server.database(name, folder / "replica")
        self.engine = MariadbEngine(name, lambda: self.database)
        self._start = Database(server, f"{name}_start", folder)
        self._leads = self._leader_engine(leader)
        self._build(monitors, EDITS + (MORE_EDITS if monitors > 10 else ()))

    def _leader_engine(self, kind: str) -> Engine:
        if kind == "sqlite":
            return SqliteEngine(self.folder / "leader")
        leads = self.server.database(f"{self.name}_leads", self.folder / "leader")
        return MariadbEngine(leads.name, lambda: leads)

    def _build(self, monitors: int, edits: tuple[str, ...]) -> None:
        leads = self._leads
        leads.build(monitors=monitors, heartbeats=2)
        mariadb_build.build(self.database, monitors=monitors, heartbeats=2)
        for name in ("leader", "replica"):
            (self.folder / name / "upload").mkdir()
            (self.folder / name / "upload" / "logo2.png").write_bytes(LOGO)
            FileKuma(self.folder / name).up = True
        leader = self.fleet().leader
        lead(leader)
        assert follow(self.replica()).position is not None
        self.old = Rows.of(self.database)
        old_plain = plain(self.engine, self.kept.with_suffix(".old.db"))
        leads.edit(*edits)
        (leader.data_dir / "upload" / "logo2.png").write_bytes(NEW_LOGO)
        lead(leader)
        self._keep()
        assert follow(self.replica()).outcome is Outcome.APPLIED
        self.new = Rows.of(self.database)
        wanted = plain(leads, self.kept.with_suffix(".new.db"), as_mariadb=True)
        self._judge(plain(self.engine, self.kept.with_suffix(".is.db")), old_plain, wanted)
        self.reset()

    def _judge(self, now: Path, old: Path, wanted: Path) -> None:
        """The restore that nothing interrupts, by rules of the tests' own."""
        assert config_differences(now, wanted) == []
        assert config_differences(old, wanted) != []
        own = [*staying_differences(now, old), *local_differences(now, old), *orphans(now)]
        assert own == []
        assert mariadb_damage(self.engine) == []
        assert self._beats() == {3: 2, 4: 0, 5: 0}

    def _beats(self) -> dict[int, int]:
        sql = "SELECT count(*) FROM heartbeat WHERE monitor_id = ?"
        return {n: int(self.database.query(sql, (n,))[0][0]) for n in (3, 4, 5)}

    # --- back to the start ------------------------------------------------------------------

    def _keep(self) -> None:
        shutil.copytree(self.folder, self.kept)
        with closing(self.server.connect()) as root, root.cursor() as cursor:
            cursor.execute(f'DROP DATABASE IF EXISTS "{self._start.name}"')
            cursor.execute(f'CREATE DATABASE "{self._start.name}" CHARACTER SET utf8mb4')
            for table in self.database.columns():
                source, copy = self._both(table)
                cursor.execute(f"CREATE TABLE {copy} LIKE {source}")
                cursor.execute(f"INSERT INTO {copy} SELECT * FROM {source}")

    def _both(self, table: str) -> tuple[str, str]:
        return f'"{self.name}"."{table}"', f'"{self._start.name}"."{table}"'

    def reset(self) -> None:
        """Files and rows as they were: the replica at 1.1, and 1.2 published."""
        shutil.rmtree(self.folder)
        shutil.copytree(self.kept, self.folder)
        with self.database.transaction() as cursor:
            for table in (*REPLICATED, *HISTORY, "setting"):
                target, kept = self._both(table)
                cursor.execute(f"DELETE FROM {target}")
                cursor.execute(f"INSERT INTO {target} SELECT * FROM {kept}")

    def at_the_start(self) -> MariadbFleet:
        """For a test: the server runs, though the test before may have failed, and `reset`."""
        if not self.server.running:
            self.server.start()
        self.reset()
        return self

    # --- instances --------------------------------------------------------------------------

    def fleet(self) -> Fleet:
        """What a new process makes of the same files."""
        return Fleet(self.folder, mortal=True, leader=self._leads, replica=self.engine)

    def replica(self) -> Instance:
        """As `fleet`, the replica alone."""
        return self.fleet().replica

    # --- what is to be seen -----------------------------------------------------------------

    def rows(self) -> str:
        """Which of the two the replica's tables are, exactly."""
        now = Rows.of(self.database).replicated
        assert now in (self.old.replicated, self.new.replicated), "a part of the new rows"
        return "new" if now == self.new.replicated else "old"

    def on_new_rows(self) -> bool:
        return self.database.query("SELECT name FROM monitor WHERE id = 3") == [("two",)]

    def logo(self) -> str:
        return logo(self.folder / "replica")

    def assert_ended(self, side: str) -> None:
        """Rows, history and files of one side; Kuma runs; nothing is left of the way there."""
        replica = self.replica()
        assert (self.rows(), self.logo()) == (side, side)
        assert Rows.of(self.database) == (self.new if side == "new" else self.old)
        assert_at_rest(replica)

    def look_at_each_start(self, replica: Instance) -> None:
        """Kuma never starts on the rows of one snapshot with the files of another."""

        def look() -> None:
            assert self.rows() == self.logo()

        file_kuma(replica).on_start = look


def file_kuma(of: Instance) -> FileKuma:
    assert isinstance(of.kuma, FileKuma)
    return of.kuma


def kuma_log(of: Instance) -> list[str]:
    return file_kuma(of).log


@contextlib.contextmanager
def at_every_statement(call: Callable[[str], object]) -> Iterator[None]:
    """Call ``call`` with each statement that writes, BEGIN and COMMIT too, until the process ends.

    Of many alike (the history's tables) with the first two.
    """
    times: dict[str, int] = {}

    def count(_link: Link, sql: str) -> None:
        kind = f"{sql[:6]} {any(table in sql[:40] for table in HISTORY)}"
        times[kind] = times.get(kind, 0) + 1
        if times[kind] <= 2 or kind.endswith("False"):
            call(sql)

    Link.run = _with(count)  # type: ignore[method-assign, assignment]
    yield


def _with(before: Callable[[Link, str], object]) -> Callable[[Link, str | bytes, str], int]:
    """`Link.run`, with ``before`` in front of each statement that begins, writes or commits."""
    run = Link.run

    def both(link: Link, sql: str | bytes, table: str = "") -> int:
        text = sql if isinstance(sql, str) else sql[:200].decode(errors="replace")
        if not text.startswith("SET ") and "READ ONLY" not in text:
            before(link, text)
        return run(link, sql, table)

    return both


def before_statement(
    patch: pytest.MonkeyPatch, beginning: str, what: Callable[[Link], object]
) -> None:
    """Do ``what`` once, before the first statement that begins so and may change a row."""
    waiting = [what]

    def look(link: Link, sql: str) -> None:
        if sql.startswith(beginning) and not sql.endswith("WHERE 1 = 0") and waiting:
            waiting.pop()(link)

    patch.setattr(Link, "run", _with(look))
