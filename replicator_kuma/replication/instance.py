"""What a cycle gets and what it returns. The command line builds these, never a cycle."""

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
from replicator_kuma.adapters.kuma.agent.client import Agent
from replicator_kuma.adapters.notify import NoPings, Notifier, NullNotifier, Pings
from replicator_kuma.adapters.repository import Listing, MaintainedRepository, Position, Repository
from replicator_kuma.adapters.repository.pair import Pair
from replicator_kuma.base.counters import COUNTED, KUMA_DOWN, KUMA_RESTARTS
from replicator_kuma.base.effects import effect
from replicator_kuma.base.errors import HoldWouldNotLast, Interrupted
from replicator_kuma.base.threads import never
from replicator_kuma.base.times import when
from replicator_kuma.dump.manifest import Manifest
from replicator_kuma.dump.plan import Summary
from replicator_kuma.dump.transform.overrides import Overrides
from replicator_kuma.dump.transform.policy import Policy
from replicator_kuma.replication.change_log import ChangeLog
from replicator_kuma.replication.restart_cooldown import Cooldown
from replicator_kuma.replication.shrink import HALF, Limit
from replicator_kuma.replication.state import transitions
from replicator_kuma.replication.state.file import StateFile

_WORK = "work"


class Outcome(Enum):
    """How a cycle ended without an error."""

    NOTHING = "nothing"
    """the live rows equal the newest snapshot"""
    PUBLISHED = "published"
    APPLIED = "applied"
    WAITING = "waiting"
    """the cycle waits for something else (no snapshot yet, Kuma migrates)"""


WENT_ON = ", without a restart of Kuma"


@dataclass(frozen=True)
class CycleResult:
    """A cycle's result. ``sentence`` is logged once. Errors are raised, never returned."""

    outcome: Outcome
    sentence: str
    position: Position | None = None
    digest: str | None = None
    changes: Summary | None = None
    warnings: tuple[str, ...] = ()
    waits_until: float = 0.0
    """when the snapshot that this cycle put off may be applied, in seconds since the epoch"""
    live: bool = False
    """rows changed, and Kuma took them without a restart"""

    @property
    def went_on(self) -> str:
        """For a sentence: that Kuma went on running; empty if it was restarted, or nothing new."""
        return WENT_ON if self.live else ""

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
"""Work in steps: others may run at each ``yield``; its return value is the final sentence."""


Progress = Callable[[str], None]
"""gets a message as each step begins"""


def nothing_streamed() -> int:
    """The count of an instance without Litestream."""
    return 0


def silent(_message: str) -> None:
    """The progress of a cycle that nobody watches."""


class Way(Enum):
    """REPLICATOR_APPLY: how a running Kuma gets new rows."""

    AUTO = "auto"
    """live where that is proved for this Kuma, else by a restart"""
    LIVE = "live"
    """never by a restart: what cannot be live waits"""
    RESTART = "restart"


@dataclass(frozen=True)
class Hint:
    """A leader's word that it has published; anybody may have sent it, so only a listing counts."""

    position: Position
    snapshot: str
    """restic's id, 64 hexadecimal digits"""


@dataclass
class HintLimit:
    """When the snapshot that a hint names may be fetched again before a listing names it too."""

    free_at: float = 0.0
    """by time.monotonic"""


@dataclass
class KumaOff:
    """Since when we have Kuma stopped."""

    since: float | None = None
    """by time.monotonic; None: we have not stopped it"""

    def over(self) -> None:
        """Count that it was started again."""
        if self.since is not None:
            COUNTED.add(KUMA_RESTARTS)
            COUNTED.add(KUMA_DOWN, time.monotonic() - self.since)
            self.since = None


@dataclass(frozen=True)
class Run:
    """How one action is carried out: who watches it, who may end it, what a person allows."""

    progress: Progress = silent
    interrupted: Callable[[], bool] = never
    """asked between steps: whether a signal asks the action to end before the next step"""
    force: bool = False
    """write even while a Kuma runs that we have no way to stop"""
    restart: bool = False
    """a person wants Kuma restarted for the rows, whatever REPLICATOR_APPLY says"""
    by_itself: bool = False
    """no person asked for this cycle: it does not retry what failed in vain before"""
    at_start: bool = False
    """no person asked for this cycle, although it reconciles: it is the first one of `run`"""
    hint: Hint | None = None
    """what this cycle may look for first"""
    edited: bool = False
    """the change watch has seen other rows: a leader need not compare before it dumps them"""


