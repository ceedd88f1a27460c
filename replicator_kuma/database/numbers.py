"""Numbers of one engine for a column of another: exactly, or not at all."""

from __future__ import annotations

import math
import re
from decimal import Decimal, InvalidOperation

from replicator_kuma.dump.represent import Misfit
from replicator_kuma.dump.values import Value

NUMERAL = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
"""A text that every engine reads as a number."""
_DIGITS = 25
"""More than any integer column holds."""


def exact_int(value: Value) -> int:
    """The integer that a value is; raises Misfit for what is none, and offers its whole part."""
    if isinstance(value, int):
        return int(value)
    number = _decimal(value)
    if number.adjusted() > _DIGITS:
        raise Misfit("is out of the column's range")
    whole = int(number)
    if whole != number:
        raise Misfit("has a fraction where only whole numbers fit", whole)
    return whole


def exact_float(value: Value) -> float:
    """The float that a number is; raises Misfit for what is none, and offers the nearest one."""
    if isinstance(value, int):
        number = float(value)
        if int(number) != value:
            raise Misfit("has more digits than the column holds", number)
        return number
    number = value if isinstance(value, float) else float(_decimal(value))
    if math.isinf(number):
        raise Misfit("is out of the column's range")
    return number


def _decimal(value: Value) -> Decimal:
    if isinstance(value, float) and not math.isinf(value):
        return Decimal(value)
    if isinstance(value, str) and NUMERAL.fullmatch(value):
        try:
            return Decimal(value)
        except InvalidOperation:  # an exponent of nineteen digits
            raise Misfit("is out of the column's range") from None
    raise Misfit("is infinite" if isinstance(value, float) else "is no number")
