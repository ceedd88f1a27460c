"""Two real restics, and a repository that is made once and copied for each test."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from replicator_kuma.adapters.repository.restic.client import ResticRepository
from tests.adapters.repository.places import connect, label, make_dump
from tests.support import weak_repository
from tests.support.tools import restic_014, restic_018


@pytest.fixture(params=["0.14", "0.18"])
def restic(request: pytest.FixtureRequest) -> Path:
    return restic_014() if request.param == "0.14" else restic_018()


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of format 2 with one snapshot at position 1.1, published by 0.14."""
    scratch = tmp_path_factory.mktemp("template")
    make_dump(scratch / "dump")
    place = weak_repository.make(scratch / "repository")
    connect(restic_014(), place, scratch).publish(scratch / "dump", label(1))
    return place


Open = Callable[..., ResticRepository]


@pytest.fixture
def place(template: Path, tmp_path: Path) -> Path:
    """A copy of the template that a test may damage."""
    folder = tmp_path / "repository"
    shutil.copytree(template, folder)
    for path in folder.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
    return folder


@pytest.fixture
def repository(restic: Path, place: Path, tmp_path: Path) -> ResticRepository:
    return connect(restic, place, tmp_path)


@pytest.fixture
def dump(tmp_path: Path) -> Path:
    make_dump(tmp_path / "dump")
    return tmp_path / "dump"
