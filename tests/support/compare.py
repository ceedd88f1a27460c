"""Databases compared by SQLite itself, so that no code under test judges its own work."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

REFERENCES = (
    ("heartbeat", "monitor_id", "monitor"),
    ("stat_minutely", "monitor_id", "monitor"),
    ("stat_hourly", "monitor_id", "monitor"),
    ("stat_daily", "monitor_id", "monitor"),
    ("monitor_tls_info", "monitor_id", "monitor"),
    ("notification_sent_history", "monitor_id", "monitor"),
    ("monitor_notification", "monitor_id", "monitor"),
    ("monitor_notification", "notification_id", "notification"),
    ("monitor_tag", "monitor_id", "monitor"),
    ("monitor_tag", "tag_id", "tag"),
    ("monitor_group", "monitor_id", "monitor"),
    ("monitor_group", "group_id", "group"),
    ("monitor_maintenance", "monitor_id", "monitor"),
    ("monitor_maintenance", "maintenance_id", "maintenance"),
    ("maintenance_status_page", "maintenance_id", "maintenance"),
    ("maintenance_status_page", "status_page_id", "status_page"),
    ("status_page_cname", "status_page_id", "status_page"),
    ("group", "status_page_id", "status_page"),
    ("incident", "status_page_id", "status_page"),
    ("monitor", "user_id", "user"),
    ("monitor", "parent", "monitor"),
    ("monitor", "proxy_id", "proxy"),
    ("monitor", "docker_host", "docker_host"),
    ("monitor", "remote_browser", "remote_browser"),
    ("maintenance", "user_id", "user"),
    ("api_key", "user_id", "user"),
    ("notification", "user_id", "user"),
    ("proxy", "user_id", "user"),
    ("docker_host", "user_id", "user"),
    ("remote_browser", "user_id", "user"),
)
"""Every reference, declared or not, as docs/kuma.md has them; the catalog is not asked."""

REPLICATED = (
    "user",
    "proxy",
    "docker_host",
    "remote_browser",
    "notification",
    "tag",
    "status_page",
    "status_page_cname",
    "group",
    "incident",
    "maintenance",
    "api_key",
    "monitor",
    "monitor_notification",
    "monitor_tag",
    "monitor_group",
    "monitor_maintenance",
    "maintenance_status_page",
)
"""All but `setting`, which goes by key."""

RUNTIME = {
    "monitor": "dns_last_result",
    "maintenance": "last_start_date",
    "user": "twofa_last_token",
}

SETTINGS = (
    "tlsExpiryNotifyDays",
    "domainExpiryNotifyDays",
    "keepDataPeriodDays",
    "searchEngineIndex",
    "entryPage",
    "checkUpdate",
    "checkBeta",
    "steamAPIKey",
    "globalpingApiToken",
    "serverTimezone",
    "initServerTimezone",
    "apiKeysEnabled",
    "webpushPublicVapidKey",
    "webpushPrivateVapidKey",
)

HISTORY = (
    "heartbeat",
    "stat_minutely",
    "stat_hourly",
    "stat_daily",
    "monitor_tls_info",
    "notification_sent_history",
)


_SAME_ID = "SELECT a.id FROM main.{0} AS a JOIN other.{0} AS b ON a.id = b.id"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _attached(first: Path, second: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(first, isolation_level=None)
    connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
    connection.execute("ATTACH ? AS other", (str(second),))
    return connection


def _tables(connection: sqlite3.Connection) -> set[str]:
    return {r[0] for r in connection.execute("SELECT name FROM sqlite_master WHERE type='table'")}


def _columns(connection: sqlite3.Connection, table: str) -> list[str]:
    return [r[1] for r in connection.execute(f"PRAGMA table_info({_quoted(table)})")]


def _differ(
    connection: sqlite3.Connection, table: str, columns: list[str], where: str = "1"
) -> list[str]:
    """Rows that one side has and the other lacks, typeof() of every value included."""
    parts = [f"{_quoted(c)}, typeof({_quoted(c)})" for c in columns]
    found = []
    for here, there in (("main", "other"), ("other", "main")):
        one, two = (
            f"SELECT {', '.join(parts)} FROM {side}.{_quoted(table)} WHERE {where}"
            for side in (here, there)
        )
        rows = connection.execute(f"{one} EXCEPT {two}").fetchall()
        found += [f"{table}: only {here} has {row!r:.300}" for row in rows]
    counts = [
        connection.execute(
            f"SELECT count(*) FROM {side}.{_quoted(table)} WHERE {where}"
        ).fetchone()[0]
        for side in ("main", "other")
    ]
    if counts[0] != counts[1]:
        found.append(f"{table}: {counts[0]} rows and {counts[1]}")
    return found


def config_differences(ours: Path, theirs: Path, *, link_ids: bool = True) -> list[str]:
    """What differs in replicated rows; runtime columns aside. Empty: the databases agree."""
    with closing(_attached(ours, theirs)) as connection:
        found = []
        for table in sorted(set(REPLICATED) & _tables(connection)):
            columns = [c for c in _columns(connection, table) if c != RUNTIME.get(table)]
            if not link_ids and (
                table.startswith(("monitor_", "maintenance_")) or "cname" in table
            ):
                columns.remove("id")
            found += _differ(connection, table, columns)
        keys = ", ".join(f"'{key}'" for key in SETTINGS)
        return found + _differ(connection, "setting", ["key", "value", "type"], f"key IN ({keys})")


def local_differences(now: Path, before: Path) -> list[str]:
    """What changed in settings that stay with the instance and in its own tables but history."""
    keys = ", ".join(f"'{key}'" for key in SETTINGS)
    with closing(_attached(now, before)) as connection:
        found = _differ(
            connection, "setting", ["id", "key", "value", "type"], f"key NOT IN ({keys})"
        )
        own = {"knex_migrations", "knex_migrations_lock", "domain_expiry"}
        for table in sorted(own & _tables(connection)):
            found += _differ(connection, table, _columns(connection, table))
        return found


def staying_differences(now: Path, before: Path) -> list[str]:
    """What changed in runtime columns and history of monitors that are in both databases."""
    with closing(_attached(now, before)) as connection:
        found = []
        tables = _tables(connection)
        same = _SAME_ID + " AND a.created_date IS b.created_date"
        monitors = f"monitor_id IN ({same.format('monitor')})"
        for table in sorted(set(HISTORY) & tables):
            found += _differ(connection, table, _columns(connection, table), monitors)
        for table, column in RUNTIME.items():
            if column in _columns(connection, table):
                both = same.format(table) if table == "monitor" else _SAME_ID.format(table)
                found += _differ(connection, table, ["id", column], f"id IN ({both})")
        return found


def orphans(database: Path, *, kept: tuple[tuple[str, str], ...] = ()) -> list[str]:
    """References, declared or not, that point to no row; (table, column) in ``kept`` may."""
    with closing(sqlite3.connect(database)) as connection:
        tables = _tables(connection)
        found = []
        for table, column, parent in REFERENCES:
            if {table, parent} - tables or column not in _columns(connection, table):
                continue
            count: Any = connection.execute(
                f"SELECT count(*) FROM {_quoted(table)} AS t WHERE t.{_quoted(column)} IS NOT NULL "
                f"AND NOT EXISTS (SELECT 1 FROM {_quoted(parent)} AS p "
                f"WHERE p.id = t.{_quoted(column)})"
            ).fetchone()[0]
            if count and (table, column) not in kept:
                found.append(f"{table}.{column}: {count} point to no {parent}")
        return found


def damage(database: Path) -> list[str]:
    """What SQLite itself finds: integrity, declared references, counters below an id in use."""
    with closing(sqlite3.connect(database)) as connection:
        found = [r[0] for r in connection.execute("PRAGMA integrity_check") if r[0] != "ok"]
        found += [repr(row) for row in connection.execute("PRAGMA foreign_key_check")]
        for table, counter in connection.execute(
            "SELECT name, seq FROM sqlite_sequence"
        ).fetchall():
            key = "index" if table == "knex_migrations_lock" else "id"
            sql = f"SELECT coalesce(max({_quoted(key)}), 0) FROM {_quoted(table)}"
            if (highest := connection.execute(sql).fetchone()[0]) > counter:
                found.append(f"{table} has id {highest} above its counter {counter}")
        repeated = "SELECT name FROM sqlite_sequence GROUP BY name HAVING count(*) > 1"
        found += [f"two counters of {name}" for (name,) in connection.execute(repeated)]
        return found


def assert_sound(now: Path, before: Path) -> None:
    """What is the instance's own is as in ``before``, and nothing is damaged."""
    found = [*staying_differences(now, before), *local_differences(now, before)]
    assert [*found, *orphans(now), *damage(now)] == []
