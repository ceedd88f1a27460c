"""What `status --json` prints, against docs/status.schema.json."""

from __future__ import annotations

import json
from typing import Any

from jsonschema import Draft202012Validator

from scripts.status_schema import PATH


def closed(schema: Any) -> Any:
    """The schema without room for members that it does not name: others may come, not unnoticed."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    more = {"additionalProperties": False} if "properties" in schema else {}
    return {name: closed(value) for name, value in schema.items()} | more


_VALIDATOR = Draft202012Validator(closed(json.loads(PATH.read_text())))


def faults(document: Any) -> list[tuple[str, str]]:
    """What is wrong with a document: the schema's word that it breaks, and where."""
    found = _VALIDATOR.iter_errors(document)
    return sorted((str(fault.validator), fault.json_path) for fault in found)
