"""Computes the changes that turn one dump into another, and keeps them in a folder of their own.

A plan is data: one line a change, in files, since 180,000 new monitors would fill the memory.

    <table>.jsonl   ["+", key, new, runtime, null] | ["~", key, new, runtime, old]
                    | ["-", key, null, null, old] | "*" replaced: another row under the same id
                    "=-" and "=+": rows of an unkeyed table whose content stays and whose id moves
                    "=~": only quiet columns differ

Operations that begin with = are applied together with real changes; alone they change nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, astuple, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from replicator_kuma.base.errors import SchemaMismatch, SnapshotRefused
from replicator_kuma.dump import values
from replicator_kuma.dump.catalog import TABLES
from replicator_kuma.dump.dates import moment
from replicator_kuma.dump.files import create
from replicator_kuma.dump.format import Dump, LineReader
from replicator_kuma.dump.manifest import Manifest
from replicator_kuma.dump.row_names import noun

_END: tuple[Any, ...] = ()
_FIRST_TEXT = re.compile(rb'\[("(?:[^"\\]++|\\.)*+"),')
_LONGEST_KEY = 1000
_ALIKE = 100
"""After so many lines that are alike, the next ones are compared by blocks."""
_CHECKED_ROWS, _CHECKED_BYTES = 64, 1 << 16


@dataclass(frozen=True)
class Counts:
    """How many rows of a table a plan changes; ``moved`` (ids, quiet columns) is not in `real`."""

    added: int = 0
    changed: int = 0
    deleted: int = 0
    replaced: int = 0
    moved: int = 0

    @property
    def real(self) -> int:
        return self.added + self.changed + self.deleted + self.replaced


@dataclass(frozen=True)
class Summary:
    """What a plan would do, in numbers: safe to show to anybody."""

    tables: dict[str, Counts] = field(default_factory=dict)
    files: int = 0

    def sentence(self) -> str:
        """For people: «2 monitors added, 1 changed; 1 tag deleted»; monitors come first."""
        parts = []
        links = [counts for name, counts in self.tables.items() if _is_link(name)]
        for table in sorted(self.tables, key=lambda name: name != "monitor"):
            if not _is_link(table):
                parts.append(_counts_words(noun(table, 1), noun(table, 2), self.tables[table]))
        added, deleted = sum(c.added for c in links), sum(c.deleted for c in links)
        parts.append(_counts_words("link", "links", Counts(added=added, deleted=deleted)))
        parts = [words for words in parts if words]
        if self.files:
            parts.append(f"{self.files} file{'s' * (self.files != 1)}")
        return "; ".join(parts) or "no change"

    def plus(self, other: Summary) -> Summary:
        """The numbers of both: a row that both change counts twice."""
        tables = dict(self.tables)
        for name, counts in other.tables.items():
            pairs = zip(astuple(counts), astuple(tables.get(name, Counts())), strict=True)
            tables[name] = Counts(*map(sum, pairs))
        return Summary(tables, self.files + other.files)

    def as_dict(self) -> dict[str, Any]:
        tables = {name: asdict(c) for name, c in self.tables.items() if c.real}
        for counted in tables.values():
            del counted["moved"]
        return {"tables": tables, "files": self.files}


def _is_link(table: str) -> bool:
    return TABLES[table].unkeyed and not TABLES[table].label


def _counts_words(one: str, many: str, counts: Counts) -> str:
    words, found = list[str](), asdict(counts)
    for verb in ("added", "changed", "replaced", "deleted"):
        if count := found[verb]:
            subject = f" {one if count == 1 else many}" if not words else ""
            words.append(f"{count}{subject} {verb}")
    return ", ".join(words)


class Change(NamedTuple):
    """One line of a plan. Rows are tuples in the order of the plan's columns, or None."""

    op: str
    key: Any
    new: tuple[Any, ...] | None
    runtime: tuple[Any, ...] | None
    old: tuple[Any, ...] | None


@dataclass(frozen=True)
class TablePlan:
    name: str
    content: tuple[str, ...]
    runtime: tuple[str, ...]
    counts: Counts


