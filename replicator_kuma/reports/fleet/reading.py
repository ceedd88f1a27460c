"""Reads documents that another instance sent: the reverse of `document.as_json`, without trust.

The types of `documents.py` say what is allowed. An unknown member is skipped, since a newer version
may add some; one that has a default may be missing, since an older version lacks it. Text is made
safe to show and cut; whatever else does not fit makes the document unreadable.
"""

from __future__ import annotations

import functools
import json
import sys
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Literal, NoReturn, TypeVar, Union

from replicator_kuma.adapters.repository import Position
from replicator_kuma.base.text import plain_line
from replicator_kuma.base.times import Moment, moment_of

T = TypeVar("T")

LONGEST_TEXT = 2_000
"""characters; a longer text is cut"""
SHARED_TEXT = 100
"""characters: equal texts are held once, since all places have the same monitors"""
MOST_ITEMS = 10_000
"""of a list or mapping"""
_LARGEST = 2**53
_LAST_TIME = moment_of("9999-12-31T00:00:00Z")
"""what comes after it, or before 1970, `times.when` cannot show so that it is read again"""


class Unreadable(ValueError):
    """This is no such document. The text says what is wrong, and quotes none of it."""


def loads(data: bytes) -> Any:
    """JSON as the standard has it: no NaN, no name twice in an object. Raises Unreadable."""
    try:
        return json.loads(data, parse_constant=_no_number, object_pairs_hook=_once)
    except RecursionError:
        raise Unreadable("it is nested too deeply") from None
    except Unreadable:
        raise
    except ValueError:
        raise Unreadable("it is no JSON") from None


def _no_number(name: str) -> NoReturn:
    raise Unreadable(f"{name} is no number")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Unreadable("it has a name twice")
    return found


def read(kind: type[T], raw: object) -> T:
    """The document of this type. Raises Unreadable."""
    wanted: Any = kind
    found: T = _reader(wanted)(raw)
    return found


Reader = Callable[[object], Any]


@functools.cache
def _reader(hint: Any) -> Reader:
    """What reads a value of this type."""
    if hint in _SIMPLE:
        return _SIMPLE[hint]
    if is_dataclass(hint):
        return _of_members(hint)
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        (only,) = (each for each in inner if each is not types.NoneType)
        of_value = _reader(only)
        return lambda raw: None if raw is None else of_value(raw)
    if origin is Literal:
        return functools.partial(_one_of, {word: word for word in inner})
    if origin is tuple:
        return functools.partial(_list_of, _reader(inner[0]))
    if origin is Mapping:
        return functools.partial(_mapping_of, _reader(inner[1]))
    raise TypeError(f"no reader for {hint}")


def _of_members(kind: Any) -> Reader:
    hints = typing.get_type_hints(kind)
    members = [
        (f.name, _reader(hints[f.name]), _has_default(f))
        for f in fields(kind)
        if f.metadata.get("json", True)
    ]

    def of_members(raw: object) -> Any:
        if not isinstance(raw, dict):
            raise Unreadable(f"a {kind.__name__} is no object")
        found: dict[str, Any] = {}
        for name, of_value, optional in members:
            if name in raw:
                try:
                    found[name] = of_value(raw[name])
                except Unreadable as error:
                    raise Unreadable(f"{name}: {error}") from None
            elif not optional:
                raise Unreadable(f"{name} is missing")
        return kind(**found)

    return of_members


def _has_default(field: Any) -> bool:
    return field.default is not MISSING or field.default_factory is not MISSING


def _text(raw: object) -> str:
    if not isinstance(raw, str):
        raise Unreadable("it is no text")
    safe = plain_line(raw[:LONGEST_TEXT])
    if len(safe) <= SHARED_TEXT:
        return sys.intern(safe)
    return safe if len(safe) < LONGEST_TEXT else f"{safe[: LONGEST_TEXT - 1]}…"


def _whole(raw: object) -> int:
    if not isinstance(raw, int) or isinstance(raw, bool) or not 0 <= raw <= _LARGEST:
        raise Unreadable("it is no whole number from 0 up")
    return raw


def _number(raw: object) -> float:
    if not isinstance(raw, int | float) or isinstance(raw, bool) or not abs(raw) <= _LARGEST:
        raise Unreadable("it is no number")
    return float(raw)


def _flag(raw: object) -> bool:
    if not isinstance(raw, bool):
        raise Unreadable("it is neither true nor false")
    return raw


def _moment(raw: object) -> Moment:
    try:
        if isinstance(raw, str) and len(raw) <= 40 and raw.endswith("Z"):
            found = moment_of(raw)
            if 0 < found < _LAST_TIME:
                return Moment(found)
    except (ValueError, OSError):
        pass
    raise Unreadable("it is no time")


def _position(raw: object) -> Position:
    try:
        if isinstance(raw, str) and len(raw) <= 40:
            found = Position.parse(raw)
            if max(found.epoch, found.sequence) <= _LARGEST:
                return found
    except ValueError:
        pass
    raise Unreadable("it is no position")


def _one_of(allowed: Mapping[str, str], raw: object) -> str:
    if not isinstance(raw, str) or raw not in allowed:
        raise Unreadable("it is none of the words that are known here")
    return allowed[raw]


def _list_of(of_item: Reader, raw: object) -> tuple[Any, ...]:
    if not isinstance(raw, list) or len(raw) > MOST_ITEMS:
        raise Unreadable(f"it is no list of at most {MOST_ITEMS}")
    return tuple(map(of_item, raw))


def _mapping_of(of_item: Reader, raw: object) -> dict[str, Any]:
    if not isinstance(raw, dict) or len(raw) > MOST_ITEMS:
        raise Unreadable(f"it is no object of at most {MOST_ITEMS}")
    return {_text(name): of_item(value) for name, value in raw.items()}


_SIMPLE: Mapping[Any, Reader] = {
    str: _text,
    int: _whole,
    float: _number,
    bool: _flag,
    Moment: _moment,
    Position: _position,
}
