"""What the processes of a model share: a disk, its one row, and a repository in memory.

A dump is its manifest alone: which rows a digest means is remembered here. So nothing is written
and read back but the state, and thousands of interleavings take seconds.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from replicator_kuma.adapters.database import Watch
from replicator_kuma.adapters.database.beats import Beats
from replicator_kuma.adapters.database.sqlite.values import SqliteRepresentation
from replicator_kuma.adapters.repository import Label, Limits, Listing, Snapshot
from replicator_kuma.base.errors import (
    Interrupted,
    PublishIncomplete,
    RepositoryUnreachable,
    SnapshotNotFound,
    SnapshotRefused,
)
from replicator_kuma.base.processes import Process
from replicator_kuma.base.threads import never
from replicator_kuma.dump.catalog import TABLES
from replicator_kuma.dump.format import Dump, write_tables
from replicator_kuma.dump.manifest import Manifest
from replicator_kuma.dump.plan import Counts, Plan, TablePlan
from replicator_kuma.dump.schema import Column, Schema, TableSchema
from replicator_kuma.dump.select import Dangling, Select
from replicator_kuma.dump.transform.policy import Policy
from replicator_kuma.dump.transform.represent import Representation
from replicator_kuma.dump.transform.translate import Translated
from replicator_kuma.replication.apply.confirm import confirm
from replicator_kuma.replication.apply.prepare import Planned
from replicator_kuma.replication.instance import Instance
from replicator_kuma.replication.observe import Observation, Observed
from replicator_kuma.replication.state.records import Pending, SnapshotRef
from tests.support.states import edit_state

Point = Callable[[str], None]
"""Called by a process before each effect: there others go on, or it dies."""
Choose = Callable[[int], int]
"""One of so many choices; 0 is the harmless one."""


def _columns(name: str) -> TableSchema:
    names = {"id", *TABLES[name].key, *({"username"} if name == "user" else set())}
    return TableSchema({column: Column(column, "integer") for column in sorted(names)})


SCHEMA = Schema({name: _columns(name) for name in TABLES}, ("one.js",))


@dataclass
class Disk:
    """One machine: what survives its processes. Its database is one user, or none at all."""

    name: str
    """REPLICATOR_INSTANCE: two machines may share it"""
    folder: Path
    mode: str = "RESTORE"
    content: str | None = "first"
    version: int = 0
    clock: float = 1_900_000_000.0
    lineage: int = 0
    """goes up when its state is not what it was last: lost, or an old image's"""

    def write(self, content: str | None) -> None:
        self.content = content
        self.version += 1


