"""What the tests of lost disks share: a store, history that grows, and how much of it is there."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import requests

from tests.adapters.repository.places import S3_KEY, S3_SECRET, free_port, serving
from tests.containers.podman import inspect
from tests.support.tools import rclone

HOST = "host.containers.internal"
"""how podman lets a container name this machine"""
PUSH_TOKEN = "containersContainersContainers12"
EVERY = 0.2
"""seconds between two calls of the push monitor"""


@contextlib.contextmanager
def store(scratch: Path) -> Iterator[tuple[str, str]]:
    """An S3 server of this machine with one bucket: its URL, and .env's lines for both of its uses.

    No container reaches loopback, so it listens on all addresses.
    """
    (scratch / "s3" / "bucket").mkdir(parents=True)
    port, keys = free_port(), f"{S3_KEY},{S3_SECRET}"
    call = [str(rclone()), "serve", "s3", "--auth-key", keys, "--addr", f"0.0.0.0:{port}"]
    with serving([*call, str(scratch / "s3")], port, scratch):
        bucket = f"s3:http://{HOST}:{port}/bucket"
        yield (
            bucket,
            f"RESTIC_REPOSITORY={bucket}/snapshots\n"
            f"AWS_ACCESS_KEY_ID={S3_KEY}\nAWS_SECRET_ACCESS_KEY={S3_SECRET}\n",
        )


class Pulse:
    """A device that calls Kuma's push monitor until Kuma ends: history that grows, call by call."""

    def __init__(self, kuma: str) -> None:
        self.answered: list[float] = []
        """when Kuma had answered each call, in seconds since the epoch; call 0 comes first"""
        self._url = f"{kuma}/api/push/{PUSH_TOKEN}"
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with requests.Session() as session:
            while not self._ending.is_set():
                number = len(self.answered)
                try:
                    said = session.get(self._url, params={"msg": f"call {number}"}, timeout=10)
                except requests.RequestException:
                    return
                if not said.ok:
                    return
                self.answered.append(time.time())
                self._ending.wait(EVERY)

    def close(self) -> None:
        self._ending.set()
        self._thread.join()


def data_of(container: str) -> Path:
    """The folder of this machine that a container has as its data directory."""
    mounts: list[dict[str, Any]] = inspect(container)["Mounts"]
    (found,) = [one["Source"] for one in mounts if one["Destination"].rstrip("/") == "/app/data"]
    return Path(found)


def calls(data: Path) -> list[int]:
    """The calls of a `Pulse` in the history of a Kuma that runs, in its order."""
    return _calls(f"{(data / 'kuma.db').as_uri()}?mode=ro")


def calls_of_ended(data: Path, scratch: Path) -> list[int]:
    """The same of a Kuma that has ended: what it had committed counts, in the log or not."""
    copy = scratch / "ended"
    copy.mkdir()
    for file in data.glob("kuma.db*"):
        shutil.copy(file, copy)
    return _calls((copy / "kuma.db").as_uri())


def _calls(uri: str) -> list[int]:
    query = "SELECT msg FROM heartbeat WHERE msg LIKE 'call %' ORDER BY id"
    with closing(sqlite3.connect(uri, uri=True, timeout=10)) as connection:
        return [int(row[0].removeprefix("call ")) for row in connection.execute(query)]


def sent_at(status: dict[str, Any]) -> float:
    """Up to when the store has all, in seconds since the epoch; 0: it has nothing yet."""
    said = status["history"]["sent_at"]
    return datetime.fromisoformat(said).timestamp() if said else 0.0


def loss(pulse: Pulse, restored: list[int]) -> str:
    """What a restore did not bring back of what Kuma had answered, in words for a report."""
    lost = pulse.answered[len(restored) :]
    seconds = lost[-1] - pulse.answered[len(restored) - 1] if lost else 0.0
    return f"{len(pulse.answered)} calls answered, {len(lost)} lost: the last {seconds:.1f} s"
