"""What all tests share: a place in memory, one profile of Hypothesis, one MariaDB a session."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from tests.support import memory, tiers
from tests.support.tools import kuma_dir, kuma_version, other_kumas, use_kuma

if TYPE_CHECKING:
    from tests.support.mariadb import Server


_GONE = " (deleted)"

# No deadlines: machines differ. Few examples unless asked for more. Tests use tmp_path through a
# fixture of the whole function, on purpose: each example makes its own folder below it.
_COMMON = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.register_profile("ci", _COMMON, max_examples=30)
settings.register_profile("thorough", _COMMON, max_examples=1_000)
settings.register_profile("quick", _COMMON, max_examples=8)
settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE", "quick" if tiers.TIER == "quick" else "ci")
)


def pytest_configure(config: pytest.Config) -> None:
    """Write to memory. Workers of xdist have the environment of the process that starts them."""
    folder = memory.write_to_memory()
    if folder is not None:
        config.add_cleanup(lambda: memory.remove(folder))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The tests of the tier that REPLICATOR_TEST_TIER names, in its order."""
    if config.getoption(
        "lf", False
    ):  # these were of the tier, and files without them are not collected
        return
    items[:], left = tiers.select(items)
    if left:
        config.hook.pytest_deselected(items=left)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests of a real Kuma run on npm's build, and on each that REPLICATOR_TEST_KUMA_DIRS names."""
    others = other_kumas() if metafunc.definition.get_closest_marker("kuma") else []
    if "mariadb" in metafunc.fixturenames:  # Kuma knows MariaDB since 2.0
        others = [folder for folder in others if not kuma_version(folder).startswith("1.")]
    if others:
        if "kuma_folder" not in metafunc.fixturenames:
            metafunc.fixturenames.insert(0, "kuma_folder")
        ids = ["npm", *(f"kuma {kuma_version(folder)}" for folder in others)]
        metafunc.parametrize("kuma_folder", [None, *others], indirect=True, ids=ids, scope="module")


@pytest.fixture(scope="module")
def kuma_folder(request: pytest.FixtureRequest) -> Iterator[Path]:
    """The real Kuma under test. What outlives one test and runs a Kuma has to ask for this."""
    use_kuma(getattr(request, "param", None))
    yield kuma_dir()
    use_kuma(None)


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


@pytest.fixture(autouse=True)
def anchors_end_with_the_test() -> Iterator[None]:
    """Close the state directories that the test has used: the program keeps each one open for good.

    A run had thousands of them at its end, and each apply looks at each descriptor there is.
    """
    from replicator_kuma.base import state_directory as anchors
    from replicator_kuma.base import text as plain

    before = set(plain._folders)
    yield
    for descriptor in set(plain._folders) - before:
        name = plain._folders.pop(descriptor)
        if anchors._anchors.get(name) == descriptor:
            del anchors._anchors[name]
        with contextlib.suppress(OSError):
            # another may have closed it, and its number be another file's by now
            if str(Path(f"/proc/self/fd/{descriptor}").readlink()).removesuffix(_GONE) == name:
                os.close(descriptor)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The program waits one second for a lock, not five, and half a one for a reader to end."""
    from replicator_kuma.adapters.database.mariadb import connection as mariadb_link
    from replicator_kuma.adapters.database.sqlite.store import BUSY_TIMEOUT, SqliteStore
    from replicator_kuma.replication import other_processes as occupied

    session = mariadb_link._SESSION.replace(f"_timeout = {mariadb_link._LOCK_WAIT}", "_timeout = 1")
    assert session != mariadb_link._SESSION
    monkeypatch.setattr(mariadb_link, "_SESSION", session)
    assert SqliteStore.connect.__defaults__ == ("rw", BUSY_TIMEOUT)
    monkeypatch.setattr(SqliteStore.connect, "__defaults__", ("rw", 1.0))
    monkeypatch.setattr(occupied, "_READER", 0.5)


@pytest.fixture(scope="session")
def mariadb() -> Iterator[Server]:
    """The MariaDB server of the session; a test that kills or stops one makes its own."""
    need_mariadb()
    from tests.support.mariadb import Server, short_folder

    with short_folder() as folder, Server(folder) as server:
        yield server
