"""A real Kuma with the agent, for all tests of a module: each makes its own monitors.

REPLICATOR_TEST_LIVE_ENGINE=mariadb puts it on a MariaDB server (Kuma 2.0 or later).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.live_kuma import LiveKuma, LiveKumaOnMariadb, Watched, Web
from tests.support.mariadb import Server


@pytest.fixture
def web() -> Iterator[Web]:
    with closing(Web()) as web:
        yield web


@pytest.fixture(scope="module")
def watched(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, kuma_folder: Path
) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("kuma")
    if os.environ.get("REPLICATOR_TEST_LIVE_ENGINE") == "mariadb":
        server: Server = request.getfixturevalue("mariadb")
        made: LiveKuma = LiveKumaOnMariadb(folder, server.database(folder.name, folder))
    else:
        made = LiveKuma(folder)
    with closing(Web()) as web, made as kuma:
        yield Watched(kuma, web)
        # between a commit that deletes a monitor and the reconcile, a check may end: its beat has
        # no monitor, as where a person deletes one
        assert [error for error in kuma.errors() if "FOREIGN KEY" not in error] == []
