"""The agent's end of its socket in a stand-in for Kuma: memory is a copy of the rows.

It dies with its process, as a Kuma's memory does. Only the standard library: the stand-in starts
without the package. (Real Kumas with the real agent: tests/live.)
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

HELD = ("monitor", "maintenance", "setting", "status_page_cname", "user")
"""tables whose rows a Kuma holds in memory"""
VERSION = "2.5.3"


class AgentServer:
    """Serves REPLICATOR_AGENT_SOCKET, whose rows are in DATA_DIR."""

    def __init__(self) -> None:
        self._database = Path(os.environ["DATA_DIR"]) / "kuma.db"
        self._begun = time.time()
        self._one_at_a_time = threading.Lock()
        self._memory = self._rows()

    def serve(self) -> None:
        path = Path(os.environ["REPLICATOR_AGENT_SOCKET"])
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen()
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with (
            contextlib.suppress(OSError, ValueError),
            connection,
            connection.makefile("rb") as said,
        ):
            asked = json.loads(said.readline())
            with self._one_at_a_time:
                members = {"id": asked["id"], "ok": True, **getattr(self, f"_{asked['do']}")()}
            connection.sendall(json.dumps(members).encode() + b"\n")

    def _hello(self) -> dict[str, Any]:
        return {
            "agent": 1,
            "sha": "a" * 64,
            "version": VERSION,
            "pid": os.getpid(),
            "begun": self._begun * 1000,
            "phase": "ready",
            "started": 1,
            "of": 1,
            "missing": [],
            "needs_setup": not self._memory["user"],
            "database": None,
        }

    def _reconcile(self) -> dict[str, Any]:
        before, self._memory = self._memory, self._rows()
        changed = sum(before[table] != self._memory[table] for table in HELD)
        return {"report": {"equal": True, "any": changed, "errors": [], "ms": 1}}

    def _holds(self) -> dict[str, Any]:
        rows = self._rows()
        different = [table for table in HELD if rows[table] != self._memory[table]]
        return {
            "differ": {"monitors": different, "maintenance": [], "settings": [], "domains": False}
        }

    def _rows(self) -> dict[str, list[str]]:
        with contextlib.closing(sqlite3.connect(self._database, timeout=10)) as connection:
            connection.text_factory = bytes
            return {
                table: [repr(row) for row in connection.execute(f"SELECT * FROM {table}")]
                for table in HELD
            }
