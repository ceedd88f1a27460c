"""Maps rows of another Kuma schema to the columns of this one, if nothing is lost.

REPLICATOR_SCHEMA=strict accepts only equal columns. `compatible` fills columns that the leader's
Kuma does not have, and drops columns that the Kuma here does not have if they hold a default. The
facts are in `kuma_versions`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from replicator_kuma.base.errors import SchemaMismatch
from replicator_kuma.base.text import counted
from replicator_kuma.dump.catalog import TABLES
from replicator_kuma.dump.schema import Column, Schema
from replicator_kuma.dump.transform import kuma_versions
from replicator_kuma.dump.transform.kuma_versions import Lost, Row, Sides
from replicator_kuma.dump.values import Value

__all__ = ["Evolution", "Lost", "TableMap"]


@dataclass(frozen=True)
class TableMap:
    """How rows of a table are mapped.

    ``row`` maps a row from the leader's columns to the replica's, or raises Lost; None if the
    columns are equal. ``notes`` say in words what is filled and what is left out.
    ``checked``: column names are equal, but types may differ: check that values fit.
    """

    row: Callable[[Row], Row] | None
    notes: tuple[str, ...] = ()
    checked: bool = False


_NUMBER = re.compile(r"int|bool|double|float|real|decimal|numeric", re.IGNORECASE)
_QUOTED = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"", re.DOTALL)
_PLAIN = re.compile(r"[-+]?[0-9]+(?:\.[0-9]+)?")


class Evolution:
    """From the schema of a snapshot to the live one.

    ``migrations`` are those of the snapshot, ``schema`` is the replica's.
    """

    def __init__(self, migrations: Collection[str], schema: Schema, *, compatible: bool) -> None:
        self.migrations = frozenset(migrations)
        self.schema = schema
        self.compatible = compatible

    def table(self, name: str, theirs: Sequence[str], ours: Sequence[str]) -> TableMap:
        """How rows with the columns ``theirs`` become rows with the columns ``ours``.

        Both are content columns, then runtime ones. Raises SchemaMismatch if rows of this table
        cannot be mapped: in strict mode for any difference.
        """
        if not self.compatible:
            if tuple(theirs) != tuple(ours):
                raise SchemaMismatch(_other_columns(name, theirs, ours), hint=self._hint())
            return TableMap(None, checked=not self._same_names())
        if tuple(theirs) == tuple(ours) and self._same_names():
            return TableMap(None)
        sides = Sides(name, tuple(theirs), tuple(ours), self.migrations, self.schema.migrations)
        mapping = _Mapping(sides, self.schema)
        return TableMap(mapping.row, mapping.notes)

    def _same_names(self) -> bool:
        return self.migrations == frozenset(self.schema.migrations)

    def _hint(self) -> str | None:
        """A hint for equal versions, where another version would not help; None: the usual hint."""
        if not self._same_names():
            return None
        return (
            "Nothing was applied. Both are of one version of Uptime Kuma: somebody changed this "
            "table by hand, here or on the leader. Put its columns right, or take what fits: "
            "REPLICATOR_SCHEMA=compatible"
        )

    def absent(self, name: str) -> str:
        """A note that a table which the snapshot lacks keeps its rows here.

        Raises SchemaMismatch in strict mode, and if the leader's Kuma should have the table.
        """
        since = TABLES[name].since
        if self.compatible and since and not any(since in step for step in self.migrations):
            return f"{name} is not known to the leader: its rows stay as they are"
        raise SchemaMismatch(f"the snapshot does not hold table {name!r}")

    def beyond(self, name: str, rows: int) -> str:
        """A note that the rows of a table which the replica lacks are left out.

        A row that refers to one of them is Lost: the replica lacks that column too. Raises
        SchemaMismatch in strict mode.
        """
        if not self.compatible:
            raise SchemaMismatch(f"the Kuma here has no table {name!r}")
        count = counted(rows, "row")
        return f"{name}: {count} left out, since the Kuma here has no such table"


def _other_columns(name: str, theirs: Sequence[str], ours: Sequence[str]) -> str:
    """The differences between a table's columns, in words."""
    beyond, lacking = sorted(set(theirs) - set(ours)), sorted(set(ours) - set(theirs))
    parts = [f"{beyond} beyond those here"] if beyond else []
    parts += [f"no {lacking}"] if lacking else []
    what = " and ".join(parts) or "their order"
    return f"the snapshot's {name} has other columns: {what}"


class _Mapping:
    """One table's columns, matched by name."""

    def __init__(self, sides: Sides, schema: Schema) -> None:
        self.name, theirs, ours = sides.table, sides.theirs, sides.ours
        columns, table = schema.tables[self.name].columns, TABLES[self.name]
        renamed = kuma_versions.renamed(sides)
        self.rules = kuma_versions.rules(sides)
        self.fills = {
            column: _fill(self.name, columns[column])
            for column in ours
            if column not in theirs and column not in renamed
        }
        self.dropped = [c for c in theirs if c not in ours and c not in renamed]
        self.checks = [
            (theirs.index(column), column, kuma_versions.unchosen(self.name, column))
            for column in self.dropped
            if column not in table.runtime | table.quiet
        ]
        self.sources = [
            (theirs.index(column), None) if column in theirs else (None, self.fills.get(column))
            for column in ours
        ]
        self.required = [
            (index, column, _default(columns[column]))
            for index, column in enumerate(ours)
            if columns[column].notnull and column != "id"
        ]
        self.notes = (*self._notes(), *kuma_versions.notes(sides))

    def _notes(self) -> Iterator[str]:
        if self.fills:
            words = ", ".join(
                f"{column} {'empty' if value is None else repr(value)}"
                for column, value in self.fills.items()
            )
            yield f"{self.name}: filled, since the leader's Kuma does not know it: {words}"
        if self.dropped:
            words = ", ".join(self.dropped)
            yield f"{self.name}: left out, since the Kuma here does not know it: {words}"

    def row(self, row: Row) -> Row:
        """A row in the replica's columns. Raises Lost."""
        made = [value if index is None else row[index] for index, value in self.sources]
        for rule in self.rules:  # first: a monitor's type says more than its columns
            rule(row, made)
        if chosen := [c for index, c, unchosen in self.checks if row[index] not in unchosen]:
            raise Lost(f"the Kuma here does not know {', '.join(chosen)}, and it is set")
        for index, column, default in self.required:
            if made[index] is None:
                if default is None:
                    raise Lost(f"{column} is empty, which it may not be here")
                made[index] = default
        return tuple(made)


def _fill(table: str, column: Column) -> Value:
    """The value to fill in if the leader lacks the column. Raises SchemaMismatch."""
    value = kuma_versions.FILLED.get((table, column.name), _default(column))
    if value is None and column.notnull:
        raise SchemaMismatch(
            f"the leader does not know {table}.{column.name}, which may not be empty here"
        )
    return value


def _default(column: Column) -> Value:
    """The declared default if it is a constant; else None."""
    text = (column.default or "NULL").strip()
    while text.startswith("(") and text.endswith(")"):
        text = text[1:-1].strip()
    if _QUOTED.fullmatch(text):
        text = text[1:-1].replace(text[0] * 2, text[0])
        if not _NUMBER.search(column.type):
            return text
    if _PLAIN.fullmatch(text) and _NUMBER.search(column.type):
        return float(text) if "." in text else int(text)
    return None
