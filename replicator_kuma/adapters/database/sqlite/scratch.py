"""A drill's scratch database on SQLite: a new, empty file with the live database's schema."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from replicator_kuma.adapters.database import Account, Row
from replicator_kuma.adapters.database.migrations import MIGRATIONS, SCHEMA_SETTINGS
from replicator_kuma.adapters.database.sql import double_quoted
from replicator_kuma.adapters.database.sqlite.reader import SqliteReader, explained
from replicator_kuma.base.errors import DatabaseError, SnapshotRefused, StateError
from replicator_kuma.base.os_errors import remedy
from replicator_kuma.dump.catalog import LOCAL, TABLES

Connect = Callable[[], sqlite3.Connection]

_KEYS = ", ".join(f"'{key}'" for key in SCHEMA_SETTINGS)


def create(live: SqliteReader, path: Path, connect: Connect) -> None:
    """Create the file ``path`` as an empty database with ``live``'s schema; ``connect`` opens it.

    Raises DatabaseError for the live database, StateError for the new one.
    """
    # tables first. Triggers too: a restore meets what they do to rows
    made = live.query(
        "SELECT tbl_name, sql FROM sqlite_master "
        "WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' "
        "AND type IN ('table', 'index', 'trigger') "
        "ORDER BY CASE type WHEN 'table' THEN 1 WHEN 'index' THEN 2 ELSE 3 END"
    )
    names = [name for name in MIGRATIONS if name in live.schema.tables]
    rows = {name: live.query(f"SELECT * FROM {double_quoted(name)}") for name in names}
    if "setting" in live.schema.tables:
        columns = [double_quoted(c) for c in live.schema.tables["setting"].columns]
        rows["setting"] = live.query(
            f'SELECT {", ".join(columns)} FROM "setting" WHERE "key" IN ({_KEYS})'
        )
    try:
        path.touch(mode=0o600, exist_ok=False)
        with closing(connect()) as connection, explained():
            _fill(connection, made, rows)
    except (DatabaseError, OSError) as error:
        raise StateError(
            f"cannot make a scratch database: {error}",
            hint=remedy(error) or "Look at the room and the rights in the state directory.",
        ) from error


def _fill(
    connection: sqlite3.Connection, definitions: Sequence[Row], rows: Mapping[str, Sequence[Row]]
) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("BEGIN IMMEDIATE")
    for table, sql in definitions:
        try:
            connection.execute(sql)
        except sqlite3.OperationalError:
            # SQLite lacks a module, or the module has made this table already
            if table in TABLES or table in LOCAL:
                raise
    for name, found in rows.items():
        for row in found:
            marks = ", ".join("?" * len(row))
            connection.execute(f"INSERT INTO {double_quoted(name)} VALUES ({marks})", row)
    connection.execute("COMMIT")


def quieten(path: Path, connect: Connect) -> Account:
    """See `Store.quieten`: no monitor is active, no notification is left.

    Only the settings that tell the schema are kept.
    """
    # this file tells a Kuma 2.x to use SQLite
    config = path.with_name("db-config.json")
    config.touch(mode=0o600)
    config.write_text('{"type": "sqlite"}\n')
    secret = secrets.token_hex(32)
    with closing(connect()) as connection, explained():
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
        for row in (("jwtSecret", secret), ("checkUpdate", "false")):
            connection.execute('INSERT INTO setting ("key", value) VALUES (?, ?)', row)
        monitors = dict(connection.execute("SELECT id, name FROM monitor").fetchall())
        connection.execute("COMMIT")
    return Account(str(username), str(password or ""), secret, monitors)


_QUIET = (
    "DELETE FROM monitor_notification",
    "DELETE FROM notification",
    "UPDATE maintenance SET active = 0",
    # else Kuma opens a tunnel, starts nscd and looks for updates when it boots
    f'DELETE FROM setting WHERE "key" NOT IN ({_KEYS})',
)
