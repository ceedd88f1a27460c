"""What a person, the schedule or a signal can have done with an instance: one frozen value a verb.

The command line, the control socket and the supervisor hand the same value on. What travels beside
it, for this one time, is a `Run`. What an action needs is imported when it runs: most commands
need little of it. (Drills and housekeeping are no cycles: daemon/maintenance.py.)
"""

from __future__ import annotations

import contextlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, Self

from replicator_kuma.base.errors import (
    NothingKept,
    RepositoryMissing,
    SettingsError,
    SnapshotNotFound,
    Unpublished,
)
from replicator_kuma.base.json_members import FLAG, MOMENT, NUMBER, OTHER, TEXT, Kind, check
from replicator_kuma.replication import mode_mismatch
from replicator_kuma.replication.instance import CycleResult, Instance, Run
from replicator_kuma.replication.state.file import StateFile

if TYPE_CHECKING:
    from replicator_kuma.adapters.kuma.supervised import SupervisedKuma
    from replicator_kuma.replication.drill.kill import Killed

logger = logging.getLogger(__name__)

LEADER = "BACKUP"
"""the REPLICATOR_MODE of a leader"""
_KINDS: Mapping[str, Kind] = {
    **dict.fromkeys(("allow_shrink", "reconcile", "resume", "kuma"), FLAG),
    **{"snapshot": TEXT, "at": MOMENT, "number": NUMBER},
}


@dataclass(frozen=True)
class Action:
    """A frozen value that says what is to be done; its fields are the members of its JSON."""

    command: ClassVar[str]
    """the command that a person types for it, and its name for programs"""
    leads: ClassVar[bool | None] = None
    """whose it is: the leader's, a replica's; None: either's"""
    forcible: ClassVar[bool] = False
    """whether `Run.force` means anything to it"""

    def fits(self, mode: str, memory: StateFile, how: str = "") -> None:
        """Raise SettingsError where it is for the other role, with what to do instead.

        ``mode`` is REPLICATOR_MODE, "" where unset; ``how`` is said behind the command's name.
        """
        leads = mode == LEADER
        if self.leads not in (None, leads):
            state = mode_mismatch.remembered(memory)
            raise mode_mismatch.unfit(f"{self.command}{how}", mode, state, leads=leads)

    def to_json(self) -> dict[str, Any]:
        return {each.name: getattr(self, each.name) for each in fields(self)}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        """What `to_json` said; SettingsError where it is not exactly the members of this one."""
        own = fields(cls)
        check(cls.command, raw, {each.name: _KINDS[each.name] for each in own})
        if any(raw[each.name] != each.default for each in own if not each.init):
            raise SettingsError(f"options of {cls.command} contradict one another", hint=OTHER)
        return cls(**{each.name: raw[each.name] for each in own if each.init})


@dataclass(frozen=True)
class Cycle(Action, ABC):
    """An action whose end is noted as that of the instance's last cycle (runner.py)."""

    forcible = True
    asks_repository: ClassVar[bool] = True
    makes_leader: ClassVar[bool] = False

    def role(self, mode: str) -> str:
        """The role in which it works where REPLICATOR_MODE is ``mode``."""
        return LEADER if self.makes_leader else mode

    @abstractmethod
    def run(self, instance: Instance, run: Run) -> CycleResult:
        """Do it; call under the instance's lock. Raises ReplicatorErrors."""


@contextlib.contextmanager
def _asked_for() -> Iterator[None]:
    """What a person asks for and cannot have is this person's to know, and no failure of cycles."""
    try:
        yield
    except (NothingKept, SnapshotNotFound, Unpublished) as error:
        error.refusal = True
        raise


