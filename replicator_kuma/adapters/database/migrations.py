"""Which migrations a database has seen: the same question to every engine."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from typing import Any

from replicator_kuma.base.errors import DatabaseMigrating

MIGRATIONS = ("knex_migrations", "knex_migrations_lock")
"""Tables by whose rows Kuma 2.x knows which schema it has."""
SCHEMA_SETTINGS = ("database_version", "databasePatchedFiles", "migrateAggregateTableState")
"""Keys of `setting` by which Kuma knows that."""

Ask = Callable[[str], list[tuple[Any, ...]]]
"""Runs a statement, gives its rows"""


def read_migrations(
    tables: Collection[str], ask: Ask, quote: Callable[[str], str]
) -> tuple[str, ...]:
    """What `Schema.migrations` is; raises DatabaseMigrating while Kuma changes its tables."""
    if "knex_migrations_lock" in tables and any(
        row[0] for row in ask("SELECT is_locked FROM knex_migrations_lock")
    ):
        raise DatabaseMigrating("Kuma is migrating its database (knex_migrations_lock is set)")
    values: dict[str, Any] = {}
    if "setting" in tables:
        key = quote("key")
        values = dict(ask(f"SELECT {key}, value FROM setting WHERE {key} IN {SCHEMA_SETTINGS!r}"))
    if "migrating" in str(values.get("migrateAggregateTableState")):
        raise DatabaseMigrating("Kuma is migrating its statistics (migrateAggregateTableState)")
    if "knex_migrations" in tables and (
        names := sorted(str(row[0]) for row in ask("SELECT name FROM knex_migrations"))
    ):
        return tuple(names)
    try:
        patched = json.loads(values.get("databasePatchedFiles") or "{}")
        names = sorted(name for name, done in patched.items() if done)
    except (ValueError, AttributeError):
        names = []
    return (f"database_version {values.get('database_version')}", *names)
