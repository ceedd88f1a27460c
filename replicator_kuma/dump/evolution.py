"""Rows of another schema of Kuma, in the columns of this one, where nothing is lost by it.

REPLICATOR_SCHEMA=strict takes only equal columns. `compatible` fills what the leader's Kuma does
not know, and leaves out what this Kuma does not know where nobody chose it. What a version of
Kuma made of its columns is data here (docs/kuma.md tells where it was read).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from replicator_kuma.dump.catalog import TABLES
from replicator_kuma.dump.schema import Column, Schema
from replicator_kuma.dump.values import Value
from replicator_kuma.errors import SchemaMismatch

Row = tuple[Value, ...]


class Lost(ValueError):
    """A row that would lose something here; the text says what, and shows no secret value."""


@dataclass(frozen=True)
class TableMap:
    """How rows of a table come over.

    ``row`` makes a row in the replica's columns of one in the leader's, or raises Lost; None where
    they are the same. ``notes`` say in words what is filled and what is left out.
    """

    row: Callable[[Row], Row] | None
    notes: tuple[str, ...] = ()


_UNCHOSEN: Mapping[str, Mapping[str, tuple[Value, ...]]] = {
    "monitor": {
        "cache_bust": (0,),
        "conditions": ("[]",),
        "domain_expiry_notification": (0,),
        "json_path_operator": ("==",),
        "location": ("world",),
        "mqtt_check_type": ("keyword",),
        "mqtt_websocket_path": ("",),
        "ping_count": (1,),
        "ping_numeric": (1,),
        "ping_per_request_timeout": (2,),
        "rabbitmq_nodes": ("[]",),
        "rabbitmq_password": ("",),
        "rabbitmq_username": ("",),
        "response_max_length": (1024,),
        "retry_only_on_status_code_failure": (0,),
        "save_error_response": (1,),
        "save_response": (0,),
        "screenshot_delay": (0,),
        "snmp_version": ("2c",),
        "system_service_name": ("",),
        "ws_ignore_sec_websocket_accept_header": (0,),
        "ws_subprotocol": ("",),
    },
    "status_page": {"auto_refresh_interval": (300,), "show_only_last_heartbeat": (0,)},
}
"""What a column beside NULL holds in a row where nobody chose it.

Of columns that came after 1.23. Of one that is not named here only NULL says nothing.
"""

_FILLED: Mapping[tuple[str, str], Value] = {("monitor", "json_path_operator"): "=="}
"""What Kuma's own migration gave to rows that were there, where it is not the declared default."""

_TAG, _ID, _TYPE = "google_analytics_tag_id", "analytics_id", "analytics_type"
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

        Both are content columns, then runtime ones. Raises SchemaMismatch where rows of this table
        cannot come over: in strict mode for any difference.
        """
        if not self.compatible:
            if tuple(theirs) != tuple(ours):
                odd = sorted(set(ours) ^ set(theirs)) or "their order"
                raise SchemaMismatch(f"the snapshot's {name} has other columns: {odd}")
            return TableMap(None)
        if tuple(theirs) == tuple(ours) and self.migrations == frozenset(self.schema.migrations):
            return TableMap(None)
        mapping = _Mapping(name, tuple(theirs), tuple(ours), self.schema)
        return TableMap(mapping.row, mapping.notes)

    def absent(self, name: str) -> str:
        """Say that the rows of a table that the snapshot lacks stay as they are here.

        Raises SchemaMismatch in strict mode, and where the leader's Kuma should have the table.
        """
        since = TABLES[name].since
        if self.compatible and since and not any(since in step for step in self.migrations):
            return f"{name} is not known to the leader: its rows stay as they are"
        raise SchemaMismatch(f"the snapshot does not hold table {name!r}")


class _Mapping:
    """One table's columns, matched by name."""

    def __init__(
        self, name: str, theirs: tuple[str, ...], ours: tuple[str, ...], schema: Schema
    ) -> None:
        self.name, self.theirs, self.ours = name, theirs, ours
        self.columns = schema.tables[name].columns
        local = TABLES[name].runtime | TABLES[name].quiet | {"id"}
        renamed = {_TAG, _ID, _TYPE} if name == "status_page" else set()
        self.filled = [c for c in ours if c not in theirs and c not in renamed]
        self.dropped = [c for c in theirs if c not in ours and c not in renamed]
        self.checks = [
            (theirs.index(column), column, (None, *_UNCHOSEN.get(name, {}).get(column, ())))
            for column in self.dropped
            if column not in local
        ]
        fills = {column: _fill(name, self.columns[column]) for column in self.filled}
        self.sources: list[tuple[int | None, Value]] = [
            (theirs.index(column), None) if column in theirs else (None, fills.get(column))
            for column in ours
        ]
        self.required = [
            (index, column, _default(self.columns[column]))
            for index, column in enumerate(ours)
            if self.columns[column].notnull and column != "id"
        ]
        self.rename = _rename(theirs, ours) if renamed else None
        self.notes = self._notes(fills)

    def _notes(self, fills: Mapping[str, Value]) -> tuple[str, ...]:
        notes = []
        if fills:
            words = ", ".join(f"{column} {_word(value)}" for column, value in fills.items())
            notes.append(f"{self.name}: filled, since the leader does not know it: {words}")
        if self.dropped:
            words = ", ".join(self.dropped)
            notes.append(f"{self.name}: left out, since it is not known here: {words}")
        if _TAG in {*self.theirs} ^ {*self.ours} and self.name == "status_page":
            here = _TAG if _TAG in self.ours else f"{_ID} of type google"
            notes.append(f"{self.name}: Google's analytics arrive as {here}")
        return tuple(notes)

    def row(self, row: Row) -> Row:
        """A row in the replica's columns. Raises Lost."""
        for index, column, unchosen in self.checks:
            if row[index] not in unchosen:
                raise Lost(f"{self.name}.{column} is not known here, and is set")
        made = [row[index] if index is not None else value for index, value in self.sources]
        if self.rename is not None:
            self.rename(row, made)
        for index, column, default in self.required:
            if made[index] is None:
                if default is None:
                    raise Lost(f"{self.name}.{column} may not be empty here")
                made[index] = default
        return tuple(made)


def _rename(
    theirs: tuple[str, ...], ours: tuple[str, ...]
) -> Callable[[Row, list[Value]], None] | None:
    """What carries Google's analytics between a status page's old column and its new ones."""
    if _TAG in theirs and _ID in ours:
        source, place, kind = theirs.index(_TAG), ours.index(_ID), ours.index(_TYPE)

        def forward(row: Row, made: list[Value]) -> None:
            made[place] = row[source]
            made[kind] = "google" if row[source] else None

        return forward
    if _ID in theirs and _TAG in ours:
        place, source, kind = ours.index(_TAG), theirs.index(_ID), theirs.index(_TYPE)

        def back(row: Row, made: list[Value]) -> None:
            if row[kind] not in (None, "google"):
                raise Lost(f"status_page.{_TYPE} is not google's, the only one known here")
            made[place] = row[source]

        return back
    return None


def _fill(table: str, column: Column) -> Value:
    """What a column holds in rows of a leader that does not know it. Raises SchemaMismatch."""
    value = _FILLED.get((table, column.name), _default(column))
    if value is None and column.notnull:
        raise SchemaMismatch(
            f"the leader does not know {table}.{column.name}, which may not be empty here"
        )
    return value


def _default(column: Column) -> Value:
    """The declared default, where it is a constant; else None."""
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


def _word(value: Value) -> str:
    return "empty" if value is None else repr(value)
