"""What the readers and writers of both engines have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from replicator_kuma.adapters.database import Row
from replicator_kuma.adapters.database.history import History
from replicator_kuma.adapters.database.sql import SelectSql, double_quoted
from replicator_kuma.dump.catalog import Dangle
from replicator_kuma.dump.format import Lines
from replicator_kuma.dump.manifest import TableEntry
from replicator_kuma.dump.schema import Schema
from replicator_kuma.dump.select import Dangling, Select


class SqlReader(ABC):
    """Part of a `Reader`: an engine adds `rows`, `query` and its own ways to quote."""

    quote: Callable[[str], str] = staticmethod(double_quoted)
    exact: Callable[[str], str] = staticmethod(str)
    """see `SelectSql`"""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self._whole = set[str]()
        """tables that are read as they are stored: of most no reference dangles at this instant"""

    def lines(self, select: Select, *, faultless: bool) -> Iterator[Lines] | None:
        """See `Source.lines`."""
        return None

    def known(self, select: Select) -> TableEntry | None:
        """See `Source.known`."""
        return None

    def remember(self, folder: Path, entries: Mapping[str, TableEntry]) -> None:
        """Note nothing: this engine proves nothing about an earlier dump."""
        return

    @abstractmethod
    def query(self, sql: str) -> list[Row]:
        """All rows of a statement whose result is small."""

    def _sql(self, select: Select) -> SelectSql:
        return SelectSql(select, self.schema, self.quote, self.exact)

    def as_stored(self, tables: Iterable[str]) -> None:
        """See `Reader.as_stored`."""
        self._whole.update(tables)

    def dangling(self, select: Select) -> list[Dangling]:
        self._whole.discard(select.table)
        found = []
        for reference, values, rows_of_them in self._sql(select).dangling():
            if self.query(values)[0][0]:
                rows = self.query(rows_of_them)[0][0]
                column, parent = reference.column, reference.table
                found.append(Dangling(select.table, column, parent, rows, reference.dangle))
        if all(dangling.dangle is Dangle.KEEP for dangling in found):
            self._whole.add(select.table)
        return found

    def count(self, table: str) -> int:
        return int(self.query(f"SELECT count(*) FROM {self.quote(table)}")[0][0])


class SqlWriter(SqlReader):
    """Part of a `Writer`."""

    history: Callable[..., History]
    """the engine's class"""

    @abstractmethod
    def run(self, sql: str, table: str = "") -> int:
        """Run a statement; the number of rows that changed.

        Raises SnapshotRefused when it writes to ``table`` and a row breaks a rule of it.
        """

    def sweep(self, select: Select) -> int:
        rows = sum(self.run(sql) for sql in self._sql(select).sweep())
        self._whole.add(select.table)
        return rows

    def park_history(self, monitors: Iterable[int]) -> None:
        self._history().park(monitors)

    def unpark_history(self, monitors: Iterable[int]) -> None:
        self._history().unpark(monitors)

    def _history(self) -> History:
        return self.history(self.query, self.run, self.schema.tables)
