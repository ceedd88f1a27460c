"""The monitors themselves, as their rows say: in Kuma's order, with groups, pauses and tags.

Kuma orders its list by weight, the heaviest first, then by name (server/uptime-kuma-server.js,
getMonitorJSONList), and shows children below their group.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from replicator_kuma.adapters.database import Row

COLUMNS = ("id", "name", "type", "active", "weight", "interval", "parent", "retry_interval")
_REQUIRED = COLUMNS[:6]
"""the others came with later versions"""
_INTERVAL = 60
_WEIGHT = 2000
"""Kuma's defaults, for values that are no numbers"""
_LONGEST = 2**31 - 1
"""seconds: a longer interval is no time that anybody waits for"""


@dataclass(frozen=True)
class Listed:
    """A monitor without its heartbeats; see `MonitorBeats`."""

    id: int
    name: str
    type: str
    active: bool
    parent: int | None
    tags: tuple[str, ...]
    interval: int
    retry_interval: int


def monitors_sql(columns: Collection[str]) -> str:
    """The statement whose rows `listed` takes; ``columns``: those of the table."""
    # backquotes: `interval` is a word of MariaDB's, and SQLite understands them too
    chosen = (f"`{name}`" if name in {*columns, *_REQUIRED} else "NULL" for name in COLUMNS)
    return f"SELECT {', '.join(chosen)} FROM monitor"


TAGS_SQL = (
    "SELECT mt.monitor_id, t.name, mt.value FROM monitor_tag AS mt "
    "JOIN tag AS t ON t.id = mt.tag_id ORDER BY mt.monitor_id, t.name, mt.value, mt.id"
)


_WEIGHED = ("id", "active", "weight", "interval", "parent", "retry_interval")
_MEASURED = ("name", "type")


def marks_sql(schema: Mapping[str, Collection[str]]) -> str:
    """A statement whose one row is another one once the monitors or their tags were edited.

    The database adds up a few columns, each times the row's id, and gives one row instead of
    thousands. A text that becomes another one of the same length leaves the row as it is.
    """
    sums = [_sums("monitor", _WEIGHED, _MEASURED, schema)]
    if has_tags(schema):
        sums.append(_sums("monitor_tag", ("monitor_id", "tag_id"), ("value",), schema))
        sums.append(_sums("tag", (), ("name",), schema))
    names = (f"s{number}" for number in range(len(sums)))
    tables = ", ".join(f"({one}) AS {name}" for one, name in zip(sums, names, strict=True))
    return f"SELECT * FROM {tables}"


def _sums(
    table: str,
    numbers: Collection[str],
    texts: Collection[str],
    schema: Mapping[str, Collection[str]],
) -> str:
    # times 1.0: whole numbers could become too large, which is an error in both engines
    values = [f"`{name}`" for name in numbers if name in schema[table]]
    values += [f"length(`{name}`)" for name in texts if name in schema[table]]
    sums = (f"sum(1.0 * `id` * {value}) AS {table}{k}" for k, value in enumerate(values))
    return f"SELECT {', '.join([f'count(*) AS {table}_rows', *sums])} FROM `{table}`"


def has_tags(schema: Mapping[str, Collection[str]]) -> bool:
    """Whether this Kuma has tags."""
    return {"tag", "monitor_tag"} <= set(schema)


def listed(rows: Sequence[Row], tags: Sequence[Row]) -> tuple[Listed, ...]:
    """The monitors in Kuma's order. A group that is its own ancestor has no parent for us."""
    names: dict[int, list[str]] = {}
    for monitor, name, value in tags:
        names.setdefault(monitor, []).append(f"{name}: {value}" if value else str(name))
    by_id = {row[0]: row for row in rows}
    below: dict[int | None, list[Row]] = {}
    for row in rows:
        parent = row[6] if row[6] in by_id and row[6] != row[0] else None
        below.setdefault(parent, []).append(row)
    for children in below.values():
        children.sort(key=lambda row: (-number(row[4], _WEIGHT), text(row[1]), row[0]))
    found: list[Listed] = []
    done: set[int] = set()

    def add(start: Sequence[Row]) -> None:
        waiting = [(row, None, True) for row in reversed(start)]
        while waiting:
            row, parent, above = waiting.pop()
            if row[0] in done:
                continue
            done.add(row[0])
            active = above and bool(number(row[3], 0))
            found.append(_listed(row, parent, active, tuple(names.get(row[0], ()))))
            waiting += [(child, row[0], active) for child in reversed(below.get(row[0], ()))]

    add(below.get(None, ()))
    if len(done) < len(rows):  # groups in a circle, which Kuma's page does not make
        add([row for row in rows if row[0] not in done])
    return tuple(found)


def _listed(row: Row, parent: int | None, active: bool, tags: tuple[str, ...]) -> Listed:
    interval = _seconds(row[5], _INTERVAL)
    return Listed(
        id=row[0],
        name=text(row[1]),
        type=text(row[2]),
        active=active,
        parent=parent,
        tags=tags,
        interval=interval,
        retry_interval=_seconds(row[7], interval),
    )


def _seconds(value: Any, default: int) -> int:
    return min(max(1, number(value, default)), _LONGEST)


def number(value: Any, default: int) -> int:
    """A whole number of a column; SQLite may hold anything there."""
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return default


def text(value: Any) -> str:
    """A text of a column."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return "" if value is None else str(value)
