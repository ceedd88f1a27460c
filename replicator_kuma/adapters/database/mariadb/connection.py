"""One connection to MariaDB: sets deadlines and session variables, streams, translates errors."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import pymysql
from pymysql.constants import FIELD_TYPE
from pymysql.converters import conversions, escape_string
from pymysql.cursors import SSCursor

from replicator_kuma.adapters.database.db_config import Login
from replicator_kuma.adapters.database.mariadb.auth import NOT_IN_CLEAR, encoded
from replicator_kuma.adapters.database.mariadb.decoder import row_decoder
from replicator_kuma.base.errors import (
    DatabaseCorrupt,
    DatabaseError,
    DatabaseLocked,
    DatabaseMigrating,
    DatabaseMissing,
    DatabaseUnreachable,
    SettingsError,
    SnapshotRefused,
    TableMissing,
)
from replicator_kuma.base.sockets import vouched_socket

CONNECT_TIMEOUT = 10.0
"""Seconds until the server must have accepted the login."""
TIMEOUT = 60.0
"""Seconds without a byte to or from the server: a commit to a slow disk takes long."""
_LOCK_WAIT = 5
_FETCH = 64
"""Rows that are fetched at once: one call for each would cost as much as reading a short row."""

_SESSION = (
    # a server or its operator may have set other values
    "SET SESSION time_zone = '+00:00', "
    "sql_mode = 'STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION', "
    # with checks on, deleting a row would delete its heartbeats, and children could not be written
    # before parents: references are checked before the commit instead
    "foreign_key_checks = 0, unique_checks = 1, sql_safe_updates = 0, sql_auto_is_null = 0, "
    "sql_select_limit = 18446744073709551615, "
    f"innodb_lock_wait_timeout = {_LOCK_WAIT}, lock_wait_timeout = {_LOCK_WAIT}, "
    "wait_timeout = 600, net_write_timeout = 600, lc_messages = 'en_US'"
)
_AS_TEXT = (
    FIELD_TYPE.DATE,
    FIELD_TYPE.DATETIME,
    FIELD_TYPE.TIMESTAMP,
    FIELD_TYPE.TIME,
    # as text it is exact, trailing zeros too; as a float it would not be
    FIELD_TYPE.DECIMAL,
    FIELD_TYPE.NEWDECIMAL,
)
_CONVERSIONS = {kind: how for kind, how in conversions.items() if kind not in _AS_TEXT}

_RULES = {
    **dict.fromkeys((1062, 1242, 1586), "UNIQUE"),
    **dict.fromkeys((1048, 1364), "NOT NULL"),
    **dict.fromkeys((1406, 1118), "too long"),
    **dict.fromkeys((1366, 1367, 1292, 1411), "no value of its type"),
    **dict.fromkeys((1264, 1690), "out of range"),
    1265: "none of the column's values",
    **dict.fromkeys((1216, 1217, 1451, 1452), "FOREIGN KEY"),
    **dict.fromkeys((3819, 4025), "CHECK"),
    **dict.fromkeys((1153, 1301), "longer than max_allowed_packet"),
}
"""The rule that a row broke, by error code. 1242 comes from the writer's own UNIQUE guard."""
_LOGIN = frozenset({1044, 1045, 1130, 1698, 1862, 4151})
_AWAY = frozenset(
    {0, 1040, 1041, 1053, 1077, 1129, 1135, 1152, 1158, 1159, 1160, 1161, 1184, 1203}
    | {1226, 1317, 1927, 4031, *range(2000, 2060)}
)
_LOCKED = frozenset({1015, 1020, 1099, 1100, 1205, 1213, 1223, 1969, 3024, 3572})
_TORN = frozenset({1033, 1034, 1035, 1194, 1195, 1712, 1877, 1932, 1933})
DAMAGED = "Nothing was published or changed. Look at MariaDB's log; repair it, or load a backup."
_NO_DATABASE = "Check the database's name in db-config.json. Kuma makes it at its first start."
_SPACE = "Nothing was changed. Free some space on the machine that MariaDB runs on."
_WRITABLE = "Is it a read-only copy? Name the one that Kuma writes to."
_GRANT = "Give the login of db-config.json all privileges on Kuma's database."
_MEANT: tuple[tuple[Collection[int], type[DatabaseError], str, str | None], ...] = (
    (_LOGIN, DatabaseUnreachable, "Kuma's MariaDB refuses the login", None),
    (_AWAY, DatabaseUnreachable, "the connection to Kuma's MariaDB was lost", None),
    (_LOCKED, DatabaseLocked, "Kuma's database is locked by another program", None),
    ({1412}, DatabaseMigrating, "Kuma's tables were changed while they were read", None),
    ({1046, 1049}, DatabaseMissing, "Kuma's database is not in this MariaDB", _NO_DATABASE),
    ({1054, 1146}, TableMissing, "a table or a column of Kuma's is not there", None),
    (_TORN, DatabaseCorrupt, "Kuma's database is damaged", DAMAGED),
    ({1021, 1114}, DatabaseError, "no space left for Kuma's database", _SPACE),
    ({1036, 1290, 1792, 1836}, DatabaseError, "Kuma's MariaDB takes no writes", _WRITABLE),
    ({1142, 1143, 1227, 1370}, DatabaseError, "Kuma's login may not do this", _GRANT),
)
_STRAY = (
    *(OSError, struct.error, AssertionError, IndexError, ValueError, AttributeError),
    RuntimeError,  # the server asks for one of our files
)
"""What PyMySQL raises if the bytes do not follow the protocol."""