@dataclass(frozen=True)
class Plan:
    """All changes between two dumps; ``files``: (name, new SHA-256, or None to delete it)."""

    folder: Path
    tables: tuple[TablePlan, ...]
    files: tuple[tuple[str, str | None], ...]
    base: str
    """``base`` is the digest of the tables before the plan, ``target`` the one after it"""
    target: str
    held: Mapping[str, tuple[Change, ...]] | None = field(default=None, repr=False)
    """all changes by table, if they are in memory (`hold`)"""

    @property
    def empty(self) -> bool:
        """Whether the plan has no real change; then Kuma need not be stopped."""
        return not self.files and not any(table.counts.real for table in self.tables)

    @property
    def summary(self) -> Summary:
        return Summary({table.name: table.counts for table in self.tables}, len(self.files))

    @property
    def size(self) -> int:
        """Rows to write or delete."""
        return sum(table.counts.real + table.counts.moved for table in self.tables)

    def hold(self) -> Plan:
        """The same plan in memory: who goes through it reads and parses no file again."""
        return replace(self, held={t.name: tuple(self.changes(t)) for t in self.tables})

    def changes(self, table: TablePlan, *ops: str) -> Iterator[Change]:
        """A table's changes whose operation is one of ``ops`` (none: all), in key order."""
        if self.held is not None:
            yield from (c for c in self.held[table.name] if not ops or c.op in ops)
            return
        path = self.folder / f"{table.name}.jsonl"
        if not path.exists():
            return
        marks = tuple(f'["{op}"'.encode() for op in ops) or (b"[",)
        with path.open("rb", buffering=1 << 18) as file:
            for line in file:
                if line.startswith(marks):
                    op, key, new, runtime, old = values.decode(line[:-1])
                    yield Change(op, key, _row(new), _row(runtime), _row(old))


def _row(value: list[Any] | None) -> tuple[Any, ...] | None:
    return None if value is None else tuple(value)


def plan(live: Dump, wanted: Dump, folder: Path) -> Plan:
    """Compare two verified dumps over the tables of ``live``; changes go into a new ``folder``.

    Raises SchemaMismatch where a table or its columns differ, SnapshotRefused where a line that
    differs is not a valid row. Neither dump is changed.
    """
    folder.mkdir(mode=0o700)
    tables = []
    for name in live.manifest.tables:
        if name not in wanted.manifest.tables:
            raise SchemaMismatch(f"the snapshot does not hold table {name!r}")
        tables.append(_Merge(live, wanted, name, folder).run())
    return Plan(
        folder=folder,
        tables=tuple(tables),
        files=_file_changes(live.manifest, wanted.manifest.only(live.manifest.tables)),
        base=live.manifest.tables_digest,
        target=wanted.manifest.only(live.manifest.tables).tables_digest,
    )


def _file_changes(live: Manifest, wanted: Manifest) -> tuple[tuple[str, str | None], ...]:
    ours, theirs = live.files, wanted.files
    changed = [(name, sha) for name, sha in sorted(theirs.items()) if ours.get(name) != sha]
    gone = [(name, None) for name in sorted(ours) if name not in theirs]
    return (*changed, *gone)


