"""Numbers of one engine for a column of another: exactly, or not at all."""

from __future__ import annotations

import math
import re
from decimal import Decimal, InvalidOperation

from replicator_kuma.dump.transform.represent import Misfit
from replicator_kuma.dump.values import Value

NUMERAL = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
"""A text that every engine reads as a number."""
MORE_DIGITS = "has more digits than the column holds"
_DIGITS = 25
"""More than any integer column holds."""


def as_int(value: Value) -> tuple[int, str]:
    """The whole part of a number, and in words what it loses; raises Misfit for what is none."""
    if isinstance(value, int):
        return value, ""
    number = _decimal(value)
    if number.adjusted() > _DIGITS:
        raise Misfit("is out of the column's range")
    whole = int(number)
    return whole, "has a fraction where only whole numbers fit" if whole != number else ""


def as_float(value: Value) -> tuple[float, str]:
    """The float nearest to a number, and in words what it loses; raises Misfit for what is none."""
    if isinstance(value, int):
        number = float(value)
        return number, MORE_DIGITS if int(number) != value else ""
    number = value if isinstance(value, float) else float(_decimal(value))
    if math.isinf(number):
        raise Misfit("is out of the column's range")
    return number, ""


def _decimal(value: Value) -> Decimal:
    if isinstance(value, float) and not math.isinf(value):
        return Decimal(value)
    if isinstance(value, str) and NUMERAL.fullmatch(value):
        try:
            return Decimal(value)
        except InvalidOperation:  # an exponent of nineteen digits
            raise Misfit("is out of the column's range") from None
    raise Misfit("is infinite" if isinstance(value, float) else "is no number")
