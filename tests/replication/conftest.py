"""A leader, a replica and a repository between them, in files."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from replicator_kuma.replication.instance import Instance
from tests.support import cycles
from tests.support.folder_repository import FolderRepository
from tests.support.instances import RecordingKuma


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
