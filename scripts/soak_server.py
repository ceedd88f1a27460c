"""The servers of the soak: rest-server and rclone's S3, which stop, hang and flap."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import random
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from tests.adapters.repository.places import (
    S3_KEY,
    S3_SECRET,
    USER,
    USER_PASSWORD,
    free_port,
    rest_url,
)
from tests.support import weak_repository
from tests.support.tools import rclone, rest_server
from tests.support.waiting import wait_until


class Server:
    """One server process on a port of its own; ``url`` is what restic is given."""

    def __init__(self, arguments: Sequence[str], port: int, url: str, folder: Path) -> None:
        self.url = url
        self.how = ""
        self._arguments, self._port, self._folder = list(arguments), port, folder
        self._process: subprocess.Popen[bytes] | None = None
        self._turn_at = 0.0
        self._paused = False

    def start(self) -> None:
        """Start it and wait until it listens."""
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._arguments,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"HOME": str(self._folder)},
            )
        wait_until(self._answers, "the server listens", every=0.05)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def fail(self, chance: random.Random) -> None:
        """Stopped, hung (connections stand, nothing comes), or now so and now so."""
        self.how = chance.choice(("stopped", "hung", "flapping"))
        if self.how == "stopped":
            self.stop()
        else:
            self._pause(True)
            self._turn_at = time.monotonic() + 0.5

    def flap(self) -> None:
        """Call often: a flapping server turns each half second."""
        if self.how == "flapping" and time.monotonic() >= self._turn_at:
            self._pause(not self._paused)
            self._turn_at = time.monotonic() + 0.5

    def mend(self) -> None:
        """It answers again."""
        if self.how == "stopped":
            self.start()
        elif self.how:
            self._pause(False)
        self.how = ""

    def _pause(self, yes: bool) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP if yes else signal.SIGCONT)
            self._paused = yes

    def _answers(self) -> bool:
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", self._port), 1),
        ):
            return True
        return False


def make_server(kind: str, folder: Path) -> Server:
    """``rest`` or ``s3``, with its files below ``folder``; not started yet."""
    port = free_port()
    address = f"127.0.0.1:{port}"
    place = folder / "server"
    weak_repository.make(place / "fleet" if kind == "rest" else place / "bucket" / "fleet")
    if kind == "rest":
        digest = base64.b64encode(hashlib.sha1(USER_PASSWORD.encode()).digest()).decode()
        (place / ".htpasswd").write_text(f"{USER}:{{SHA}}{digest}\n")
        call = [str(rest_server()), "--path", str(place), "--listen", address]
        return Server(call, port, rest_url(address), folder)
    keys = f"{S3_KEY},{S3_SECRET}"
    call = [str(rclone()), "serve", "s3", "--auth-key", keys, "--addr", address, str(place)]
    return Server(call, port, f"s3:http://{address}/bucket/fleet", folder)
