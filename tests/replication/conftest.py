"""A leader, a replica and a repository between them, in files."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from replicator_kuma.replication.instance import Instance
from tests.support import cycles
from tests.support.folder_repository import FolderRepository
from tests.support.instances import RecordingKuma
from tests.support.mariadb import Server
from tests.support.mariadb_fleet import MariadbFleet, own_server
from tests.support.memory import in_memory


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A leader's data directory to copy."""
    folder = tmp_path_factory.mktemp("filled")
    cycles.fill(folder)
    return folder


@pytest.fixture
def repository(tmp_path: Path) -> FolderRepository:
    made = FolderRepository(tmp_path / "repository")
    made.init()
    made.calls.clear()
    return made


@pytest.fixture
def leader(tmp_path: Path, filled: Path, repository: FolderRepository) -> Instance:
    """An instance with rows, that has never published."""
    shutil.copytree(filled, tmp_path / "leader")
    return cycles.instance(tmp_path / "leader", repository, name="leader")


@pytest.fixture
def kuma() -> RecordingKuma:
    """The replica's."""
    return RecordingKuma()


@pytest.fixture
def replica(
    tmp_path: Path, leader: Instance, repository: FolderRepository, kuma: RecordingKuma
) -> Instance:
    """An instance that has applied the leader's first snapshot."""
    cycles.lead(leader)
    shutil.copytree(leader.data_dir, tmp_path / "replica", ignore=lambda *_: {"replicator"})
    made = cycles.instance(tmp_path / "replica", repository, name="replica", kuma=kuma)
    cycles.follow(made, reconcile=True)
    repository.calls.clear()
    kuma.log.clear()
    return made


@pytest.fixture(scope="module")
def own_mariadb() -> Iterator[Server]:
    """A MariaDB server for the tests of a module, which may kill it."""
    with own_server() as made:
        yield made


@pytest.fixture(scope="module")
def only(own_mariadb: Server) -> Iterator[MariadbFleet]:
    """A leader on SQLite and a replica on the module's MariaDB, where the leader's kind is one."""
    with in_memory() as folder:
        yield MariadbFleet(folder / "fleet", own_mariadb, "sqlite", name="only")


@pytest.fixture
def fleet(only: MariadbFleet) -> MariadbFleet:
    """`only` at its start: the replica at 1.1, and 1.2 published."""
    return only.at_the_start()
