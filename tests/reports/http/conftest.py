"""A server on loopback over the files of an instance, and a client that sends what it likes."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import pytest

from replicator_kuma.adapters.repository import Label, Listing, Position, Snapshot
from replicator_kuma.base import counters
from replicator_kuma.base.counters import Counters
from replicator_kuma.config.settings import Settings
from replicator_kuma.daemon import heartbeat
from replicator_kuma.replication.change_log import ChangeLog
from replicator_kuma.replication.state.file import StateFile
from replicator_kuma.replication.state.records import (
    DRIFT,
    Drill,
    JobRecord,
    Last,
    Problem,
    RepositoryUpkeep,
    SnapshotRef,
)
from replicator_kuma.reports.http import metric_families
from replicator_kuma.reports.http.here import Peers
from replicator_kuma.reports.http.web import Web
from tests.reports.http.stand_in import StandIn, exchange
from tests.support.states import edit_state

TOKEN = "a-token-of-the-fleet"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    """by lower-case names; several of one name are joined"""
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """Sends requests to one server, each on a connection of its own."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self.port, self.host = port, host

    def connect(self) -> socket.socket:
        return socket.create_connection((self.host, self.port), 10)

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        return self.ask("GET", path, headers)

    def ask(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> Answer:
        sent = {"Host": f"{self.host}:{self.port}", **(headers or {})}
        if body:
            sent.setdefault("Content-Length", str(len(body)))
        head = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
        return self.raw(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body, method)

    def raw(self, request: bytes, method: str = "GET") -> Answer:
        with self.connect() as connection:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(request)
            return answer_of(connection, method)


def answer_of(connection: socket.socket, method: str = "GET") -> Answer:
    """The answer that comes on a connection."""
    with contextlib.closing(HTTPResponse(connection, method=method)) as response:
        response.begin()
        body = response.read()
    headers: dict[str, str] = {}
    for name, value in response.getheaders():
        known = headers.get(name.lower())
        headers[name.lower()] = f"{known}, {value}" if known else value
    return Answer(response.status, headers, body)


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """An instance that has had a cycle; a test may add variables."""
    (tmp_path / "kuma.db").touch()
    found = {
        "DATA_DIR": str(tmp_path),
        "REPLICATOR_MODE": "RESTORE",
        "REPLICATOR_INSTANCE": "here",
        "REPLICATOR_HTTP": "127.0.0.1:0",
        "REPLICATOR_APPLY": "restart",
    }
    file = StateFile(Settings.load(found).state_dir)
    edit_state(file, last=Last(1_900_000_000.0, True, "nothing newer", "nothing"), role="RESTORE")
    return found


@pytest.fixture
def fleet() -> StandIn:
    return exchange()


Serve = Callable[..., Client]


@pytest.fixture
def serve(environ: dict[str, str], fleet: StandIn) -> Iterator[Serve]:
    """Starts a server with more variables, and with another exchange than ``fleet``."""
    running: list[Web] = []

    def start(peers: Peers | None = fleet, **more: str) -> Client:
        web = Web(Settings.load({**environ, **more}), peers)
        web.start()
        running.append(web)
        host = web.address.host
        return Client(web.address.port, "127.0.0.1" if host == "0.0.0.0" else host)

    yield start
    for web in running:
        web.stop()


@pytest.fixture
def guarded(serve: Serve) -> Client:
    """A server with a token, of an instance whose history is streamed."""
    return serve(REPLICATOR_HTTP_TOKEN=TOKEN, REPLICATOR_LITESTREAM_URL="file:///srv/store")


@pytest.fixture
def open_here(serve: Serve) -> Client:
    """A server without one, on loopback."""
    return serve()


LABEL = Label("default", Position(2, 6), "d" * 64, "5" * 16, "w", "beta", 99, 20)
HELD = Snapshot("6" * 64, LABEL, "2031-05-01T10:00:00Z")
NEWEST = Snapshot("7" * 64, replace(LABEL, position=Position(2, 8)), "2031-05-02T10:00:00Z")


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counters:
    """What this process has counted, in this test alone."""
    made = Counters()
    monkeypatch.setattr(metric_families, "COUNTED", made)
    return made


@pytest.fixture
def full(environ: dict[str, str], counted: Counters) -> Settings:
    """An instance of which every metric has something to tell."""
    settings = Settings.load(environ)
    edit_state(
        StateFile(settings.state_dir),
        applied=SnapshotRef.of(HELD),
        last=Last(1000.0, False, "away", error="RepositoryUnreachable", exit_code=5),
        last_ok_at=900.0,
        role="RESTORE",
        problems=(Problem(DRIFT, since=800.0, words="rows differ"),),
        jobs=(
            JobRecord("drill", "off", at=700.0, ok=True, ok_at=700.0),
            JobRecord("housekeeping", "off", at=650.0, ok=False, ok_at=600.0),
        ),
        drill=Drill(700.0, True, "went well", "2.6", (("fetch", 1.5), ("load", 0.5))),
        repositories=(RepositoryUpkeep("repository", 600.0, 14, 1_200_000, 7, 30, 590.0, "gone"),),
    )
    ChangeLog(settings.state_dir).listed(Listing([HELD, NEWEST]))
    beat = heartbeat.Beat(1, time.monotonic(), "ready", history="streams", history_sent_at=950.0)
    heartbeat.write(settings.state_dir, beat)
    for name, labels in {
        counters.CYCLES: {"outcome": "applied"},
        counters.CYCLE_ERRORS: {"kind": "RepositoryUnreachable"},
        counters.CHANGES: {"action": "added"},
        counters.RESTIC_CALLS: {"command": "snapshots"},
        counters.RESTIC_SECONDS: {"command": "snapshots"},
        counters.ROWS: {"table": "monitor"},
        counters.LIVE_APPLIES: {"result": "live"},
        counters.NOTIFICATIONS: {"target": "ntfy", "result": "sent"},
        counters.CYCLE_SECONDS: {},
        counters.KUMA_RESTARTS: {},
        counters.KUMA_DOWN: {},
    }.items():
        counted.add(name, 2.5, **labels)
    return settings
