"""Databases for the benchmark: many users with ten monitors each, as real rows are."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

MONITORS_A_USER = 10
TAGS_A_MONITOR = 3
NOTIFICATIONS_A_USER = 2
BEATS_A_MONITOR = 5

_TAGS = 60
_BEFORE = "2026-11-20 06:17:18"
_BODY = json.dumps({"probe": "deep", "timeout": 12, "checks": ["database", "queue", "disk"]})
_HEADERS = json.dumps(
    {"Authorization": "Bearer 0123456789abcdef0123456789abcdef", "X-Trace": "kuma/1"}
)
_TEXT = (
    "Owned by the platform team; see the run book before waking anybody. "
    "Escalate after two failures in a row, not after one: the upstream restarts nightly. "
)

Row = tuple[Any, ...]


def fill(path: Path, monitors: int, *, beats: int = BEATS_A_MONITOR) -> None:
    """Put users, notifications, tags, monitors, links and heartbeats into an empty database."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA cache_size = -65536")
        connection.execute("BEGIN")
        _configuration(connection, monitors)
        _monitors(connection, monitors)
        _links(connection, monitors)
        _heartbeats(connection, monitors, beats)
        connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode = WAL")
    finally:
        connection.close()


def users_of(monitors: int) -> int:
    """How many users share so many monitors."""
    return max(1, monitors // MONITORS_A_USER)


def _insert(
    connection: sqlite3.Connection, table: str, columns: tuple[str, ...], rows: Iterable[Row]
) -> None:
    names = ", ".join(f'"{column}"' for column in columns)
    marks = ", ".join("?" * len(columns))
    connection.executemany(f'INSERT INTO "{table}" ({names}) VALUES ({marks})', rows)


def _configuration(connection: sqlite3.Connection, monitors: int) -> None:
    users = users_of(monitors)
    password = "$2a$10$" + "abcdefghijklmnopqrstuvwxyz./ABCDEFGHIJKLMNOPQRSTUVWXY"
    _insert(
        connection,
        "user",
        ("id", "username", "password", "active", "timezone", "twofa_status"),
        ((n, f"person-{n}", password, 1, "Europe/Berlin", 0) for n in range(1, users + 1)),
    )
    _insert(
        connection,
        "tag",
        ("id", "name", "color", "created_date"),
        ((n, f"team {n} 🏭", f"#{n * 9999 % 0xFFFFFF:06X}", _BEFORE) for n in range(1, _TAGS + 1)),
    )
    count = users * NOTIFICATIONS_A_USER
    _insert(
        connection,
        "notification",
        ("id", "name", "active", "user_id", "is_default", "config"),
        (_notification(n) for n in range(1, count + 1)),
    )


def _notification(number: int) -> Row:
    user = (number - 1) // NOTIFICATIONS_A_USER + 1
    name = f"alerts {number} of person {user}"
    config = {
        "name": name,
        "type": "ntfy",
        "isDefault": False,
        "applyExisting": False,
        "ntfyserverurl": "http://127.0.0.1:5080",
        "ntfytopic": f"kuma-alerts-{number}",
        "ntfyPriority": 5,
        "ntfyAuthenticationMethod": "usernamePassword",
        "ntfyusername": f"person-{user}",
        "ntfypassword": f"secret-{number}",
    }
    return number, name, 1, user, 0, json.dumps(config)


def _monitors(connection: sqlite3.Connection, monitors: int) -> None:
    have = {row[1] for row in connection.execute('PRAGMA table_info("monitor")')}
    columns = tuple(column for column in _monitor(1) if column in have)
    rows = (_monitor(number) for number in range(1, monitors + 1))
    _insert(connection, "monitor", columns, (tuple(row[c] for c in columns) for row in rows))


def _monitor(number: int) -> dict[str, Any]:
    """A row as Kuma's page saves it: 1.3 kB on average, some far longer."""
    rest = number % 10
    url = f"https://service-{number}.example.test:8443/health/deep?check=all&token={number:032x}"
    return {
        "id": number,
        "name": f"Service {number} — région {rest}",
        "active": 1,
        "user_id": (number - 1) // MONITORS_A_USER + 1,
        "interval": 3600,
        "url": url,
        "type": "keyword" if rest == 3 else "http",
        "weight": 2000,
        "created_date": _BEFORE,
        "keyword": "all systems go" if rest == 3 else None,
        "maxretries": rest,
        "accepted_statuscodes_json": '["200-299","301"]',
        "dns_resolve_type": "A",
        "dns_resolve_server": "1.1.1.1",
        "dns_last_result": None,
        "retry_interval": 60,
        "push_token": f"{number:032x}",
        "method": "POST" if rest < 5 else "GET",
        "body": _BODY * (1 + rest) if rest < 5 else None,
        "headers": _HEADERS,
        "basic_auth_user": f"probe-{number}",
        "basic_auth_pass": f"hunter{number}",
        "mqtt_topic": "",
        "mqtt_success_message": "",
        "description": _TEXT * (1 + rest % 4),
        "kafka_producer_brokers": "[]",
        "kafka_producer_sasl_options": '{"mechanism":"None"}',
        "oauth_auth_method": "client_secret_basic",
        "timeout": 16.5 + rest,
    }


def _links(connection: sqlite3.Connection, monitors: int) -> None:
    _insert(
        connection,
        "monitor_notification",
        ("monitor_id", "notification_id"),
        _monitor_notifications(monitors),
    )
    _insert(
        connection,
        "monitor_tag",
        ("monitor_id", "tag_id", "value"),
        (
            (monitor, (monitor * 7 + n * 13) % _TAGS + 1, f"value {n}" if n else "")
            for monitor in range(1, monitors + 1)
            for n in range(TAGS_A_MONITOR)
        ),
    )


def _monitor_notifications(monitors: int) -> Iterator[Row]:
    for monitor in range(1, monitors + 1):
        first = (monitor - 1) // MONITORS_A_USER * NOTIFICATIONS_A_USER
        for n in range(1, NOTIFICATIONS_A_USER + 1):
            yield monitor, first + n


def _heartbeats(connection: sqlite3.Connection, monitors: int, beats: int) -> None:
    _insert(
        connection,
        "heartbeat",
        ("important", "monitor_id", "status", "msg", "time", "ping", "duration"),
        (
            (
                int(n == 0),
                monitor,
                1,
                "200 - OK",
                f"2026-11-20 07:{n:02}:18.{monitor % 999:03}",
                45,
                60,
            )
            for n in range(beats)
            for monitor in range(1, monitors + 1)
        ),
    )
