"""A `Select` as SQL that SQLite and MariaDB both understand, but for the quote sign."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from replicator_kuma.dump.catalog import TABLES, Dangle, Reference
from replicator_kuma.dump.schema import Schema
from replicator_kuma.dump.select import Select

T = TypeVar("T")

MONITOR_LINKS = tuple(n for n, t in TABLES.items() if t.unkeyed and t.key[0] == "monitor_id")
"""Links of a monitor: those that an instance chose not to replicate go with it too."""


def double_quoted(name: str) -> str:
    """An identifier as SQLite (and the SQL standard) quotes it."""
    return '"' + name.replace('"', '""') + '"'


def chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items, ``size`` at a time."""
    waiting = iter(items)
    while chunk := list(itertools.islice(waiting, size)):
        yield chunk


@dataclass(frozen=True)
class SelectSql:
    """The parts of a statement that reads a table without its dangling references."""

    select: Select
    schema: Schema
    quote: Callable[[str], str] = double_quoted
    exact: Callable[[str], str] = str
    """A text column as an expression that is compared and sorted by code point"""

    def columns(self, *, whole: bool = False) -> list[str]:
        """An expression for each column. ``whole``: as for `rows`."""
        nulled = {} if whole else {r.column: r for r in self._references(Dangle.NULL)}
        return [
            f"CASE WHEN {self._found(nulled[c], 't')} THEN t.{self.quote(c)} END"
            if c in nulled
            else f"t.{self.quote(c)}"
            for c in self.select.columns
        ]

    def rows(
        self, where: str = "", *, whole: bool = False, columns: Sequence[str] | None = None
    ) -> str:
        """All columns (or ``columns``), in order; ``where`` narrows it further.

        ``whole``: no reference of the table is known to dangle, so none is looked up.
        """
        conditions = [] if whole else self._conditions("t", self.select.table)
        conditions += [where] if where else []
        exact = self.exact if self.select.values is not None else str
        return " ".join(
            [
                f"SELECT {', '.join(columns or self.columns(whole=whole))} "
                f"FROM {self.quote(self.select.table)} AS t",
                f"WHERE {' AND '.join(conditions)}" if conditions else "",
                f"ORDER BY {', '.join(exact(f't.{self.quote(c)}') for c in self.select.order)}",
            ]
        )

    def dangling(self) -> Iterator[tuple[Reference, str, str]]:
        """Two counts for each reference: of the values that point nowhere, and of their rows.

        The first one takes half of the time: many rows have the same value.
        """
        table = self.quote(self.select.table)
        for reference in self.select.references:
            column = self.quote(reference.column)
            nowhere = f"t.{column} IS NOT NULL AND NOT {self._found(reference, 't')}"
            values = f"(SELECT DISTINCT {column} FROM {table})"
            yield (
                reference,
                f"SELECT count(*) FROM {values} AS t WHERE {nowhere}",
                f"SELECT count(*) FROM {table} AS t WHERE {nowhere}",
            )

    def sweep(self) -> Iterator[str]:
        """Statements that make the table what `rows` shows of it.

        DISTINCT: MySQL refuses a table that is changed and read at once, unless what is read is
        put together first.
        """
        table = self.quote(self.select.table)
        key = self.quote("id")
        if conditions := self._conditions("t", self.select.table):
            yield (
                f"DELETE FROM {table} WHERE {key} IN (SELECT {key} FROM "
                f"(SELECT DISTINCT t.{key} FROM {table} AS t "
                f"WHERE NOT ({' AND '.join(conditions)})) AS swept)"
            )
        for reference in self._references(Dangle.NULL):
            column = self.quote(reference.column)
            yield (
                f"UPDATE {table} SET {column} = NULL WHERE {key} IN (SELECT {key} FROM "
                f"(SELECT DISTINCT t.{key} FROM {table} AS t WHERE t.{column} IS NOT NULL "
                f"AND NOT {self._found(reference, 't')}) AS swept)"
            )

    def _references(self, dangle: Dangle) -> list[Reference]:
        return [r for r in self.select.references if r.dangle is dangle]

    def _found(self, reference: Reference, alias: str) -> str:
        """Whether a row's reference points to a row that is itself read."""
        parent = f"{alias}_{len(alias)}"
        inner = " AND ".join(
            [
                f"{parent}.{self.quote('id')} = {alias}.{self.quote(reference.column)}",
                *self._conditions(parent, reference.table),
            ]
        )
        return f"EXISTS (SELECT 1 FROM {self.quote(reference.table)} AS {parent} WHERE {inner})"

    def _conditions(self, alias: str, table: str) -> list[str]:
        """What a row needs in order to be read at all; a NULL reference dangles nowhere."""
        columns = self.schema.tables[table].columns
        return [
            f"({alias}.{self.quote(r.column)} IS NULL OR {self._found(r, alias)})"
            for r in TABLES[table].references
            if r.dangle is Dangle.ROW and r.column in columns and r.table in self.schema.tables
        ]
