"""Translates a leader's dump for one instance: its engine, its schema, its operator's choices.

The result is a new dump. A plan compares it with the live one byte by byte, and its digest stands
for "applied". If nothing has to change, the leader's dump itself is used.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from replicator_kuma.base.errors import SnapshotRefused
from replicator_kuma.dump.catalog import FILE_COLUMNS, TABLES, file_table, files_of
from replicator_kuma.dump.files import link_or_copy
from replicator_kuma.dump.format import Dump, Source, write_tables
from replicator_kuma.dump.manifest import Manifest, TableEntry, write_manifest
from replicator_kuma.dump.parse import parsed
from replicator_kuma.dump.schema import Schema
from replicator_kuma.dump.select import Select, select
from replicator_kuma.dump.transform.evolution import Evolution
from replicator_kuma.dump.transform.misfits import Misfits
from replicator_kuma.dump.transform.policy import Policy
from replicator_kuma.dump.transform.represent import Representation
from replicator_kuma.dump.transform.rows import Rows, differing
from replicator_kuma.dump.values import Value

Row = tuple[Value, ...]


@dataclass(frozen=True)
class Terms:
    """How an instance translates a snapshot. ``arrived``: ids of local rows received before."""

    schema: Schema
    representation: Representation
    policy: Policy = field(default_factory=Policy)
    arrived: Mapping[str, frozenset[int]] = field(default_factory=dict)
    keeps_files: bool = True
    """if the leader's rows name a file that its dump lacks, the instance keeps its own"""
    went_back: bool = False
    """to an older dump: rows that a person deleted here stay noted, even if that dump lacks them"""


@dataclass(frozen=True)
class Translated:
    """``notes``: what was dropped, filled or cut; ``arrived``: to be remembered once applied."""

    dump: Dump
    notes: tuple[str, ...] = ()
    arrived: Mapping[str, frozenset[int]] = field(default_factory=dict)
    brief: tuple[str, ...] = ()
    """notes that people must not miss: how much was cut, and left out by rules"""


def translate(wanted: Dump, live: Dump, terms: Terms, folder: Path) -> Translated:
    """Translate ``wanted``, a verified dump, for this instance, into a new ``folder``.

    ``live`` is the instance's own dump: only its tables are translated. Raises
    SchemaMismatch, SnapshotMisfit (rows that do not fit, named), SnapshotRefused, SettingsError
    (an override that does not fit this schema).
    """
    terms.policy.overrides.check(terms.schema)
    return _Translation(wanted, live, terms, folder).run()


