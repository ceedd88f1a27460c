"""The control socket as 0.3.0 spoke it, on both of its ends: recorded (tests/old/0.3.0)."""

from __future__ import annotations

import json
import os
import socketserver
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from replicator_kuma.daemon.control import NAME
from tests.support.old_state import RECORDED


@dataclass(frozen=True)
class Conversation:
    """What one command of 0.3.0 and a supervisor of 0.3.0 said to each other."""

    mode: str
    line: str
    """the command as it was typed"""
    exit_code: int
    printed: dict[str, Any]
    """what the command printed (`--json`)"""
    request: str
    answer: str

    @property
    def last(self) -> dict[str, Any]:
        """The answer's last line: the result or the error."""
        found: dict[str, Any] = json.loads(self.answer.splitlines()[-1])
        return found


_FOUND = json.loads((RECORDED / "control.json").read_text())
CONVERSATIONS = [Conversation(**each) for each in _FOUND["conversations"]]
UNKNOWN: str = _FOUND["unknown"]
"""What 0.3.0's supervisor answers where a newer command asks for its settings."""


class OldSupervisor:
    """Says in ``folder`` what 0.3.0's supervisor said; ``asked`` is what else was asked of it."""

    def __init__(self, folder: Path, conversation: Conversation) -> None:
        self.asked: list[str] = []
        self._folder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        supervisor = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                request = self.rfile.readline().decode()
                if json.loads(request)["command"] == "settings":
                    self.wfile.write(UNKNOWN.encode())
                    return
                supervisor.asked.append(request)
                if request == conversation.request:
                    self.wfile.write(conversation.answer.encode())

        address = f"/proc/self/fd/{self._folder}/{NAME}"
        self._server = socketserver.ThreadingUnixStreamServer(address, Handler)

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        os.close(self._folder)
