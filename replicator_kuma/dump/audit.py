"""Checks a leader's rows before it publishes them, by the rules that its replicas apply."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter
from typing import Any

from replicator_kuma.base.errors import DatabaseError, RowFault
from replicator_kuma.dump.catalog import is_setting
from replicator_kuma.dump.format import COLUMN
from replicator_kuma.dump.kuma_columns import COLUMNS, UNIQUE
from replicator_kuma.dump.mask import shown
from replicator_kuma.dump.row_names import describe_row
from replicator_kuma.dump.select import Select

Row = tuple[Any, ...]
Rows = Iterator[Row]
_KEY = (
    "Nothing was published. The table has lost its key, as a copy by hand does. With Kuma stopped, "
    "give each row an id of its own (of two that are one, delete one), and make the key anew."
)
_MAY_BE_EMPTY = frozenset({"id", "kafka_producer_ssl", "kafka_producer_allow_auto_topic_creation"})
"""Ids have their own check; in the development build of npm the other columns may be NULL."""


def audited(chosen: Select, rows: Rows) -> Rows:
    """Return the same rows in the same order; raises RowFault for one that no replica would take.

    Raises DatabaseError for a column name that no replica would take.
    """
    if odd := [name for name in chosen.columns if not COLUMN.fullmatch(name)]:
        raise DatabaseError(
            f"no replica would take the column {shown('name', odd[0])} of {chosen.table}",
            hint="Kuma has no column of such a name: rename it, or drop it, with Kuma stopped.",
        )
    rows = _linked(chosen, rows) if chosen.unkeyed else _in_order(chosen, rows)
    rows = _filled(chosen, rows)
    column = UNIQUE.get(chosen.table)
    return _unique(chosen, rows, column) if column in chosen.content else rows


def twice(chosen: Select, query: Callable[[str], Sequence[Row]]) -> None:
    """Raise RowFault if two rows of an unkeyed table have the same id.

    ``query`` is `Reader.query`.
    """
    if chosen.unkeyed:
        sql = f"SELECT id FROM {chosen.table} GROUP BY id HAVING count(*) > 1 ORDER BY id LIMIT 1"
        for (key,) in query(sql):
            raise RowFault(f"two rows of {chosen.table} have the id {shown('id', key)}", hint=_KEY)


def _in_order(chosen: Select, rows: Rows) -> Rows:
    key = chosen.content[0]
    last: Row | None = None
    for row in rows:
        value = row[0]
        fits = is_setting(value) if chosen.table == "setting" else type(value) is int
        if not fits:
            raise RowFault(
                f"{_named(chosen, row)}: its {key} is none: {shown('id', value)}", hint=_KEY
            )
        if last is not None and last[0] == value:
            raise RowFault(
                f"{_named(chosen, last)} and {_named(chosen, row)}: two rows have one {key}",
                hint=_KEY,
            )
        last = row
        yield row


def _linked(chosen: Select, rows: Rows) -> Rows:
    places = [(chosen.columns.index(name), name) for name in (*chosen.order, "id")]
    for row in rows:
        for index, name in places:
            if type(row[index]) is not int:
                raise RowFault(
                    f"{_named(chosen, row)}: its {name} is no number: {shown('id', row[index])}"
                )
        yield row


def never_empty(chosen: Select) -> list[str]:
    """The columns that are NOT NULL in every Kuma, without the id."""
    known = COLUMNS.get(chosen.table, {})
    must = {name for name, column in known.items() if column.notnull} - _MAY_BE_EMPTY
    return [name for name in chosen.columns if name in must]


def _filled(chosen: Select, rows: Rows) -> Rows:
    """Check the columns that may not be empty; a hand-made table may lack the rule."""
    needed = never_empty(chosen)
    if not needed:
        yield from rows
        return
    places = [chosen.columns.index(name) for name in needed]
    values = itemgetter(*places, places[0])  # with one place alone it would return no tuple
    for row in rows:
        if None in values(row):
            empty = next(name for name, i in zip(needed, places, strict=True) if row[i] is None)
            raise RowFault(
                f"{_named(chosen, row)}: {chosen.table}.{empty} is empty, which it may not be"
            )
        yield row


def _unique(chosen: Select, rows: Rows, column: str | None) -> Rows:
    """Check the column that is UNIQUE in every Kuma; a hand-made table may lack the rule."""
    place, seen = chosen.columns.index(str(column)), set[Any]()
    for row in rows:
        if (value := row[place]) in seen:
            raise RowFault(f"{_named(chosen, row)}: another row has the same {column}")
        if value is not None:
            seen.add(value)
        yield row


def _named(chosen: Select, row: Row) -> str:
    name = describe_row(chosen.table, chosen.columns, row)
    return f"{name} (id {row[chosen.columns.index('id')]})" if chosen.unkeyed else name
