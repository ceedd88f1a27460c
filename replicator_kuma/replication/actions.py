"""The actions on an instance: one frozen class for each verb.

A person, the schedule or a signal asks for one. The command line, the control socket and the
supervisor pass the same value on, with a `Run` for this one time. Each action imports what it
needs when it runs. (Drills and housekeeping are no cycles: daemon/maintenance.py.)
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
from replicator_kuma.base.events import as_event
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
    """A frozen value that says what to do; its fields are the members of its JSON."""

    command: ClassVar[str]
    """the command that a person types, and the action's name for programs"""
    leads: ClassVar[bool | None] = None
    """the role that it is for: True the leader, False a replica; None: either"""
    forcible: ClassVar[bool] = False
    """whether `Run.force` has an effect"""

    def fits(self, mode: str, memory: StateFile, how: str = "") -> None:
        """Raise SettingsError if the action is for the other role, with what to do instead.

        ``mode`` is REPLICATOR_MODE, "" if unset; ``how`` follows the command's name in the message.
        """
        leads = mode == LEADER
        if self.leads not in (None, leads):
            state = mode_mismatch.remembered(memory)
            raise mode_mismatch.unfit(f"{self.command}{how}", mode, state, leads=leads)

    def to_json(self) -> dict[str, Any]:
        return {each.name: getattr(self, each.name) for each in fields(self)}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        """The action from the members of `to_json`; SettingsError if they are not exactly these."""
        own = fields(cls)
        check(cls.command, raw, {each.name: _KINDS[each.name] for each in own})
        if any(raw[each.name] != each.default for each in own if not each.init):
            raise SettingsError(f"options of {cls.command} contradict one another", hint=OTHER)
        return cls(**{each.name: raw[each.name] for each in own if each.init})


@dataclass(frozen=True)
class Cycle(Action, ABC):
    """An action whose result is noted as the instance's last cycle (runner.py)."""

    forcible = True
    asks_repository: ClassVar[bool] = True
    makes_leader: ClassVar[bool] = False

    @property
    def own(self) -> bool:
        """Whether the instance does it by itself, again and again."""
        return False

    def role(self, mode: str) -> str:
        """The role in which it works if REPLICATOR_MODE is ``mode``."""
        return LEADER if self.makes_leader else mode

    @abstractmethod
    def run(self, instance: Instance, run: Run) -> CycleResult:
        """Carry the action out; call under the instance's lock. Raises ReplicatorErrors."""


@contextlib.contextmanager
def _asked_for() -> Iterator[None]:
    """Mark errors as a refusal: only the person who asked sees them; no cycle has failed."""
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
    """a person allows that most monitors are gone"""
    reconcile: bool = False
    """ask the repository in any case"""

    @property
    def own(self) -> bool:
        return True

    def run(self, instance: Instance, run: Run) -> CycleResult:
        try:
            return self._cycle(instance.under(run))
        except RepositoryMissing:
            if instance.state.load().knows_fleet or not instance.supervised:
                raise
            if instance.repository.init():
                logger.info("created the repository", extra=as_event("repository_created"))
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
    """compare the live rows also with a snapshot that is applied already"""
    snapshot: str | None = None
    """an id or a position"""
    at: float | None = None
    """seconds since the epoch: the snapshot that was the newest then"""
    resume: bool = field(default=False, init=False)
    allow_shrink: bool = False

    @property
    def own(self) -> bool:
        return self.snapshot is None and self.at is None

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
    """set by `--now`; without effect, since a resume always reconciles"""
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
    """Put the rows from before an apply back; on a replica, also set a hold."""

    command = "undo"
    asks_repository = False

    number: int | None = None
    """the number of a checkpoint; None: the newest with other rows"""

    def run(self, instance: Instance, run: Run) -> CycleResult:
        from replicator_kuma.replication.undo import undo

        with _asked_for():
            return undo(instance.under(run), self.number, hold=not instance.leads)


@dataclass(frozen=True)
class Rollback(Cycle):
    """On the leader, write the rows of an older snapshot back and publish them."""

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
    """End the supervised Kuma by SIGKILL, and time its recovery: `drill --kill`."""

    command = "drill-kill"

    def run(self, instance: Instance, kuma: SupervisedKuma, url: str, patience: float) -> Killed:
        """Run `kill`, which takes the lock; this is no cycle."""
        from replicator_kuma.replication.drill.kill import kill

        return kill(instance, kuma, url, patience)


OwnCycle = Backup | Restore
"""what an instance does by itself, according to its role"""
