"""Rules that make one replica differ from its leader: REPLICATOR_OVERRIDES (docs/overrides.md).

    [[rule]]
    table = "monitor"
    where = { type = "push" }
    set = { active = false }

A rule names a table, its rows (`where`; absent: all) and what to do with them: `set`, or
`skip = true`. `where` always sees the leader's values, a later `set` wins, a skip wins over all.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from replicator_kuma.base.errors import SettingsError, SnapshotRefused
from replicator_kuma.dump.catalog import TABLES
from replicator_kuma.dump.parse import Row, parsed
from replicator_kuma.dump.schema import Schema
from replicator_kuma.dump.select import select
from replicator_kuma.dump.transform.rules import TAG, Rule, check, is_tag, message, read
from replicator_kuma.dump.values import Value

if TYPE_CHECKING:
    from replicator_kuma.dump.format import Dump, Source

Changer = Callable[[Row], Row | None]
"""Applies the rules to a row in the replica's columns; None: the row is skipped."""

_Test = Callable[[Row], bool]
_Columns = Callable[[str, tuple[str, ...]], Iterator[Row]]
"""The rows of a table, with only these columns."""


@dataclass(frozen=True)
class Overrides:
    """The rules of one replica, in the order of its file; a message counts them from 1."""

    rules: tuple[Rule, ...] = ()

    @property
    def digest(self) -> str:
        """16 hex digits over what the rules mean; empty without rules."""
        if not self.rules:
            return ""
        meaning = [
            [
                rule.table,
                [[column, sorted(wanted, key=repr)] for column, wanted in rule.where],
                rule.changes,
                rule.skip,
            ]
            for rule in self.rules
        ]
        return hashlib.sha256(json.dumps(meaning).encode()).hexdigest()[:16]

    @classmethod
    def parse(cls, text: str) -> Overrides:
        """Read the TOML text of a file; raises ValueError with all problems, by rule number."""
        return cls(read(text))

    def check(self, schema: Schema) -> None:
        """Raise one SettingsError with all tables, columns and types that this schema lacks."""
        problems = [
            f"rule {number}: {problem}"
            for number, rule in enumerate(self.rules, 1)
            for problem in check(rule, schema)
        ]
        if problems:
            raise SettingsError(
                f"the overrides do not fit this Kuma: {message(problems)}",
                hint="Nothing was applied. Change the file that REPLICATOR_OVERRIDES names.",
            )

    def changer(self, table: str, columns: tuple[str, ...], dump: Dump) -> Changer | None:
        """A function that applies the table's rules to a row; None if it has no rule.

        ``columns``: content ones, then runtime ones, as the replica has them. ``dump`` is the
        leader's, where tags are looked up. The rules must have passed `check`. Raises
        SettingsError for a tag where the leader publishes none, SnapshotRefused.
        """
        steps = []
        for rule in self.rules:
            if rule.table == table:
                tests = _tests(rule, columns, lambda name, wanted: _of_dump(dump, name, wanted))
                changes = [(columns.index(column), value) for column, value in rule.changes]
                steps.append((tests, changes, rule.skip))
        if not steps:
            return None

        def change(row: Row) -> Row | None:
            made: list[Value] | None = None
            for tests, changes, skip in steps:
                if not all(test(row) for test in tests):
                    continue
                if skip:
                    return None
                made = list(row) if made is None else made
                for index, value in changes:
                    # 1.0 stays 1.0 if the rule says 1: they are equal
                    made[index] = row[index] if _same(row[index], value) else value
            return row if made is None else tuple(made)

        return change

    def silent(self, source: Source, tables: Collection[str]) -> tuple[int, ...]:
        """The numbers of rules that match no row of a live replica, though they could.

        It leaves out rules that live rows cannot tell: skipped rows are not there, and a value that
        a rule has set is not the leader's. ``tables``: those whose rows are the leader's.
        """
        return tuple(
            number
            for number, rule in enumerate(self.rules, 1)
            if rule.table in tables and not self._veiled(rule) and not _matches(rule, source)
        )

    def _veiled(self, rule: Rule) -> bool:
        """Whether live rows may differ from the leader's in what a rule's `where` tests."""
        asked = {(rule.table, column) for column, _wanted in rule.where}
        tables = _above(rule.table)
        if (rule.table, TAG) in asked:
            asked |= {(TAG, "name"), ("monitor_tag", "monitor_id"), ("monitor_tag", "tag_id")}
            tables |= _above("monitor_tag")
        changed = {(other.table, column) for other in self.rules for column, _ in other.changes}
        return bool(asked & changed) or any(r.skip and r.table in tables for r in self.rules)


