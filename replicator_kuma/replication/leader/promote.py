"""Makes an instance the leader: applies the newest snapshot, opens the next epoch."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from replicator_kuma.adapters.repository import Position, Snapshot
from replicator_kuma.base.errors import (
    DatabaseError,
    ReplicatorError,
    RepositoryLost,
    SettingsError,
    ShrinkRefused,
    SnapshotMisfit,
    SnapshotNotFound,
    SnapshotShrinks,
    TwoLeaders,
)
from replicator_kuma.base.events import as_event
from replicator_kuma.dump.catalog import TABLES
from replicator_kuma.replication import mode_mismatch, second_repository
from replicator_kuma.replication.apply import checkpoints
from replicator_kuma.replication.apply.unconfirmed import recover
from replicator_kuma.replication.instance import CycleResult, Instance, Outcome
from replicator_kuma.replication.leader.publish import publish
from replicator_kuma.replication.replica.shrink_guard import Guard
from replicator_kuma.replication.replica.take import take
from replicator_kuma.replication.shrink import held, shrinks
from replicator_kuma.replication.state import transitions
from replicator_kuma.replication.state.hold_words import held_words
from replicator_kuma.replication.state.records import SnapshotRef, highest
from replicator_kuma.replication.state.state import State
from replicator_kuma.replication.workspace import workspace

log = logging.getLogger(__name__)

_CUT = (
    "Nothing was published: the whole fleet would have these rows cut. Change them on the leader, "
    "or lead with what is here: replicator promote --force"
)
_SHRUNK = (
    "Nothing was published. To lead with the monitors that are here: replicator promote --force. "
    "To take it all the same, first {}: replicator restore --now --allow-shrink"
)
_HERE = "REPLICATOR_MODE=BACKUP here and restart `replicator run`, and "
_WHICH = (
    "To lead with one of them, {}: replicator restore --now --snapshot ID, then replicator "
    "promote. To lead with the rows that are here: replicator promote --force"
)
_AS_REPLICA = {True: "with REPLICATOR_MODE=RESTORE here", False: "here"}
"""Where to run a restore: by whether the mode is BACKUP."""
_GONE = (
    "Nothing was published. Check RESTIC_REPOSITORY and REPLICATOR_FLEET. If the snapshots are "
    "really gone, lead with the rows that are here: replicator promote --force"
)
_FEW = "Nothing was published. To lead with the rows that are here: replicator promote --force"


def promote(instance: Instance) -> CycleResult:
    """Make this instance the leader: apply the newest snapshot, publish as (epoch + 1, 1).

    The former leader is fenced when it comes back. `Run.force` keeps the rows as they are if the
    newest snapshot cannot be applied, and starts again in an emptied repository. Call under the
    lock. Raises ReplicatorErrors; if it did not publish, only the rows may have changed.
    """
    leading = instance.as_leader()
    with workspace(leading):
        recover(instance)
        return _promote(leading, instance.run.force, by_mode=instance.leads is True)


def _promote(instance: Instance, force: bool, *, by_mode: bool) -> CycleResult:
    """As `promote`. ``by_mode``: REPLICATOR_MODE is BACKUP already, as on a fenced leader."""
    instance.step("asking the repository")
    snapshots = instance.listed()
    newest = _newest(instance.state.load(), snapshots)
    if not force:
        second_repository.require_both(instance)
    if newest is not None and not force and _leads(instance, newest, snapshots):
        promoted = mode_mismatch.promoted(instance.state.load())
        said = f"this instance leads fleet {instance.fleet!r} already, at {newest.position}"
        said += f"; {promoted.sentence}" if promoted else ""
        return CycleResult(Outcome.NOTHING, said, newest.position, newest.label.digest)
    warnings, taken, hold = _own_ways(instance), "", instance.state.load().following.hold
    if hold is not None:
        log.warning(
            "this replica holds %s: it takes the newest",
            held_words(hold),
            extra=as_event("hold_ended"),
        )
    if newest is None:
        _require_force_without_snapshots(instance, force)
    else:
        taken, more = _take(instance, newest, snapshots, force, _AS_REPLICA[by_mode])
        warnings += more
    before = held(instance.state.load()) if newest is None else SnapshotRef.of(newest)
    position = Position(_epoch(instance, newest) + 1, 1)
    result = publish(
        instance,
        position,
        newest,
        shrinks=lambda seen, since: _shrinks(instance, before, seen.monitors, force, since.gone),
    )
    unconfirmed = instance.state.load().applying.pending is not None
    instance.state.change(
        transitions.promoted,
        result.digest or "",
        # an unconfirmed apply will get the next checkpoint
        led_from=checkpoints.newest_number(instance.state.folder) + unconfirmed,
        at=0.0 if by_mode else time.time(),
    )
    sentence = (
        f"this instance leads fleet {instance.fleet!r} from {result.position} on{taken}. "
        f"{f'It held {held_words(hold)}: the hold ends. ' if hold else ''}"
        f"Now set {'' if by_mode else _HERE}"
        "REPLICATOR_MODE=RESTORE on the old leader before it starts: its edits that were never "
        "published will be lost"
    )
    return replace(result, sentence=sentence, changes=None, warnings=(*warnings, *result.warnings))


def _shrinks(
    instance: Instance,
    before: SnapshotRef | None,
    monitors: int,
    force: bool,
    gone: Callable[[], int | None],
) -> bool:
    """Whether this forced promotion removes most of the fleet's monitors."""
    try:
        return shrinks(instance.shrink_limit, before, monitors, allowed=force, gone=gone)
    except ShrinkRefused as error:
        raise ShrinkRefused(str(error), hint=_FEW) from error


