"""A plan in words: what a restore would change, row by row, with no secret in it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from replicator_kuma.dump.catalog import SECRETS, TABLES, is_setting
from replicator_kuma.dump.plan import Change, Plan, TablePlan, noun

MASK = "•••"
_USERINFO = re.compile(r"(?<=//)[^/?#\r\n]*@")
"""As browsers read it: up to the last @ of the authority, spaces and more @ in a password too."""
_QUERY = re.compile(r"(?<=[?#])\S+")
_ORDINARY = re.compile(r"-?[A-Za-z0-9_.-]{1,80}")
_LIMIT = 60
_ACTIONS = {"+": "added", "~": "changed", "-": "deleted", "*": "replaced"}


def shown(column: str, value: Any) -> str:
    """A value as a person may see it: secrets masked, credentials of a URL cut, long text short."""
    if value is None:
        return "nothing"
    if SECRETS.search(column):
        return MASK
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    text = str(value)
    if "://" in text or "url" in column:
        text = _QUERY.sub(MASK, _USERINFO.sub(f"{MASK}@", text))
    text = text.encode("utf-8", "backslashreplace").decode()
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[: 4 * _LIMIT])
    text = text if len(text) <= _LIMIT else text[:_LIMIT] + "…"
    return f"«{text}»" if isinstance(value, str) else text


def changes(plan: Plan) -> Iterator[dict[str, Any]]:
    """One dict a change: table, key, name, action, columns {name: [old, new]}, secrets masked."""
    for table in plan.tables:
        for change in plan.changes(table, "+", "~", "*", "-"):
            yield {
                "table": table.name,
                "key": change.key,
                "name": _name(table, change),
                "action": _ACTIONS[change.op],
                "columns": _columns(table, change),
            }
    for name, sha256 in plan.files:
        action = "changed" if sha256 else "deleted"
        yield {"table": "file", "key": name, "name": name, "action": action, "columns": {}}


def lines(plan: Plan) -> Iterator[str]:
    """The same for people: one line a change."""
    for change in changes(plan):
        table = change["table"]
        what = "file" if table == "file" else noun(table, 1)
        key = "" if table == "file" else f" {_key(change['key'])}"
        name = f" {change['name']}" if change["name"] and table != "file" else ""
        if table == "file":
            name = f" {change['name']}"
        columns = change["columns"]
        detail = ""
        if change["action"] in {"changed", "replaced"} and columns:
            detail = ": " + ", ".join(
                f"{column} {old} → {new}" for column, (old, new) in columns.items()
            )
        yield f"{what}{key}{name} {change['action']}{detail}"


def describe_row(table: str, columns: Sequence[str], row: Sequence[Any]) -> str:
    """Which row it is, with no secret in it: «monitor 7 «my site»», «setting entryPage».

    ``columns`` are those of ``row``, in its order; content columns are enough.
    """
    name = _row_name(table, columns, row)
    key = ""
    if not TABLES[table].unkeyed:
        value = row[columns.index(TABLES[table].key[0])]
        key = _key(value) if is_setting(value) else shown("id", value)
    return " ".join(part for part in (noun(table, 1), key, name) if part)


def _key(key: Any) -> str:
    """An id, or a setting's key: an enemy's may be any text."""
    return str(key) if _ORDINARY.fullmatch(str(key)) else shown("id", key)


def _name(table: TablePlan, change: Change) -> str:
    row = change.new if change.new is not None else change.old
    return "" if row is None else _row_name(table.name, table.content, row)


def _row_name(table: str, columns: Sequence[str], row: Sequence[Any]) -> str:
    """What a person finds a row by; only a column that is no secret names one."""
    entry = TABLES[table]
    if entry.unkeyed:
        link = ", ".join(
            f"{c.removesuffix('_id')} {shown('id', row[columns.index(c)])}" for c in entry.key
        )
        label = [row[columns.index(c)] for c in entry.label]
        return f"({link})" + (f" {shown('name', label[0])}" if label else "")
    for column in entry.label:
        if column in columns and row[columns.index(column)]:
            return shown("name", row[columns.index(column)])
    return ""


def _columns(table: TablePlan, change: Change) -> dict[str, list[str]]:
    found = {}
    for index, column in enumerate(table.content):
        old = change.old[index] if change.old is not None else None
        new = change.new[index] if change.new is not None else None
        if (type(old), old) != (type(new), new):
            label = _setting_label(table, change, column)
            found[column] = [shown(label, old), shown(label, new)]
    return found


def _setting_label(table: TablePlan, change: Change, column: str) -> str:
    """The value of a setting is as secret as its key says."""
    return str(change.key) if table.name == "setting" and column == "value" else column
