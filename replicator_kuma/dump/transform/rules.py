"""Reads the rules of REPLICATOR_OVERRIDES, and reports the problems in them.

A message never shows a rule's value: it may be a secret.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from replicator_kuma.dump.catalog import LOCAL, TABLES
from replicator_kuma.dump.schema import Column, Schema
from replicator_kuma.dump.select import select
from replicator_kuma.dump.values import Value

_KEYS = ("table", "where", "set", "skip")
_UNSKIPPED = {
    "user": "a replica needs its users",
    "setting": "REPLICATOR_SETTINGS says which settings are replicated",
}
TAG = "tag"
"""in `where` on monitor: the name of one of its tags"""
_NUMBER = re.compile(r"int|bool|double|float|real|decimal|numeric", re.IGNORECASE)
_TEXT = re.compile(r"char|text|clob|enum|date|time|json", re.IGNORECASE)


@dataclass(frozen=True)
class Rule:
    """``where``: column and the values that it may have; ``changes``: column and value."""

    table: str
    where: tuple[tuple[str, tuple[Value, ...]], ...] = field(default=(), repr=False)
    changes: tuple[tuple[str, Value], ...] = field(default=(), repr=False)
    skip: bool = False


def read(text: str) -> tuple[Rule, ...]:
    """The rules of a TOML text; raises ValueError with all problems, by rule number."""
    import tomllib

    problems: list[str] = []
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"it is no TOML: {error}") from error
    except RecursionError as error:
        raise ValueError("it is no TOML: nested too deeply") from error
    for key in raw.keys() - {"rule"}:
        problems.append(f"unknown key {key!r}{_hint(key, ('rule',))}")
    found = raw.get("rule", [])
    if not isinstance(found, list) or not all(isinstance(rule, dict) for rule in found):
        problems.append("rule is no list of rules: write [[rule]] above each")
        found = []
    rules = []
    for number, rule in enumerate(found, 1):
        reading = _Reading(rule)
        rules.append(reading.rule())
        problems += [f"rule {number}: {problem}" for problem in reading.problems]
    if problems:
        raise ValueError(message(problems))
    return tuple(rules)


class _Reading:
    """One rule of a file, and the problems found in it."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self._raw = raw
        self.problems: list[str] = []

    def rule(self) -> Rule:
        """The rule; use it only if there are no problems."""
        for key in self._raw:
            if key not in _KEYS:
                self.problems.append(f"unknown key {key!r}{_hint(key, _KEYS)}")
        table = self._table()
        where = self._mapping("where")
        changes = self._mapping("set")
        skip = self._skip(table)
        if "set" in self._raw and "skip" in self._raw:
            self.problems.append("set and skip = true: expected one of them")
        elif not {"set", "skip"} & self._raw.keys():
            self.problems.append("neither set nor skip = true: expected one of them")
        elif self._raw.get("set") == {}:
            self.problems.append("set is empty: expected columns, like { active = false }")
        return Rule(
            table,
            tuple(sorted((name, self._wanted(name, value)) for name, value in where.items())),
            tuple(
                sorted((name, self._value("set", name, value)) for name, value in changes.items())
            ),
            skip,
        )

    def _table(self) -> str:
        table = self._raw.get("table")
        if table is None:
            self.problems.append('no table: expected the name of one, like table = "monitor"')
        elif not isinstance(table, str):
            self.problems.append("table is no text: expected the name of one in quotes")
        elif table in LOCAL:
            self.problems.append(f"{table!r} belongs to the instance and is never replicated")
        elif table not in TABLES:
            near = _hint(table, TABLES) or f"; choose from: {', '.join(TABLES)}"
            self.problems.append(f"{table!r} is not a table of Uptime Kuma{near}")
        else:
            return table
        return ""

    def _skip(self, table: str) -> bool:
        skip = self._raw.get("skip", False)
        if skip is not True and "skip" in self._raw:
            self.problems.append("skip has another value than true: leave it out")
        elif skip and table in _UNSKIPPED:
            self.problems.append(f"rows of {table} cannot be skipped: {_UNSKIPPED[table]}")
        return skip is True

    def _mapping(self, key: str) -> dict[str, Any]:
        found = self._raw.get(key, {})
        if isinstance(found, dict):
            return found
        self.problems.append(f"{key} is no table of columns: expected {{ column = value }}")
        return {}

    def _wanted(self, column: str, value: Any) -> tuple[Value, ...]:
        """The values that a column of `where` may have."""
        if value == []:
            self.problems.append(f"where.{column} is an empty list: it would match no row")
        items = value if isinstance(value, list) else [value]
        found = (self._value("where", column, item) for item in items)
        whole = (int(v) if isinstance(v, float) and v.is_integer() else v for v in found)
        return tuple(dict.fromkeys(whole))

    def _value(self, key: str, column: str, value: Any) -> Value:
        if isinstance(value, str):
            return value
        if isinstance(value, float) and math.isfinite(value):
            return value
        if isinstance(value, int):  # a boolean is one
            if not -(2**63) <= value < 2**63:
                self.problems.append(f"{key}.{column} is an integer of more than 64 bits")
            return int(value)
        kinds = "text in quotes, a number, true or false"
        kinds += " or a list of them" if key == "where" else ""
        self.problems.append(f"{key}.{column} is none of what a column can hold: expected {kinds}")
        return None