class Link:
    """A connection in autocommit. Methods raise DatabaseErrors that show no value and no secret."""

    def __init__(
        self, login: Login, connect_timeout: float = CONNECT_TIMEOUT, timeout: float = TIMEOUT
    ) -> None:
        self._stream: _Stream | None = None
        self._connection = _connect(login, connect_timeout)
        try:
            self.run(_SESSION)
        except BaseException:
            self.close()
            raise
        # PyMySQL takes only one deadline, for the login and for all that follows
        self._connection._read_timeout = timeout  # type: ignore[attr-defined]
        self._connection._write_timeout = timeout  # type: ignore[attr-defined]

    def close(self) -> None:
        """Close the connection; the server rolls back what was not committed."""
        with contextlib.suppress(Exception):
            self._connection.close()

    def run(self, sql: str | bytes, table: str = "") -> int:
        """Run a statement; return the number of changed rows.

        Raises SnapshotRefused if it writes to ``table`` and a row breaks a rule of that table.
        """
        self._spill()
        with explained(table), self._connection.cursor() as cursor:
            text: Any = sql  # PyMySQL sends bytes unchanged
            return int(cursor.execute(text))

    def all(self, sql: str) -> list[tuple[Any, ...]]:
        """Return all rows of a statement; its result must be small."""
        self._spill()
        with explained(), self._connection.cursor() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall())

    def value(self, sql: str) -> Any:
        """The first column of the first row; None where there is none."""
        rows = self.all(sql)
        return rows[0][0] if rows else None

    def stream(self, sql: str) -> Iterator[tuple[Any, ...]]:
        """Rows one by one, as the server sends them: memory does not grow with their number."""
        self._spill()
        stream = _Stream(self._connection)
        with explained():
            stream.start(sql)
        self._stream = stream
        try:
            while rows := stream.next():
                yield from rows
        finally:
            stream.close()
            if self._stream is stream:
                self._stream = None

    def _spill(self) -> None:
        """Read the rest of a stream into memory: a connection can have one result at a time."""
        if self._stream is not None:
            self._stream.spill()
            self._stream = None


class _Stream:
    """An unbuffered result."""

    def __init__(self, connection: pymysql.Connection[Any]) -> None:
        self._cursor = SSCursor(connection)
        self._rest: list[tuple[Any, ...]] | None = None

    def start(self, sql: str) -> None:
        with self._abandoned():
            self._cursor.execute(sql)
            result = vars(self._cursor)["_result"]
            result._read_row_from_packet = row_decoder(result.converters)

    def next(self) -> Sequence[tuple[Any, ...]]:
        """Return some rows; none at the end."""
        if self._rest is not None:
            rest, self._rest = self._rest, []
            return rest
        with explained(), self._abandoned():
            return self._cursor.fetchmany(_FETCH)

    def spill(self) -> None:
        with explained(), self._abandoned():
            self._rest = list(iter(self._cursor.fetchone, None))

    def close(self) -> None:
        with contextlib.suppress(Exception), self._abandoned():
            self._cursor.close()

    @contextlib.contextmanager
    def _abandoned(self) -> Iterator[None]:
        """After an error, forget the result: PyMySQL's destructor would wait for the rest."""
        try:
            yield
        except BaseException:
            if (result := getattr(self._cursor, "_result", None)) is not None:
                result.unbuffered_active = False
            self._cursor.connection = None  # type: ignore[assignment]
            raise


def literal(value: object) -> str:
    """A value as SQL for this session's sql_mode; raises ValueError if MariaDB cannot store it."""
    if value is None:
        return "NULL"
    if isinstance(value, str):
        return f"'{escape_string(value)}'"
    if isinstance(value, float):
        text = repr(value)
        if text in ("inf", "-inf", "nan"):
            raise ValueError("no finite number")
        return text if "e" in text else f"{text}e0"
    if isinstance(value, bytes):
        return f"X'{value.hex()}'"
    if isinstance(value, int):
        return str(int(value))
    raise ValueError(f"a database does not hold a {type(value).__name__}")


def quoted(name: str) -> str:
    """An identifier in backquotes."""
    return "`" + name.replace("`", "``") + "`"


