"""Names rows for people, without secrets."""

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
"""The nouns that differ from the table's name."""
_PLURALS = {"proxy": "proxies", "maintenance": "maintenances"}
_ORDINARY = re.compile(r"-?[A-Za-z0-9_.-]{1,80}")


def noun(table: str, count: int) -> str:
    """The noun for ``count`` rows of a table."""
    word = _NOUNS.get(table, table.replace("_", " "))
    return word if count == 1 else _PLURALS.get(word, word + "s")


def describe_row(table: str, columns: Sequence[str], row: Sequence[Any]) -> str:
    """A row's noun, key and name, without secrets: «monitor 7 «my site»», «setting entryPage».

    ``columns`` are those of ``row``, in its order; content columns are enough.
    """
    name = row_name(table, columns, row)
    key = ""
    if not TABLES[table].unkeyed:
        value = row[columns.index(TABLES[table].key[0])]
        key = row_key(value) if is_setting(value) else shown("id", value)
    return " ".join(part for part in (noun(table, 1), key, name) if part)


def row_key(key: Any) -> str:
    """An id or a setting's key as short, printable text: an attacker may write anything there."""
    return str(key) if _ORDINARY.fullmatch(str(key)) else shown("id", key)


def row_name(table: str, columns: Sequence[str], row: Sequence[Any]) -> str:
    """The name by which a person finds a row; it never comes from a secret column."""
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
