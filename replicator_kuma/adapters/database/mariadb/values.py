"""How MariaDB stores values: by a column's type, charset and collation, in strict mode.

A value that MariaDB refuses is a Misfit. So is a value that it would change silently: 20.5 in an
integer column, spaces past a VARCHAR's end, fractions of a second.
"""

from __future__ import annotations

import functools
import math
import re
import struct
from collections.abc import Callable, Hashable, Sequence
from datetime import datetime
from typing import NamedTuple

from replicator_kuma.adapters.database.mariadb import collation
from replicator_kuma.adapters.database.mariadb.collation import Weights
from replicator_kuma.adapters.database.mariadb.text import text_converter
from replicator_kuma.adapters.database.numbers import MORE_DIGITS, as_float, as_int
from replicator_kuma.dump import dates
from replicator_kuma.dump.schema import Column
from replicator_kuma.dump.transform.represent import Convert, Misfit
from replicator_kuma.dump.values import Value

_TYPE = re.compile(r"([a-z]+)(?:\((.*)\))?((?: [a-z]+)*)", re.ASCII | re.DOTALL)
_MEMBER = re.compile(r"'((?:[^']|'')*)'", re.DOTALL)

_INTEGERS = {"tinyint": 8, "smallint": 16, "mediumint": 24, "int": 32, "integer": 32, "bigint": 64}
_TEXTS = {"tinytext": 2**8 - 1, "text": 2**16 - 1, "mediumtext": 2**24 - 1, "longtext": 2**32 - 1}
_BLOBS = {"tinyblob": 2**8 - 1, "blob": 2**16 - 1, "mediumblob": 2**24 - 1, "longblob": 2**32 - 1}
_UNLIMITED = 2**32 - 1

_FIRST_STAMP, _LAST_STAMP = datetime(1970, 1, 1, 0, 0, 1), datetime(2038, 1, 19, 3, 14, 7)
"""TIMESTAMP's range; servers since 11.5 have a wider one."""
_LONGEST_TIME = 839 * 3600

_WEIGHTLESS = 255
"""Extra characters that an enum's value may have: some collations ignore some characters."""


class _Type(NamedTuple):
    """A type's name, the text in its brackets, and whether it is unsigned."""

    name: str
    arguments: str
    unsigned: bool

    @property
    def size(self) -> int:
        """The first number in brackets; 0 where there is none."""
        first = self.arguments.split(",")[0].strip()
        return int(first) if first.isdecimal() else 0


def _parse(text: str) -> _Type:
    match = _TYPE.match(text)
    if match is None:
        return _Type("", "", False)
    return _Type(match[1], match[2] or "", "unsigned" in match[3])


class MariadbRepresentation:
    """MariaDB's representation; ``weights`` asks a server how texts compare, else approximate."""

    def __init__(self, weights: Weights | None = None) -> None:
        self._weights = weights

    def converter(self, table: str, column: Column) -> Convert | None:
        kind = _parse(column.type)
        match kind.name:
            case name if name in _INTEGERS:
                return _integer(_INTEGERS[name], kind.unsigned)
            case "double" | "float":
                return _float(kind)
            case "datetime" | "timestamp" | "date":
                return _moment(kind)
            case "time":
                return _span(kind.size)
            case "enum":
                return self._enum(column, kind)
            case "varchar" | "char":
                return text_converter(column.charset, chars=kind.size, padded=kind.name == "char")
            case name if name in _TEXTS:
                return text_converter(column.charset, size=_TEXTS[name])
            case "json":
                return text_converter(column.charset, size=_UNLIMITED)
            case "binary" | "varbinary":
                return _blob(kind.size)
            case name if name in _BLOBS:
                return _blob(_BLOBS[name])
        return None  # Kuma has no column of such a type; MariaDB itself decides

    def same(self, column: Column) -> Callable[[Value, Value], bool] | None:
        name = _parse(column.type).name
        if name in {"datetime", "timestamp", "date"}:
            return dates.same_moment
        if name == "time":
            return dates.same_span
        if name in _INTEGERS or name in {"double", "float"}:
            return dates.same_number
        return None

    def fold(self, column: Column, texts: Sequence[str]) -> Sequence[Hashable]:
        return collation.fold(column.charset, column.collation, texts, self._weights)

    def _enum(self, column: Column, kind: _Type) -> Convert:
        members = {m.replace("''", "'") for m in _MEMBER.findall(kind.arguments)}
        spelled: dict[Hashable, str] = {}
        longest = max(map(len, members), default=0) + _WEIGHTLESS

        @functools.lru_cache(maxsize=256)
        def spelling(text: str) -> str | None:
            if not spelled:
                ordered = sorted(members)
                spelled.update(zip(self.fold(column, ordered), ordered, strict=True))
            return spelled.get(self.fold(column, [text])[0])

        def convert(value: Value) -> Value:
            if isinstance(value, str) and value in members:
                return value
            text = str(value).rstrip(" ") if isinstance(value, (str, int)) else None
            found = None if text is None or len(text) > longest else spelling(text)
            if found is None:
                raise Misfit("is none of the values that the column takes")
            return found

        return convert


