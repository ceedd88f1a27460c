"""An empty database of an instance's own schema, for a drill: it goes when the drill ends.

The instance's own database is only read: its tables' definitions, and the rows that say which
migrations they have seen.
"""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from replicator_kuma.adapters.database import Row, Store
from replicator_kuma.adapters.database.sql import double_quoted
from replicator_kuma.adapters.database.sqlite.store import SqliteStore, explained
from replicator_kuma.base.errors import DatabaseError, SnapshotRefused, StateError
from replicator_kuma.base.os_errors import remedy
from replicator_kuma.dump.catalog import LOCAL, TABLES

MIGRATIONS = ("knex_migrations", "knex_migrations_lock")
"""Copied whole: by these rows Kuma 2.x knows which schema it has."""
SCHEMA_SETTINGS = ("database_version", "databasePatchedFiles", "migrateAggregateTableState")
"""Keys of `setting` by which Kuma knows that. The instance's other own ones stay with it."""

_KEYS = ", ".join(f"'{key}'" for key in SCHEMA_SETTINGS)


@contextlib.contextmanager
def scratch(store: Store, data_dir: Path) -> Iterator[Store]:
    """A scratch database for the block; ``data_dir`` is the data directory that it belongs to.

    SQLite: kuma.db in ``data_dir``, which its caller removes. MariaDB: a database of its own on
    the same server, dropped after the block. Raises DatabaseErrors, SettingsError.
    """
    if isinstance(store, SqliteStore):
        yield _sqlite(store, data_dir)
        return
    if store.engine != "mariadb":
        with store.read():  # says what is wrong with it
            raise AssertionError(f"no scratch database for {store.engine}")
    from replicator_kuma.adapters.database.mariadb import scratch as mariadb_scratch

    with mariadb_scratch.scratch(store) as made:
        yield made


def forget(store: Store) -> None:
    """Drop what a killed drill left outside its folder; raises DatabaseError."""
    if store.engine == "mariadb":
        from replicator_kuma.adapters.database.mariadb import scratch as mariadb_scratch

        mariadb_scratch.forget(store)


def _sqlite(live: SqliteStore, data_dir: Path) -> SqliteStore:
    with live.read() as reader:
        # tables first. Triggers too: what they do to rows is part of what a restore meets
        made = reader.query(
            "SELECT tbl_name, sql FROM sqlite_master "
            "WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' "
            "AND type IN ('table', 'index', 'trigger') "
            "ORDER BY CASE type WHEN 'table' THEN 1 WHEN 'index' THEN 2 ELSE 3 END"
        )
        names = [name for name in MIGRATIONS if name in reader.schema.tables]
        rows = {name: reader.query(f"SELECT * FROM {double_quoted(name)}") for name in names}
        if "setting" in reader.schema.tables:
            columns = [double_quoted(c) for c in reader.schema.tables["setting"].columns]
            rows["setting"] = reader.query(
                f'SELECT {", ".join(columns)} FROM "setting" WHERE "key" IN ({_KEYS})'
            )
    try:
        return _made(live.beside(data_dir), made, rows)
    except (DatabaseError, OSError) as error:
        raise StateError(
            f"cannot make a scratch database: {error}",
            hint=remedy(error) or "Look at the room and the rights in the state directory.",
        ) from error


def _made(
    store: SqliteStore, definitions: Sequence[Row], rows: Mapping[str, Sequence[Row]]
) -> SqliteStore:
    store.path.touch(mode=0o600, exist_ok=False)
    connection = store.connect()
    try:
        with explained():
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("BEGIN IMMEDIATE")
            for table, sql in definitions:
                try:
                    connection.execute(sql)
                except sqlite3.OperationalError:
                    # a module that is not here, or a table that its module has made already
                    if table in TABLES or table in LOCAL:
                        raise
            for name, found in rows.items():
                for row in found:
                    marks = ", ".join("?" * len(row))
                    connection.execute(f"INSERT INTO {double_quoted(name)} VALUES ({marks})", row)
            connection.execute("COMMIT")
    finally:
        connection.close()
    return store


def write_config(data_dir: Path) -> None:
    """Say to a Kuma 2.x that this data directory is on SQLite; raises OSError."""
    path = data_dir / "db-config.json"
    path.touch(mode=0o600)
    path.write_text('{"type": "sqlite"}\n')


@dataclass(frozen=True)
class Account:
    """Who may look at a quiet scratch, and what is to be seen there."""

    username: str
    password: str = field(repr=False)
    """the hash in the user's row"""
    secret: str = field(repr=False)
    """by which Kuma knows its sessions (setting jwtSecret); only this scratch has it"""
    monitors: Mapping[int, str]
    """names by id"""


def quieten(store: SqliteStore) -> Account:
    """Make a scratch ready for a Kuma that watches nobody, tells nobody, and asks nobody.

    No monitor is active, no notification is left, and of the settings only those stay that tell
    the schema. Raises SnapshotRefused where no user could log in, DatabaseError.
    """
    secret = secrets.token_hex(32)
    connection = store.connect()
    try:
        with explained():
            users = connection.execute(
                "SELECT id, username, password FROM user WHERE active = 1 ORDER BY id LIMIT 1"
            ).fetchall()
            if not users:
                raise SnapshotRefused("the snapshot has no active user: nobody could log in")
            owner, username, password = users[0]
            connection.execute("BEGIN IMMEDIATE")
            # a page shows the monitors of its own user only
            connection.execute("UPDATE monitor SET active = 0, user_id = ?", (owner,))
            for sql in _QUIET:
                connection.execute(sql)
            for key, value in (("jwtSecret", secret), ("checkUpdate", "false")):
                row = (key, value)
                connection.execute('INSERT INTO setting ("key", value) VALUES (?, ?)', row)
            monitors = dict(connection.execute("SELECT id, name FROM monitor").fetchall())
            connection.execute("COMMIT")
    finally:
        connection.close()
    return Account(str(username), str(password or ""), secret, monitors)


_QUIET = (
    "DELETE FROM monitor_notification",
    "DELETE FROM notification",
    "UPDATE maintenance SET active = 0",
    # a tunnel, a name service, a look for updates: what Kuma starts when it boots
    f'DELETE FROM setting WHERE "key" NOT IN ({_KEYS})',
)


def newest_beat(store: Store) -> int | None:
    """The highest id of a heartbeat of an active monitor, 0 for none yet; None: none is active.

    Kuma gives ids in order, so that a newer beat has a higher one, whatever the clocks say.
    Raises DatabaseError.
    """
    with store.read() as reader:
        if not reader.query("SELECT id FROM monitor WHERE active = 1 LIMIT 1"):
            return None
        found = reader.query(
            "SELECT max(h.id) FROM heartbeat h JOIN monitor m ON m.id = h.monitor_id "
            "WHERE m.active = 1"
        )
    return int(found[0][0] or 0)