class _Merge:
    """Compares one table of both dumps in one pass; both are sorted the same way."""

    def __init__(self, live: Dump, wanted: Dump, name: str, folder: Path) -> None:
        self.table = TABLES[name]
        self.live, self.wanted, self.folder = live, wanted, folder
        self.content = self._same_columns("tables")
        has_runtime = bool(live.manifest.tables[name].runtime)
        if has_runtime != bool(wanted.manifest.tables[name].runtime):
            raise SchemaMismatch(f"the snapshot's {name} has other runtime columns")
        self.runtime = self._same_columns("runtime") if has_runtime else ()
        self.born = (
            self.content.index("created_date")
            if name == "monitor" and "created_date" in self.content
            else None
        )
        self.quiet = [i for i, column in enumerate(self.runtime) if column in self.table.quiet]
        self.counts = dict.fromkeys(("+", "~", "-", "*", "="), 0)
        self.unchecked: list[tuple[bytes, bytes]] = []
        self.weight = 0

    def _same_columns(self, kind: str) -> tuple[str, ...]:
        ours = self.live.columns(self.table.name, kind)
        theirs = self.wanted.columns(self.table.name, kind)
        if ours != theirs:
            odd = sorted(set(ours) ^ set(theirs)) or "their order"
            raise SchemaMismatch(f"the snapshot's {self.table.name} has other columns: {odd}")
        return ours

    def run(self) -> TablePlan:
        ours, theirs = (d.manifest.tables[self.table.name] for d in (self.live, self.wanted))
        if ours != theirs:
            with create(self.folder / f"{self.table.name}.jsonl") as self.out:
                self._merge()
        c = self.counts
        counts = Counts(c["+"], c["~"], c["-"], c["*"], c["="])
        return TablePlan(self.table.name, self.content, self.runtime, counts)

    def _merge(self) -> None:
        with ExitStack() as stack:
            self._compare(*(d.reader(self.table.name, stack) for d in (self.live, self.wanted)))
        self._check()

    def _compare(self, mine: LineReader, other: LineReader) -> None:
        # where a runtime column alone is no change, lines that are alike need not be looked at
        skips = not self.table.unkeyed and not self.quiet
        alike = _ALIKE
        ours, theirs = iter(mine), iter(other)
        a, b = next(ours, _END), next(theirs, _END)
        before: Any = _END
        last: Any = None
        while a or b:
            if a and b and a[0] == b[0]:
                if a[1] != b[1]:
                    self._moved(a, b)
                alike += 1
                if skips and alike >= _ALIKE:
                    alike = 0
                    mine.skip_alike(other)
                a, before, last, b = next(ours, _END), b, None, next(theirs, _END)
                continue
            alike = 0
            x, y = self._key(a), self._key(b)
            if b and before and not (last or self._key(before)) < y:
                raise SnapshotRefused(f"the snapshot's {self.table.name} is not in order")
            if not b or (a and x < y):
                self._write("-", self._id(a), b"null", b"null", a[0])
                a = next(ours, _END)
            elif not a or y < x:
                self._write("+", self._id(b), *self._checked(b), b"null")
                before, last, b = b, y, next(theirs, _END)
            else:
                op = "*" if self._reborn(a, b) else "~"
                self._write(op, self._id(b), *self._checked(b), a[0])
                a, before, last, b = next(ours, _END), b, y, next(theirs, _END)

    def _moved(self, a: tuple[bytes, bytes], b: tuple[bytes, bytes]) -> None:
        """Write a changed id or quiet column; the content is equal. Skip other runtime columns."""
        if self.table.unkeyed:
            self._write("=-", a[1], b"null", b"null", a[0])
            self._write("=+", b[1], *self._checked(b), b"null")
        elif self.quiet:
            self._checked(b)
            self._check()
            ours, theirs = values.decode(a[1]), values.decode(b[1])
            if any(ours[index] != theirs[index] for index in self.quiet):
                self._write("=~", self._id(b), *b, b"null")

    def _write(self, op: str, key: bytes, new: bytes, runtime: bytes, old: bytes) -> None:
        self.counts[op[0] if op != "=-" else "="] += op != "=-"
        self.out.write(b'["%b",%b,%b,%b,%b]\n' % (op.encode(), key.strip(b"[]"), new, runtime, old))

    def _key(self, pair: tuple[bytes, bytes] | tuple[()]) -> Any:
        """The key that a line is sorted by: see `Select.order`."""
        if not pair:
            return None
        line = pair[0]
        try:
            if self.table.name == "setting":
                return _setting(line)
            if not self.table.unkeyed:
                return int(line[1 : line.index(b",")])
            size = len(self.table.key)
            keys = [int(part.strip(b"]")) for part in line[1:].split(b",", size)[:size]]
            if len(keys) != size:
                raise ValueError("too short")
            return (*keys, line, len(pair[1]), pair[1])
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise SnapshotRefused(
                f"the snapshot's {self.table.name} has a row without key"
            ) from error

    def _id(self, pair: tuple[bytes, bytes]) -> bytes:
        if self.table.unkeyed:
            return pair[1]
        if self.table.name == "setting":
            return json.dumps(_setting(pair[0])).encode()
        return pair[0][1 : pair[0].index(b",")]

    def _checked(self, pair: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
        """Return a line of the snapshot, and put it into the next batch that `_check` reads."""
        self.unchecked.append(pair)
        self.weight += len(pair[0]) + len(pair[1])
        if len(self.unchecked) >= _CHECKED_ROWS or self.weight >= _CHECKED_BYTES:
            self._check()
        return pair

    def _check(self) -> None:
        """Check the waiting lines; raises SnapshotRefused. Only the last call completes a plan."""
        pairs, self.unchecked, self.weight = self.unchecked, [], 0
        try:
            new = values.canonical_rows([content for content, _rest in pairs], len(self.content))
            runtime = values.canonical_rows([rest for _content, rest in pairs], len(self.runtime))
            if self.table.unkeyed and any(type(row[0]) is not int for row in runtime):
                raise ValueError("its id is no integer")
        except (ValueError, UnicodeDecodeError) as error:
            raise SnapshotRefused(
                f"the snapshot's {self.table.name} has a malformed row: {error}"
            ) from error
        chosen = self.wanted.manifest.settings
        if self.table.name == "setting" and not all(row[0] in chosen for row in new):
            raise SnapshotRefused("the snapshot sets a setting that is not replicated")

    def _reborn(self, old: tuple[bytes, bytes], new: tuple[bytes, bytes]) -> bool:
        if self.born is None:
            return False
        self._checked(new)
        self._check()
        dates = (values.decode(line)[self.born] for line in (old[0], new[0]))
        before, after = (_second(date) for date in dates)
        return bool(before != after)


def _second(date: Any) -> Any:
    """A creation date to the second: some engines cut off the fraction of the same date."""
    found = moment(date)
    return found[0].second if found is not None else date


def _setting(line: bytes) -> str:
    """The key of a row of `setting`; the rest is not parsed: an attacker can make it huge."""
    found = _FIRST_TEXT.match(line)
    if found is None or len(found[1]) > _LONGEST_KEY:
        raise ValueError("no key of a setting")
    return str(json.loads(found[1]))
