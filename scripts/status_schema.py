"""Prints the JSON Schema of `replicator status --json`; with --write, writes it into docs/.

It is made of the types in replicator_kuma/reports/document.py, and the texts there.
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

PATH = Path(__file__).resolve().parents[1] / "docs" / "status.schema.json"

_SIMPLE: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    Position: {"type": "string", "pattern": r"^[1-9]\d*\.[1-9]\d*$"},
    Moment: {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$"},
}


def schema() -> str:
    """The whole, as the file has it."""
    parts: dict[str, Any] = {}
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "An instance"}
    return json.dumps({**head, **_part(Status, parts), "$defs": parts}, indent=2) + "\n"


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
        made = _of(arguments[0], parts)
        if "type" in made:
            return {**made, "type": [made["type"], "null"]}
        return {"anyOf": [made, {"type": "null"}]}
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
    parser.add_argument("--write", action="store_true", help=f"write {PATH.name}")
    if parser.parse_args().write:
        PATH.write_text(schema())
    else:
        sys.stdout.write(schema())
    return 0


if __name__ == "__main__":
    sys.exit(main())
