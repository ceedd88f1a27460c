"""Programs for the tests to run: children that behave in one way, commands that keep a record."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

# Each child writes its process id once its handlers stand, so that a test can wait for that.
_HEAD = """
import os, pathlib, signal, sys, time
def say(name, text):
    new = pathlib.Path(name + ".new")
    new.write_text(text)
    new.rename(name)
"""

OBEDIENT = (
    _HEAD
    + """
def end(number, frame):
    say("ended-by", str(number))
    sys.exit(7)
signal.signal(signal.SIGTERM, end)
signal.signal(signal.SIGHUP, lambda number, frame: say("got", str(number)))
say("up", os.environ.get("UPTIME_KUMA_DB_TYPE", "none") + " " + str(os.getsid(0)))
while True:
    time.sleep(60)
"""
)

# Counts every SIGTERM, and ends only when the test lets it.
SLOW = (
    _HEAD
    + """
count = 0
def hear(number, frame):
    global count
    count += 1
    say("terms", str(count))
signal.signal(signal.SIGTERM, hear)
say("up", "")
while not os.path.exists("let-go"):
    time.sleep(0.01)
sys.exit(0)
"""
)


def python(program: str) -> list[str]:
    """The command line that runs a program's text, without this project's site-packages."""
    return [sys.executable, "-S", "-c", program]


def recorder(folder: Path, name: str, answers: str = "") -> Path:
    """An executable that notes its arguments in ``folder``/calls, then runs ``answers`` (sh)."""
    path = folder / name
    calls = shlex.quote(str(folder / "calls"))
    path.write_text(f'#!/bin/sh\necho "{name} $*" >> {calls}\n{answers}\n')
    path.chmod(0o755)
    return path


def calls(folder: Path) -> list[str]:
    """What recorders in ``folder`` were called with, in order."""
    record = folder / "calls"
    return record.read_text().splitlines() if record.exists() else []