class TinyStore:
    """A database of one table with one row, in memory."""

    engine = "sqlite"
    embedded = outlives_us = shows_processes = lenient = streamable = False
    schema = SCHEMA
    quieten = None
    unchanged = frozenset[str]()

    def __init__(self, disk: Disk, point: Point) -> None:
        self.disk = disk
        self.point = point
        self._written: str | None = None

    @property
    def representation(self) -> Representation:
        return SqliteRepresentation()

    def choosing(self, settings: Collection[str]) -> TinyStore:
        return self

    @contextlib.contextmanager
    def read(self, earlier: Path | None = None) -> Iterator[TinyStore]:
        reader = TinyStore(self.disk, self.point)
        reader._written = self.disk.content
        yield reader

    @contextlib.contextmanager
    def write(
        self, look: object = None, monitors: object = None, earlier: Path | None = None
    ) -> Iterator[TinyStore]:
        with self.read() as writer:
            yield writer
            self.point("commit")
            if writer._written != self.disk.content:
                self.disk.write(writer._written)

    def exists(self) -> bool:
        return True

    def in_use(self) -> bool:
        return False

    def holders(self) -> tuple[Process, ...]:
        return ()

    def check(self, tables: Collection[str] | None = None) -> Sequence[str]:
        return ()

    def check_writable(self) -> None:
        return None

    def purge_history(self) -> int:
        return 0

    def watch(self, tables: Collection[str]) -> Watch:
        raise NotImplementedError

    def beats(self) -> Beats:
        raise NotImplementedError

    def fingerprint(self) -> str:
        return str(self.disk.version)

    def rows(self, select: Select, keys: Sequence[Any] | None = None) -> Iterator[tuple[Any, ...]]:
        if self._written is not None and (keys is None or 1 in keys):
            yield 1, self._written

    def as_stored(self, tables: object) -> None:
        return None

    def known(self, select: Select) -> None:
        return None

    def remember(self, folder: Path, entries: object) -> None:
        return None

    def lines(self, select: Select, *, faultless: bool) -> None:
        return None

    def dangling(self, select: Select) -> list[Dangling]:
        return []

    def count(self, table: str) -> int:
        return int(self._written is not None)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        return []

    def triggers(self) -> list[tuple[Any, ...]]:
        return []

    def definitions(self) -> list[tuple[Any, ...]]:
        return []

    def _beyond_the_model(self, *_arguments: Any, **_named: Any) -> NoReturn:
        raise NotImplementedError

    obstacles = rehearsal = scratch = forget_scratch = _beyond_the_model

    def sweep(self, select: Select) -> int:
        return 0

    def park_history(self, monitors: Iterable[int]) -> None:
        return None

    def unpark_history(self, monitors: Iterable[int]) -> None:
        return None

    def delete(self, table: str, keys: Iterable[Any]) -> None:
        if list(keys):
            self._written = None

    def make_room(self, table: str, rows: Iterable[tuple[Any, Sequence[str]]]) -> None:
        return None

    def upsert(
        self,
        table: str,
        columns: Sequence[str],
        keep: Collection[str],
        rows: Iterable[tuple[Any, ...]],
    ) -> None:
        for _key, content in rows:
            self._written = content

    def broken_references(self, tables: Iterable[str]) -> list[str]:
        return []


CONTENTS: dict[str, str | None] = {}
"""What a digest is of."""


@functools.cache
def manifest_of(content: str | None) -> Manifest:
    """The real manifest of a database of this content."""
    disk = Disk("any", Path(), content=content)
    with TinyStore(disk, lambda _name: None).read() as reader:
        entries, _named = write_tables(None, reader, ("user",))
    made = Manifest("sqlite", SCHEMA.fingerprint, SCHEMA.migrations, entries, {}, SCHEMA.settings)
    CONTENTS[made.digest] = content
    return made


def disk_of(instance: Instance) -> Disk:
    assert isinstance(instance.store, TinyStore)
    return instance.store.disk


def observe(instance: Instance, folder: Path | None = None, *, marked: bool = False) -> Observation:
    """In the place of `observe.observe`."""
    content = disk_of(instance).content
    count = int(content is not None)
    return Observation(manifest_of(content), SCHEMA, count, count)


def observed_dump(
    instance: Instance, name: str, *, marked: bool = False, publishing: bool = False
) -> Observed:
    seen = observe(instance)
    return Observed(Dump(instance.work / name, seen.manifest), seen)


def fingerprint(instance: Instance) -> str:
    return instance.store.fingerprint()


def fetched(instance: Instance, snapshot: Snapshot, name: str) -> Dump:
    folder = instance.work / name
    instance.repository.fetch(snapshot, folder, lambda _name: True)
    return FetchedDump.whole(folder, snapshot.label.digest, name)


class FetchedDump(Dump):
    """In the place of `Dump` where a fetched one is opened: its only file holds its digest."""

    @classmethod
    def whole(cls, folder: Path, digest: str, name: str) -> Dump:
        if (folder / "digest").read_text() != digest:
            raise SnapshotRefused(f"{name} holds another dump than its tags say")
        return Dump(folder, manifest_of(CONTENTS[digest]))


def prepare(
    instance: Instance, source: Dump, seen: Observed | None = None, *, own: bool = False
) -> Planned:
    """A plan that replaces the one row, or an empty one."""
    live = seen or observed_dump(instance, "live")
    ours, theirs = live.live.manifest, source.manifest
    counts = Counts(changed=int(ours.digest != theirs.digest))
    table = TablePlan("user", ("id", "username"), (), counts)
    todo = Plan(instance.work, (table,), (), ours.tables_digest, theirs.tables_digest)
    return Planned(*live, source, Translated(source), todo, Policy())


