"""Parses and compares dates and times in the forms that Kuma and its engines write.

Kuma keeps UTC in its columns, with `T` or a space, with and without seconds, fractions and `Z`.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import NamedTuple

from replicator_kuma.dump.values import Value

_DATE = re.compile(
    r"(\d{4}-\d\d-\d\d)"
    r"(?:[T ]((?:[01]\d|2[0-3]):[0-5]\d)(?::([0-5]\d)(?:\.(\d+))?)?(?:Z|([+-])(\d\d):?(\d\d))?)?",
    re.ASCII,
)
_TIME = re.compile(r"(-?)(\d{1,3}):([0-5]\d)(?::([0-5]\d)(?:\.(\d+))?)?", re.ASCII)


class Moment(NamedTuple):
    """An instant in UTC, to the second; ``fraction``: the further digits, no trailing zeros."""

    second: datetime
    fraction: str = ""


class Span(NamedTuple):
    """A time of day or a signed duration, to the second; ``fraction`` as in `Moment`."""

    seconds: int
    fraction: str = ""
    negative: bool = False


def moment(value: Value) -> tuple[Moment, bool] | None:
    """The instant in a text, and whether it has an offset other than UTC; None if it is no date.

    A text without an offset means UTC, one without a time means midnight.
    """
    match = _DATE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return None
    day, time, seconds, fraction, sign, hours, minutes = match.groups()
    try:
        second = datetime.fromisoformat(f"{day} {time or '00:00'}:{seconds or '00'}")
        offset = timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
        second += offset if sign == "-" else -offset
    except (ValueError, OverflowError):
        return None
    return Moment(second, (fraction or "").rstrip("0")), bool(offset)


def span(value: Value) -> Span | None:
    """The time in a text like `02:00`, `2:00:00` or `-01:00:00.5`; None if it is no time."""
    match = _TIME.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return None
    sign, hours, minutes, seconds, fraction = match.groups()
    total = int(hours) * 3600 + int(minutes) * 60 + int(seconds or 0)
    fraction = (fraction or "").rstrip("0")
    return Span(total, fraction, bool(sign) and bool(total or fraction))


def same_moment(a: Value, b: Value) -> bool:
    """Whether two values of a date's column mean the same instant."""
    if a == b and type(a) is type(b):
        return True
    first, second = moment(a), moment(b)
    return first is not None and second is not None and first[0] == second[0]


def same_span(a: Value, b: Value) -> bool:
    """Whether two values of a time's column mean the same."""
    if a == b and type(a) is type(b):
        return True
    first = span(a)
    return first is not None and first == span(b)


def same_number(a: Value, b: Value) -> bool:
    """Whether two values of a number's column mean the same: 48 and 48.0 do, '48' is a text."""
    return a == b and (type(a) is type(b) or not isinstance(a, (str, bytes)))
