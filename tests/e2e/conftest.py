"""A leader and a replica: two real Uptime Kumas, each under `replicator run`, one repository."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from tests.support import weak_repository
from tests.support.cycles import state_of
from tests.support.kuma_server import KumaClient
from tests.support.supervised import Side
from tests.support.tools import restic_018
from tests.support.waiting import wait_until

USER, PASSWORD = "admin", "Replicator-tests-1"


class _Quiet(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_args: object) -> None:
        return None


@pytest.fixture(scope="module")
def web() -> Iterator[str]:
    """A page on loopback for monitors to look at."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Quiet)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()
    thread.join()


@dataclass
class Fleet:
    folder: Path
    leader: Side
    replica: Side

    def client(self, side: Side) -> KumaClient:
        """A page of one side, logged in as the leader's user."""
        client = KumaClient(side.url)
        client.connect()
        client.login(USER, PASSWORD)
        return client

    def positions(self) -> list[str]:
        """Of all snapshots, oldest first; asked for anew where the repository holds others."""
        there = (self.folder / "repository" / "snapshots").glob("*")
        return _positions(self.leader, frozenset(path.name for path in there))

    def wait_applied(self, position: str = "", deadline: float = 60.0) -> None:
        """Until the replica has applied, and confirmed, a position: the newest, if none is said."""

        def there() -> bool:
            wanted = position or self.positions()[-1]
            applied = state_of(self.replica.data_dir).applied
            # a look at the file costs less than a command, which is what a person asks
            return (
                applied is not None
                and str(applied.position) == wanted
                and bool(self.replica.json("status")["applied"]["position"] == wanted)
            )

        wait_until(there, f"the replica applies {position or 'the newest'}", deadline)


@cache
def _positions(side: Side, _there: frozenset[str]) -> list[str]:
    return [row["position"] for row in side.json("snapshots")]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, web: str, kuma_folder: Path) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("fleet")
    weak_repository.make(folder / "repository")
    restic = restic_018()
    made = Fleet(
        folder,
        Side(folder, "leader", "BACKUP", restic, UPTIME_KUMA_DB_TYPE="sqlite"),
        Side(folder, "replica", "RESTORE", restic),
    )
    try:
        made.leader.run()
        made.leader.wait_ready()
        with KumaClient(made.leader.url) as client:
            client.setup(USER, PASSWORD)
            client.login(USER, PASSWORD)
            client.add_monitor("First", web)
        made.replica.run()
        wait_until(lambda: "1.1" in made.positions(), "the first snapshot", 60)
        yield made
    finally:
        for side in (made.leader, made.replica):
            side.kill()
