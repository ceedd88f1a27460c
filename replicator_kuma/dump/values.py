"""Encodes one row as one line of canonical JSON: the same row is the same bytes everywhere.

Every value keeps its type: integers as they are, floats by Python's shortest repr that reads back
the same (so 1.0 is not 1), text in ASCII with escapes, text that is not UTF-8 by surrogateescape,
NULL as null. What JSON lacks is a tagged object: ``{"blob": base64}``, ``{"real": "inf"}``.
NaN does not occur: SQLite and MariaDB store it as NULL.
"""

from __future__ import annotations

import base64
import functools
import json
import math
import re
from collections.abc import Sequence
from typing import Any

Value = int | float | str | bytes | None

_INT_MIN, _INT_MAX = -(2**63), 2**63 - 1
_LONG = 1 << 16


def _tag(value: object) -> dict[str, str]:
    if isinstance(value, (bytes, memoryview)):
        return {"blob": base64.b64encode(value).decode()}
    raise TypeError(f"a database does not hold a {type(value).__name__}")


_encode = json.JSONEncoder(
    separators=(",", ":"), allow_nan=False, check_circular=False, default=_tag
).encode


def encode(row: Sequence[Value]) -> bytes:
    """The line of a row, without its line end; pure ASCII."""
    try:
        return _encode(row).encode()
    except ValueError:  # an infinity: rare, so looked for only here
        tagged = {math.inf: {"real": "inf"}, -math.inf: {"real": "-inf"}}
        return _encode([tagged.get(v, v) if type(v) is float else v for v in row]).encode()


def encode_rows(rows: Sequence[Sequence[Value]]) -> bytes:
    """The lines of one or more rows, each with its line end: what `encode` gives, but faster."""
    try:
        lines = _encode(rows)[1:-1].split("],[")
        # a text may hold "],[" too: then the parts are not the rows
        if len(lines) == len(rows):
            return ("]\n[".join(lines) + "\n").encode()
    except ValueError:  # an infinity
        pass
    return b"".join(encode(row) + b"\n" for row in rows)


def _untag(tagged: dict[str, Any]) -> Value:
    match tagged:
        case {"blob": str(text), **rest} if not rest:
            return base64.b64decode(text, validate=True)
        case {"real": ("inf" | "-inf") as text, **rest} if not rest:
            return float(text)
    raise ValueError("an unknown tagged value")


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no value of a database")


_decoder = json.JSONDecoder(object_hook=_untag, parse_constant=_no_constant)


def decode(line: bytes | str) -> Any:
    """Parse a line of ``encode``; raises ValueError for bad JSON or an unknown tag.

    The result is not checked: an untrusted line can hold anything that JSON can (see `row`).
    """
    text = line.decode("ascii") if isinstance(line, bytes) else line
    try:
        value, end = _decoder.raw_decode(text)
        # white space around a value is rare; looking for it takes half the time of a short line
        return value if end == len(text) else _decoder.decode(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def row(value: Any, columns: int) -> tuple[Value, ...]:
    """An untrusted decoded value as a row; raises ValueError if it is not a valid row."""
    if type(value) is not list or len(value) != columns:
        raise ValueError(f"a row is not an array of {columns} values")
    for item in value:
        if item is None:
            continue
        kind = type(item)
        if kind is int:
            if not _INT_MIN <= item <= _INT_MAX:
                raise ValueError("an integer of more than 64 bits")
        elif kind is float:
            if math.isnan(item):
                raise ValueError("not a number")
        elif kind is str:
            _check_text(item)
        elif kind is not bytes:
            raise ValueError(f"a {kind.__name__} is no value of a database")
    return tuple(value)


_TEXT = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_VALUE = rb'(?:%b|[-+.0-9A-Za-z]{1,40}+|\{"[a-z]{1,9}":"[^"\\]*+"\})' % _TEXT


@functools.lru_cache
def _flat(columns: int) -> re.Pattern[bytes]:
    """A pattern of a flat row, for long lines: nested lists would take 20 times their size."""
    return re.compile(rb"\[(?:%b(?:,|(?=\]))){%d}+\]" % (_VALUE, columns))


@functools.lru_cache
def _nth(column: int) -> re.Pattern[bytes]:
    return re.compile(rb"\[(?:%b,){%d}+(%b)[],]" % (_VALUE, column, _VALUE))


def raw(line: bytes, column: int) -> bytes:
    """One value of a trusted line as it is written there, without parsing the rest.

    ``column`` counts from 0. Equals ``encode([decode(line)[column]])[1:-1]``. Raises ValueError.
    """
    found = _nth(column).match(line)
    if found is None:
        raise ValueError(f"a line without a column {column}")
    return found[1]


def canonical_rows(lines: Sequence[bytes], columns: int) -> list[tuple[Value, ...]]:
    """Untrusted lines as rows; raises ValueError unless `encode_rows` would write just these.

    A row in another spelling would not read back equal, and the apply would be rolled back: it is
    refused before Kuma is stopped. So is a line that holds more or less than one row.
    """
    if any(len(line) > _LONG and not _flat(columns).fullmatch(line) for line in lines):
        raise ValueError(f"a row is not an array of {columns} values")
    found = [row(value, columns) for value in decode(b"[%b]" % b",".join(lines))]
    same = b"\n".join((*lines, b"")) == encode_rows(found)
    if not same or (any(b"\\ud" in line for line in lines) and not all(map(_is_shortest, found))):
        raise ValueError("its spelling is not the canonical one")
    return found


def _is_shortest(found: tuple[Value, ...]) -> bool:
    """Whether only invalid UTF-8 is escaped: escaped bytes must not form a valid character."""
    return all(
        text.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape") == text
        for text in found
        if isinstance(text, str) and not text.isascii()
    )


def _check_text(text: str) -> None:
    if text.isascii():
        return
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise ValueError("text with a lone surrogate") from error


def is_plain(text: str) -> bool:
    """Whether text is valid UTF-8; a driver refuses text with an escaped byte."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
