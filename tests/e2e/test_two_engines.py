"""Two real servers on different engines: what is edited on the one is seen on the other.

The npm build's tables and columns are the same on both engines, but it notes its patches on SQLite
only: hence REPLICATOR_SCHEMA=compatible.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.two_kumas import TwoKumas, kuma_pid
from tests.support import weak_repository
from tests.support.mariadb import Server
from tests.support.supervised import Running, Side
from tests.support.tools import kuma_version, restic_018
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.kuma, pytest.mark.restic, pytest.mark.slow]


def make_side(folder: Path, name: str, mode: str, engine: str, server: Server) -> Side:
    """One instance on an engine; MariaDB by db-config.json, on the replica by variables too."""
    made = Side(folder, name, mode, restic_018(), REPLICATOR_SCHEMA="compatible")
    if engine == "sqlite":
        made.environment["UPTIME_KUMA_DB_TYPE"] = "sqlite"
        return made
    database = server.database(f"e2e_{name}", made.data_dir)
    if mode == "RESTORE":
        # this build takes all but the database's name from its variables, which win
        database.write_config(password="not this one")
        made.environment |= database.environment
    made.query = database.query
    return made


@pytest.fixture(
    scope="module",
    params=[("mariadb", "sqlite"), ("sqlite", "mariadb")],
    ids=["mariadb-to-sqlite", "sqlite-to-mariadb"],
)
def fleet(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    web: str,
    mariadb: Server,
    kuma_folder: Path,
) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("mixed")
    weak_repository.make(folder / "repository")
    leads, follows = request.param
    leader = make_side(folder, "leader", "BACKUP", leads, mariadb)
    replica = make_side(folder, "replica", "RESTORE", follows, mariadb)
    with Running(folder, leader, replica) as made:
        leader.set_up(First=web)
        replica.run()
        wait_until(lambda: "1.1" in made.positions(), "the first snapshot", 60)
        yield made


class TestTwoEngines(TwoKumas):
    def test_each_side_is_on_its_engine(
        self, fleet: Running, request: pytest.FixtureRequest
    ) -> None:
        leads, follows = request.node.callspec.params["fleet"]
        for side, engine in ((fleet.leader, leads), (fleet.replica, follows)):
            assert side.database.exists() == (engine == "sqlite"), side.name

    def test_sigterm_ends_both(self, fleet: Running, kuma_folder: Path) -> None:
        sides = (fleet.leader, fleet.replica)
        kumas = [kuma_pid(side) for side in sides]
        # the exit code is Kuma's own: npm's build sends SQLite's PRAGMA to MariaDB at its end
        ill = int(kuma_version(kuma_folder) == "2.0.0-dev.0")
        assert fleet.stop() == [0 if side.database.exists() else ill for side in sides]
        for side, kuma in zip(sides, kumas, strict=True):
            assert not Path(f"/proc/{kuma}").exists()
            assert not (side.data_dir / "replicator" / "work").exists()
