"""Finds rows of a leader on SQLite that no MariaDB replica could store; it needs no MariaDB."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence

from replicator_kuma.adapters.database import Reader, Row
from replicator_kuma.adapters.database.mariadb.values import MariadbRepresentation
from replicator_kuma.dump.catalog import TABLES
from replicator_kuma.dump.kuma_columns import COLUMNS, UNIQUE, in_mariadb
from replicator_kuma.dump.row_names import describe_row
from replicator_kuma.dump.select import Select, select
from replicator_kuma.dump.transform.represent import Convert, Misfit
from replicator_kuma.dump.values import Value

_BATCH = 1000


def misfits(reader: Reader, tables: Iterable[str]) -> Iterator[str]:
    """One line a row that does not fit: which row, column and why; values are not shown.

    Streams; raises DatabaseError. Runtime columns do not count: Kuma writes them again. NOT NULL
    is not checked: it is the same in both engines.
    """
    for name in tables:
        yield from _Table(reader, select(reader.schema, name)).lines()


class _Table:
    def __init__(self, reader: Reader, chosen: Select) -> None:
        self.reader, self.select = reader, chosen
        self.converters: list[tuple[int, Convert]] = []
        self.representation = MariadbRepresentation()
        declared = reader.schema.tables[chosen.table].columns
        for index, name in enumerate(chosen.columns):
            column = in_mariadb(chosen.table, declared[name])
            if column is None or name in TABLES[chosen.table].runtime:
                continue
            if convert := self.representation.converter(chosen.table, column):
                self.converters.append((index, convert))
        self.firsts: dict[Hashable, str] = {}
        """the UNIQUE key of each row so far, and the row's name"""

    def lines(self) -> Iterator[str]:
        rows = self.reader.rows(self.select)
        while batch := list(itertools.islice(rows, _BATCH)):
            reasons = self._reasons(batch)
            if reasons:
                yield from self._named(batch, reasons)
            if self.select.table in UNIQUE:
                yield from self._collisions(batch, UNIQUE[self.select.table])

    def _reasons(self, batch: Sequence[Row]) -> dict[int, dict[Value, str]]:
        """By column, the values that do not fit and why. Checks each value once a batch."""
        found: dict[int, dict[Value, str]] = {}
        columns = list(zip(*batch, strict=True))
        for index, convert in self.converters:
            for value in set(columns[index]):
                if value is not None and (reason := _reason(convert, value)):
                    found.setdefault(index, {})[value] = reason
        return found

    def _named(
        self, batch: Sequence[Row], reasons: Mapping[int, Mapping[Value, str]]
    ) -> Iterator[str]:
        columns = self.select.columns
        for row in batch:
            wrong = [
                f"{columns[index]} {known[row[index]]}"
                for index, known in reasons.items()
                if row[index] in known
            ]
            if wrong:
                yield f"{describe_row(self.select.table, columns, row)}: {', '.join(wrong)}"

    def _collisions(self, batch: Sequence[Row], name: str) -> Iterator[str]:
        table, columns = self.select.table, self.select.columns
        index = columns.index(name)
        rows = [row for row in batch if isinstance(row[index], str)]
        folded = self.representation.fold(COLUMNS[table][name], [row[index] for row in rows])
        for row, key in zip(rows, folded, strict=True):
            this = describe_row(table, columns, row)
            first = self.firsts.setdefault(key, this)
            if first is not this:
                yield f"{this} and {first}: {name} is the same to MariaDB"


def _reason(convert: Convert, value: Value) -> str:
    try:
        convert(value)
    except Misfit as misfit:
        return str(misfit)
    return ""
