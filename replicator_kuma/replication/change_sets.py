"""What changed from one snapshot of a fleet to the next, as `log` shows it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from replicator_kuma.adapters.repository import Position, Snapshot
from replicator_kuma.base.errors import ReplicatorError
from replicator_kuma.base.text import counted
from replicator_kuma.base.times import shown
from replicator_kuma.dump import change_words
from replicator_kuma.dump.format import Dump
from replicator_kuma.dump.plan import Plan, plan
from replicator_kuma.dump.transform.version_names import named

UNREAD = "cannot be read"


def snapshot_as_dict(snapshot: Snapshot) -> dict[str, Any]:
    """A snapshot in the form of `--json` (docs/json.md)."""
    label = snapshot.label
    return {
        "position": str(label.position),
        "time": shown(snapshot.time),
        "leader": label.leader,
        "digest": label.digest,
        "schema": label.schema,
        "rows": label.rows,
        "monitors": label.monitors,
        "writer": label.writer,
        "id": snapshot.id,
    }


@dataclass(frozen=True)
class Entry:
    """One snapshot and its changes. ``plan``'s files belong to whoever made it."""

    snapshot: Snapshot
    since: Position | None = None
    """of the older snapshot that it was compared with; None if there was none"""
    plan: Plan | None = None
    notes: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """What changed, in numbers."""
        if self.plan is not None:
            return self.plan.summary.sentence()
        if self.since is not None:
            return "rows cannot be compared"
        label = self.snapshot.label
        return f"{counted(label.monitors, 'monitor')}, {counted(label.rows, 'row')}"

    @property
    def readable(self) -> bool:
        """Whether the snapshot could be fetched and is whole."""
        return not any(note.startswith(UNREAD) for note in self.notes)

    def as_dict(self) -> dict[str, Any]:
        """An entry of `replicator log --json`, without its ``changes`` (docs/json.md)."""
        return {
            "snapshot": snapshot_as_dict(self.snapshot),
            "since": str(self.since) if self.since is not None else None,
            "readable": self.readable,
            "sentence": self.sentence,
            "changes_by_table": self.plan.summary.as_dict() if self.plan is not None else None,
            "notes": list(self.notes),
        }

    def changes(self) -> Iterator[dict[str, Any]]:
        """One dict a row change, secrets masked, monitors first."""
        return change_words.changes(self.plan) if self.plan is not None else iter(())

    def lines(self) -> Iterator[str]:
        """One line a row change, for people."""
        return change_words.lines(self.plan) if self.plan is not None else iter(())


@dataclass(frozen=True)
class Read:
    """A snapshot and its dump."""

    snapshot: Snapshot
    dump: Dump


def first(read: Read, note: str) -> Entry:
    """The entry of a snapshot that is compared with none, for the reason in ``note``."""
    return Entry(read.snapshot, notes=(*_marks(read.snapshot), note))


def compared(newer: Read, older: Read, folder: Path) -> Entry:
    """The entry of ``newer``: the tables that both snapshots have, compared.

    The plan is made in ``folder``, which is new.
    """
    notes = [*_marks(newer.snapshot), *_differences(newer, older)]
    same = set(older.dump.manifest.tables) & set(newer.dump.manifest.tables)
    for name in sorted(same):
        if other := _other_columns(newer.dump, older.dump, name):
            notes.append(f"{name} is not compared, it has other columns: {', '.join(other)}")
            same.discard(name)
    before = Dump(older.dump.folder, older.dump.manifest.only(same))
    try:
        made = plan(before, newer.dump, folder)
    except ReplicatorError as error:
        notes.append(f"rows cannot be compared: {error}")
        return Entry(newer.snapshot, older.snapshot.position, None, tuple(notes))
    return planned(newer.snapshot, older.snapshot.position, made, tuple(notes))


def planned(snapshot: Snapshot, since: Position, plan: Plan, notes: tuple[str, ...] = ()) -> Entry:
    """The entry of a plan, its monitors first."""
    tables = tuple(sorted(plan.tables, key=lambda table: not table.name.startswith("monitor")))
    return Entry(snapshot, since, replace(plan, tables=tables), notes)


def _marks(snapshot: Snapshot) -> Iterator[str]:
    if snapshot.label.shrunk == snapshot.position:
        yield "published by a rollback, or with --allow-shrink: monitors may go"


def _differences(newer: Read, older: Read) -> Iterator[str]:
    """Sentences on what differs between two snapshots besides their rows."""
    ours, theirs = newer.snapshot.label, older.snapshot.label
    if ours.position == theirs.position:
        yield f"two snapshots are {ours.position}, of {theirs.leader} and {ours.leader}"
    if ours.writer != theirs.writer:
        yield f"another writer: {theirs.leader} had published before"
    if ours.schema != theirs.schema:
        before, now = (named(label.schema) or label.schema for label in (theirs, ours))
        yield f"another schema: that of Uptime Kuma {now}, {before} before"
    if ours.engine != theirs.engine:
        yield f"another engine: {ours.engine}, {theirs.engine} before; the form of dates may differ"
    tables = set(newer.dump.manifest.tables), set(older.dump.manifest.tables)
    for what, names in (
        ("not published before", tables[0] - tables[1]),
        ("not published any more", tables[1] - tables[0]),
    ):
        if names:
            yield f"{what}: {', '.join(sorted(names))}"
    if newer.dump.manifest.settings != older.dump.manifest.settings:
        yield "another choice of settings' keys"


def _other_columns(newer: Dump, older: Dump, table: str) -> list[str]:
    """The columns of a table that only one dump has: `+name` for the newer, `-name` the older."""
    found: list[str] = []
    runtime = bool(newer.manifest.tables[table].runtime), bool(older.manifest.tables[table].runtime)
    kinds = ["tables", "runtime"] if all(runtime) else ["tables"]
    for kind in kinds:
        now, before = newer.columns(table, kind), older.columns(table, kind)
        found += [f"+{name}" for name in now if name not in before]
        found += [f"-{name}" for name in before if name not in now]
    return found or (["runtime"] if runtime[0] != runtime[1] else [])