def _connect(login: Login, timeout: float) -> pymysql.Connection[Any]:
    path = login.socket()
    context = _tls(login) if login.ssl else None
    user, password, database = encoded(login)
    connection: pymysql.Connection[Any] = pymysql.Connection(
        host=login.hostname,
        port=login.port,
        user=user,
        password=password,
        database=database,
        charset="utf8mb4",
        conv=_CONVERSIONS,
        autocommit=True,
        read_timeout=timeout,
        write_timeout=timeout,
        ssl=context,
        ssl_disabled=None if context else True,
        defer_connect=True,
        auth_plugin_map=None if context or path else NOT_IN_CLEAR,
    )
    connection._secure = path is not None  # type: ignore[attr-defined]
    try:
        connection.connect(_reached(login, path, timeout))
    except pymysql.err.MySQLError as error:
        found = _translate(error)
        if isinstance(found, DatabaseUnreachable):
            found = _unreachable(login, _reason(error, login))
        raise found from None
    except RuntimeError as error:  # it has no code
        if "package" not in str(error):
            raise _unreachable(login, "what answers there is no MariaDB") from None
        raise DatabaseUnreachable(
            f"Kuma's MariaDB ({login.place}) wants a way to log in that PyMySQL has not",
            hint='Try: pip install "pymysql[rsa,ed25519]"',
        ) from None
    except _STRAY:
        raise _unreachable(login, "what answers there is no MariaDB") from None
    return connection


def _reached(login: Login, path: Path | None, timeout: float) -> socket.socket:
    """Connect a socket. (PyMySQL itself would leave the socket open if nobody answers.)"""
    try:
        if path is None:
            made = socket.create_connection((login.hostname, login.port), timeout)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            return made
        made = socket.socket(socket.AF_UNIX)
        try:
            made.settimeout(timeout)
            with vouched_socket(path, owned=login.embedded) as place:
                made.connect(place)
        except BaseException:
            made.close()
            raise
        return made
    except OSError as error:
        raise _unreachable(login, _of_system(error)) from None
    except ValueError:
        raise _unreachable(login, "there can be no such name") from None


def _unreachable(login: Login, reason: str) -> DatabaseUnreachable:
    inside = "The embedded MariaDB runs inside Kuma: start Kuma, and run as the user that runs it."
    hint = inside if login.embedded else None
    return DatabaseUnreachable(f"Kuma's MariaDB ({login.place}): {reason}", hint=hint)


def _tls(login: Login) -> ssl.SSLContext:
    """TLS as Kuma sets it up: the CA must have signed the certificate; its name may be any."""
    try:
        context = ssl.create_default_context(cadata=login.ca or None)
    except ssl.SSLError:
        raise SettingsError(
            "the CA for MariaDB (ca in db-config.json, UPTIME_KUMA_DB_CA) is no PEM certificate"
        ) from None
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.check_hostname = False
    return context


def _reason(error: pymysql.err.MySQLError, login: Login) -> str:
    code = error.args[0] if error.args else 0
    if code in _LOGIN:
        return f"the login as {login.username!r} is refused (error {code})"
    cause = getattr(error, "original_exception", None)
    if isinstance(cause, OSError):
        return _of_system(cause)
    if code == 2013:
        return "no answer in time, or the connection was lost"
    if code == 2026:
        return "it offers no TLS, and ssl is set"
    return f"no connection (error {code})"


def _of_system(error: OSError) -> str:
    match error:
        case ssl.SSLCertVerificationError():
            return f"its certificate is not accepted: {error.verify_message}"
        case ssl.SSLError():
            return f"no TLS: {error.reason}"
        case TimeoutError():
            return "no answer in time"
    return error.strerror or "no connection"


@contextlib.contextmanager
def explained(table: str = "") -> Iterator[None]:
    """Turn PyMySQL's errors into ours by code. Their text is not shown: it may hold a value."""
    try:
        yield
    except pymysql.err.MySQLError as error:
        raise _translate(error, table) from None
    except UnicodeDecodeError:  # MariaDB takes lone surrogates into utf8mb4
        raise DatabaseError(
            "Kuma's MariaDB holds a text that is no UTF-8",
            hint="Nothing was published or changed. Write that text anew in Kuma.",
        ) from None
    except _STRAY:
        raise DatabaseUnreachable("Kuma's MariaDB: the connection broke") from None


def _translate(error: pymysql.err.MySQLError, table: str = "") -> DatabaseError | SnapshotRefused:
    code = error.args[0] if error.args and isinstance(error.args[0], int) else 0
    if table and code in _RULES:
        return refused(table, f"{_RULES[code]}, error {code}")
    for codes, kind, said, hint in _MEANT:
        if code in codes:
            return kind(f"{said} (error {code})", hint=hint)
    return DatabaseError(f"Kuma's MariaDB: error {code}")


def refused(table: str, kind: str) -> SnapshotRefused:
    """The error for a row of the snapshot that breaks a rule of its table."""
    return SnapshotRefused(f"the snapshot's {table} breaks a rule of the table ({kind})")
