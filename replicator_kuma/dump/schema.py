"""A database's schema: its tables and columns, and the fingerprint that must agree."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from replicator_kuma.base.errors import TableMissing
from replicator_kuma.dump.catalog import LOCAL, SETTINGS, TABLES


@dataclass(frozen=True)
class Column:
    """``type`` is what the engine says, in lower case: `varchar(150)`, `int(10) unsigned`.

    ``default`` is an SQL expression, None where there is none; ``charset`` and ``collation`` are
    those of a text column, where the engine has such.
    """

    name: str
    type: str
    notnull: bool = False
    default: str | None = None
    charset: str = ""
    collation: str = ""


@dataclass(frozen=True)
class TableSchema:
    """Columns by name; ``unique``: each set of UNIQUE columns, without the primary key.

    Of a table that the catalog does not know, only the name is read.
    """

    columns: Mapping[str, Column]
    unique: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Schema:
    """A database's tables, and the migrations that made them.

    ``migrations`` are the names in knex_migrations (2.x), or, where there are none, the patches in
    setting databasePatchedFiles with database_version (1.x and its builds). ``settings`` are the
    keys of `setting` that this instance replicates.
    """

    tables: Mapping[str, TableSchema]
    migrations: tuple[str, ...]
    settings: frozenset[str] = SETTINGS

    @property
    def fingerprint(self) -> str:
        """16 hex digits over the migrations' names.

        Equal fingerprints mean equal schemas; different ones may, too (`kuma_versions.apart`).
        """
        return fingerprint(self.migrations)

    @property
    def columns(self) -> str:
        """16 hex digits over the columns' names of the tables that may be replicated."""
        found = {name: sorted(self.tables[name].columns) for name in TABLES if name in self.tables}
        return _short_hash(found)

    def require(self, chosen: Iterable[str]) -> tuple[str, ...]:
        """The chosen tables that this schema has, parents first.

        Raises TableMissing if the schema lacks a table or a key column that it should have: a
        database that cannot be read completely is not published.
        """
        wanted = set(chosen)
        present = []
        for name, table in TABLES.items():
            if name not in self.tables:
                if not table.since or any(table.since in step for step in self.migrations):
                    raise TableMissing(f"Kuma's database has no table {name!r}")
                continue
            columns = self.tables[name].columns
            for column in (*table.key, *(() if name == "setting" else ("id",))):
                if column not in columns:
                    raise TableMissing(f"Kuma's table {name!r} has no column {column!r}")
            if name in wanted:
                present.append(name)
        return tuple(present)

    def unknown(self) -> tuple[str, ...]:
        """Tables that the catalog does not know: reported by `doctor`, never guessed."""
        return tuple(sorted(set(self.tables) - set(TABLES) - LOCAL))


def fingerprint(migrations: Iterable[str]) -> str:
    """The `Schema.fingerprint` of these migrations."""
    return _short_hash(sorted(migrations))


def _short_hash(content: object) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
