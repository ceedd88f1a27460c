"""A drill's scratch database on Kuma's own MariaDB server.

Its name depends only on the name of Kuma's database: a GRANT can name it, and the rest of a killed
drill is found again. A mark table inside says that it is ours: no other database is ever dropped.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator

import pymysql

from replicator_kuma.adapters.database.mariadb.connection import Link, literal, quoted
from replicator_kuma.adapters.database.mariadb.reader import _tables
from replicator_kuma.adapters.database.migrations import MIGRATIONS, SCHEMA_SETTINGS
from replicator_kuma.base.errors import AlreadyRunning, DatabaseError

Connect = Callable[[], contextlib.AbstractContextManager[Link]]

PREFIX = "replicator_drill_"
MARK = "replicator_drill_scratch"
"""An empty table that is made first, and dropped with the whole database."""
_LONGEST = 64
"""The most characters of a name in MariaDB."""


def name_for(database: str) -> str:
    """The scratch database's name beside Kuma's ``database``."""
    name = f"{PREFIX}{database}"
    if len(name) <= _LONGEST:
        return name
    return f"{PREFIX}{hashlib.sha256(database.encode()).hexdigest()[:32]}"


@contextlib.contextmanager
def created(connect: Connect, database: str, inside: Connect) -> Iterator[None]:
    """Create the scratch database for the block, then drop it; ``inside`` connects to it."""
    name = name_for(database)
    with connect() as link:
        _alone(link, name)
        try:
            _make(link, name)
            with inside() as made:
                _fill(made, database)
            yield
        finally:
            with connect() as ending:  # the first may have timed out
                _drop(ending, name)


def forget(connect: Connect, database: str) -> None:
    """Drop the scratch database of a killed drill, unless another drill is running."""
    name = name_for(database)
    with connect() as link, contextlib.suppress(AlreadyRunning):
        _alone(link, name)
        _drop(link, name)


def _alone(link: Link, name: str) -> None:
    """Take the drill's lock or raise AlreadyRunning; the server frees it with the connection."""
    if link.value(f"SELECT get_lock({literal(name)}, 0)") != 1:
        raise AlreadyRunning(
            f"another drill has the scratch database {name}", hint="Wait for its end."
        )


def _make(link: Link, name: str) -> None:
    _drop(link, name)
    if _tables(link, literal(name)):
        raise DatabaseError(
            f"there is a database {name}, and no drill made it",
            hint="Look at it, and rename or drop it: a drill needs that name.",
        )
    try:
        link.run(f"CREATE DATABASE IF NOT EXISTS {quoted(name)} CHARACTER SET utf8mb4")
        link.run(f"CREATE TABLE {quoted(name)}.{quoted(MARK)} (id INT PRIMARY KEY)")
    except DatabaseError as error:
        if not isinstance(error.__context__, pymysql.err.MySQLError):
            raise
        raise DatabaseError(
            f"a drill needs a scratch database {name}, and Kuma's login could not make it: {error}",
            hint=f"{_grant(link, name)} Or drill on another instance, one with SQLite.",
        ) from None


def _grant(link: Link, name: str) -> str:
    user, _, host = str(link.value("SELECT current_user()")).rpartition("@")
    pattern = quoted(name.replace("\\", "\\\\").replace("_", "\\_"))  # _ is any character there
    who = f"{literal(user)}@{literal(host)}"
    return f"Try, as MariaDB's administrator: GRANT ALL PRIVILEGES ON {pattern}.* TO {who};"


def _drop(link: Link, name: str) -> None:
    """Drop the database only if it has our mark: one that we did not make must stay."""
    if MARK in _tables(link, literal(name)):
        link.run(f"DROP DATABASE {quoted(name)}")


def _fill(link: Link, live: str) -> None:
    """Create the tables of Kuma's database, empty except for the rows that tell the schema.

    Triggers are not copied: an operator's trigger may write to another database.
    """
    tables = _tables(link, literal(live))
    for table in tables:
        link.run(str(link.all(f"SHOW CREATE TABLE {quoted(live)}.{quoted(table)}")[0][1]))
    for table in MIGRATIONS:
        if table in tables:
            link.run(f"INSERT INTO {quoted(table)} SELECT * FROM {quoted(live)}.{quoted(table)}")
    if "setting" in tables:
        keys = ", ".join(map(literal, SCHEMA_SETTINGS))
        link.run(
            f"INSERT INTO setting SELECT * FROM {quoted(live)}.setting WHERE `key` IN ({keys})"
        )
