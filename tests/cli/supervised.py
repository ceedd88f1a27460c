"""A supervisor in a process of its own whose tasks follow a script: «replicator run» for tests.

Each task notes its call, then does what <task>.json beside the notes says: hold (seconds,
interruptible), repository (the holding is a call of restic: the start's budget ends it),
stop, start, start_after_interrupt (Kuma), error (class name), outcome, waits (seconds).
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

from replicator_kuma.adapters.kuma import KumaService
from replicator_kuma.adapters.notify import Kind
from replicator_kuma.adapters.repository import Position
from replicator_kuma.base import errors
from replicator_kuma.base.errors import Interrupted, KumaError
from replicator_kuma.config.build import build, build_supervised
from replicator_kuma.config.settings import Need, Settings
from replicator_kuma.daemon import heartbeat, jobs, log, supervisor
from replicator_kuma.daemon.jobs import Tasks
from replicator_kuma.replication import other_processes
from replicator_kuma.replication.instance import CycleResult, Instance, Outcome
from replicator_kuma.reports.doctor.doctor import log_problems
from tests.support.states import edit_state

FOLDER = Path(os.environ["SCRIPT"])


def note(what: str) -> None:
    with (FOLDER / "calls").open("a") as file:
        file.write(f"{time.monotonic():.3f} {what}\n")


class NotingNotifier:
    def send(self, kind: Kind, title: str, message: str, *, urgent: bool = False) -> None:
        note(f"notify {title}")

    def close(self, timeout: float = 2.0) -> None:
        path = FOLDER / "notifier.json"
        left = json.loads(path.read_text())["hold"] if path.exists() else 0
        time.sleep(min(left, timeout))
        note("notifier closed")


class Script:
    """The scripted tasks of one run."""

    def __init__(self) -> None:
        self.repository_interrupted: Callable[[], bool] = lambda: False

    def act(self, instance: Instance, what: str, words: str = "") -> CycleResult:
        note(f"{what} {words}".strip())
        path = FOLDER / f"{what}.json"
        script: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        instance.progress(f"scripted {what}")
        if script.get("stop"):
            instance.kuma.stop()
            note("stopped")
        end = time.monotonic() + script.get("hold", 0)
        asks = self.repository_interrupted if script.get("repository") else instance.interrupted
        while time.monotonic() < end:
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

    def tasks(self) -> Tasks:
        def roll_back(instance: Instance, cause: KumaError) -> None:
            if instance.state.load().applying.pending is None:
                raise cause
            self.act(instance, "roll_back")
            (FOLDER / "behaviour.json").unlink(missing_ok=True)
            instance.kuma.stop()
            instance.kuma.start()
            instance.wait_ready()
            edit_state(instance.state, pending=None)
            raise KumaError("it runs on the old rows") from cause

        return Tasks(
            backup=lambda i, shrink, verify: self.act(i, "backup", f"{shrink} {verify}"),
            restore=lambda i, again, snapshot, _shrink: self.act(
                i, "restore", f"{again} {snapshot}"
            ),
            promote=lambda i, force: self.act(i, "promote", str(force)),
            by_hand=lambda i, command, options: self.act(
                i, command, f"{options.get('number')} {options.get('snapshot')}"
            ),
            before_start=lambda i: void(self.act(i, "before_start")),
            confirm=lambda i: void(self.act(i, "confirm")),
            roll_back=roll_back,
        )


def void(_result: CycleResult) -> None:
    return None


def main() -> int:
    jobs.START_BUDGET = float(os.environ.get("SCRIPT_BUDGET", "30"))
    supervisor.WATCH_EVERY = 0.2
    other_processes.PATIENCE = float(os.environ.get("SCRIPT_PATIENCE", "0.2"))
    heartbeat.EVERY = 0.2
    settings = Settings.load(None, {}, (Need.ROLE, Need.REPOSITORY))
    log.configure(settings.log_level, settings.log_format)
    script = Script()

    def builder(
        service: KumaService,
        interrupted: Callable[[], bool],
        repository_interrupted: Callable[[], bool],
    ) -> Instance:
        script.repository_interrupted = repository_interrupted
        instance = build(settings, service=service, interrupted=interrupted)
        instance.notifier = NotingNotifier()
        return instance

    service = build_supervised(settings)
    try:
        return supervisor.Supervisor(
            settings, service, builder, partial(log_problems, settings), script.tasks()
        ).run()
    except errors.ReplicatorError as error:
        sys.stderr.write(f"{error}. {error.hint}\n")
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
