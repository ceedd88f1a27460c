"""Databases made from the schemas in tests/schemas: empty, or full of what hurts.

`build` is fast enough for 180,000 monitors, so that the benchmark uses it too.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

from tests.support import nasty

VERSIONS = ("1.23", "2.0", "2.3")
NEWEST = VERSIONS[-1]
LOCAL_SETTINGS = (
    "jwtSecret",
    "primaryBaseURL",
    "disableAuth",
    "trustProxy",
    "cloudflaredTunnelToken",
)

_BORN = "2025-01-01 00:00:00"
_SCHEMAS = Path(__file__).parent.parent / "schemas"


@cache
def schema_sql(version: str) -> str:
    """The statements that make a new database of a version."""
    return (_SCHEMAS / f"{version}.sql").read_text()


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def create(
    path: Path,
    version: str = NEWEST,
    *,
    page_size: int = 4096,
    auto_vacuum: int = 0,
    encoding: str = "UTF-8",
    wal: bool = False,
) -> Path:
    """A database as Kuma's first start leaves it: no user yet. Replaces what was there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for suffix in ("", "-wal", "-shm", "-journal"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    path.write_bytes(_template(version, page_size, auto_vacuum, encoding))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        insert(connection, "setting", key="jwtSecret", value=f"jwt of {path.parent.name}")
        if wal:
            connection.execute("PRAGMA journal_mode = WAL")
    return path


@cache
def _template(version: str, page_size: int, auto_vacuum: int, encoding: str) -> bytes:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.execute(f"PRAGMA page_size = {page_size}")
        connection.execute(f"PRAGMA auto_vacuum = {auto_vacuum}")
        connection.execute(f'PRAGMA encoding = "{encoding}"')
        connection.executescript(f"BEGIN; {schema_sql(version)} COMMIT;")
        return connection.serialize()


def insert(connection: sqlite3.Connection, table: str, **row: Any) -> int:
    """One row; its id. Columns that are not named keep their default."""
    cursor = connection.execute(insertion(table, row), tuple(row.values()))
    return int(cursor.lastrowid or 0)


def insertion(table: str, columns: Collection[str]) -> str:
    """The statement that inserts a row of these columns, with a mark for each."""
    names = ", ".join(map(quoted, columns))
    return f"INSERT INTO {quoted(table)} ({names}) VALUES ({', '.join('?' * len(columns))})"


