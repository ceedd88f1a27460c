"""The command `replicator`, where a test may have it, its Kuma or both killed at a step.

`plan` writes what is to be killed at which step into a file; the process that comes to the step
removes the file, so that it happens once.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Collection
from pathlib import Path

from replicator_kuma.base.effects import set_hook
from replicator_kuma.cli.main import main

PROGRAM = (sys.executable, "-m", "tests.support.killed_by_plan")
_FILE = "KILLED_BY_PLAN"


def environment(folder: Path) -> dict[str, str]:
    """What `PROGRAM` needs in its environment; ``folder`` is to hold the plan."""
    root = Path(__file__).parents[2]
    return {_FILE: str(folder / "plan.json"), "PYTHONPATH": str(root)}


def plan(folder: Path, step: str, pids: Collection[int], *, itself: bool, after: float) -> None:
    """At ``step`` (`effect`) SIGKILL for these, and for the process itself, ``after`` seconds."""
    wanted = {"step": step, "pids": [*pids], "itself": itself, "after": after}
    new = folder / "plan.new"
    new.write_text(json.dumps(wanted))
    new.replace(folder / "plan.json")


def carried_out(folder: Path) -> bool:
    """Whether a process came to the step."""
    return not (folder / "plan.json").exists()


def _hook(step: str) -> None:
    path = Path(os.environ[_FILE])
    with contextlib.suppress(FileNotFoundError):
        wanted = json.loads(path.read_text())
        if wanted["step"] == step:
            path.unlink()
            if wanted["after"]:
                threading.Thread(target=_kill, args=(wanted,), daemon=True).start()
            else:
                _kill(wanted)


def _kill(wanted: dict[str, object]) -> None:
    time.sleep(float(str(wanted["after"])))
    for pid in wanted["pids"]:  # type: ignore[attr-defined]
        os.kill(pid, signal.SIGKILL)
    if wanted["itself"]:
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    set_hook(_hook)
    sys.exit(main())
