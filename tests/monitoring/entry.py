"""The real command with other deadlines, or several commands in one process.

    python -m tests.monitoring.entry run
    python -m tests.monitoring.entry ask '[["status"], ["doctor"]]'

``ask`` prints a JSON list: exit code and output of each.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

from replicator_kuma.adapters.repository.restic import client
from replicator_kuma.adapters.repository.restic.client import ResticRepository, Timeouts
from replicator_kuma.cli.main import main
from replicator_kuma.daemon import heartbeat, startup

HANGS = "TEST_REPOSITORY_HANGS"
"""names a file: while it is there, a repository is given up after a short time"""
SHORT, LONG = 4.0, 120.0
"""seconds; restic needs a moment to say why it gets no answer"""
STALE = 8.0
"""seconds; a supervisor's sign of life is 60 s old at most otherwise"""


class Deadlines:
    """In the place of `Timeouts`: short where a repository hangs by design, long on a busy machine.

    Nothing else is decided another way.
    """

    def __getattr__(self, name: str) -> Any:
        if name in ("first_call", "listing"):
            return SHORT if Path(os.environ[HANGS]).exists() else LONG
        return getattr(Timeouts(), name)


def other_deadlines() -> None:
    """For all that this process does."""
    heartbeat.EVERY, heartbeat.STALE = 0.5, STALE
    client._FIRST_PAUSE = client._LONGEST_PAUSE = 0.1
    startup.START_BUDGET = LONG
    assert ResticRepository.__init__.__defaults__ == (Timeouts(),)
    ResticRepository.__init__.__defaults__ = (Deadlines(),)


def ask(commands: list[list[str]]) -> list[tuple[int, str]]:
    """Each command's exit code and what it printed."""
    told = []
    for command in commands:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            code = main(command)
        told.append((code, out.getvalue()))
    return told


if __name__ == "__main__":
    what, *words = sys.argv[1:]
    other_deadlines()
    if what == "ask":
        json.dump(ask(json.loads(words[0])), sys.stdout)
    else:
        sys.exit(main([what, *words]))
