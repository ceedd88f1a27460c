"""What a cycle is given, and what it returns. Cycles build nothing: the command line does."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any

from replicator_kuma.adapters.database import Store
from replicator_kuma.adapters.kuma import KumaService
from replicator_kuma.adapters.notify import Notifier
from replicator_kuma.adapters.repository import MaintainedRepository, Position, Repository
from replicator_kuma.adapters.repository.pair import Pair
from replicator_kuma.base.effects import effect
from replicator_kuma.base.errors import Interrupted
from replicator_kuma.base.times import when
from replicator_kuma.dump.manifest import Manifest
from replicator_kuma.dump.plan import Summary
from replicator_kuma.dump.transform.overrides import Overrides
from replicator_kuma.dump.transform.policy import Policy
from replicator_kuma.replication.restart_cooldown import Cooldown
from replicator_kuma.replication.shrink import HALF, Limit
from replicator_kuma.replication.state import transitions
from replicator_kuma.replication.state.file import StateFile


class Outcome(Enum):
    """How a cycle ended when it did not raise."""

    NOTHING = "nothing"
    """live rows equal the newest snapshot"""
    PUBLISHED = "published"
    APPLIED = "applied"
    WAITING = "waiting"
    """something outside has to happen first (no snapshot yet, Kuma migrates)"""


@dataclass(frozen=True)
class CycleResult:
    """``sentence`` is logged once and asserted by tests. Errors are raised, never returned."""

    outcome: Outcome
    sentence: str
    position: Position | None = None
    digest: str | None = None
    changes: Summary | None = None
    warnings: tuple[str, ...] = ()
    waits_until: float = 0.0
    """when the snapshot that this cycle left alone may be applied, in seconds since the epoch"""

    def as_dict(self) -> dict[str, Any]:
        """The JSON that `--json` prints (a documented contract: docs/json.md)."""
        return {
            "outcome": self.outcome.value,
            "sentence": self.sentence,
            "position": str(self.position) if self.position else None,
            "digest": self.digest,
            "changes": self.changes.as_dict() if self.changes else None,
            "warnings": list(self.warnings),
            "waits_until": when(self.waits_until),
        }


Steps = Generator[None, None, str]
"""Work in steps: it gives way at each ``yield``, and its value says in a sentence how it went."""


Progress = Callable[[str], None]
"""takes each step as it begins"""


def silent(_message: str) -> None:
    """The progress of a cycle that nobody watches."""


def never() -> bool:
    """The interruption of a cycle that nothing interrupts."""
    return False


def nothing() -> None:
    """Where there is nothing to wait for."""


@dataclass(frozen=True)
class Run:
    """How one action is carried out: who watches it, who may end it, and what a person allows."""

    progress: Progress = silent
    interrupted: Callable[[], bool] = never
    """asked between steps: a signal wants the action to end before the next one"""
    force: bool = False
    """write also under a running Kuma that nobody told how to stop"""
    by_itself: bool = False
    """no person has asked for this cycle: what was in vain before is not tried again"""
    at_start: bool = False
    """nobody has asked for this cycle, though it reconciles: it belongs to the start of `run`"""


@dataclass
class Instance:
    """One Uptime Kuma, its data directory, and what a cycle needs to work on it."""

    name: str
    fleet: str
    data_dir: Path
    tables: frozenset[str]
    """the chosen tables, always a set that `dump.catalog.choose` accepted"""
    state: StateFile
    store: Store
    repository: Repository
    kuma: KumaService
    wait_ready: Callable[[], None]
    """blocks until Kuma answers as ready; raises KumaError"""
    notifier: Notifier
    repositories: tuple[MaintainedRepository, ...] = ()
    """the repositories that ``repository`` is made of: housekeeping goes to each"""
    pair: Pair | None = None
    """``repository``, where it is two"""
    leading: frozenset[str] | None = None
    """the tables that it replicates once it leads, where those are others"""
    policy: Callable[[], Policy] = Policy
    """asked at each cycle: the file of overrides may have changed; raises SettingsError"""
    shrink_limit: Limit = HALF
    find_store: Callable[[], Store] | None = None
    """looks again which database Kuma uses: its set-up page may have chosen one since; raises"""
    database_up: Callable[[], AbstractContextManager[None]] = nullcontext
    """makes tables that live inside Kuma reachable for a block, with Kuma stopped; KumaError"""
    run: Run = field(default_factory=Run)
    """how the action at work here is carried out; an action gets a copy with its own (`under`)"""
    listens: Callable[[], bool] | None = None
    """whether anybody listens at Kuma's address; None: that is not known"""
    answers: Callable[[], None] = nothing
    """waits until a Kuma that runs answers at its address; raises KumaError: it would not be
    seen to come back from a stop"""
    setup: str = ""
    """a fingerprint of how Kuma is stopped, started and asked"""
    cooldown: Cooldown = field(default_factory=Cooldown)
    """the least time between two restarts of Kuma; by default there is none"""
    leads: bool | None = None
    """by its REPLICATOR_MODE; None: none is set"""
    supervised: bool = False
    """`replicator run` has this Kuma: it is to run after a cycle even if it did not before"""
    verify_every: float = 3600.0
    """seconds after which an unchanged leader asks the repository all the same"""
    started: float = field(default_factory=time.time)
    told: dict[str, str] = field(default_factory=dict)
    """kinds that this process told and could not note, by problem (`problems`); copies share it"""
    scratch: str = "work"
    """name of the folder of `work`"""

    @property
    def work(self) -> Path:
        """Scratch folder for dumps, in the state directory; emptied at the start of each cycle."""
        return self.state.folder / self.scratch

    def under(self, run: Run) -> Instance:
        """The same for one action, which is carried out as ``run`` says."""
        return replace(self, run=run)

    def look_for_store(self) -> Instance:
        """The same, on the database that Kuma has now; raises SettingsError, DatabaseError."""
        if self.find_store is not None:
            self.store = self.find_store()
        return self

    def as_leader(self) -> Instance:
        """This instance as it is once it leads: what was only this replica's is set aside.

        What a rule skips here, a strategy leaves out or a cut takes off would be gone from the
        whole fleet.
        """
        return replace(
            self,
            policy=lambda: replace(self.policy(), overrides=Overrides(), truncate=False),
            tables=self.leading or self.tables,
            leads=True,
        )

    def choosing(self, before: Manifest) -> Instance:
        """This instance with the tables and settings that ``before`` holds.

        The operator may have chosen others since: rows that were not kept cannot be put back.
        """
        store = self.store.choosing(before.settings)
        return replace(self, tables=frozenset(before.tables), store=store)

    def stop_kuma(self) -> None:
        """Stop Kuma; raises KumaError.

        Note ``stopped_by_me`` in the state before: a process that dies here leaves Kuma stopped.
        """
        effect("stopping Kuma")
        self.kuma.stop()
        effect("Kuma stopped")

    def start_kuma(self) -> None:
        """Start Kuma, and note that nobody has to start it again; raises KumaError."""
        effect("starting Kuma")
        self.kuma.start()
        effect("Kuma started")
        self.state.change(transitions.kuma_started)

    def step(self, message: str) -> None:
        """Between two steps: raises Interrupted when asked to end, else tells what comes next."""
        if self.run.interrupted():
            raise Interrupted("stopped by a signal before the next step")
        self.run.progress(message)