def _own_ways(instance: Instance) -> tuple[str, ...]:
    """Warnings of this replica's own rows and rules: from now on they apply to the fleet."""
    try:
        policy = instance.policy()
    except SettingsError as error:
        log.debug("cannot tell what this replica had otherwise: %s", error)
        return ()
    left_out = [name for name in TABLES if name not in instance.tables]
    parts = (
        policy.local and f"{', '.join(sorted(policy.local))} of its own",
        left_out and f"no {', '.join(left_out)} from its leader",
    )
    ways = "; ".join(part for part in parts if part)
    return (f"this replica had {ways}: its rows are the fleet's from now on",) if ways else ()


def _newest(state: State, snapshots: Sequence[Snapshot]) -> Snapshot | None:
    """The newest snapshot; if two leaders share its position, the one that is applied here."""
    newest = [s for s in snapshots if s.position == snapshots[-1].position]
    for mark in (state.leading.published, state.following.applied):
        for snapshot in newest:
            if mark is not None and mark.key == snapshot.key:
                return snapshot
    return newest[-1] if newest else None


def _leads(instance: Instance, newest: Snapshot, snapshots: Sequence[Snapshot]) -> bool:
    """Whether this instance leads already: it published the newest, and has applied no other.

    (If two publish in one epoch, replicas follow neither. Only the next epoch ends that.)
    """
    state = instance.state.load()
    own = state.has_published(newest.key)
    epoch = [s for s in snapshots if s.position.epoch == newest.position.epoch]
    alone = len({s.label.writer for s in epoch}) == 1
    tied = len([s for s in snapshots if s.position == newest.position]) > 1
    followed = state.following.applied in (None, state.leading.published)
    return own and alone and not tied and state.leading.fenced is None and followed


def _epoch(instance: Instance, newest: Snapshot | None) -> int:
    """The highest epoch that this instance knows of."""
    state = instance.state.load()
    leading, following, pending = state.leading, state.following, state.applying.pending
    known = (following.applied, following.floor, leading.published, leading.publishing)
    mark, there = pending.mark if pending else None, newest.position if newest else None
    top = highest(*known, leading.burned, mark, there)
    return top.epoch if top else 0


def _require_force_without_snapshots(instance: Instance, force: bool) -> None:
    if force:
        return
    if instance.state.load().has_snapshot:
        raise RepositoryLost("the repository holds no snapshot of this fleet any more", hint=_GONE)
    raise SnapshotNotFound(
        f"fleet {instance.fleet!r} has no snapshot: there is nothing to take over",
        hint="A fleet's first leader needs no promote: set REPLICATOR_MODE=BACKUP and start it.",
    )


def _take(
    instance: Instance,
    newest: Snapshot,
    snapshots: Sequence[Snapshot],
    force: bool,
    where: str,
) -> tuple[str, tuple[str, ...]]:
    """Apply the newest; returns its words and warnings. ``where`` to run a restore."""
    state = instance.state.load()
    if state.has_published(newest.key):
        return "", ()  # this instance's rows are newer than its own snapshot
    try:
        _require_newer(state, newest)
        _require_one(state, newest, snapshots, where)
        result = take(instance, newest, Guard.of(instance, state, newest))
        if result.outcome is Outcome.WAITING and instance.state.load().applying.pending is None:
            raise DatabaseError(result.sentence)
    except ReplicatorError as error:
        if not force:
            if isinstance(error, SnapshotMisfit | SnapshotShrinks):
                hint = _CUT if isinstance(error, SnapshotMisfit) else _SHRUNK.format(where)
                raise type(error)(str(error), hint=hint) from error
            raise
        log.warning(
            "going on without %s: %s", newest.position, error, extra=as_event("promoted_without")
        )
        return f", with its own rows ({newest.position} could not be taken)", ()
    return f", with the rows of {newest.position}{result.went_on}", result.warnings


def _require_one(state: State, newest: Snapshot, snapshots: Sequence[Snapshot], where: str) -> None:
    """Raise TwoLeaders if different rows share the newest position: a person has to choose."""
    tied = [s for s in snapshots if s.position == newest.position]
    applied = state.stands_on(newest.key)
    if len({s.label.digest for s in tied}) > 1 and not applied:
        raise TwoLeaders(
            f"{len(tied)} snapshots with different rows are {newest.position}: which of them is "
            "the newest nobody can tell",
            hint=_WHICH.format(where),
        )


def _require_newer(state: State, newest: Snapshot) -> None:
    """Raise RepositoryLost if the repository is older than the rows here: they must not go back."""
    published = state.leading.published.position if state.leading.published is not None else None
    ours = ((state.highest_applied(), "applied here"), (published, "published from here"))
    for known, how in ours:
        if known is not None and newest.position < known:
            raise RepositoryLost(
                f"the newest snapshot is {newest.position}, but {known} was {how}", hint=_GONE
            )