def edit(path: Path, *statements: str | tuple[str, Sequence[Any]]) -> None:
    """Run statements in one transaction, with foreign keys as they are: off."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        for statement in statements:
            sql, values = (statement, ()) if isinstance(statement, str) else statement
            connection.execute(sql, values)
        connection.execute("COMMIT")


def query(path: Path, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """Rows of a statement that only reads; text that is no UTF-8 keeps its bytes."""
    with closing(sqlite3.connect(path)) as connection:
        connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
        return connection.execute(sql, values).fetchall()


def build(
    path: Path,
    version: str = NEWEST,
    *,
    monitors: int = 20,
    users: int = 1,
    tags: int = 3,
    notifications: int = 2,
    heartbeats: int = 0,
    secrets: bool = False,
    wal: bool = False,
) -> Path:
    """A leader's database: monitors in groups, each with tags and notifications, status pages.

    ``heartbeats`` is a number a monitor; 2.x gets statistics with them. ``secrets`` fills columns
    that hold secrets with values that `nasty.secret` made. Without users: only what `create` makes.
    """
    create(path, version)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("BEGIN")
        if users:
            _people(connection, users, notifications)
            _monitors(connection, monitors, users, secrets)
            _links(connection, monitors, users, tags, notifications)
            _pages(connection, monitors)
            _rest(connection, version)
            _history(connection, version, monitors, heartbeats)
        connection.execute("COMMIT")
        if wal:
            connection.execute("PRAGMA journal_mode = WAL")
    return path


def _many(
    connection: sqlite3.Connection, table: str, columns: str, rows: Iterable[Sequence[Any]]
) -> None:
    names = columns.split()
    marks = ", ".join("?" * len(names))
    connection.executemany(
        f"INSERT INTO {quoted(table)} ({', '.join(quoted(n) for n in names)}) VALUES ({marks})",
        rows,
    )


def _people(connection: sqlite3.Connection, users: int, notifications: int) -> None:
    _many(
        connection,
        "user",
        "id username password active timezone twofa_last_token",
        (
            (n, "admin" if n == 1 else f"user{n}", f"$2a$10${n:053d}", 1, "Europe/Oslo", None)
            for n in range(1, users + 1)
        ),
    )
    pool = max(4, users * notifications)
    _many(
        connection,
        "notification",
        "id name active user_id is_default config",
        (
            (
                n,
                f"alert {n} {nasty.text(n)[:100]}",
                1,
                (n - 1) % users + 1,
                n % 2,
                f'{{"type":"webhook","webhookURL":"https://hook.example/{n}"}}',
            )
            for n in range(1, pool + 1)
        ),
    )
    _many(
        connection,
        "tag",
        "id name color created_date",
        ((n, f"tag {n} {nasty.text(n)[:80]}", "#059669", _BORN) for n in range(1, 13)),
    )
    _many(
        connection,
        "proxy",
        "id user_id protocol host port auth username password active default created_date",
        [(n, 1, "http", f"proxy{n}.example", 3128, 1, "me", "pw", 1, 0, _BORN) for n in (1, 2)],
    )
    _many(
        connection,
        "docker_host",
        "id user_id docker_daemon docker_type name",
        [
            (1, 1, "/var/run/docker.sock", "socket", "here"),
            (2, 1, "https://docker.example:2376", "tcp", "there"),
        ],
    )


def _monitors(connection: sqlite3.Connection, monitors: int, users: int, secrets: bool) -> None:
    types = ("http", "keyword", "port", "ping", "dns", "push", "docker", "json-query")

    def rows() -> Iterator[tuple[Any, ...]]:
        share = max(1, -(-monitors // users))
        for n in range(1, monitors + 1):
            group = n % 10 == 1
            kind = "group" if group else types[n % len(types)]
            yield (
                n,
                f"{kind} {n} {nasty.text(n)[:100]}",
                n % 7 != 0,
                min((n - 1) // share + 1, users),
                20 + n % 40,
                f"https://host{n}.example/health?n={n}",
                kind,
                f"host{n}.example",
                (n * 7) % 65536,
                _BORN,
                nasty.text(n) if n < 200 else None,
                None if group or n % 3 else n - (n - 1) % 10,
                1 if kind == "http" and n % 5 == 0 else None,
                2 if kind == "docker" else None,
                nasty.secret(n) if secrets else f"pw{n}" if n % 4 == 0 else None,
                nasty.secret(n + 2**32) if secrets else None,
                48 * 0.8 if n % 2 else 48.0,
                f"192.0.2.{n % 256}" if kind == "dns" else None,
            )

    _many(
        connection,
        "monitor",
        "id name active user_id interval url type hostname port created_date description parent "
        "proxy_id docker_host basic_auth_pass push_token timeout dns_last_result",
        rows(),
    )


def _links(
    connection: sqlite3.Connection, monitors: int, users: int, tags: int, notifications: int
) -> None:
    pool = max(4, users * notifications)
    share = max(1, -(-monitors // users))
    _many(
        connection,
        "monitor_tag",
        "monitor_id tag_id value",
        (
            (n, (n + k) % 12 + 1, nasty.text(n + k)[:200] if n < 200 else "")
            for n in range(1, monitors + 1)
            for k in range(tags)
        ),
    )
    _many(
        connection,
        "monitor_notification",
        "monitor_id notification_id",
        (
            (n, (min((n - 1) // share, users - 1) * notifications + k) % pool + 1)
            for n in range(1, monitors + 1)
            for k in range(notifications)
        ),
    )


def _pages(connection: sqlite3.Connection, monitors: int) -> None:
    _many(
        connection,
        "status_page",
        "id slug title description icon theme custom_css footer_text created_date modified_date",
        [
            (1, "public", "Public 🟢", nasty.TEXTS[3], "/icon.svg", "light",
             nasty.TEXTS[16], None, _BORN, _BORN),
            (2, "internal", "Internal", None, "/upload/logo2.png?t=1735689600000", "dark",
             "a;\n" * 100, nasty.TEXTS[2], _BORN, _BORN),
        ],
    )  # fmt: skip
    _many(
        connection,
        "status_page_cname",
        "status_page_id domain",
        [(1, "status.example"), (1, "www.status.example"), (2, "internal.example")],
    )
    _many(
        connection,
        "group",
        "id name created_date public active weight status_page_id",
        [
            (n, f"Group {n} {nasty.text(n)[:50]}", _BORN, 1, 1, n, (n - 1) % 2 + 1)
            for n in range(1, 5)
        ],
    )
    _many(
        connection,
        "monitor_group",
        "monitor_id group_id weight",
        ((n, n % 4 + 1, n) for n in range(1, min(monitors, 400) + 1)),
    )
    _many(
        connection,
        "incident",
        "id title content created_date status_page_id",
        [(1, "Outage", nasty.TEXTS[16], _BORN, 1), (2, "Another", nasty.TEXTS[-1], _BORN, 2)],
    )


def _rest(connection: sqlite3.Connection, version: str) -> None:
    _many(
        connection,
        "maintenance",
        "id title description user_id strategy weekdays cron duration",
        [(1, "Sunday", nasty.TEXTS[4], 1, "cron", "[0]", "0 3 * * 0", 3600)],
    )
    has_monitor = connection.execute("SELECT count(*) FROM monitor WHERE id = 1").fetchone()[0]
    if has_monitor:
        insert(connection, "monitor_maintenance", monitor_id=1, maintenance_id=1)
    insert(connection, "maintenance_status_page", status_page_id=1, maintenance_id=1)
    # no date may be the default, which is now: the same call makes the same rows
    row = {"key": "$2a$10$hash", "name": "prometheus", "user_id": 1, "created_date": _BORN}
    insert(connection, "api_key", **row)
    settings = {"keepDataPeriodDays": "180", "entryPage": '"dashboard"', "steamAPIKey": '"abc"'}
    for key, value in settings.items():
        insert(connection, "setting", key=key, value=value, type="general")
    for key in LOCAL_SETTINGS[1:]:
        insert(connection, "setting", key=key, value=f'"{key} of this one"')
    if version != "1.23":
        insert(connection, "remote_browser", name="chrome", url="ws://chrome:3000", user_id=1)


def _history(connection: sqlite3.Connection, version: str, monitors: int, heartbeats: int) -> None:
    _many(
        connection,
        "heartbeat",
        "important monitor_id status msg time ping duration",
        (
            (k == 0, n, 1, nasty.text(k)[:50], f"2025-01-01 00:{k // 60:02d}:{k % 60:02d}.123",
             n % 300, 20)
            for n in range(1, monitors + 1)
            for k in range(heartbeats)
        ),
    )  # fmt: skip
    if not heartbeats:
        return
    everyone = range(1, monitors + 1)
    _many(connection, "monitor_tls_info", "monitor_id info_json", ((n, "{}") for n in everyone))
    _many(
        connection,
        "notification_sent_history",
        "type monitor_id days",
        (("certificate", n, 7) for n in everyone),
    )
    if version != "1.23":
        for table in ("stat_minutely", "stat_hourly", "stat_daily"):
            _many(
                connection,
                table,
                "monitor_id timestamp ping ping_min ping_max up down",
                ((n, 1735689600, 1.5, 0.1, 9.75, 3, 1) for n in everyone),
            )
