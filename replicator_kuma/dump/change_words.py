"""A plan in words: what a restore would change, row by row, with no secret in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from replicator_kuma.dump.mask import shown
from replicator_kuma.dump.plan import Change, Plan, TablePlan
from replicator_kuma.dump.row_names import noun, row_key, row_name

_ACTIONS = {"+": "added", "~": "changed", "-": "deleted", "*": "replaced"}


def changes(plan: Plan) -> Iterator[dict[str, Any]]:
    """One dict a change: table, key, name, action, columns {name: [old, new]}, secrets masked."""
    for table in plan.tables:
        for change in plan.changes(table, "+", "~", "*", "-"):
            yield {
                "table": table.name,
                "key": change.key,
                "name": row_name(table.name, table.content, change.new or change.old or ()),
                "action": _ACTIONS[change.op],
                "columns": _columns(table, change),
            }
    for name, sha256 in plan.files:
        action = "changed" if sha256 else "deleted"
        yield {"table": "file", "key": name, "name": name, "action": action, "columns": {}}


def lines(plan: Plan) -> Iterator[str]:
    """The same for people: one line a change."""
    return map(line, changes(plan))


def line(change: Mapping[str, Any]) -> str:
    """A change, as `changes` gives it and `--json` prints it, for people."""
    table, name, action = change["table"], change["name"], change["action"]
    row = ("file",) if table == "file" else (noun(table, 1), row_key(change["key"]))
    what = " ".join(filter(None, (*row, name, action)))
    columns = change["columns"].items() if action in {"changed", "replaced"} else ()
    detail = ", ".join(f"{column} {old} → {new}" for column, (old, new) in columns)
    return f"{what}: {detail}" if detail else what


def _columns(table: TablePlan, change: Change) -> dict[str, list[str]]:
    found = {}
    for index, column in enumerate(table.content):
        old = change.old[index] if change.old is not None else None
        new = change.new[index] if change.new is not None else None
        if (type(old), old) != (type(new), new):
            # the value of a setting is as secret as its key says
            setting = table.name == "setting" and column == "value"
            label = str(change.key) if setting else column
            found[column] = [shown(label, old), shown(label, new)]
    return found
