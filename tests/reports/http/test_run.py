"""`replicator run` with its HTTP server, as a process, with a fake Kuma and scripted cycles."""

from __future__ import annotations

import signal
import socket
import time
from contextlib import ExitStack, closing
from pathlib import Path

from tests.cli.harness import Run
from tests.reports.http.conftest import BEARER, TOKEN, Client
from tests.reports.http.test_server import dripping, many, slow_body
from tests.support.kuma_server import free_port
from tests.support.waiting import wait_until

FLASK = "markupsafe"
"""an extension module that Flask loads: it shows among the files of a process's memory"""


def running(folder: Path, **environ: str) -> tuple[Run, Client]:
    port = free_port()
    run = Run(folder, "BACKUP", REPLICATOR_HTTP=f"127.0.0.1:{port}", REPLICATOR_HTTP_TOKEN=TOKEN)
    run.environment |= {"REPLICATOR_BACKUP_INTERVAL": "1s", **environ}
    return run, Client(port)


def test_cycles_and_health_go_on_under_a_crowd_and_the_end_is_quick(tmp_path: Path) -> None:
    run, client = running(tmp_path / "r")
    with run, ExitStack() as crowd:
        run.until("backup False False")
        slow = crowd.enter_context(many(client, 50, b"GET /api/v1/status HTTP/1.1\r\nX: "))
        crowd.enter_context(dripping(slow))
        crowd.enter_context(many(client, 1000))
        crowd.enter_context(many(client, 4, slow_body()))
        so_far = run.calls.count("backup False False")
        run.until("backup False False", so_far + 2)
        wait_until(lambda: client.get("/readyz", BEARER).status == 200, "it to be ready")
        assert client.get("/healthz").body == b"healthy\n"
        assert client.get("/api/v1/status", BEARER).json["supervisor"]["kuma"] == "ready"
        assert b"replicator_kuma_build_info" in client.get("/metrics", BEARER).body
        assert run.process is not None
        assert FLASK in Path(f"/proc/{run.process.pid}/maps").read_text()
        began = time.monotonic()
        run.send(signal.SIGTERM)
        run.wait()
        took = time.monotonic() - began
    # 0.2 s where nothing else runs: fake Kuma's end, and the server's; clients may take 5 and 10 s
    assert took < 4.0
    assert TOKEN not in run.log


def test_a_port_that_is_taken_ends_the_run_before_kuma_starts(tmp_path: Path) -> None:
    run, client = running(tmp_path / "r")
    with closing(socket.create_server(("127.0.0.1", client.port))):
        run.start("run")
        assert run.wait() == 28
    assert f"another program listens at 127.0.0.1:{client.port} already" in run.log
    assert "kuma start" not in "".join(run.calls)


def test_beyond_loopback_the_run_wants_a_token(tmp_path: Path) -> None:
    run, _client = running(tmp_path / "r", REPLICATOR_HTTP="0.0.0.0:8067", REPLICATOR_HTTP_TOKEN="")
    run.start("run")
    assert run.wait() == 3
    assert "there is no token" in run.log
    assert "openssl rand -hex 24" in run.log


def test_without_it_nothing_of_it_is_in_memory(tmp_path: Path) -> None:
    with Run(tmp_path / "r", "BACKUP") as run:
        run.until("backup False True")
        assert run.process is not None
        maps = Path(f"/proc/{run.process.pid}/maps").read_text()
        assert FLASK not in maps
