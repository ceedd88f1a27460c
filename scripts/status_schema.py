"""Prints the JSON Schema of `replicator status --json`; with --write, writes all schemas.

Each is made of the types of its document, and the texts there: docs/status.schema.json, and what
`/schema/NAME.json` serves, in replicator_kuma/reports/http/schema/.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import inspect
import json
import sys
import types
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from replicator_kuma.adapters.repository import Position
from replicator_kuma.base.times import Moment
from replicator_kuma.reports.document import Status
from replicator_kuma.reports.fleet.documents import Fleet, Monitors
from replicator_kuma.reports.http.documents import ChangeSet, Failure, ListedHere
from replicator_kuma.reports.http.summary import Summary
from replicator_kuma.reports.http.view import Beats

ROOT = Path(__file__).resolve().parents[1]
PATH = ROOT / "docs" / "status.schema.json"
SERVED = ROOT / "replicator_kuma" / "reports" / "http" / "schema"
_SERVED: dict[str, tuple[str, type]] = {
    "monitors": ("What an instance tells its peers", Monitors),
    "fleet": ("A fleet as one instance sees it", Fleet),
    "summary": ("An instance and its fleet in a few values", Summary),
    "beats": ("Heartbeats of one monitor", Beats),
    "error": ("An answer that is none", Failure),
}
_LISTS: dict[str, tuple[str, type]] = {
    "snapshots": ("The snapshots of a fleet", ListedHere),
    "log": ("What changed from snapshot to snapshot", ChangeSet),
}

_NULL = {"type": "null"}
_SIMPLE: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    types.NoneType: _NULL,
    Position: {"type": "string", "pattern": r"^[1-9]\d*\.[1-9]\d*$"},
    Moment: {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$"},
}


def schema() -> str:
    """The whole, as the file has it."""
    parts: dict[str, Any] = {}
    return _whole("An instance", _part(Status, parts), parts)


def served() -> dict[str, str]:
    """The schemas that the API serves, by their names."""
    found = {"status": schema()}
    for name, (title, kind) in _SERVED.items():
        parts: dict[str, Any] = {}
        found[name] = _whole(title, _part(kind, parts), parts)
    for name, (title, kind) in _LISTS.items():
        parts = {}
        found[name] = _whole(title, {"type": "array", "items": _of(kind, parts)}, parts)
    return found


def _whole(title: str, made: dict[str, Any], parts: dict[str, Any]) -> str:
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title}
    return json.dumps({**head, **made, "$defs": parts}, indent=2) + "\n"


def _part(kind: type, parts: dict[str, Any]) -> dict[str, Any]:
    """The schema of one dataclass; those that it refers to go to ``parts``."""
    hints, texts, members = get_type_hints(kind), _texts(kind), {}
    for each in dataclasses.fields(kind):
        if each.metadata.get("json", True):
            text = {"description": texts[each.name]} if each.name in texts else {}
            members[each.name] = {**_of(hints[each.name], parts), **text}
    return {
        "description": inspect.getdoc(kind),
        "type": "object",
        "properties": members,
        "required": list(members),
    }


def _of(hint: Any, parts: dict[str, Any]) -> dict[str, Any]:
    """The schema of one type; raises KeyError for one that a document cannot have."""
    origin, arguments = get_origin(hint), get_args(hint)
    if dataclasses.is_dataclass(hint) and hint not in _SIMPLE:
        assert isinstance(hint, type)
        if hint.__name__ not in parts:
            parts[hint.__name__] = {}  # here its place is among them
            parts[hint.__name__] = _part(hint, parts)
        return {"$ref": f"#/$defs/{hint.__name__}"}
    if origin is types.UnionType:
        made = [_of(argument, parts) for argument in arguments]
        if len(made) == 2 and "type" in made[0] and made[1] == _NULL:
            return {**made[0], "type": [made[0]["type"], "null"]}
        return {"anyOf": made}
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is tuple:
        return {"type": "array", "items": _of(arguments[0], parts)}
    if origin is not None:  # names and values
        return {"type": "object", "additionalProperties": _of(arguments[1], parts)}
    return _SIMPLE[hint]


def _texts(kind: type) -> dict[str, str]:
    """What stands below the members of a dataclass."""
    (found,) = ast.parse(inspect.getsource(kind)).body
    assert isinstance(found, ast.ClassDef)
    return {
        member.target.id: inspect.cleandoc(str(text.value.value))
        for member, text in pairwise(found.body)
        if isinstance(member, ast.AnnAssign)
        and isinstance(member.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write all of them")
    if parser.parse_args().write:
        PATH.write_text(schema())
        SERVED.mkdir(exist_ok=True)
        for name, text in served().items():
            (SERVED / f"{name}.json").write_text(text)
    else:
        sys.stdout.write(schema())
    return 0


if __name__ == "__main__":
    sys.exit(main())
