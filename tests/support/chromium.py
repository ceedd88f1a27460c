"""Debian's Chromium, without a window, for pages on loopback; it reaches nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest
from flask import Flask
from werkzeug.serving import WSGIRequestHandler, make_server

DEADLINE = 120
"""seconds for one page, on a busy machine"""
_ARGUMENTS = (
    "--headless",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-sandbox",  # it refuses to run as root with one
    # no name is looked up, so that nothing leaves the machine
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
)


def need_chromium() -> str:
    """Its path; skips where it is not, which REPLICATOR_TEST_REQUIRE=chromium forbids."""
    found = shutil.which("chromium")
    if found is None:
        assert "chromium" not in os.environ.get("REPLICATOR_TEST_REQUIRE", ""), "no chromium"
        pytest.skip("no chromium")
    return found


def run(path: str, url: str, *arguments: str) -> str:
    """What it prints of a page."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [path, *_ARGUMENTS, f"--user-data-dir={folder}", *arguments, url],
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=True,
            env=_environment(Path(folder)),
        )
    return done.stdout


def dom_after(path: str, url: str, seconds: int) -> str:
    """The page's document once it has been open for so long, by the browser's own clock.

    That clock stands still while a request is on its way, and jumps to the next timer otherwise.
    """
    return run(path, url, f"--virtual-time-budget={seconds * 1000}", "--dump-dom")


def picture(url: str, to: Path, size: str, scheme: str) -> None:
    """Write a picture of a page; size as "1280,900" in pixels, scheme light or dark."""
    dark = ("--blink-settings=preferredColorScheme=0",) if scheme == "dark" else ()
    shot = (f"--screenshot={to.absolute()}", f"--window-size={size}", "--hide-scrollbars")
    run(need_chromium(), url, *shot, *dark)


def _environment(home: Path) -> Mapping[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(home), "TMPDIR": str(home)}


class _Silent(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: object) -> None:  # noqa: A002 - werkzeug's name
        return None


@contextmanager
def served(app: Flask) -> Iterator[str]:
    """The address of an application while the block runs."""
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_Silent)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