@dataclass(frozen=True)
class Backup(Cycle):
    """Publish this leader's configuration if it has changed.

    Under `replicator run`, a leader that has never published creates its repository.
    """

    command = "backup"
    leads = True
    forcible = False

    allow_shrink: bool = False
    """a person says that most of the monitors may be gone"""
    reconcile: bool = False
    """ask the repository in any case"""

    def run(self, instance: Instance, run: Run) -> CycleResult:
        try:
            return self._cycle(instance.under(run))
        except RepositoryMissing:
            state = instance.state.load()
            known = any(
                (state.leading.published, state.leading.publishing, state.following.applied)
            )
            if known or not instance.supervised:
                raise
            if instance.repository.init():
                logger.info("created the repository")
            return self._cycle(instance.under(run))

    def _cycle(self, instance: Instance) -> CycleResult:
        from replicator_kuma.replication.leader.cycle import Leader

        return Leader(instance).cycle(allow_shrink=self.allow_shrink, verify=self.reconcile)


@dataclass(frozen=True)
class Restore(Cycle):
    """Make this replica equal to the newest snapshot; or to a named one, and hold it."""

    command = "restore"
    leads = False

    reconcile: bool = False
    """compare the live rows also with a snapshot that is applied"""
    snapshot: str | None = None
    """an id or a position"""
    at: float | None = None
    """seconds since the epoch: what was newest then"""
    resume: bool = field(default=False, init=False)
    allow_shrink: bool = False

    def run(self, instance: Instance, run: Run) -> CycleResult:
        from replicator_kuma.replication.replica.cycle import cycle, go_to

        there = instance.under(run)
        if self.snapshot is None and self.at is None:
            return cycle(there, reconcile=self.reconcile, allow_shrink=self.allow_shrink)
        with _asked_for():
            return go_to(there, self.snapshot, self.at)


@dataclass(frozen=True)
class Resume(Cycle):
    """End a replica's hold, and go to the newest snapshot: a `Restore` whose ``resume`` is true."""

    command = "restore"
    leads = False

    reconcile: bool = False
    """said by `--now`; it reconciles anyway"""
    snapshot: None = field(default=None, init=False)
    at: None = field(default=None, init=False)
    resume: bool = field(default=True, init=False)
    allow_shrink: bool = False

    def run(self, instance: Instance, run: Run) -> CycleResult:
        from replicator_kuma.replication.replica.cycle import resume

        with _asked_for():
            return resume(instance.under(run), allow_shrink=self.allow_shrink)


@dataclass(frozen=True)
class Undo(Cycle):
    """Put the rows from before an apply back; a replica then holds them."""

    command = "undo"
    asks_repository = False

    number: int | None = None
    """of a checkpoint; None: the newest with other rows"""

    def run(self, instance: Instance, run: Run) -> CycleResult:
        from replicator_kuma.replication.undo import undo

        with _asked_for():
            return undo(instance.under(run), self.number, hold=not instance.leads)


@dataclass(frozen=True)
class Rollback(Cycle):
    """Write the rows of an older snapshot back on the leader, and publish them."""

    command = "rollback"
    leads = True

    snapshot: str | None = None
    at: float | None = None

    def run(self, instance: Instance, run: Run) -> CycleResult:
        from replicator_kuma.replication.leader.rollback import rollback

        with _asked_for():
            return rollback(instance.under(run), self.snapshot, self.at)


@dataclass(frozen=True)
class Promote(Cycle):
    """Make this instance the leader of its fleet."""

    command = "promote"
    makes_leader = True

    def run(self, instance: Instance, run: Run) -> CycleResult:
        from replicator_kuma.replication.leader.promote import promote

        return promote(instance.under(run))


@dataclass(frozen=True)
class KillDrill(Action):
    """End the supervised Kuma by SIGKILL, and measure until it monitors: `drill --kill`."""

    command = "drill-kill"

    def run(self, instance: Instance, kuma: SupervisedKuma, url: str, patience: float) -> Killed:
        """No cycle; see `kill`, which takes the lock."""
        from replicator_kuma.replication.drill.kill import kill

        return kill(instance, kuma, url, patience)


OwnCycle = Backup | Restore
"""what an instance does by itself, by its role"""
