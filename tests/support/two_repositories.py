"""Instances with a view of their own of two repositories, which lie in folders."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from replicator_kuma.adapters.repository import Position
from replicator_kuma.adapters.repository.pair import Pair
from replicator_kuma.base.errors import RepositoryUnreachable
from replicator_kuma.replication.instance import Instance, Outcome, Run
from replicator_kuma.replication.leader.promote import promote
from tests.support.cycles import lead, rename
from tests.support.folder_repository import FolderRepository
from tests.support.instances import HastyStore, RecordingKuma, make_instance, sent_by

GONE = RepositoryUnreachable("no route to host")


@dataclass
class Member:
    """One instance with a view of its own of the two repositories."""

    instance: Instance
    first: FolderRepository
    second: FolderRepository

    @property
    def db(self) -> Path:
        return self.instance.data_dir / "kuma.db"

    def reaches(self, *, first: bool = True, second: bool = True) -> None:
        self.first.down = None if first else GONE
        self.second.down = None if second else GONE

    def uses(self, *names: str) -> None:
        """Its settings name these from now on: "one", "two", or both."""
        made = [self.first if name == "one" else self.second for name in names]
        self.instance.repositories = tuple(made)
        self.instance.pair = Pair(made[0], made[1], patience=5) if len(made) > 1 else None
        self.instance.repository = self.instance.pair or made[0]

    @property
    def kuma(self) -> RecordingKuma:
        return cast(RecordingKuma, self.instance.kuma)

    def publish(self, name: str) -> Position | None:
        rename(self.db, 1, name)
        result = lead(self.instance)
        assert result.outcome is Outcome.PUBLISHED
        return result.position

    def promote(self, *, force: bool = False) -> Position | None:
        with self.instance.state.lock():
            return promote(self.instance.under(Run(force=force))).position

    @property
    def told(self) -> list[str]:
        return [line for line in sent_by(self.instance) if "repositor" in line]


class TwoRepositories:
    """A fleet whose instances each have a view of their own of two repositories."""

    def __init__(self, folder: Path, filled: Path) -> None:
        self.folder, self.filled = folder, filled

    def side(self, name: str) -> Member:
        first = FolderRepository(self.folder / "one")
        second = FolderRepository(self.folder / "two", "repository 2")
        if not (self.folder / name).exists():
            shutil.copytree(self.filled, self.folder / name)
        made = make_instance(
            self.folder / name,
            Pair(first, second, patience=5),
            name=name,
            store=HastyStore(self.folder / name),
        )
        return Member(made, first, second)

    def begin(self) -> Member:
        """The leader, which has published 1.1 to both."""
        made = self.side("leader")
        made.instance.repository.init()
        lead(made.instance)
        return made

    def there(self, name: str) -> list[str]:
        return [str(s.position) for s in FolderRepository(self.folder / name).snapshots("default")]
