"""How a table is read into canonical form, as data: an engine turns it into its own SQL."""

from __future__ import annotations

from dataclasses import dataclass

from replicator_kuma.dump.catalog import TABLES, Dangle, Reference
from replicator_kuma.dump.schema import Schema


@dataclass(frozen=True)
class Select:
    """``content``: columns in the digest, key first, then by name; ``runtime``: all others.

    ``order`` columns are integers (or the key of setting): every engine sorts them alike. In an
    unkeyed table, rows with equal ``order`` are sorted by their canonical text (`format`).
    """

    table: str
    content: tuple[str, ...]
    runtime: tuple[str, ...]
    order: tuple[str, ...]
    references: tuple[Reference, ...]
    unkeyed: bool = False
    values: frozenset[str] | None = None
    """only rows whose key is one of these (setting)"""

    @property
    def columns(self) -> tuple[str, ...]:
        return self.content + self.runtime


@dataclass(frozen=True)
class Dangling:
    """References that point nowhere: how many, and what became of them."""

    table: str
    column: str
    parent: str
    rows: int
    dangle: Dangle

    def __str__(self) -> str:
        rows = "1 row points" if self.rows == 1 else f"{self.rows} rows point"
        return f"{self.table}.{self.column}: {rows} to a missing {self.parent}; {self.dangle.value}"


def select(schema: Schema, name: str) -> Select:
    """How to read one table of a schema. The table must be there (`Schema.require`)."""
    table = TABLES[name]
    columns = schema.tables[name].columns
    runtime = (table.runtime | table.quiet) & set(columns)
    if table.unkeyed:
        runtime |= {"id"}
    local = {"id"} if name == "setting" else set()
    content = sorted(set(columns) - runtime - local - set(table.key))
    return Select(
        table=name,
        content=(*table.key, *content),
        runtime=tuple(sorted(runtime)),
        order=table.key,
        references=tuple(
            ref for ref in table.references if ref.column in columns and ref.table in schema.tables
        ),
        unkeyed=table.unkeyed,
        values=schema.settings if name == "setting" else None,
    )
