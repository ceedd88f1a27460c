"""What commands and the supervisor can have done with an instance. Call each under its lock.

What one of them needs is imported when it is called: most commands need little of it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from replicator_kuma.base.errors import (
    KumaError,
    NothingKept,
    RepositoryMissing,
    SnapshotNotFound,
    Unpublished,
)
from replicator_kuma.replication.instance import CycleResult, Instance

logger = logging.getLogger(__name__)


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
        if any((state.leading.published, state.leading.publishing, state.following.applied)):
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
    from replicator_kuma.replication.replica.cycle import cycle

    return cycle(instance, reconcile=reconcile, snapshot=snapshot, allow_shrink=allow_shrink)


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
    from replicator_kuma.replication.replica.cycle import go_to, resume

    if options.get("resume"):
        return resume(instance, allow_shrink=bool(options.get("allow_shrink")))
    return go_to(instance, options.get("snapshot"), options.get("at"))


def promote(instance: Instance, force: bool) -> CycleResult:
    from replicator_kuma.replication.leader.promote import promote as promote_instance

    return promote_instance(instance, force=force)


def before_start(instance: Instance) -> None:
    from replicator_kuma.replication.apply import recovery

    recovery.resolve_before_start(instance)


def confirm(instance: Instance) -> None:
    from replicator_kuma.replication.apply import recovery
    from replicator_kuma.replication.apply.confirm import confirm as confirm_pending

    pending = instance.state.load().applying.pending
    if pending is not None and pending.unread:
        return  # the rows could not be asked before this start: the cycle that comes does
    if pending is None or recovery.outcome_known(instance):
        confirm_pending(instance)


def roll_back(instance: Instance, cause: KumaError) -> None:
    from replicator_kuma.replication.apply import revert

    revert.revert(instance, cause)
