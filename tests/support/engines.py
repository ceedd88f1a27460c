"""One instance's database in each engine, for tests that are written once.

An `Engine` builds, asks and edits past the store under test; statements are what all engines
understand: names in double quotes, marks as ``?``.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Protocol

from replicator_kuma.adapters.database import Store
from replicator_kuma.adapters.database.detect import open_store
from tests.support import databases, mariadb_build
from tests.support.mariadb import Database

Row = tuple[Any, ...]
Statement = str | tuple[str, Sequence[Any]]
_LOCK_WAIT_TIMEOUT = 1205


class Engine(Protocol):
    """The database of one instance, empty until `build` or `create`."""

    name: str
    data_dir: Path

    def store(self) -> Store:
        """The store under test, as the data directory names it."""

    def create(self) -> None:
        """A new database, as Kuma's first start leaves it."""

    def remove(self) -> None:
        """Leave no database at all."""

    def build(self, **sizes: Any) -> None:
        """See `tests.support.databases.build`."""

    def load(self, source: Path) -> None:
        """A real database: a kuma.db, or what mariadb-dump wrote of one."""

    def columns(self) -> Mapping[str, Mapping[str, str]]:
        """Of each table the declared type of each column."""

    def query(self, sql: str, values: Sequence[Any] = ()) -> list[Row]: ...

    def edit(self, *statements: Statement) -> None:
        """One transaction, as another program commits it, with foreign keys off."""

    def rowset(self, table: str) -> list[Row]:
        """All of a table, by id."""

    def held(self, *statements: Statement) -> Any:
        """A context: another program has run statements, and not committed them."""

    def refused(self, *statements: Statement) -> bool:
        """Whether another program that does not wait cannot run these now; they are undone."""

    def trigger(self) -> None:
        """Writing a tag changes another row from now on."""

    def writes(self) -> Any:
        """Changes when anything in the database is written."""


class SqliteEngine:
    name = "sqlite"

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.path = data_dir / "kuma.db"

    def store(self) -> Store:
        return open_store(self.data_dir)

    def create(self) -> None:
        databases.create(self.path)

    def remove(self) -> None:
        assert not self.data_dir.exists()

    def build(self, **sizes: Any) -> None:
        databases.build(self.path, wal=True, **sizes)

    def load(self, source: Path) -> None:
        self.data_dir.mkdir(parents=True, exist_ok=True)
        for suffix in ("-wal", "-shm"):
            Path(f"{self.path}{suffix}").unlink(missing_ok=True)
        self.path.write_bytes(source.read_bytes())

    def columns(self) -> Mapping[str, Mapping[str, str]]:
        tables = self.query("SELECT name FROM sqlite_master WHERE type = 'table'")
        return {
            table: {row[1]: row[2] for row in self.query(f'PRAGMA table_info("{table}")')}
            for (table,) in tables
            if table != "sqlite_sequence"
        }

    def query(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        return databases.query(self.path, sql, values)

    def edit(self, *statements: Statement) -> None:
        databases.edit(self.path, *statements)

    def rowset(self, table: str) -> list[Row]:
        return self.query(f'SELECT * FROM "{table}" ORDER BY 1')

    @contextmanager
    def held(self, *statements: Statement) -> Iterator[None]:
        connection = sqlite3.connect(self.path, isolation_level=None, timeout=0)
        with closing(connection):
            connection.execute("BEGIN IMMEDIATE")
            for statement in statements:
                connection.execute(*_parts(statement))
            yield
            connection.execute("ROLLBACK")

    def refused(self, *statements: Statement) -> bool:
        try:
            with self.held(*statements):
                return False
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise
            return True

    def trigger(self) -> None:
        self.edit("CREATE TRIGGER t AFTER UPDATE ON tag BEGIN UPDATE user SET active = 0; END")

    def writes(self) -> Any:
        return self.path.read_bytes()


class MariadbEngine:
    """A database of a server of one's own; ``empty`` makes it anew."""

    def __init__(self, name: str, empty: Callable[[], Database]) -> None:
        self.name = name
        self._empty = empty
        self.database = empty()
        self.data_dir = self.database.data_dir

    def store(self) -> Store:
        return open_store(self.data_dir)

    def create(self) -> None:
        mariadb_build.create(self._empty())

    def remove(self) -> None:
        self.database.edit(f'DROP DATABASE "{self.database.name}"')

    def build(self, **sizes: Any) -> None:
        mariadb_build.build(self._empty(), **sizes)

    def load(self, source: Path) -> None:
        self._empty().load(source)

    def columns(self) -> Mapping[str, Mapping[str, str]]:
        return self.database.columns()

    def query(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        return self.database.query(sql, values)

    def edit(self, *statements: Statement) -> None:
        self.database.edit(*statements)

    def rowset(self, table: str) -> list[Row]:
        return self.query(f'SELECT * FROM "{table}" ORDER BY 1')

    @contextmanager
    def held(self, *statements: Statement) -> Iterator[None]:
        with closing(self.database.connect(autocommit=False)) as other, other.cursor() as cursor:
            cursor.execute("SET innodb_lock_wait_timeout = 0")
            for statement in statements:
                sql, values = _parts(statement)
                cursor.execute(sql.replace("?", "%s"), tuple(values) or None)
            yield
            other.rollback()

    def refused(self, *statements: Statement) -> bool:
        from pymysql.err import OperationalError

        try:
            with self.held(*statements):
                return False
        except OperationalError as error:
            if error.args[0] != _LOCK_WAIT_TIMEOUT:
                raise
            return True

    def trigger(self) -> None:
        self.edit("CREATE TRIGGER t AFTER UPDATE ON tag FOR EACH ROW UPDATE user SET active = 0")

    def writes(self) -> Any:
        """The statements that write, or lock, of the whole server (nobody else uses it)."""
        kinds = ("insert", "update", "delete", "replace", "create_table", "alter_table",
                 "truncate", "lock_tables", "insert_select", "update_multi",
                 "delete_multi")  # fmt: skip
        names = ", ".join(f"'COM_{kind.upper()}'" for kind in kinds)
        return self.query(
            "SELECT variable_name, variable_value FROM information_schema.global_status "
            f"WHERE variable_name IN ({names}) ORDER BY 1"
        )


def _parts(statement: Statement) -> tuple[str, Sequence[Any]]:
    return (statement, ()) if isinstance(statement, str) else statement
