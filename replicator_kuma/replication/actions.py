"""What commands and the supervisor have done: cycles under the lock, and recovery.

`Tasks` names what lies below, so that a test can put something else in its place.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from replicator_kuma.base.errors import (
    CacheFull,
    KumaError,
    NothingKept,
    RepositoryMissing,
    SnapshotNotFound,
    Unpublished,
)
from replicator_kuma.base.os_errors import refusal
from replicator_kuma.config.settings import Mode, Settings
from replicator_kuma.daemon.maintenance import Chore, Steps
from replicator_kuma.replication.apply import checkpoints
from replicator_kuma.replication.instance import CycleResult, Instance
from replicator_kuma.replication.runner import recorded

if TYPE_CHECKING:
    from replicator_kuma.adapters.kuma.throwaway import ThrowAway

logger = logging.getLogger(__name__)


def run(
    instance: Instance, role: str, work: Callable[[Instance], CycleResult], wait: float = 0.0
) -> CycleResult:
    """One cycle under the instance's lock, its end noted; raises what it raises.

    AlreadyRunning when the lock is not free within ``wait`` seconds.
    """
    try:
        with instance.state.lock(wait):
            try:
                # inside: what is wrong with the database's login is how this cycle ended
                return recorded(instance, role, lambda: _with_room(instance, work))
            finally:
                _bring_back(instance)
    except (OSError, MemoryError) as raised:
        if error := refusal(raised):
            raise error from raised
        raise


def _with_room(instance: Instance, work: Callable[[Instance], CycleResult]) -> CycleResult:
    """The cycle; where restic's cache is full, rows kept from before older applies make room."""
    while True:
        try:
            return work(instance.look_for_store())
        except CacheFull as error:
            hold = instance.state.load().hold
            spare = hold.kept if hold is not None else 0
            if not checkpoints.make_room(instance.state.folder, error, spare):
                raise


def _bring_back(instance: Instance) -> None:
    """A signal may end a cycle while Kuma is stopped; a Kuma that is not our child starts again.

    (Our child would only be stopped once more: its supervisor is ending.)
    """
    kuma = instance.kuma
    if not (instance.interrupted() and kuma.manages and kuma.name != "child"):
        return
    if instance.state.load().stopped_by_me:
        kuma.start()
        instance.state.update(stopped_by_me=False)


def backup(instance: Instance, allow_shrink: bool = False, verify: bool = False) -> CycleResult:
    from replicator_kuma.replication.leader.cycle import Leader

    return Leader(instance).cycle(allow_shrink=allow_shrink, verify=verify)


def first_backup(
    instance: Instance, allow_shrink: bool = False, verify: bool = False
) -> CycleResult:
    """A supervised leader's cycle: one that has never published creates its repository."""
    try:
        return backup(instance, allow_shrink, verify)
    except RepositoryMissing:
        state = instance.state.load()
        if any((state.published, state.intent, state.applied)):
            raise
        if instance.repository.init():
            logger.info("created the repository")
        return backup(instance, allow_shrink, verify)


def restore(
    instance: Instance,
    reconcile: bool = False,
    snapshot: str | None = None,
    allow_shrink: bool = False,
) -> CycleResult:
    from replicator_kuma.replication.replica.cycle import Replica

    return Replica(instance).cycle(
        reconcile=reconcile, snapshot=snapshot, allow_shrink=allow_shrink
    )


def is_by_hand(command: str, options: Mapping[str, Any]) -> bool:
    """Whether `by_hand` does it, and no cycle."""
    goes = any(options.get(name) is not None for name in ("snapshot", "at"))
    return command in ("undo", "rollback") or goes or bool(options.get("resume"))


def by_hand(instance: Instance, command: str, options: Mapping[str, Any]) -> CycleResult:
    """What only a person asks for, by the options of its command: going back, and on again.

    What cannot be had is this person's to know, and no failure of cycles.
    """
    instance.by_itself = False
    try:
        return _by_hand(instance, command, options)
    except (NothingKept, SnapshotNotFound, Unpublished) as error:
        error.refusal = True
        raise


def _by_hand(instance: Instance, command: str, options: Mapping[str, Any]) -> CycleResult:
    if command == "undo":
        from replicator_kuma.replication.undo import undo

        return undo(instance, options.get("number"), hold=not options.get("leads"))
    if command == "rollback":
        from replicator_kuma.replication.leader.rollback import rollback

        force = bool(options.get("force"))
        return rollback(instance, options.get("snapshot"), options.get("at"), force=force)
    from replicator_kuma.replication.replica import hold as holding

    if options.get("resume"):
        return holding.resume(instance, allow_shrink=bool(options.get("allow_shrink")))
    return holding.go_to(instance, options.get("snapshot"), options.get("at"))


def promote(instance: Instance, force: bool) -> CycleResult:
    from replicator_kuma.replication.leader.promote import promote as promote_instance

    return promote_instance(instance, force=force)


def before_start(instance: Instance) -> None:
    from replicator_kuma.replication.apply import interrupted

    interrupted.before_start(instance)


def confirm(instance: Instance) -> None:
    from replicator_kuma.replication.apply import interrupted

    pending = instance.state.load().pending
    if pending is not None and pending.unread:
        return  # the rows could not be asked before this start: the cycle that comes does
    if pending is None or interrupted.asked(instance):
        interrupted.confirm(instance)


def roll_back(instance: Instance, cause: KumaError) -> None:
    from replicator_kuma.replication.apply import revert

    revert.roll_back(instance, cause)


def chores(settings: Settings) -> tuple[Chore, ...]:
    """What `replicator run` does beside its cycles, each in its window."""
    from replicator_kuma.replication.leader import housekeeping

    found = [Chore("drill", settings.drill_schedule, partial(_drill, settings))]
    if settings.mode is Mode.BACKUP:
        tidy = partial(housekeeping.scheduled, care=settings.care)
        found.append(Chore(housekeeping.NAME, settings.housekeeping, tidy))
    return tuple(found)


def _drill(settings: Settings, instance: Instance) -> Steps:
    from replicator_kuma.config.build import build_throwaway
    from replicator_kuma.replication.drill.drill import scheduled

    def kuma(of: Instance) -> ThrowAway:
        return build_throwaway(settings, interrupted=of.interrupted)

    return scheduled(instance, kuma if settings.drill_kuma else None)


@dataclass(frozen=True)
class Tasks:
    """Each that takes an instance is called with its lock held."""

    backup: Callable[[Instance, bool, bool], CycleResult] = first_backup
    restore: Callable[[Instance, bool, str | None, bool], CycleResult] = restore
    promote: Callable[[Instance, bool], CycleResult] = promote
    by_hand: Callable[[Instance, str, Mapping[str, Any]], CycleResult] = by_hand
    before_start: Callable[[Instance], None] = before_start
    confirm: Callable[[Instance], None] = confirm
    roll_back: Callable[[Instance, KumaError], None] = roll_back
    chores: Callable[[Settings], tuple[Chore, ...]] = chores


TASKS = Tasks()
