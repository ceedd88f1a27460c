"""Asks a running Litestream by its control socket (HTTP over a Unix socket; its server.go).

Its `/sync` is never called. A checkpoint inside it takes Litestream's read lock anew under the
context of the request, and database/sql rolls that transaction back when the request ends. From
then on Kuma's own checkpoints can begin the log anew before Litestream has read it: the replica
is damaged without a word, and only a restore shows it ("wrong # of entries in index", "Page N:
never used"; seen with 0.5.17 within seconds, tests/litestream/test_kills.py).
"""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from replicator_kuma.adapters.litestream.program import complaint_of
from replicator_kuma.base.times import moment_of

_DEADLINE = 10.0
_MOST = 1 << 20


class NoAnswer(Exception):
    """Litestream does not answer, in words."""


@dataclass(frozen=True)
class Progress:
    """How far Litestream is. Times are seconds since the epoch, by this machine's clock."""

    read_from: float
    """all that was committed before is in ``txid``: a read of the log began then, and has ended
    well; 0: none has"""
    txid: int
    """the last transaction that it has read"""
    uploaded_at: float
    """when it last found that the store has all that it had read; 0: never"""
    error: str
    """why the last read of the log failed"""


def progress(path: Path, database: Path) -> Progress:
    """How far it is; raises NoAnswer."""
    where = urlencode({"path": str(database)})
    try:
        (read,) = _get(path, f"/debug/sync-status?{where}")["databases"]
        ended = not read["active"] and "error" not in read and "started_at" in read
        txid = int(_get(path, f"/txid?{where}")["txid"])
        (one,) = _get(path, "/list")["databases"]
        return Progress(
            read_from=moment_of(read["started_at"]) if ended else 0.0,
            txid=txid,
            uploaded_at=moment_of(one["last_sync_at"]) if "last_sync_at" in one else 0.0,
            error=complaint_of(str(read.get("error", ""))),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise NoAnswer("Litestream answers what nobody understands") from error


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("litestream", timeout=_DEADLINE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _get(path: Path, resource: str) -> Mapping[str, Any]:
    connection = _Connection(path)
    try:
        connection.request("GET", resource)
        answer = connection.getresponse()
        found: Any = json.loads(answer.read(_MOST))
        if answer.status != http.client.OK:
            raise NoAnswer(complaint_of(str(found["error"])))
        members: Mapping[str, Any] = found
        return members
    except (OSError, http.client.HTTPException) as error:
        why = str(error) or type(error).__name__
        raise NoAnswer(f"Litestream does not answer ({why})") from error
    finally:
        connection.close()
