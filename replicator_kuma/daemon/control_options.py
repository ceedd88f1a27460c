"""What a client may ask the supervisor for: each command's options, and what each may be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from replicator_kuma.base.errors import SettingsError
from replicator_kuma.base.times import LONGEST

_LONGEST_TEXT = 4096
_MOST_NAMES = 200
_OTHER = "A supervisor of another version may run here. Restart `replicator run`."
_YEARS_1_TO_9999 = (-62_135_596_800, 253_402_300_799)


@dataclass(frozen=True)
class Kind:
    """What an option may be; None stands for an option that was not given, where it may be."""

    expected: str
    fits: Callable[[Any], bool]
    optional: bool = True


def _is_text(value: Any) -> bool:
    """Text that any file and any program takes: UTF-8, and no NUL."""
    if not isinstance(value, str) or len(value) > _LONGEST_TEXT or "\0" in value:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _are_texts(value: Mapping[Any, Any]) -> bool:
    return len(value) <= _MOST_NAMES and all(map(_is_text, (*value, *value.values())))


def _is_number(value: Any, least: float, most: float) -> bool:
    """A comparison with NaN is false; a bool is an int for Python, and none here."""
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most


FLAG = Kind("true or false", lambda value: isinstance(value, bool), optional=False)
TEXT = Kind("a text", _is_text)
NAME = Kind("a text", _is_text, optional=False)
WAIT = Kind("seconds, at most 366 days", lambda value: _is_number(value, 0, LONGEST))
MOMENT = Kind("seconds since 1970", lambda value: _is_number(value, *_YEARS_1_TO_9999))
NUMBER = Kind(
    "a whole number above 0", lambda value: isinstance(value, int) and _is_number(value, 1, 2**53)
)
DIGESTS = Kind("digests by name", lambda value: isinstance(value, dict) and _are_texts(value))

_ANY = {"fleet": NAME, "mode": NAME, "wait": WAIT}
_CYCLE = {**_ANY, "force": FLAG}
_GOES = {"snapshot": TEXT, "at": MOMENT}
OPTIONS: Mapping[str, Mapping[str, Kind]] = {
    "backup": {**_CYCLE, "reconcile": FLAG, "allow_shrink": FLAG},
    "restore": {**_CYCLE, **_GOES, "reconcile": FLAG, "resume": FLAG, "allow_shrink": FLAG},
    "promote": _CYCLE,
    "undo": {**_CYCLE, "number": NUMBER},
    "rollback": {**_CYCLE, **_GOES},
    "drill-kill": _ANY,
    "settings": {"salt": NAME, "digests": DIGESTS, "wait": WAIT},
}


def check(command: str, options: Mapping[str, Any]) -> None:
    """Raise SettingsError for a command or an option that is unknown, or of another kind."""
    if command not in OPTIONS:
        raise SettingsError(f"the supervisor knows no command {command[:40]!r}", hint=_OTHER)
    known = OPTIONS[command]
    for name, value in options.items():
        if name not in known:
            raise SettingsError(
                f"the supervisor knows no option {name[:40]!r} of {command}",
                hint=_OTHER,
            )
        kind = known[name]
        if not (kind.fits(value) or (value is None and kind.optional)):
            raise SettingsError(
                f"the option {name} of {command} must be {kind.expected}", hint=_OTHER
            )
