"""A leader, a replica and their repository, in which one fault comes at one phase of one cycle."""

from __future__ import annotations

import shutil
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from replicator_kuma.adapters.repository import Label
from replicator_kuma.replication.actions import Backup, Restore
from replicator_kuma.replication.instance import CycleResult, Instance, Run, Way
from replicator_kuma.replication.runner import run
from tests.faults.fast_restic import FastRestic
from tests.support.fleet import Start
from tests.support.instances import HastyStore, make_instance
from tests.support.memory_agent import MemoryKuma

LEADER, REPLICA = "leader", "replica"
PHASES = {
    LEADER: ("observe", "dump", "publish", "note"),
    REPLICA: ("observe", "fetch", "plan", "stop", "apply", "start", "note"),
}
_BEGINS = {
    "dumping the tables": "dump",
    "publishing": "publish",
    "comparing the rows": "plan",
    "stopping Kuma": "stop",
    "writing the tables": "apply",
    "starting Kuma": "start",
}

Hook = Callable[[str, tuple[Any, ...]], None]
_hooks: list[Hook] = []
_installed: list[bool] = []


def hear(hook: Hook) -> Callable[[], None]:
    """Call ``hook`` at each of Python's audit events, until what is returned is called.

    What it raises, the operation raises: a file that cannot be written.
    """
    if not _installed:
        sys.addaudithook(lambda event, arguments: [h(event, arguments) for h in _hooks] and None)
        _installed.append(True)
    _hooks.append(hook)
    return lambda: _hooks.remove(hook)


class WatchedRestic(FastRestic):
    """Tells when a publish has ended well."""

    published_one: Callable[[], None] = staticmethod(lambda: None)

    def publish(self, folder: Path, label: Label) -> str:
        stored = super().publish(folder, label)
        self.published_one()
        return stored


class FaultyKuma(MemoryKuma):
    """A fault puts other functions in the place of these."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.before_stop: Callable[[], None] = lambda: None
        self.before_start: Callable[[], None] = lambda: None
        self.before_ready: Callable[[], None] = lambda: None
        self.ready_one: Callable[[], None] = lambda: None

    def stop(self) -> None:
        self.before_stop()
        super().stop()

    def start(self) -> None:
        self.before_start()
        super().start()

    def wait_ready(self) -> None:
        self.before_ready()
        super().wait_ready()
        self.ready_one()


@dataclass
class World:
    """One run: ``at`` is the phase that begins, told to whoever listens."""

    folder: Path
    role: str
    live: bool = False
    """whether Kuma takes rows while it runs"""

    def __post_init__(self) -> None:
        self.repository = WatchedRestic(self.folder)
        self.kuma = FaultyKuma(self.folder / self.role)
        self.listens: Callable[[], bool] = lambda: True
        """whether anybody listens at Kuma's address; a fault may say otherwise within a cycle"""
        self.instance = self._instance()
        self.asked_to_end = False
        self.begins: Callable[[str], None] = lambda _phase: None

    def _instance(self) -> Instance:
        folder = self.folder / self.role
        store = HastyStore(folder)
        made = make_instance(folder, self.repository, name=self.role, store=store, kuma=self.kuma)
        made.listens = lambda: self.listens()
        if self.live:
            made.way, made.agent = Way.AUTO, self.kuma.agent
        made.run = Run(self._progress, interrupted=lambda: self.asked_to_end)
        self.repository._interrupted = lambda: self.asked_to_end
        self.repository.published_one = lambda: self.begins("note")
        self.kuma.ready_one = lambda: self.begins("note")
        return made

    def _progress(self, message: str) -> None:
        phase = "fetch" if message.startswith("fetching") else _BEGINS.get(message)
        if phase in ("dump", "plan"):
            for thread in threading.enumerate():
                if thread.name == "beside":
                    thread.join()  # the listing, or the live rows: of the phase before
        if phase:
            self.begins(phase)

    @property
    def data(self) -> Path:
        return self.folder / self.role

    @property
    def database(self) -> Path:
        return self.data / "kuma.db"

    @property
    def state(self) -> Path:
        return self.instance.state.folder

    def cycle(self, *, now: bool = False) -> CycleResult:
        """One cycle as a command or the supervisor has it, its end noted."""
        self.begins("observe")
        if self.role == LEADER:
            return run(self.instance, "BACKUP", Backup(reconcile=now).run, self.instance.run)
        return run(self.instance, "RESTORE", Restore(now).run, self.instance.run)

    def reborn(self) -> World:
        """What a new process makes of the same files."""
        return World(self.folder, self.role, self.live)


def world_of(start: Start, folder: Path, role: str, *, live: bool = False) -> World:
    """A copy that a fault may ruin; ``folder`` may hold empty file systems already."""
    shutil.copytree(start.folder, folder, dirs_exist_ok=True)
    world = World(folder, role, live)
    world.repository.install()
    world.kuma.agent.read()
    return world
