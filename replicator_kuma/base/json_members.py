"""Checks members of JSON from another program: which are allowed, and the kind of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from replicator_kuma.base.errors import SettingsError
from replicator_kuma.base.times import LONGEST

OTHER = "A supervisor of another version may run here. Restart `replicator run`."
_LONGEST_TEXT = 4096
_MOST_NAMES = 200
_YEARS_1_TO_9999 = (-62_135_596_800, 253_402_300_799)


@dataclass(frozen=True)
class Kind:
    """The kind of a member; None, if allowed, stands for an option that was not given."""

    expected: str
    fits: Callable[[Any], bool]
    optional: bool = False


def _is_text(value: Any) -> bool:
    """Whether this is text that every file and program accepts: UTF-8 without NUL."""
    if not isinstance(value, str) or len(value) > _LONGEST_TEXT or "\0" in value:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _are_texts(value: Any) -> bool:
    if not isinstance(value, dict) or len(value) > _MOST_NAMES:
        return False
    return all(map(_is_text, (*value, *value.values())))


def _is_number(value: Any, least: float, most: float) -> bool:
    """Whether this is a number in range: no NaN, and no bool, which Python counts as an int."""
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and _is_number(value, 1, 2**53)


FLAG = Kind("true or false", lambda value: isinstance(value, bool))
NAME = Kind("a text", _is_text)
TEXT = Kind("a text", _is_text, optional=True)
WAIT = Kind("seconds, at most 366 days", lambda value: _is_number(value, 0, LONGEST))
MOMENT = Kind(
    "seconds since 1970", lambda value: _is_number(value, *_YEARS_1_TO_9999), optional=True
)
NUMBER = Kind("a whole number above 0", _is_whole, optional=True)
DIGESTS = Kind("digests by name", _are_texts)


def check(command: str, raw: Mapping[str, Any], members: Mapping[str, Kind]) -> None:
    """Raise SettingsError for a member that is unknown, missing, or of the wrong kind."""
    for name, value in raw.items():
        if name not in members:
            raise SettingsError(
                f"the supervisor knows no option {name[:40]!r} of {command}", hint=OTHER
            )
        kind = members[name]
        if not (kind.fits(value) or (value is None and kind.optional)):
            raise SettingsError(
                f"the option {name} of {command} must be {kind.expected}", hint=OTHER
            )
    if missing := [name for name in members if name not in raw]:
        raise SettingsError(f"the option {missing[0]} of {command} is missing", hint=OTHER)
