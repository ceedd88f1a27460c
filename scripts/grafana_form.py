"""Grafana's form of panels, tables and variables, as far as the dashboard needs it.

Members are those of Grafana's dashboard schema, as Grafana 10 and later have it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

WIDTH = 24
"""columns of Grafana's grid"""
SOURCE = {"type": "prometheus", "uid": "${datasource}"}

GREEN, ORANGE, RED = "green", "orange", "red"


@dataclass(frozen=True)
class Query:
    """A query of a panel; ``legend`` names its series."""

    expr: str
    legend: str
    table: bool = False
    """the newest values alone, as rows of a table"""

    def as_json(self, ref: str) -> dict[str, Any]:
        """As Grafana has it; ``ref`` is its letter in the panel."""
        return {
            "datasource": SOURCE,
            "editorMode": "code",
            "expr": self.expr,
            "format": "table" if self.table else "time_series",
            "instant": self.table,
            "legendFormat": self.legend,
            "range": not self.table,
            "refId": ref,
        }


@dataclass(frozen=True)
class Panel:
    """A panel, or with ``kind`` row the title of those below it."""

    kind: str
    title: str
    text: str = ""
    queries: Sequence[Query] = ()
    width: int = 8
    height: int = 8
    defaults: Mapping[str, Any] = field(default_factory=dict)
    overrides: Sequence[Mapping[str, Any]] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    transformations: Sequence[Mapping[str, Any]] = ()

    def as_json(self, number: int, x: int, y: int) -> dict[str, Any]:
        """As Grafana has it, at a place of the grid."""
        place = {"h": self.height, "w": self.width, "x": x, "y": y}
        if self.kind == "row":
            return {
                "collapsed": False,
                "gridPos": place,
                "id": number,
                "panels": [],
                "title": self.title,
                "type": "row",
            }
        return {
            "datasource": SOURCE,
            "description": self.text,
            "fieldConfig": {"defaults": self.defaults, "overrides": self.overrides},
            "gridPos": place,
            "id": number,
            "options": self.options,
            "targets": [q.as_json(chr(ord("A") + n)) for n, q in enumerate(self.queries)],
            "title": self.title,
            "transformations": self.transformations,
            "type": self.kind,
        }


def row(title: str) -> Panel:
    """A title over the panels that follow."""
    return Panel("row", title, width=WIDTH, height=1)


def graph(
    title: str, text: str, *queries: Query, unit: str = "short", bars: bool = False, **more: Any
) -> Panel:
    """Values over time. ``bars``: stacked, for counts."""
    custom: dict[str, Any] = {"lineWidth": 1, "fillOpacity": 10, "showPoints": "never"}
    if bars:
        custom = {
            "drawStyle": "bars",
            "fillOpacity": 80,
            "lineWidth": 0,
            "stacking": {"group": "A", "mode": "normal"},
        }
    return Panel(
        "timeseries",
        title,
        text,
        queries,
        defaults={"custom": custom, "min": 0, "unit": unit},
        options={
            "legend": {
                "calcs": ["lastNotNull"],
                "displayMode": "table",
                "placement": "bottom",
                "showLegend": True,
            },
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        **more,
    )


def steps(colour: str, *above: tuple[float, str]) -> dict[str, Any]:
    """Colours by value."""
    first: list[dict[str, Any]] = [{"color": colour, "value": None}]
    return {
        "mode": "absolute",
        "steps": [*first, *({"color": name, "value": value} for value, name in above)],
    }


def mapped(**words: tuple[str, str]) -> list[dict[str, Any]]:
    """Words and colours in place of values, as ``_1=("yes", "green")``."""
    options = {
        value.removeprefix("_"): {"color": colour, "index": index, "text": text}
        for index, (value, (text, colour)) in enumerate(words.items())
    }
    return [{"type": "value", "options": options}]


def override(name: str, **properties: Any) -> dict[str, Any]:
    """Properties of one field; `__` stands for a point in their names."""
    return {
        "matcher": {"id": "byName", "options": name},
        "properties": [
            {"id": known.replace("__", "."), "value": value} for known, value in properties.items()
        ],
    }


def table(
    title: str,
    text: str,
    by: Sequence[str],
    columns: Sequence[tuple[str, str]],
    overrides: Sequence[Mapping[str, Any]],
    **more: Any,
) -> Panel:
    """A row for each set of the labels ``by``, and a column for each query, with its name.

    A query without a name brings labels alone. All are asked for one instant: Grafana's `merge`
    joins the rows of those that are equal in the labels that all queries have.
    """
    names = {f"Value #{chr(ord('A') + n)}": name for n, (name, _expr) in enumerate(columns)}
    order = [*by, *names]
    unnamed = {value: True for value, name in names.items() if not name}
    return Panel(
        "table",
        title,
        text,
        [Query(expr, "", table=True) for _name, expr in columns],
        width=WIDTH,
        defaults={"custom": {"align": "left"}},
        overrides=overrides,
        options={"showHeader": True, "cellHeight": "sm"},
        transformations=[
            {"id": "merge", "options": {}},
            {
                "id": "organize",
                "options": {
                    "excludeByName": {"Time": True, **unnamed},
                    "indexByName": {name: index for index, name in enumerate(order)},
                    "renameByName": {old: new for old, new in names.items() if new},
                },
            },
        ],
        **more,
    )


def placed(panels: Sequence[Panel]) -> list[dict[str, Any]]:
    """The panels from left to right, and in a new line where one is full."""
    found: list[dict[str, Any]] = []
    x = y = tallest = 0
    for number, panel in enumerate(panels, 1):
        if x + panel.width > WIDTH:
            x, y, tallest = 0, y + tallest, 0
        found.append(panel.as_json(number, x, y))
        x, tallest = x + panel.width, max(tallest, panel.height)
    return found


def variable(name: str, label: str, query: str) -> dict[str, Any]:
    """A variable whose values are those of a label; all of them at first."""
    return {
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "datasource": SOURCE,
        "includeAll": True,
        "label": label,
        "multi": True,
        "name": name,
        "options": [],
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
        "type": "query",
    }
