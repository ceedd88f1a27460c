"""A real Uptime Kuma with the agent in its process, what it watches, and where it alerts."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Self

import requests
from pymysql.cursors import DictCursor

from tests.support.databases import insert, insertion, quoted
from tests.support.kuma_server import (
    KumaClient,
    free_port,
    kuma_command,
    kuma_environment,
    prepare_data_dir,
)
from tests.support.loopback import Loopback, Quiet
from tests.support.mariadb import Database, new_short_folder
from tests.support.tools import ROOT, kuma_dir, kuma_version
from tests.support.waiting import wait_until

AGENT = ROOT / "replicator_kuma" / "adapters" / "kuma" / "agent" / "agent.cjs"
USER, PASSWORD = "admin", "Replicator-tests-1"
DOWN, UP, PENDING, MAINTENANCE = 0, 1, 2, 3

Row = dict[str, Any]


class Web:
    """A server for monitors: each path answers as told, after its delay; posts are alerts."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, float]] = {}
        """path → status and seconds; others answer 200 at once"""
        self.asked: list[tuple[float, str]] = []
        """when, and which path with its query"""
        self.alerts: list[Row] = []
        lock = threading.Lock()

        class Handler(Quiet):
            def get(handler) -> None:  # noqa: N805 - `self` is the web
                with lock:
                    self.asked.append((time.time(), handler.path))
                status, delay = self.answers.get(handler.path.partition("?")[0], (200, 0.0))
                time.sleep(delay)  # what a slow target does
                with contextlib.suppress(ConnectionError):
                    handler.say(status)

            def post(handler) -> None:  # noqa: N805
                with lock:
                    self.alerts.append(json.loads(handler.body()))
                handler.say(200)

        self._server = Loopback(Handler)
        self.url = self._server.url

    def close(self) -> None:
        self._server.close()

    def times(self, path: str, *, with_query: bool = False) -> list[float]:
        """When a path was asked for, exactly as it stands or with any query."""
        return [
            at
            for at, asked in self.asked
            if asked == path or (with_query and asked.partition("?")[0] == path)
        ]

    def alerts_of(self, monitor: int) -> list[int]:
        """The status in each alert about a monitor, oldest first."""
        return [a["heartbeat"]["status"] for a in self.alerts if a["monitor"]["id"] == monitor]


class AgentError(RuntimeError):
    """The agent answered with an error."""


class Agent:
    """A connection to the agent's socket."""

    def __init__(self, path: Path, timeout: float = 120) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(timeout)
        try:
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise
        self._lines = self._socket.makefile("rb")
        self._id = 0
        self.progress: list[Row] = []

    def close(self) -> None:
        self._lines.close()
        self._socket.close()

    def send(self, text: bytes) -> None:
        self._socket.sendall(text)

    def line(self) -> Row | None:
        """The next answer; None where the agent has closed the connection."""
        text = self._lines.readline()
        return json.loads(text) if text else None

    def ask(self, verb: str, **members: Any) -> Row:
        """One request and its answer; raises AgentError."""
        self._id += 1
        self.send(json.dumps({"id": self._id, "do": verb, **members}).encode() + b"\n")
        while True:
            answer = self.line()
            if answer is None:
                raise AgentError("the connection was closed")
            assert answer["id"] == self._id
            if "progress" in answer:
                self.progress.append(answer["progress"])
            elif answer["ok"]:
                return answer
            else:
                raise AgentError(answer["error"])


