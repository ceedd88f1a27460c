"""Translates one table's rows from a leader's dump for an instance."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from replicator_kuma.base.errors import SettingsError, SnapshotRefused
from replicator_kuma.dump import values
from replicator_kuma.dump.catalog import TABLES, Dangle, is_setting
from replicator_kuma.dump.format import Dump
from replicator_kuma.dump.parse import Row, batches, checked, parsed
from replicator_kuma.dump.schema import TableSchema
from replicator_kuma.dump.select import Select
from replicator_kuma.dump.transform.evolution import Lost, TableMap
from replicator_kuma.dump.transform.misfits import Misfits, Uniques
from replicator_kuma.dump.transform.overrides import Changer
from replicator_kuma.dump.transform.represent import Misfit, Representation
from replicator_kuma.dump.values import Value

_Own = tuple[bytes, bytes] | None


def differing(wanted: Dump, live: Dump, rows: Rows) -> Iterator[tuple[Row, Row | None]]:
    """Rows of ``wanted`` whose line is not in ``live``, each with the live row of its key.

    Both dumps have the same columns. Raises SnapshotRefused for a line that is no valid row.
    """
    content = len(wanted.columns(rows.table))
    runtime = len(rows.columns) - content
    for batch in batches(_unmatched(wanted, live, rows)):
        new = checked(rows.table, batch, content, runtime)
        for row, (_main, _rest, own) in zip(new, batch, strict=True):
            yield row, (*values.decode(own[0]), *values.decode(own[1])) if own else None


def _unmatched(wanted: Dump, live: Dump, rows: Rows) -> Iterator[tuple[bytes, bytes, _Own]]:
    """Lines of ``wanted`` that are not in ``live``, each with the live line of its key."""
    order = rows.line_key
    own = live.lines(rows.table)
    here = next(own, None)
    for there in wanted.lines(rows.table):
        if here is not None and there[0] != here[0]:
            key = order(there[0])
            while here is not None and order(here[0]) < key:
                here = next(own, None)
        if here is not None and there[0] == here[0] and (rows.unkeyed or there[1] == here[1]):
            here = next(own, None)
            continue
        same = here is not None and not rows.unkeyed and order(here[0]) == order(there[0])
        yield *there, here if same else None


class Rows:
    """The steps for a table's rows: evolution, overrides, conversion, references, adoption.

    ``live`` is given if the engines differ. All tables, parents first, share ``gone`` and
    ``present``.
    """

    def __init__(
        self,
        chosen: Select,
        schema: TableSchema,
        *,
        wanted: Dump,
        live: Dump | None,
        mapped: TableMap,
        changer: Changer | None,
        representation: Representation,
        misfits: Misfits,
        gone: dict[str, set[int]],
        present: dict[str, set[int]],
        keys: frozenset[str] | None = None,
    ) -> None:
        self.chosen, self.table, self.columns = chosen, chosen.table, chosen.columns
        self.unkeyed = chosen.unkeyed
        self._id = chosen.columns.index("id") if chosen.unkeyed else 0
        self._keys_in = len(TABLES[chosen.table].key)
        self._wanted, self._live, self._keys = wanted, live, keys
        self._map, self._changer = mapped.row, changer
        self._misfits, self._gone, self._present = misfits, gone, present
        self._references = [(self.columns.index(r.column), r) for r in chosen.references]
        foreign = live is not None
        evolves = mapped.row is not None or mapped.checked
        self.converts = foreign or evolves or changer is not None
        columns = [(index, schema.columns[name]) for index, name in enumerate(self.columns)]
        made = [(i, representation.converter(self.table, c)) for i, c in columns if self.converts]
        self._converters = [(index, convert) for index, convert in made if convert is not None]
        self._needed = [i for i, column in columns if column.notnull and self.converts]
        adopts = foreign and not self.unkeyed
        alike = [(i, representation.same(column)) for i, column in columns if adopts]
        self._same = [(index, same) for index, same in alike if same is not None]
        unique = schema.unique if self.converts else ()
        self.uniques: Uniques = {u: [] for u in unique if set(u) <= set(self.columns)}
        """UNIQUE values with the columns that name their rows: the rest of a row may be huge"""
        naming = (*TABLES[self.table].key, *TABLES[self.table].label)
        self._names = {self.columns.index(name) for name in naming if name in self.columns}
        self._skipped = self._kept = 0
        self._current: Row | None = None
        touched = any(gone.get(r.table) for _index, r in self._references)
        self.identity = not self.converts and not touched and chosen.table not in present
        plain = mapped.row is None and changer is None and not self.uniques
        self.only_converts = plain and not touched and chosen.table not in present

    def line_key(self, line: bytes) -> Any:
        """The sort key of a content line; raises SnapshotRefused if it has none."""
        try:
            if not self.unkeyed:
                return values.decode(line[: line.index(b",")] + b"]")[0] + 0
            return tuple(map(int, line[1:-1].split(b",", self._keys_in)[: self._keys_in]))
        except (ValueError, TypeError, IndexError) as error:
            raise SnapshotRefused(f"the snapshot's {self.table} has a row without key") from error

    def stays(self, new: Row, own: Row | None) -> bool:
        """Whether a row needs no translation for this instance."""
        try:
            for index, convert in self._converters:
                value = new[index]
                if value is not None:
                    made = convert(value)
                    if made is not value and (made != value or type(made) is not type(value)):
                        return False
        except Misfit:
            return False
        if any(new[index] is None for index in self._needed):
            return False
        return own is None or not any(
            own[i] != new[i] and own[i] is not None and new[i] is not None and same(own[i], new[i])
            for i, same in self._same
        )

    def notes(self) -> list[str]:
        if not self._skipped:
            return []
        rows = "row" if self._skipped == 1 else "rows"
        return [f"{self._skipped} {rows} of {self.table} left out by REPLICATOR_OVERRIDES"]

    def translated(self) -> Iterator[Row]:
        """The rows in key order; raises SnapshotRefused, SettingsError."""
        self._look_ahead()
        own = None
        if self._live is not None and self._same:
            own = itertools.chain(parsed(self._live, self.table, trusted=True), [()])
        for row in self._ruled():
            out = self._converted(row)
            if not self.unkeyed and out[0] is None:
                continue  # its key does not fit: this is noted, and nothing will be applied
            if not self._refers(out):
                self._leave_out(row)
                continue
            if own is not None:
                self._adopt(out, own)
            if (ids := self._present.get(self.table)) is not None and type(out[self._id]) is int:
                ids.add(out[self._id])  # type: ignore[arg-type]
            done = tuple(out)
            self._gather(done)
            yield done

    def check_some_left(self) -> None:
        """Refuse rules that skip every monitor: such a rule has surely lost its `where`."""
        if self.table == "monitor" and self._skipped and not self._kept:
            raise SettingsError(
                f"the rules of REPLICATOR_OVERRIDES leave out every monitor ({self._skipped})",
                hint="Nothing was applied. Look for a rule whose where is missing or too wide.",
            )

    def _look_ahead(self) -> None:
        """Find the skipped rows first: a row may refer to a later one."""
        if not any(r.table == self.table for _index, r in self._references):
            return
        if self._changer is not None:
            for before in self._evolved(ahead=True):
                if self._changer(before) is None:
                    self._leave_out(before)
                elif (ids := self._present.get(self.table)) is not None:
                    ids.add(before[0])  # type: ignore[arg-type]

    def _leave_out(self, row: Row) -> None:
        self._gone.setdefault(self.table, set()).add(row[self._id])  # type: ignore[arg-type]

    def _evolved(self, ahead: bool = False) -> Iterator[Row]:
        last: Any = None
        for row in parsed(self._wanted, self.table):
            last = self._in_order(row, last)
            if self._keys is not None and row[0] not in self._keys:
                continue
            if self._map is None:
                yield row
                continue
            try:
                yield self._map(row)
            except Lost as error:
                if not ahead:
                    self._misfits.lost(self.table, str(error), row[0])

    def _in_order(self, row: Row, last: Any) -> Any:
        """Refuse rows out of order, which no leader writes: later, the cause could not be told."""
        if self.unkeyed:
            return None
        key: Any = row[0]
        fits = is_setting(key) if self.table == "setting" else type(key) is int
        if not fits or (last is not None and not last < key):
            what = "is not in order" if fits else "has a row with a wrong key"
            raise SnapshotRefused(f"the snapshot's {self.table} {what}")
        return key

    def _ruled(self) -> Iterator[Row]:
        if self._changer is None:
            yield from self._evolved()
            return
        for before in self._evolved():
            after = self._changer(before)
            if after is None:
                self._skipped += 1
                self._leave_out(before)
            else:
                self._check_named(before, after)
                self._kept += 1
                yield after

    def _check_named(self, before: Row, after: Row) -> None:
        """Refuse a rule's reference to a missing row, before Kuma is stopped for it."""
        for index, reference in self._references:
            value: Any = after[index]
            if value in (None, before[index]):
                continue
            if value not in self._present.get(reference.table, ()):
                raise SettingsError(
                    f"REPLICATOR_OVERRIDES sets {self.table}.{reference.column} to {value!r}: "
                    f"there is no such {reference.table}",
                    hint="Nothing was applied. Use an id that the leader has. Which it has, there: "
                    f'sqlite3 kuma.db "SELECT * FROM {reference.table}"',
                )

    def _converted(self, row: Row) -> list[Value]:
        out = list(row)
        for index, convert in self._converters:
            value = out[index]
            if value is not None:
                try:
                    out[index] = convert(value)
                except Misfit as misfit:
                    out[index] = self._cut(row, index, misfit)
        for index in self._needed:
            if out[index] is None:
                self._misfits.add(self.chosen, row, self.columns[index], "it may not be empty here")
        return out

    def _cut(self, row: Row, index: int, misfit: Misfit) -> Value:
        column = self.columns[index]
        if column in TABLES[self.table].runtime:
            return misfit.fitting  # Kuma itself writes it again
        return self._misfits.cut(self.chosen, row, column, misfit)

    def _refers(self, out: list[Value]) -> bool:
        """Whether a row stays; its references to skipped rows follow the catalog's `Dangle`."""
        for index, reference in self._references:
            gone = self._gone.get(reference.table)
            if gone and out[index] in gone:
                if reference.dangle is Dangle.ROW:
                    return False
                if reference.dangle is Dangle.NULL:
                    out[index] = None
        return True

    def _adopt(self, out: list[Value], own: Iterator[Row]) -> None:
        """Keep a live value that means the same, so that it does not show as a change."""
        current: Any = self._current
        key: Any = out[0]
        while current is None or (current and current[0] < key):
            current = next(own)
        self._current = current
        if not current or current[0] != key:
            return
        for index, same in self._same:
            here, there = current[index], out[index]
            if here is not None and there is not None and same(here, there):
                out[index] = here

    def _gather(self, row: Row) -> None:
        if not self.uniques:
            return
        named = tuple(v if i in self._names else None for i, v in enumerate(row))
        for columns, found in self.uniques.items():
            picked = tuple(row[self.columns.index(c)] for c in columns)
            if None not in picked:
                found.append((picked, named))