@dataclass
class Instance:
    """One Uptime Kuma with its data directory, and all that a cycle needs to work on it."""

    name: str
    fleet: str
    data_dir: Path
    tables: frozenset[str]
    """the chosen tables; `dump.catalog.choose` has accepted the set"""
    state: StateFile
    store: Store
    repository: Repository
    kuma: KumaService
    wait_ready: Callable[[], None]
    """blocks until Kuma is ready; raises KumaError"""
    notifier: Notifier
    signal: Notifier = field(default_factory=NullNotifier)
    """sends a leader's hints to the replicas (push.py)"""
    pings: Pings = field(default_factory=NoPings)
    """tells the begin and the end of cycles (pings.py)"""
    way: Way = Way.RESTART
    agent: Agent | None = None
    """the agent in Kuma's process, which may not answer; None: nobody asks it"""
    repositories: tuple[MaintainedRepository, ...] = ()
    """the one or two repositories behind ``repository``: housekeeping runs on each"""
    pair: Pair | None = None
    """``repository`` again, if it is a pair of two"""
    leading: frozenset[str] | None = None
    """the tables to replicate once this instance leads, if they differ from ``tables``"""
    policy: Callable[[], Policy] = Policy
    """called at each cycle: the file of overrides may have changed; raises SettingsError"""
    shrink_limit: Limit = HALF
    find_store: Callable[[], Store] | None = None
    """finds again which database Kuma uses: its set-up page may have chosen one since; raises"""
    database_up: Callable[[], AbstractContextManager[None]] = nullcontext
    """for a block, makes tables inside a stopped Kuma reachable; raises KumaError"""
    run: Run = field(default_factory=Run)
    """how the current action is carried out; each action gets a copy with its own (`under`)"""
    listens: Callable[[], bool] | None = None
    """whether a process listens at Kuma's address; None: unknown"""
    answers: Callable[[], None] = lambda: None
    """waits until a running Kuma answers at its address; raises KumaError: after a stop we could
    not see that it is back"""
    up: Callable[[], bool] = never
    """whether Kuma answers at its address now, and is ready"""
    end_hung: Callable[[], None] | None = None
    """ends a Kuma that is our child and hangs, and waits for its end; None: it is not our child"""
    setup: str = ""
    """a fingerprint of how Kuma is stopped, started and asked"""
    cooldown: Cooldown = field(default_factory=Cooldown)
    """the least time between two restarts of Kuma; by default there is none"""
    leads: bool | None = None
    """whether REPLICATOR_MODE makes it the leader; None: the mode is not set"""
    supervised: bool = False
    """`replicator run` supervises this Kuma: it has to run after each cycle"""
    verify_every: float = 3600.0
    """seconds after which even an unchanged leader asks the repository"""
    started: float = field(default_factory=time.time)
    told: dict[str, str] = field(default_factory=dict)
    """kinds that this process told and could not note, by problem (`problems`); copies share it"""
    hint_limit: HintLimit = field(default_factory=HintLimit)
    """copies share it"""
    kuma_off: KumaOff = field(default_factory=KumaOff)
    """copies share it"""
    change_log: ChangeLog | None = None
    """keeps what cycles see of the repository for the page and the API; None: nobody asks"""
    forgetful: bool = False
    """what it remembers is lost together with a disk whose rows Litestream brings back"""
    committed: Callable[[], int] = nothing_streamed
    """the last transaction of the database, by Litestream's count; 0: nobody counts"""
    streamed_by: Callable[[], int | None] = lambda: None
    """the id of our own Litestream's process"""
    scratch: str = _WORK
    """name of the folder of `work`"""

    @property
    def work(self) -> Path:
        """Scratch folder for dumps, in the state directory; emptied at the start of each cycle."""
        return self.state.folder / self.scratch

    @property
    def previews(self) -> bool:
        """Whether this only looks, without the lock: it keeps nothing."""
        return self.scratch != _WORK

    def under(self, run: Run) -> Instance:
        """A copy of this instance for one action, carried out as ``run`` says."""
        return replace(self, run=run)

    def require_lasting_hold(self) -> None:
        """Raise HoldWouldNotLast if a hold would be lost with a disk that Litestream replaces.

        The replica would then follow the newest snapshot without a word.
        """
        if self.forgetful:
            raise HoldWouldNotLast(
                "this replica cannot be held at a position: REPLICATOR_LITESTREAM_URL is set, and "
                f"the hold would be noted in {self.state.name}, which is lost with DATA_DIR"
            )

    def look_for_store(self) -> Instance:
        """Find the database that Kuma uses now; raises SettingsError, DatabaseError."""
        if self.find_store is not None:
            self.store = self.find_store()
        return self

    def as_leader(self) -> Instance:
        """A copy of this instance as a leader: without the rules that belong to a replica.

        Rows that a replica's rules leave out or cut would be gone from the whole fleet.
        """
        return replace(
            self,
            policy=lambda: replace(self.policy(), overrides=Overrides(), truncate=False),
            tables=self.leading or self.tables,
            leads=True,
        )

    def listed(self) -> Listing:
        """Ask the repository for the fleet's snapshots; raises RepositoryErrors."""
        found = self.repository.snapshots(self.fleet)
        if self.change_log is not None:
            self.change_log.listed(found)
        return found

    def choosing(self, before: Manifest) -> Instance:
        """A copy of this instance with the tables and settings that ``before`` holds.

        The operator may have chosen others since, but only rows that were kept can be put back.
        """
        store = self.store.choosing(before.settings)
        return replace(self, tables=frozenset(before.tables), store=store)

    def stop_kuma(self) -> None:
        """Stop Kuma; raises KumaError.

        First note ``stopped_by_me`` in the state: a process that dies here leaves Kuma stopped.
        """
        effect("stopping Kuma")
        self.kuma.stop()
        self.kuma_off.since = time.monotonic()
        effect("Kuma stopped")

    def start_kuma(self) -> None:
        """Start Kuma, and note that it is no longer stopped by us; raises KumaError."""
        effect("starting Kuma")
        self.kuma.start()
        self.kuma_off.over()
        effect("Kuma started")
        self.state.change(transitions.kuma_started)

    def say_the_rest(self, timeout: float = 2.0) -> None:
        """Give all that is unsent at most ``timeout`` seconds together; the last call."""
        until = time.monotonic() + timeout
        for each in (self.notifier, self.signal, self.pings):
            each.close(max(0.0, until - time.monotonic()))

    def step(self, message: str) -> None:
        """Between two steps: raise Interrupted if asked to end, else report the next step."""
        if self.run.interrupted():
            raise Interrupted("stopped by a signal before the next step")
        self.run.progress(message)
