"""Repositories, which store dumps as snapshots."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from replicator_kuma.adapters.repository.earlier import Earlier
from replicator_kuma.adapters.repository.snapshot import Label, Position, Snapshot
from replicator_kuma.base.errors import (
    ReplicatorError,
    RepositoryError,
    RepositoryLost,
    RepositoryUnreachable,
    SnapshotRefused,
)
from replicator_kuma.base.text import sized
from replicator_kuma.base.threads import never

__all__ = ["Earlier", "Label", "Limits", "Listing", "Position", "Repository", "Snapshot", "missing"]


@dataclass(frozen=True)
class Limits:
    """Limits of one fetch, so that a hostile snapshot cannot fill the disk."""

    files: int = 20_000
    bytes: int = 2 * 1024**3

    def check(self, folder: Path) -> None:
        """Raise SnapshotRefused if the content of ``folder`` exceeds these limits."""
        sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
        if len(sizes) > self.files:
            raise SnapshotRefused(f"it has more than {self.files} files")
        if sum(sizes) > self.bytes:
            raise SnapshotRefused(f"it has more than {sized(self.bytes)}")


class Listing(list[Snapshot]):
    """A fleet's snapshots, by position, then by id."""

    def __init__(
        self,
        snapshots: Iterable[Snapshot] = (),
        *,
        away: Mapping[str, ReplicatorError] = MappingProxyType({}),
        warnings: Sequence[str] = (),
        earlier: Earlier | None = None,
    ) -> None:
        super().__init__(sorted(snapshots, key=lambda s: (s.position, s.id)))
        self.away = away
        """the repositories that did not answer, by name; snapshots only in them are missing here"""
        self.warnings = warnings
        """warnings about ignored snapshots of the fleet, whose labels are broken"""
        self.earlier = earlier
        """what replicator-kuma v1 or v2 left there; only looked for where the fleet has nothing"""

    @property
    def unanswered(self) -> str:
        """The names of the repositories that did not answer, in words."""
        return " and ".join(self.away)


def missing(snapshots: Listing, message: str) -> RepositoryError:
    """The error for a known snapshot that a listing lacks.

    It is lost, unless one of two repositories did not answer: that one may have it.
    """
    if away := snapshots.unanswered:
        return RepositoryUnreachable(f"{message}; {away} gave no answer, and may have it")
    return RepositoryLost(message)


class Repository(Protocol):
    """A place for snapshots. Every method raises the RepositoryErrors of `errors`, nothing else."""

    def init(self) -> bool:
        """Create the repository; False if there is one already (no error)."""

    def snapshots(self, fleet: str) -> Listing:
        """All snapshots of a fleet. One call, without a lock; one or two more if it has none.

        Raises RepositoryMissing if nothing was initialised.
        """

    def publish(self, folder: Path, label: Label) -> str:
        """Store a dump folder under its label; raises unless it was a full success.

        Returns the snapshot's id, or "" where the program does not tell it.
        """

    def fetch(
        self,
        snapshot: Snapshot,
        into: Path,
        accept: Callable[[str], bool],
        limits: Limits = Limits(),
        unwanted: Callable[[], bool] = never,
    ) -> None:
        """Write a snapshot's regular files, relative names as in the dump, below ``into`` (0600).

        One call, streamed. Raises SnapshotRefused for a member that is no regular file, that
        ``accept`` refuses by name, that comes twice, or that exceeds ``limits``. As soon as
        ``unwanted`` says so it ends, and raises Interrupted.
        """

    def read(
        self,
        snapshot: Snapshot,
        name: str,
        limit: int,
        unwanted: Callable[[], bool] = never,
    ) -> bytes:
        """The content of one of a snapshot's files, by its name in the dump; one call.

        Raises SnapshotRefused if it has more than ``limit`` bytes. ``unwanted``: as for `fetch`.
        """


class MaintainedRepository(Repository, Protocol):
    """One repository, as housekeeping sees it."""

    name: str

    def version(self) -> str:
        """The version of the program that accesses the repository."""

    def check_access(self) -> None:
        """Raise unless the repository exists, answers and opens with its password."""

    def forget(self, fleet: str, ids: Sequence[str]) -> Sequence[str]:
        """Remove snapshots by full id; returns those that the repository refuses to remove."""

    def prune(self) -> bool:
        """Remove data that no snapshot needs; False if the repository allows no deletion."""

    def check(self, part: int, parts: int) -> None:
        """Look for damage; read one of ``parts`` parts of all data, 1 is the first.

        Raises RepositoryDamaged.
        """

    def size(self) -> int:
        """Bytes of the whole repository's data, of all fleets and programs that share it."""
