"""A Kuma whose memory can be looked at, and its agent: for deaths at each step of a live apply.

The real ones take seconds a start; tests/live has them. Memory is a copy of the rows that Kuma
holds, in a file beside the instance, so that it outlives a replicator that dies.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable, Collection
from contextlib import closing
from pathlib import Path

from replicator_kuma.adapters.kuma.agent.client import PROTOCOL, Agent, AgentError, Hello, Report
from tests.support.instances import FileKuma

HELD = ("monitor", "maintenance", "setting", "status_page_cname", "user")
"""tables whose rows a Kuma holds in memory"""
VERSION = "2.5.3"


class MemoryAgent(Agent):
    """Reads rows when it is asked to, as Kuma does at its start."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "agent.sock")
        self._database = folder / "kuma.db"
        self._file = folder.with_name(f"{folder.name}-memory.json")
        self.alive: Callable[[], bool] = lambda: True
        self.refuses: Callable[[], str] = lambda: ""
        """why it does not take rows; "": it does"""

    def hello(self) -> Hello:
        if not self.alive():
            raise AgentError("the agent in Kuma's process hung up: gone")
        return Hello(PROTOCOL, "a" * 64, VERSION, 1, 1.0, "ready", 1, 1, (), False, "")

    def reconcile(
        self,
        ids: Collection[int] = (),
        replaced: Collection[int] = (),
        *,
        interrupted: Callable[[], bool] = lambda: False,
        progress: Callable[[str], None] = lambda _message: None,
    ) -> Report:
        if why := self.refuses():
            raise AgentError(why)
        try:
            self.read()
        except (OSError, MemoryError, sqlite3.Error) as error:
            raise AgentError("Kuma's database did not answer") from error
        return Report(True, 1, (), 0.1)

    def differ(self) -> tuple[str, ...]:
        if not self._file.exists():
            self.read()  # its database was locked at its start: it has waited
        held = json.loads(self._file.read_text())
        rows = self._rows()
        return tuple(table for table in HELD if held[table] != rows[table])

    def read(self) -> None:
        """Take all rows into memory."""
        part = self._file.with_suffix(".part")
        part.write_text(json.dumps(self._rows()))
        part.rename(self._file)

    def forget(self) -> None:
        """Kuma ended."""
        self._file.unlink(missing_ok=True)

    def _rows(self) -> dict[str, list[list[object]]]:
        if not self._database.exists():
            return {table: [] for table in HELD}
        with closing(sqlite3.connect(self._database)) as connection:
            connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
            return {
                table: [
                    [each.hex() if isinstance(each, bytes) else each for each in row]
                    for row in connection.execute(f"SELECT * FROM {table} ORDER BY 1")
                ]
                for table in HELD
            }


class MemoryKuma(FileKuma):
    """Its agent answers while it is up."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.agent = MemoryAgent(folder)
        self.agent.alive = lambda: self.up
        self.reads = False
        """it reads its rows at its start: what happens now is nothing that we do"""

    def start(self) -> None:
        if not self.up:
            self.reads = True
            with contextlib.suppress(OSError, MemoryError, sqlite3.Error):
                self.agent.read()
            self.reads = False
        super().start()

    def stop(self) -> None:
        super().stop()
        self.agent.forget()