class LiveKuma:
    """One Kuma on SQLite with the agent; as a context manager it starts and stops."""

    def __init__(self, folder: Path, *, agent: Path = AGENT, **environment: str) -> None:
        self.data_dir = folder / "data"
        self.log = folder / "kuma.log"
        self.database = self.data_dir / "kuma.db"
        self.url = ""
        self._run = new_short_folder()  # a socket's name has room for 107 bytes
        self.socket = self._run / "agent.sock"
        self._agent = agent
        self._environment = environment
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        self.wait_phase("ready")
        return self

    def __exit__(self, *_error: object) -> None:
        self.kill()
        shutil.rmtree(self._run, ignore_errors=True)

    # ------------------------------------------------------------- the process

    def start(self) -> None:
        """Start it on a free port; returns at once."""
        prepare_data_dir(self.data_dir)
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        node, *rest = kuma_command()
        environment = kuma_environment(self.data_dir, port)
        own = {"REPLICATOR_AGENT_SOCKET": str(self.socket), "REPLICATOR_FAST_START": "off"}
        environment |= own | self._environment
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [node, "--require", str(self._agent), *rest],
                cwd=kuma_dir(),
                env=environment,
                stdout=log,
                stderr=log,
            )

    def stop(self) -> None:
        """Ask it to end, and wait."""
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(60)
            self.process = None

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(30)
            self.process = None

    # ------------------------------------------------------------- the agent

    @contextlib.contextmanager
    def agent(self) -> Iterator[Agent]:
        """A connection of its own."""
        with closing(Agent(self.socket)) as agent:
            yield agent

    def ask(self, verb: str, **members: Any) -> Row:
        with self.agent() as agent:
            return agent.ask(verb, **members)

    def hello(self) -> Row:
        return self.ask("hello")

    def reconcile(self, **members: Any) -> Row:
        """Make memory equal to the rows; the report."""
        report: Row = self.ask("reconcile", **members)["report"]
        return report

    def settled(self, **members: Any) -> Row:
        """`reconcile`, which has to succeed at once and leave nothing for a second one."""
        report = self.reconcile(**members)
        assert (report["equal"], report["errors"]) == (True, []), report
        again = self.reconcile()
        assert again["any"] == 0, again
        assert self.differ() == {}
        return report

    def differ(self) -> Row:
        """What memory holds that the rows do not; empty where they are equal."""
        found = self.ask("holds")
        differ = {name: ids for name, ids in found["differ"].items() if ids}
        assert found["equal"] is (not differ)
        return differ

    def wait_phase(self, *phases: str, deadline: float = 90) -> None:
        """Wait until the agent says one of the phases."""

        def reached() -> bool:
            assert self.process is None or self.process.poll() is None, self.log.read_text()[-2000:]
            with contextlib.suppress(OSError):
                return self.hello()["phase"] in phases
            return False

        wait_until(reached, f"{self.log}: {phases}", deadline)

    # ------------------------------------------------------------- its rows

    def execute(self, *statements: str | tuple[str, Sequence[Any]]) -> None:
        """Statements in one transaction, with foreign keys off, as an apply writes."""
        with closing(sqlite3.connect(self.database, timeout=10, isolation_level=None)) as db:
            db.execute("BEGIN IMMEDIATE")
            for statement in statements:
                sql, values = (statement, ()) if isinstance(statement, str) else statement
                db.execute(sql, values)
            db.execute("COMMIT")

    def insert(self, table: str, **row: Any) -> int:
        """One row, in a transaction of its own; its id."""
        with closing(sqlite3.connect(self.database, timeout=10, isolation_level=None)) as db:
            return insert(db, table, **row)

    def update(self, monitor: int, **columns: Any) -> None:
        """Edit a monitor's row."""
        names = ", ".join(f"{quoted(name)} = ?" for name in columns)
        self.execute((f"UPDATE monitor SET {names} WHERE id = ?", [*columns.values(), monitor]))

    def query(self, sql: str, *values: Any) -> list[Row]:
        with closing(sqlite3.connect(self.database, timeout=10)) as db:
            db.row_factory = sqlite3.Row
            return [dict(row) for row in db.execute(sql, values)]

    def beats(self, monitor: int) -> list[Row]:
        """A monitor's stored beats, oldest first."""
        return self.query("SELECT * FROM heartbeat WHERE monitor_id = ? ORDER BY id", monitor)

    def wait_beats(self, monitor: int, count: int, deadline: float = 30) -> list[Row]:
        """Wait until a monitor has so many beats in all."""
        return wait_until(
            lambda: self.beats(monitor) if len(self.beats(monitor)) >= count else [],
            f"{count} beats of monitor {monitor}",
            deadline,
        )

    def wait_status(self, monitor: int, status: int, deadline: float = 30) -> None:
        """Wait until the last beat has a status."""

        def reached() -> bool:
            beats = self.beats(monitor)
            return bool(beats) and beats[-1]["status"] == status

        wait_until(reached, f"status {status} of monitor {monitor}", deadline)

    def errors(self) -> list[str]:
        """What Kuma has noted as errors of its own; not that npm's build asks SQLite for NOW()."""
        log = self.data_dir / "error.log"
        found = re.split(r"^\[", log.read_text(), flags=re.MULTILINE) if log.exists() else []
        return [text for text in found if text and "DATE_ADD(NOW()" not in text]


