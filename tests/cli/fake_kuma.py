"""A program that behaves as Uptime Kuma does at its edges: HTTP, signals, exit codes.

Its behaviour is read at each start from behaviour.json beside its log, so that a test can change
it between two starts: starting, migrating (seconds), stopping (seconds), exit_code, die_after,
die_at_start (exit code), serves (false: it never listens), opens (true: its database too), agent
(true: it takes rows while it runs).
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

FOLDER = Path(sys.argv[1])
PORT = int(sys.argv[2])


def note(what: str) -> None:
    with (FOLDER / "calls").open("a") as file:
        file.write(f"{time.monotonic():.3f} kuma {what}\n")


def main() -> int:
    path = FOLDER / "behaviour.json"
    behaviour: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    note(f"start {os.environ.get('UPTIME_KUMA_DB_TYPE', '-')}")
    if code := behaviour.get("die_at_start"):
        note("died")
        return int(code)
    born = time.monotonic()
    signals: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if time.monotonic() - born < behaviour.get("migrating", 0):
                self.send_error(404)
                return
            data_dir = Path(os.environ["DATA_DIR"])
            chosen = (data_dir / "kuma.db").exists() or "UPTIME_KUMA_DB_TYPE" in os.environ
            body = json.dumps({"type": "entryPage" if chosen else "setup-database"}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args: object) -> None:
            """Quiet."""

    if behaviour.get("opens"):
        database = sqlite3.connect(Path(os.environ["DATA_DIR"]) / "kuma.db")
        database.execute("SELECT count(*) FROM user").fetchall()
    if behaviour.get("agent") and "REPLICATOR_AGENT_SOCKET" in os.environ:
        from tests.support.agent_server import AgentServer

        AgentServer().serve()
    signal.signal(signal.SIGTERM, lambda number, _frame: signals.append(number))
    while not signals and time.monotonic() - born < behaviour.get("starting", 0):
        time.sleep(0.01)
    server = ThreadingHTTPServer(
        ("127.0.0.1", PORT if behaviour.get("serves", True) else 0), Handler
    )
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    while not signals:
        time.sleep(0.01)
        if "die_after" in behaviour and time.monotonic() - born > behaviour["die_after"]:
            note("died")
            return int(behaviour.get("exit_code", 1))
    note("term")
    server.shutdown()
    server.server_close()
    time.sleep(behaviour.get("stopping", 0))
    note("end")
    return int(behaviour.get("exit_code", 0))


if __name__ == "__main__":
    sys.exit(main())