def _tests(rule: Rule, columns: tuple[str, ...], tables: _Columns) -> list[_Test]:
    """The tests that a row with ``columns`` has to pass."""
    return [
        _in_tagged(columns.index("id"), _tagged(wanted, tables))
        if is_tag(rule.table, name, columns)
        else _in_column(columns.index(name), wanted)
        for name, wanted in rule.where
    ]


def _in_tagged(index: int, monitors: Collection[Value]) -> _Test:
    return lambda row: row[index] in monitors


def _in_column(index: int, wanted: tuple[Value, ...]) -> _Test:
    fits = _one_of(wanted)
    return lambda row: fits(row[index])


def _one_of(wanted: Iterable[Value]) -> Callable[[Value], bool]:
    """A test whether a value is one of these: globs for text, else equality (true is 1)."""
    globs = [fnmatch.translate(value) for value in wanted if isinstance(value, str)]
    numbers = frozenset(value for value in wanted if not isinstance(value, str))
    pattern = re.compile("|".join(globs)) if globs else None

    def fits(value: Value) -> bool:
        if isinstance(value, str):
            return pattern is not None and pattern.match(value) is not None
        return value in numbers

    return fits


def _tagged(wanted: tuple[Value, ...], tables: _Columns) -> frozenset[Value]:
    """The ids of monitors with a tag whose name matches."""
    fits = _one_of(wanted)
    tags = {tag for tag, name in tables(TAG, ("id", "name")) if fits(name)}
    links = tables("monitor_tag", ("monitor_id", "tag_id"))
    return frozenset(monitor for monitor, tag in links if tag in tags)


def _of_dump(dump: Dump, table: str, wanted: tuple[str, ...]) -> Iterator[Row]:
    if table not in dump.manifest.tables:
        raise SettingsError(
            f"the overrides ask for the tags of monitors, and the leader publishes no {table}",
            hint="Nothing was applied. Look at REPLICATOR_TABLES of the leader.",
        )
    columns = dump.columns(table)
    if not set(wanted) <= set(columns):
        raise SnapshotRefused(f"the snapshot's {table} lacks one of the columns {list(wanted)}")
    indices = [columns.index(column) for column in wanted]
    return (tuple(row[index] for index in indices) for row in parsed(dump, table))


def _matches(rule: Rule, source: Source) -> bool:
    """Whether a live row passes. Raises what the source raises."""
    if rule.table not in source.schema.tables:
        return False

    def columns_of(table: str, wanted: tuple[str, ...]) -> Iterator[Row]:
        return source.rows(replace(select(source.schema, table), content=wanted, runtime=()))

    live = source.schema.tables[rule.table].columns
    named = [name for name, _wanted in rule.where if name in live]
    asked = tuple(dict.fromkeys([*TABLES[rule.table].key, *named]))
    tests = _tests(rule, asked, columns_of)
    return any(all(test(row) for test in tests) for row in columns_of(rule.table, asked))


def _above(table: str) -> set[str]:
    """A table and all tables that its rows refer to, directly or through others."""
    found, left = set[str](), [table]
    while left:
        if (name := left.pop()) not in found:
            found.add(name)
            left += [reference.table for reference in TABLES[name].references]
    return found


def _same(old: Value, new: Value) -> bool:
    return isinstance(old, str) == isinstance(new, str) and old == new
