"""The log calls of the package, read off its source, and the table of events for docs/logs.md."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from replicator_kuma.base.events import EVENTS
from tests.support.tools import ROOT

_LEVELS = {"info": "info", "warning": "warning", "error": "error", "exception": "error"}
_LOGGERS = {"log", "logger", "_logger", "seldom", "_seldom"}


@dataclass(frozen=True)
class LogCall:
    """One call that logs a line of the level info or above."""

    place: str
    levels: tuple[str, ...]
    event: str | None
    """None: it has none, or not as a literal"""


@cache
def log_calls() -> tuple[LogCall, ...]:
    """Each such call of the package; those that hand on another's event are left out."""
    found: list[LogCall] = []
    for path in sorted((ROOT / "replicator_kuma").rglob("*.py")):
        tree = ast.parse(path.read_text())
        functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]
        for call in (n for n in ast.walk(tree) if isinstance(n, ast.Call)):
            place = f"{path.relative_to(ROOT)}:{call.lineno}"
            around = [f for f in functions if f.lineno <= call.lineno <= (f.end_lineno or 0)]
            if (one := _of(call, place, around[-1] if around else tree)) is not None:
                found.append(one)
    return tuple(found)


def _of(call: ast.Call, place: str, around: ast.AST) -> LogCall | None:
    how = call.func
    if not isinstance(how, ast.Attribute) or _name(how.value) not in _LOGGERS:
        return None
    if how.attr == "say":  # Seldom's own logger call hands the event on
        return LogCall(place, _levels(call.args[0]), _text(call.args[1]))
    extra = next((k.value for k in call.keywords if k.arg == "extra"), None)
    event = extra.args[0] if isinstance(extra, ast.Call) and extra.args else None
    if how.attr == "log" and not (isinstance(event, ast.Name) and event.id == "event"):
        return LogCall(place, _levels(call.args[0]) or _levels(around), _text(event))
    return LogCall(place, (_LEVELS[how.attr],), _text(event)) if how.attr in _LEVELS else None


def _name(node: ast.expr) -> str:
    return getattr(node, "id", "") or getattr(node, "attr", "")


def _text(node: ast.expr | None) -> str | None:
    return str(node.value) if isinstance(node, ast.Constant) else None


def _levels(node: ast.AST) -> tuple[str, ...]:
    """The levels that are named in it, debug aside."""
    named = {n.attr.lower() for n in ast.walk(node) if isinstance(n, ast.Attribute)}
    return tuple(level for level in ("info", "warning", "error") if level in named)


def markdown() -> str:
    """The table of docs/logs.md."""
    levels: dict[str, set[str]] = {}
    for call in log_calls():
        levels.setdefault(call.event or "", set()).update(call.levels)
    return "\n".join(["| event | level | when |", "|---|---|---|", *_rows(levels)])


def _rows(levels: dict[str, set[str]]) -> Iterator[str]:
    for name, when in EVENTS.items():
        yield f"| `{name}` | {', '.join(sorted(levels.get(name, ())))} | {when} |"