def apply(instance: Instance, planned: Planned, mark: SnapshotRef) -> None:
    """The notes and the commit of `apply.apply`, around a Kuma that always comes back."""
    disk, state, wanted = disk_of(instance), instance.state, planned.wanted.manifest
    pending = Pending(
        mark,
        planned.plan.base,
        planned.plan.target,
        digest=wanted.digest,
        policy=planned.policy.fingerprint(instance.tables),
    )
    edit_state(state, pending=pending, stopped_by_me=True, digest="")
    pending = dataclasses.replace(pending, writing=True)
    edit_state(state, pending=pending)
    assert isinstance(instance.store, TinyStore)
    instance.store.point("commit")
    disk.write(CONTENTS[wanted.digest])
    edit_state(state, stopped_by_me=False)
    confirm(instance)


@dataclass
class Stored:
    """A snapshot, in the repository or on its way there by a restic that may outlive its caller."""

    snapshot: Snapshot
    partial: bool = False


@dataclass
class Shelf:
    """All that was ever stored, oldest first; ``begun`` are restics that have not ended."""

    stored: list[Stored] = field(default_factory=list)
    begun: list[Stored] = field(default_factory=list)
    number: int = 0

    def start(self, label: Label) -> Stored:
        self.number += 1
        # ids that do not go by time: ties are in any order
        name = f"{(self.number * 2654435761) % 2**32:08x}{self.number:04d}"
        made = Stored(Snapshot(name, label, "2031-01-01T00:00:00Z"))
        self.begun.append(made)
        return made

    def end(self, stored: Stored, *, saved: bool) -> None:
        if stored in self.begun:
            self.begun.remove(stored)
            if saved:
                self.stored.append(stored)


class ShelfRepository:
    """One process's way to the shelf; ``began`` is told of each publish."""

    def __init__(self, shelf: Shelf, point: Point, choose: Choose, began: Callable[[Label], None]):
        self._shelf, self._point, self._choose, self._began = shelf, point, choose, began
        self.may_be_stale = False
        """a replica's mirror can lag behind; fencing by one could not work"""

    def init(self) -> bool:
        return False

    def snapshots(self, fleet: str) -> Listing:
        self._point("list")
        fate = self._choose(12)
        if fate == 11:
            raise RepositoryUnreachable("no network")
        seen = [stored.snapshot for stored in self._shelf.stored]
        if fate == 10 and self.may_be_stale:
            seen = seen[: len(seen) // 2]
        return Listing(seen)

    def publish(self, folder: Path, label: Label) -> str:
        self._point("backup begins")
        restic = self._shelf.start(label)
        self._began(label)
        self._point("backup ends")
        fate = self._choose(16)
        if fate < 12:
            self._shelf.end(restic, saved=True)
            return restic.snapshot.id
        if fate == 12:
            self._shelf.end(restic, saved=True)
        elif fate == 13:
            restic.partial = True
            self._shelf.end(restic, saved=True)
            raise PublishIncomplete("read in part")
        elif fate == 14:
            self._shelf.end(restic, saved=False)
        # 15: it goes on, and nobody waits for it any more
        raise RepositoryUnreachable("no answer")

    def fetch(
        self,
        snapshot: Snapshot,
        into: Path,
        accept: Callable[[str], bool],
        limits: Limits = Limits(),  # noqa: B008
        unwanted: Callable[[], bool] = never,
    ) -> None:
        self._point("fetch")
        if unwanted():
            raise Interrupted("nobody wants it")
        found = [stored for stored in self._shelf.stored if stored.snapshot.id == snapshot.id]
        if not found:
            raise SnapshotNotFound(f"no snapshot {snapshot.id}")
        if found[0].partial:
            raise SnapshotRefused("it lacks a table")
        into.mkdir(exist_ok=True)
        (into / "digest").write_text(found[0].snapshot.label.digest)

    def read(
        self,
        snapshot: Snapshot,
        name: str,
        limit: int,
        unwanted: Callable[[], bool] = never,
    ) -> bytes:
        raise AssertionError("no instance of this world keeps a dump to patch")
