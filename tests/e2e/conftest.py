"""A leader and a replica: two real Uptime Kumas, each under `replicator run`, one repository."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import weak_repository
from tests.support.supervised import Running, Side
from tests.support.tools import restic_018
from tests.support.waiting import wait_until


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


@pytest.fixture(scope="module")
def fleet(
    tmp_path_factory: pytest.TempPathFactory, web: str, kuma_folder: Path
) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("fleet")
    weak_repository.make(folder / "repository")
    restic = restic_018()
    leader = Side(folder, "leader", "BACKUP", restic, UPTIME_KUMA_DB_TYPE="sqlite")
    with Running(folder, leader, Side(folder, "replica", "RESTORE", restic)) as made:
        leader.set_up(First=web)
        made.replica.run()
        wait_until(lambda: "1.1" in made.positions(), "the first snapshot", 60)
        yield made
