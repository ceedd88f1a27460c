"""What all tests share: one MariaDB a session, started by the first test that asks for it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.mariadb import Server


def need_mariadb() -> None:
    """Skip where no MariaDB server is installed; REPLICATOR_TEST_REQUIRE=mariadb forbids that."""
    from tests.support.mariadb import program
    from tests.support.tools import ToolMissingError

    try:
        program("mariadbd")
        program("mariadb-install-db")
    except ToolMissingError as error:
        if "mariadb" in os.environ.get("REPLICATOR_TEST_REQUIRE", ""):
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def mariadb() -> Iterator[Server]:
    """The MariaDB server of the session; a test that kills or stops one makes its own."""
    need_mariadb()
    from tests.support.mariadb import Server, short_folder

    folder = short_folder()
    try:
        with Server(folder) as server:
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)
