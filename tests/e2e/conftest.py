"""A leader and a replica: two real Uptime Kumas, each under `replicator run`, one repository."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.support import weak_repository
from tests.support.loopback import Loopback, Quiet
from tests.support.supervised import Running, Side
from tests.support.tools import restic_018
from tests.support.waiting import wait_until


class _Page(Quiet):
    def get(self) -> None:
        self.say(200)


@pytest.fixture(scope="module")
def web() -> Iterator[str]:
    """A page on loopback for monitors to look at."""
    with closing(Loopback(_Page)) as server:
        yield f"{server.url}/"


@pytest.fixture(scope="module")
def fleet(
    tmp_path_factory: pytest.TempPathFactory, web: str, kuma_folder: Path
) -> Iterator[Running]:
    with two_kumas(tmp_path_factory.mktemp("fleet"), web) as made:
        yield made


@contextmanager
def two_kumas(folder: Path, web: str, **environment: str) -> Iterator[Running]:
    """The fleet in ``folder``; ``environment`` is of both replicators."""
    weak_repository.make(folder / "repository")
    restic = restic_018()
    leader = Side(folder, "leader", "BACKUP", restic, UPTIME_KUMA_DB_TYPE="sqlite")
    replica = Side(folder, "replica", "RESTORE", restic)
    for side in (leader, replica):
        side.environment.update(environment)
    with Running(folder, leader, replica) as made:
        leader.set_up(First=web)
        made.replica.run()
        wait_until(lambda: "1.1" in made.positions(), "the first snapshot", 60)
        yield made
