"""How SQLite stores values: by a column's affinity (https://sqlite.org/datatype3.html)."""

from __future__ import annotations

import contextlib
import functools
import sqlite3
from collections.abc import Callable, Hashable, Sequence
from decimal import Decimal, InvalidOperation

from replicator_kuma.adapters.database.numbers import MORE_DIGITS, NUMERAL
from replicator_kuma.dump import dates
from replicator_kuma.dump.schema import Column
from replicator_kuma.dump.transform.represent import Convert, Misfit
from replicator_kuma.dump.values import Value

_INT_MIN, _INT_MAX = -(2**63), 2**63 - 1
_SPACES = " \t\n\v\f\r"


def affinity(declared: str) -> str:
    """INTEGER, TEXT, BLOB, REAL or NUMERIC, by SQLite's five rules over a declared type."""
    kind = declared.upper()
    if "INT" in kind:
        return "INTEGER"
    if any(word in kind for word in ("CHAR", "CLOB", "TEXT")):
        return "TEXT"
    if "BLOB" in kind or not kind:
        return "BLOB"
    if any(word in kind for word in ("REAL", "FLOA", "DOUB")):
        return "REAL"
    return "NUMERIC"


class SqliteRepresentation:
    """SQLite's representation: it stores any value, some numbers and numerals in another form."""

    def converter(self, table: str, column: Column) -> Convert | None:
        match affinity(column.type):
            case "BLOB":
                return None
            case "TEXT":
                return _text
            case "REAL":
                return _real
            case kind:
                return functools.partial(_numeric, kind)

    def same(self, column: Column) -> Callable[[Value, Value], bool] | None:
        kind = column.type.upper()
        if kind.startswith(("DATE", "TIMESTAMP")):
            return dates.same_moment
        if kind.startswith("TIME"):
            return dates.same_span
        if affinity(kind) in {"INTEGER", "REAL", "NUMERIC"}:
            return dates.same_number
        return None

    def fold(self, column: Column, texts: Sequence[str]) -> Sequence[Hashable]:
        return texts


def _text(value: Value) -> Value:
    if type(value) is str or type(value) is bytes:
        return value
    return _stored("TEXT", value)


def _real(value: Value) -> Value:
    if type(value) is float and value:
        return value
    return _stored("REAL", value)


def _numeric(kind: str, value: Value) -> Value:
    if type(value) is int and _INT_MIN <= value <= _INT_MAX:
        return value
    return _stored(kind, value)


def _stored(kind: str, value: Value) -> Value:
    """A value as SQLite stores it, maybe in another form; raises Misfit if it would change."""
    if type(value) is bytes:
        return value
    if isinstance(value, str):
        if not NUMERAL.fullmatch(value.strip(_SPACES)):
            return value
    elif isinstance(value, int) and not _INT_MIN <= value <= _INT_MAX:
        raise Misfit("has more than 64 bits")
    found = _ask(kind, type(value).__name__, repr(value), value)
    if not _equal(value, found):
        raise Misfit(MORE_DIGITS, found)
    return found


@functools.lru_cache(maxsize=1024)
def _ask(kind: str, _type: str, _repr: str, value: Value) -> Value:
    """Ask SQLite how it stores a value. Such values are rare, but often repeat: so it is cached.

    The cache also needs the type and the spelling: Python takes 1 and 1.0 for equal.
    """
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(f"CREATE TABLE held (value {kind})")
        connection.execute("INSERT INTO held VALUES (?)", (value,))
        found: Value = connection.execute("SELECT value FROM held").fetchone()[0]
        return found


def _equal(value: Value, found: Value) -> bool:
    """Whether two forms of a number are equal."""
    if type(value) is type(found):
        return value == found
    if isinstance(value, str):
        try:
            return Decimal(value.strip(_SPACES)) == Decimal(repr(found))
        except InvalidOperation:  # an exponent of nineteen digits
            return False
    if isinstance(found, str):
        return float(found) == value if isinstance(value, float) else str(value) == found
    return value == found