def check(rule: Rule, schema: Schema) -> Iterator[str]:
    """Yield problems: what this schema lacks of a rule, and what a rule must not do."""
    if rule.table not in schema.tables:
        yield f"this Kuma has no table {rule.table}"
        return
    chosen, table = select(schema, rule.table), TABLES[rule.table]
    columns = schema.tables[rule.table].columns
    for name, wanted in rule.where:
        where = f"where.{name}"
        if is_tag(rule.table, name, columns):
            if not all(isinstance(value, str) for value in wanted):
                yield f"{where} is the name of a tag: write it in quotes"
        elif name in chosen.content:
            yield from _mistyped(where, columns[name], wanted)
        elif name in chosen.runtime:
            yield f"{where}: Kuma writes this column by itself, it says nothing lasting of a row"
        else:
            more = (TAG,) if rule.table == "monitor" else ()
            yield f"{rule.table} has no column {name!r}{_hint(name, (*chosen.content, *more))}"
    for name, value in rule.changes:
        if name in table.key or name == "id":
            yield f"set.{name}: it tells which row this is, and stays the leader's"
        elif (rule.table, name) == ("monitor", "created_date"):
            yield f"set.{name}: another date under the same id is another monitor, without history"
        elif name in chosen.content:
            yield from _mistyped(f"set.{name}", columns[name], [value])
        elif name in chosen.runtime:
            yield f"set.{name}: Kuma writes this column by itself, a replica keeps its own"
        else:
            yield f"{rule.table} has no column {name!r}{_hint(name, chosen.content)}"


def _mistyped(name: str, column: Column, found: Iterable[Value]) -> Iterator[str]:
    """A number in quotes never equals a number, and SQLite would store it as text."""
    kinds = {isinstance(value, str) for value in found}
    if _TEXT.search(column.type):
        if False in kinds:
            yield f"{name} is text ({column.type.lower()}): write it in quotes"
    elif _NUMBER.search(column.type) and True in kinds:
        expected = "write it without quotes, a boolean as true or false"
        yield f"{name} is a number ({column.type.lower()}): {expected}"


def is_tag(table: str, name: str, columns: Collection[str]) -> bool:
    return table == "monitor" and name == TAG and name not in columns


def _hint(name: str, known: Iterable[str]) -> str:
    import difflib

    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""


def message(problems: Sequence[str]) -> str:
    if len(problems) == 1:
        return problems[0]
    return "\n  ".join([f"{len(problems)} problems:", *problems])
