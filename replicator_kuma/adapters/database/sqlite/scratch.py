"""A drill's scratch database on SQLite: a file of its own, empty, with the live one's schema."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from replicator_kuma.adapters.database import Row
from replicator_kuma.adapters.database.migrations import MIGRATIONS, SCHEMA_SETTINGS
from replicator_kuma.adapters.database.sql import double_quoted
from replicator_kuma.adapters.database.sqlite.reader import explained
from replicator_kuma.adapters.database.sqlite.store import SqliteStore
from replicator_kuma.base.errors import DatabaseError, SnapshotRefused, StateError
from replicator_kuma.base.os_errors import remedy
from replicator_kuma.dump.catalog import LOCAL, TABLES

_KEYS = ", ".join(f"'{key}'" for key in SCHEMA_SETTINGS)


def scratch(live: SqliteStore, data_dir: Path) -> SqliteStore:
    """kuma.db in ``data_dir``; raises DatabaseError for the live one, StateError for the new."""
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