def _integer(bits: int, unsigned: bool) -> Convert:
    low, high = (0, 2**bits - 1) if unsigned else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)

    def convert(value: Value) -> Value:
        if type(value) is int and low <= value <= high:
            return value
        number, lost = as_int(value)
        if not low <= number <= high:
            raise Misfit("is out of the column's range")
        if lost:
            raise Misfit(lost, number)
        return number

    return convert


def _float(kind: _Type) -> Convert:
    """A converter for DOUBLE and FLOAT, also with decimals: to the value that the server shows."""
    parts = kind.arguments.split(",")
    decimals = int(parts[1]) if len(parts) == 2 else None
    largest = 10.0 ** (kind.size - (decimals or 0)) if decimals is not None else float("inf")
    single = kind.name == "float"

    def held(value: float) -> float:
        if decimals is not None:
            value = float(f"{value:.{decimals}f}")
        if single:
            value = _single(value)
            value = float(f"{value:.6g}" if decimals is None else f"{value:.{decimals}f}")
        return value + 0.0  # MariaDB has no negative zero

    def convert(value: Value) -> Value:
        number, lost = as_float(value)
        if not -largest < number < largest or (kind.unsigned and number < 0):
            raise Misfit("is out of the column's range")
        found = held(number)
        if lost or found != number:
            raise Misfit(MORE_DIGITS, found)
        return found

    return convert


def _single(value: float) -> float:
    """The nearest number of single precision."""
    try:
        single = float(struct.unpack("f", struct.pack("f", value))[0])
    except OverflowError:
        single = math.inf
    if math.isinf(single):
        raise Misfit("is out of the column's range")
    return single


def _moment(kind: _Type) -> Convert:
    """A converter for DATETIME, TIMESTAMP and DATE: no offset, as many digits as declared."""
    digits, stamp, day_only = kind.size, kind.name == "timestamp", kind.name == "date"
    ending = f".{'':0<{digits}}" if digits else ""
    zero = "0000-00-00" + ("" if day_only else f" 00:00:00{ending}")

    def convert(value: Value) -> Value:
        if value == zero:  # no date, but MariaDB stores it: it reads back equal
            return value
        found = dates.moment(value)
        if found is None:
            raise Misfit("is no date")
        (second, fraction), foreign = found
        if stamp and not _FIRST_STAMP <= second <= _LAST_STAMP:
            raise Misfit("is out of the column's range")
        shown = second.isoformat(" ")
        if day_only:
            if second.time().isoformat() != "00:00:00" or fraction:
                raise Misfit("has a time where only a date fits", shown[:10])
            shown = shown[:10]
        elif digits:
            shown += "." + fraction[:digits].ljust(digits, "0")
        if foreign:
            raise Misfit("has an offset that is not UTC", shown)
        if len(fraction) > digits:
            raise Misfit("has fractions of a second", shown)
        return shown

    return convert


def _span(digits: int) -> Convert:
    def convert(value: Value) -> Value:
        found = dates.span(value)
        if found is None:
            raise Misfit("is no time")
        if found.seconds >= _LONGEST_TIME:
            raise Misfit("is out of the column's range")
        kept = found.fraction[:digits].ljust(digits, "0")
        sign = "-" if found.negative and (found.seconds or kept.strip("0")) else ""
        minutes, seconds = divmod(found.seconds, 60)
        shown = f"{sign}{minutes // 60:02}:{minutes % 60:02}:{seconds:02}"
        shown += f".{kept}" if digits else ""
        if len(found.fraction) > digits:
            raise Misfit("has fractions of a second", shown)
        return shown

    return convert


def _blob(size: int) -> Convert:
    def convert(value: Value) -> Value:
        if type(value) is not bytes:
            value = str(value).encode("utf-8", "surrogateescape")
        if len(value) > size:
            raise Misfit(f"has {len(value)} bytes where {size} fit", value[:size])
        return value

    return convert