class _Translation(Source):
    def __init__(self, wanted: Dump, live: Dump, terms: Terms, folder: Path) -> None:
        self.wanted, self.live, self.terms, self.folder = wanted, live, terms, folder
        self.foreign = wanted.manifest.engine != live.manifest.engine
        self.evolution = Evolution(
            wanted.manifest.migrations, terms.schema, compatible=terms.policy.compatible
        )
        self.misfits = Misfits(terms.policy.truncate)
        self.gone: dict[str, set[int]] = {}
        """ids of rows that are skipped, by table"""
        self.present: dict[str, set[int]] = {name: set() for name in self._named_by_rules()}
        """ids of translated rows, for tables that a rule makes rows refer to"""
        self.arrived: dict[str, frozenset[int]] = {}
        self.notes: list[str] = []
        self.brief: list[str] = []
        self.own_files = set[str]()
        """files named by rows that stay the replica's own"""

    @property
    def schema(self) -> Schema:
        return self.terms.schema

    def run(self) -> Translated:
        self.folder.mkdir(mode=0o700)
        entries: dict[str, TableEntry] = {}
        named: set[str] = set()
        for name in self.live.manifest.tables:
            entry, files = self._table(name)
            entries[name] = entry
            named |= files
        for name, theirs in self.wanted.manifest.tables.items():
            if name not in self.schema.tables:
                self.notes.append(self.evolution.beyond(name, theirs.rows))
        self.misfits.done()
        ours = self.live.manifest
        manifest = Manifest(
            ours.engine, ours.fingerprint, ours.migrations, entries, {}, ours.settings
        )
        manifest = replace(manifest, files=self._files(named))
        part = self.wanted.manifest.only(self.live.manifest.tables)
        same = (part.tables, part.files) == (manifest.tables, manifest.files)
        if same and part.tables.keys() == self.wanted.manifest.tables.keys():
            # nothing changed: use the leader's own dump
            return Translated(self.wanted, tuple(self.notes), self.arrived)
        write_manifest(self.folder, manifest)
        notes = (*self.notes, *self.misfits.notes())
        brief = (*self.brief, *self.misfits.brief())
        return Translated(Dump(self.folder, manifest), notes, self.arrived, brief)

    def _table(self, name: str) -> tuple[TableEntry, frozenset[str]]:
        """One table's entry, and the files that its rows name."""
        if name not in self.wanted.manifest.tables:
            self.notes.append(self.evolution.absent(name))
            if (ids := self.present.get(name)) is not None:
                ids.update(row[0] for row in parsed(self.live, name, trusted=True))  # type: ignore[misc]
            return self._as_it_is(self.live, name)
        rows = self._rows(select(self.schema, name))
        if rows.identity or (rows.only_converts and self._comes_through(rows)):
            return self._as_it_is(self.wanted, name)
        self._pending = rows
        entries, files = write_tables(self.folder, self, [name])
        rows.check_some_left()
        types, representation = self.schema.tables[name].columns, self.terms.representation
        self.misfits.collisions(rows.chosen, rows.uniques, types, representation)
        self.notes += rows.notes()
        self.brief += rows.notes()
        return entries[name], files

    def rows(self, select: Select) -> Iterator[Row]:
        """The rows of the current table, for `write_tables`."""
        pending, local = self._pending, select.table in self.terms.policy.local
        if select.table == "setting":
            return self._settings(pending)
        return self._local(pending, select) if local else pending.translated()

    def _rows(self, chosen: Select) -> Rows:
        entry = self.wanted.manifest.tables[chosen.table]
        theirs = (
            *self.wanted.columns(chosen.table),
            *(self.wanted.columns(chosen.table, "runtime") if entry.runtime else ()),
        )
        if theirs[: len(chosen.order)] != chosen.order:
            raise SnapshotRefused(f"the snapshot's {chosen.table} does not begin with its key")
        policy = self.terms.policy
        mapped = self.evolution.table(chosen.table, theirs, chosen.columns)
        rows = Rows(
            chosen,
            self.schema.tables[chosen.table],
            wanted=self.wanted,
            live=self.live if self.foreign else None,
            mapped=mapped,
            changer=policy.overrides.changer(chosen.table, chosen.columns, self.wanted),
            representation=self.terms.representation,
            misfits=self.misfits,
            gone=self.gone,
            present=self.present,
            keys=policy.settings if chosen.table == "setting" else None,
        )
        self.notes += mapped.notes
        settings = chosen.table == "setting" and policy.settings != self.wanted.manifest.settings
        if settings or chosen.table in policy.local:
            rows.identity = rows.only_converts = False
        return rows

    def _comes_through(self, rows: Rows) -> bool:
        """Whether no value of a table changes its form: then the table is not written again.

        A line that the live dump has too was read from this engine, so it needs no change; only
        the other lines are checked.
        """
        return all(rows.stays(new, own) for new, own in differing(self.wanted, self.live, rows))

    def _named_by_rules(self) -> set[str]:
        return {
            reference.table
            for rule in self.terms.policy.overrides.rules
            for reference in TABLES[rule.table].references
            if reference.column in dict(rule.changes)
        }

    def _as_it_is(self, dump: Dump, name: str) -> tuple[TableEntry, frozenset[str]]:
        """Take over a table whose rows do not change: its files are linked, not written again."""
        entry = dump.manifest.tables[name]
        for kind in ("tables", "runtime") if entry.runtime else ("tables",):
            target = self.folder / kind
            target.mkdir(mode=0o700, exist_ok=True)
            link_or_copy(dump.folder / kind / f"{name}.jsonl", target / f"{name}.jsonl")
        files = {file for file in dump.manifest.files if file_table(file) == name}
        if dump is self.live:
            self.own_files |= files
        else:
            files.update(self._named(name))
        return entry, frozenset(files)

    def _named(self, table: str) -> Iterator[str]:
        """The files that the rows of a leader's table name, in its dump or not."""
        column = FILE_COLUMNS.get(table)
        columns = self.wanted.columns(table)
        if column in columns:
            index = columns.index(column)
            for row in parsed(self.wanted, table):
                yield from files_of(table, row[index])

    # --- settings and local entities ---------------------------------------------------------

    def _settings(self, pending: Rows) -> Iterator[Row]:
        """Keys that both sides chose come from the leader; keys that only this side chose stay."""
        mine, theirs = self.terms.policy.settings, self.wanted.manifest.settings
        found = {row[0]: row for row in pending.translated()}
        for row in parsed(self.live, "setting", trusted=True):
            if row[0] in mine - theirs:
                found[row[0]] = row
        for key in sorted(found, key=str):
            yield found[key]

    def _local(self, pending: Rows, chosen: Select) -> Iterator[Row]:
        """Keep live rows; drop those that had arrived and that the leader has no more."""
        name = chosen.table
        own = {row[0]: row for row in parsed(self.live, name, trusted=True)}
        wanted: dict[Any, Row] = {row[0]: row for row in pending.translated()}
        before = self.terms.arrived.get(name)
        if before is None:
            # nothing is noted: local rows cannot be told from rows that the leader deleted
            # (only a row that equals the leader's surely came from there)
            known = frozenset(key for key, row in own.items() if wanted.get(key) == row)
            kept, deleted = own, set[Any]()
        else:
            known = before
            kept = {key: row for key, row in own.items() if key in wanted or key not in known}
            deleted = {key for key in wanted if key in known and key not in own}
        self.gone.setdefault(name, set()).update(deleted)
        arrived = {key for key in wanted if key in known or key not in own}
        if self.terms.went_back:
            arrived |= {key for key in known if key not in own}
        self.arrived[name] = frozenset(arrived)
        rows = {key: row for key, row in wanted.items() if key not in deleted} | kept
        if (column := FILE_COLUMNS.get(name)) in chosen.columns:
            index = chosen.columns.index(column)
            for row in kept.values():
                self.own_files.update(files_of(name, row[index]))
        self.present.get(name, set()).update(rows)
        for key in sorted(rows):
            yield rows[key]

    # --- files ---------------------------------------------------------------------------------

    def _files(self, named: set[str]) -> dict[str, str]:
        """Link the files that rows name, from the leader's dump, or from here if they stay.

        A leader may have lost a file that its rows name, or never had it: this instance keeps its
        own.
        """
        theirs, ours, found = self.wanted.manifest.files, self.live.manifest.files, {}
        for name in sorted(named):
            lent = name not in theirs and self.terms.keeps_files
            own = name in ours and (name in self.own_files or lent)
            dump = self.live if own else self.wanted
            if sha256 := dump.manifest.files.get(name):
                target = self.folder / "files" / name
                target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                link_or_copy(dump.folder / "files" / name, target)
                found[name] = sha256
        return found
