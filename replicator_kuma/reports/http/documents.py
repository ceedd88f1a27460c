"""The types of documents that are made as dictionaries, for their schemas.

`replication/change_sets.py` makes entries and snapshots; tests compare them with these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from replicator_kuma.adapters.repository import Position


@dataclass(frozen=True)
class Listed:
    """A snapshot of the fleet."""

    position: Position
    time: str
    """RFC 3339, by the leader's clock; a text that is no time is cut after 19 characters"""
    leader: str
    digest: str
    schema: str
    rows: int
    monitors: int
    writer: str
    id: str


@dataclass(frozen=True)
class ListedHere(Listed):
    """A snapshot in the listing that a cycle of this instance saw last."""

    held: bool
    """this instance holds it"""


@dataclass(frozen=True)
class RowChange:
    """One row that changed; secrets are masked."""

    table: str
    """`file` for a logo or a certificate"""
    key: int | str | None
    """null where the row has no lasting id"""
    name: str
    action: str
    """added, changed, replaced or deleted"""
    columns: Mapping[str, tuple[str, ...]]
    """old and new value of each column that differs"""


@dataclass(frozen=True)
class TableCounts:
    """How many rows of a table changed."""

    added: int
    changed: int
    deleted: int
    replaced: int


@dataclass(frozen=True)
class Counts:
    """How many rows and files changed."""

    tables: Mapping[str, TableCounts]
    files: int


@dataclass(frozen=True)
class ChangeSet:
    """What changed with a snapshot, as far as this instance has seen it."""

    snapshot: Listed
    since: Position | None
    """what it was compared with; null: with nothing"""
    readable: bool
    sentence: str
    changes_by_table: Counts | None
    notes: tuple[str, ...]
    changes: tuple[RowChange, ...]
    left_out: int
    """changes that are not kept, beyond the first 200: `replicator log` shows them"""


@dataclass(frozen=True)
class Failure:
    """An answer that is none: 400 and above, but for `/healthz`, `/livez` and `/readyz`."""

    error: str
    """a word for programs"""
    message: str
    """words for people"""
