"""A supervisor in a process of its own whose actions follow a script: «replicator run» for tests.

Each notes its call, then does what <its name>.json beside the notes says: hold (seconds,
interruptible, over once <its name>.released exists), repository (the holding is a call of restic:
the start's budget ends it), stop, start, start_after_interrupt (Kuma), error (class name),
outcome, waits (seconds).
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from replicator_kuma.adapters.notify import Change, Kind
from replicator_kuma.adapters.repository import Position
from replicator_kuma.base import errors
from replicator_kuma.base.errors import Interrupted, KumaError
from replicator_kuma.cli.commands.run import supervise
from replicator_kuma.config.build import build, build_supervised
from replicator_kuma.config.settings import Need, Settings
from replicator_kuma.daemon import heartbeat, log, startup, supervisor
from replicator_kuma.replication import other_processes
from replicator_kuma.replication.actions import (
    Backup,
    Cycle,
    Promote,
    Restore,
    Resume,
    Rollback,
    Undo,
)
from replicator_kuma.replication.instance import CycleResult, Instance, Outcome, Run
from tests.support.states import edit_state

FOLDER = Path(os.environ["SCRIPT"])


def note(what: str) -> None:
    with (FOLDER / "calls").open("a") as file:
        file.write(f"{time.monotonic():.3f} {what}\n")


class NotingNotifier:
    def send(
        self,
        kind: Kind,
        title: str,
        message: str,
        *,
        urgent: bool = False,
        change: Change | None = None,
    ) -> None:
        note(f"notify {title}")

    def close(self, timeout: float = 2.0) -> None:
        path = FOLDER / "notifier.json"
        left = json.loads(path.read_text())["hold"] if path.exists() else 0
        time.sleep(min(left, timeout))
        note("notifier closed")


class Script:
    """What is done in one run, by the script."""

    def __init__(self) -> None:
        self.repository_interrupted: Callable[[], bool] = lambda: False

    def act(self, instance: Instance, what: str, words: str = "") -> CycleResult:
        note(f"{what} {words}".strip())
        path = FOLDER / f"{what}.json"
        script: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        instance.run.progress(f"scripted {what}")
        if script.get("stop"):
            instance.kuma.stop()
            note("stopped")
        end = time.monotonic() + script.get("hold", 0)
        asks = self.repository_interrupted if script.get("repository") else instance.run.interrupted
        released = FOLDER / f"{what}.released"
        while time.monotonic() < end and not released.exists():
            if asks():
                note(f"{what} interrupted")
                if script.get("start_after_interrupt"):
                    instance.kuma.start()
                raise Interrupted("scripted")
            time.sleep(0.01)
        if script.get("start"):
            instance.kuma.start()
            instance.wait_ready()
        if name := script.get("error"):
            raise getattr(errors, name)("scripted failure") if hasattr(errors, name) else ValueError
        outcome = Outcome(script.get("outcome", "nothing"))
        position = Position(1, 1) if script.get("position") else None
        until = time.time() + script["waits"] if script.get("waits") else 0.0
        sentence = f"scripted {what} went well"
        return CycleResult(outcome, sentence, position, warnings=("careful",), waits_until=until)

    def run(self, action: Cycle, instance: Instance, run: Run) -> CycleResult:
        match action:
            case Backup():
                words = f"{action.allow_shrink} {action.reconcile}"
            case Restore():
                at = "" if action.at is None else " at"
                words = f"{action.reconcile} {action.snapshot}{at}"
            case Undo():
                words = str(action.number)
            case Rollback():
                words = str(action.snapshot)
            case Promote():
                words = str(run.force)
            case _:
                words = "resume"
        return self.act(instance.under(run), action.command, words)

    def roll_back(self, instance: Instance, cause: KumaError) -> None:
        if instance.state.load().applying.pending is None:
            raise cause
        self.act(instance, "roll_back")
        (FOLDER / "behaviour.json").unlink(missing_ok=True)
        instance.kuma.stop()
        instance.kuma.start()
        instance.wait_ready()
        edit_state(instance.state, pending=None)
        raise KumaError("it runs on the old rows") from cause

    def take_over(self) -> None:
        """From here on this process does nothing by itself."""
        for kind in (Backup, Restore, Resume, Undo, Rollback, Promote):
            patch.object(kind, "run", lambda *given: self.run(*given)).start()
        patch.multiple(
            startup,
            resolve_before_start=partial(self.act, what="before_start"),
            confirm_started=partial(self.act, what="confirm"),
            revert=self.roll_back,
        ).start()


def main() -> int:
    startup.START_BUDGET = float(os.environ.get("SCRIPT_BUDGET", "30"))
    supervisor.WATCH_EVERY = 0.2
    other_processes.PATIENCE = float(os.environ.get("SCRIPT_PATIENCE", "0.2"))
    heartbeat.EVERY = 0.2
    settings = Settings.load(None, {}, (Need.ROLE, Need.REPOSITORY))
    log.configure(settings.log_level, settings.log_format)
    script = Script()

    def scripted(settings: Settings, **given: Any) -> Instance:
        script.repository_interrupted = given["repository_interrupted"]
        instance = build(settings, **given)
        instance.notifier = NotingNotifier()
        return instance

    service = build_supervised(settings)
    script.take_over()
    patch.object(supervisor, "build", scripted).start()
    try:
        questions = {"fleet": lambda _options: json.loads((FOLDER / "fleet.json").read_text())}
        return supervise(settings, service, questions)
    except errors.ReplicatorError as error:
        sys.stderr.write(f"{error}. {error.hint}\n")
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