class LiveKumaOnMariadb(LiveKuma):
    """The same on a database of a MariaDB server."""

    def __init__(self, folder: Path, database: Database, **environment: str) -> None:
        super().__init__(folder)
        self._environment = {**database.environment, **environment}
        self._server = database

    def execute(self, *statements: str | tuple[str, Sequence[Any]]) -> None:
        self._server.edit(*statements)

    def insert(self, table: str, **row: Any) -> int:
        with self._server.transaction() as cursor:
            cursor.execute(insertion(table, row).replace("?", "%s"), tuple(row.values()))
            return int(cursor.lastrowid)

    def query(self, sql: str, *values: Any) -> list[Row]:
        connection = self._server.connect(cursorclass=DictCursor)
        with closing(connection), connection.cursor() as cursor:
            cursor.execute(sql.replace("?", "%s"), values or None)
            return list(cursor.fetchall())


class Watched:
    """A Kuma with a user, a webhook and monitors of one `Web`."""

    def __init__(self, kuma: LiveKuma, web: Web) -> None:
        self.kuma, self.web = kuma, web
        self._count = 0
        with KumaClient(kuma.url) as page:
            if page.needs_setup():
                page.setup(USER, PASSWORD)
        self.user = int(kuma.query("SELECT id FROM user")[0]["id"])
        config = {
            "type": "webhook",
            "webhookURL": f"{web.url}/hook",
            "webhookContentType": "json",
            "name": "hook",
        }
        self.hook = kuma.insert(
            "notification", name="hook", user_id=self.user, active=1, config=json.dumps(config)
        )

    def path(self) -> str:
        """A path of the web that no other monitor has."""
        self._count += 1
        return f"/{self._count}"

    def row(self, path: str, **columns: Any) -> Row:
        """The row of a monitor that looks at a path every 2 seconds."""
        row = {
            "name": f"at {path}",
            "type": "http",
            "url": f"{self.web.url}{path}",
            "interval": 2,
            "retry_interval": 2,
            "timeout": 20,
            "maxretries": 0,
            "active": 1,
            "user_id": self.user,
        }
        return row | columns

    def monitor(self, path: str, **columns: Any) -> int:
        """A new monitor that alerts, and that runs (unless it is not active)."""
        monitor = self.kuma.insert("monitor", **self.row(path, **columns))
        self.kuma.insert("monitor_notification", monitor_id=monitor, notification_id=self.hook)
        self.kuma.reconcile(ids=[monitor], rows=True)
        return monitor

    def web_get(self, url: str) -> int:
        """The status with which Kuma answers."""
        return requests.get(url, timeout=10).status_code

    def url(self, path: str) -> str:
        return f"{self.web.url}{path}"


def is_1(kuma: Path | None = None) -> bool:
    """Whether the Kuma under test has 1.x's schema (npm's build has, too)."""
    version = kuma_version(kuma or kuma_dir())
    return version.startswith("1.") or "dev" in version


def every(seconds: float, action: Callable[[], None], times: int) -> None:
    """Do something so many times, so many seconds apart."""
    for number in range(times):
        if number:
            time.sleep(seconds)
        action()
