"""A program that has a real mariadbd inside, exactly as Uptime Kuma's server/embedded-mariadb.js.

It serves /api/entry-page, and writes a heartbeat of every monitor that it knows all the time. What
it does is noted in DATA_DIR/kuma/calls, what it read at its start in memory.json beside it, the
heartbeats that MariaDB took in beats. How it behaves is read at each start from behaviour.json:
slow (seconds until it answers), refuses (a query: where it gives a number but 0, it does not get
up), how (exit, hang, kill; with_mariadb: that one ends first), beat (seconds between heartbeats).
"""

from __future__ import annotations

import json
import os
import pwd
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pymysql

DATA = Path(os.environ["DATA_DIR"])
HERE = DATA / "kuma"
USER = pwd.getpwuid(os.geteuid()).pw_name
SOCKET = DATA / "run" / "mariadb.sock"


def note(what: str) -> None:
    with (HERE / "calls").open("a") as file:
        file.write(what + "\n")


def connect(database: str | None = "kuma") -> Any:
    return pymysql.connect(
        unix_socket=str(SOCKET), user=USER, database=database, autocommit=True, charset="utf8mb4"
    )


class Mariadb:
    """As the class EmbeddedMariaDB there."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        datadir, run = DATA / "mariadb", DATA / "run"
        if not datadir.exists():
            subprocess.run(
                ["mariadb-install-db", f"--user={USER}", f"--ldata={datadir}"],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=True,
            )
        run.mkdir(exist_ok=True)
        self.child = subprocess.Popen(
            [
                "mariadbd",
                f"--user={USER}",
                f"--datadir={datadir}",
                f"--socket={SOCKET}",
                f"--pid-file={run}/mysqld.pid",
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        note(f"mariadbd {self.child.pid}")
        threading.Thread(target=self._follow, args=(self.child,), daemon=True).start()

    def _follow(self, child: subprocess.Popen[bytes]) -> None:
        assert child.stdout is not None
        with (HERE / "mariadb.log").open("ab") as log:
            for line in child.stdout:
                log.write(line)
                log.flush()
                if b"ready for connections" in line:
                    with closing(connect(None)) as database, database.cursor() as cursor:
                        cursor.execute("CREATE DATABASE IF NOT EXISTS `kuma`")
                    self.started.set()
        code = child.wait()
        self.started.clear()
        note(f"mariadbd ended {code}")
        if code != 0:
            self.start()

    def end(self) -> None:
        """Not Kuma's way: SIGTERM, and the end of it."""
        if self.child is not None:
            self.child.terminate()
            self.child.wait()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps({"type": "entryPage", "entryPage": "dashboard"}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: object) -> None:
        """Quiet."""


def read_memory() -> dict[int, str]:
    with closing(connect()) as database, database.cursor() as cursor:
        cursor.execute("SELECT id, name FROM monitor WHERE active = 1")
        found = {int(number): str(name) for number, name in cursor.fetchall()}
    (HERE / "memory.json.new").write_text(json.dumps(found))
    (HERE / "memory.json.new").replace(HERE / "memory.json")
    return found


def refuses(query: str) -> bool:
    with closing(connect()) as database, database.cursor() as cursor:
        cursor.execute(query)
        return bool(cursor.fetchone()[0])


def beat(monitors: list[int], every: float) -> None:
    """What Kuma does all day; one that MariaDB did not take is lost, as there."""
    database, number = connect(), 0
    with (HERE / "beats").open("a") as file:
        while True:
            number += 1
            monitor = monitors[number % len(monitors)]
            mark = f"beat {os.getpid()}.{number}"
            try:
                with database.cursor() as cursor:
                    cursor.execute(
                        "INSERT INTO heartbeat (monitor_id, status, msg, time, important, duration)"
                        " VALUES (%s, 1, %s, utc_timestamp(), 0, 1)",
                        (monitor, mark),
                    )
                file.write(f"{monitor} {mark}\n")
            except pymysql.err.MySQLError as error:
                file.write(f"{monitor} failed {error.args[0]}\n")
                if not database.open:
                    time.sleep(0.1)
                    database = connect()
            file.flush()
            time.sleep(every)


def main() -> int:
    HERE.mkdir(exist_ok=True)
    path = HERE / "behaviour.json"
    behaviour: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    note(f"start {os.getpid()}")
    mariadb = Mariadb()

    def end(_number: int, _frame: object) -> None:
        note("term")
        if mariadb.child is not None:
            mariadb.child.send_signal(signal.SIGINT)
        os._exit(0)

    signal.signal(signal.SIGTERM, end)
    mariadb.start()
    mariadb.started.wait()
    if (query := behaviour.get("refuses")) and refuses(query):
        note("refused")
        if behaviour.get("with_mariadb"):
            mariadb.end()
        if behaviour.get("how") == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        while behaviour.get("how") == "hang":
            time.sleep(0.1)
        os._exit(1)
    monitors = sorted(read_memory())
    time.sleep(behaviour.get("slow", 0))
    if monitors and (every := behaviour.get("beat", 0)):
        threading.Thread(target=beat, args=(monitors, every), daemon=True).start()
    server = ThreadingHTTPServer(("127.0.0.1", int(os.environ["UPTIME_KUMA_PORT"])), Handler)
    note("ready")
    server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
