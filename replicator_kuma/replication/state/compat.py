"""The state file in a form that 0.2.0 can read too, so that a downgrade works.

0.2.0 ignores unknown fields at the top level, but fails at unknown fields of nested records. So
one top-level field holds all newer nested fields. When 0.2.0 writes the file, they are lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

LATER = "since_0_2_0"


_Shape: TypeAlias = "dict[str, _Shape | None]"
"""Of a record: which fields are newer than 0.2.0 (None), and which are records themselves."""

_MARK: _Shape = {"shrunk": None}
_NEWER = dict.fromkeys(("keeps_own", "words", "undoes", "back_to", "seen"))
_PENDING: _Shape = {**_NEWER, "mark": _MARK}
_PENDING["earlier"] = _PENDING
_MARKS = dict.fromkeys(("intent", "published", "applied"), _MARK)
_STATE: _Shape = {**_MARKS, "pending": _PENDING, "last": {"hint": None}}


def set_apart(state: Mapping[str, Any]) -> dict[str, Any]:
    """An encoded state for the file, with the newer fields moved into one."""
    return _split(state, _STATE)


def put_together(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The reverse of `set_apart`; raises AttributeError, TypeError, ValueError."""
    state = {name: value for name, value in raw.items() if name != LATER}
    return _joined(state, raw.get(LATER, {}))


def _split(value: Mapping[str, Any], shape: _Shape) -> dict[str, Any]:
    kept, apart = dict(value), {}
    for name, part in shape.items():
        more = kept.pop(name, None) if part is None else None
        if part is not None and kept.get(name) is not None:
            kept[name] = _split(kept[name], part)
            more = kept[name].pop(LATER, None)
        if more:
            apart[name] = more
    if apart:
        kept[LATER] = apart
    return kept


def _joined(value: Mapping[str, Any], apart: Mapping[str, Any]) -> dict[str, Any]:
    joined = dict(value)
    for name, more in apart.items():
        part = joined.get(name)
        joined[name] = _joined(part, more) if isinstance(part, dict) else more
    return joined
