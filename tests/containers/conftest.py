"""The container tests run by scripts/containers-test, which builds what they need."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.containers.services import (
    PASSWORD,
    USER,
    Service,
    bring_up,
    take_down,
    wait_ready,
)
from tests.support.kuma_server import KumaClient

collect_ignore_glob = [] if "REPLICATOR_TEST_IMAGE" in os.environ else ["test_*.py"]


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("repository")


@pytest.fixture(scope="session")
def leader(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Iterator[Service]:
    # A folder of the host's root; the replica has a new volume, which is the user node's.
    folder = tmp_path_factory.mktemp("leader")
    (folder / "data").mkdir()
    service = bring_up("leader", folder, repository, f"{folder}/data:/app/data")
    try:
        wait_ready(service)
        with KumaClient(service.url) as page:
            page.setup(USER, PASSWORD)
        yield service
    finally:
        take_down(service)
