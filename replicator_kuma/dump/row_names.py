"""What a row is called, with no secret in it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from replicator_kuma.dump.catalog import TABLES, is_setting
from replicator_kuma.dump.mask import shown

_NOUNS = {
    "docker_host": "Docker host",
    "status_page_cname": "domain name",
    "group": "status page group",
    "api_key": "API key",
    "monitor_notification": "monitor's notification",
    "monitor_tag": "monitor's tag",
    "monitor_group": "status page's monitor",
    "monitor_maintenance": "monitor's maintenance",
    "maintenance_status_page": "status page's maintenance",
}
"""Those that are not the table's own name."""
_PLURALS = {"proxy": "proxies", "maintenance": "maintenances"}
_ORDINARY = re.compile(r"-?[A-Za-z0-9_.-]{1,80}")


def noun(table: str, count: int) -> str:
    """What a table's rows are called, for a number of them."""
    word = _NOUNS.get(table, table.replace("_", " "))
    return word if count == 1 else _PLURALS.get(word, word + "s")


def describe_row(table: str, columns: Sequence[str], row: Sequence[Any]) -> str:
    """Which row it is, with no secret in it: «monitor 7 «my site»», «setting entryPage».

    ``columns`` are those of ``row``, in its order; content columns are enough.
    """
    name = row_name(table, columns, row)
    key = ""
    if not TABLES[table].unkeyed:
        value = row[columns.index(TABLES[table].key[0])]
        key = row_key(value) if is_setting(value) else shown("id", value)
    return " ".join(part for part in (noun(table, 1), key, name) if part)


def row_key(key: Any) -> str:
    """An id, or a setting's key: an enemy's may be any text."""
    return str(key) if _ORDINARY.fullmatch(str(key)) else shown("id", key)


def row_name(table: str, columns: Sequence[str], row: Sequence[Any]) -> str:
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
