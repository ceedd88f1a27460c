"""What follows if Kuma ends by itself within a minute of a live apply.

A start on the same rows then decides whether the snapshot is bad, as for an apply by restart: the
apply becomes pending again, with the rows from before it. Live applies stay off for this Kuma.
"""

from __future__ import annotations

import logging
import time

from replicator_kuma.adapters.kuma.process import signal_of
from replicator_kuma.base.events import as_event
from replicator_kuma.replication.apply import checkpoints
from replicator_kuma.replication.apply.checkpoints import Checkpoint
from replicator_kuma.replication.apply.recovery import before_folder
from replicator_kuma.replication.instance import Instance
from replicator_kuma.replication.state import transitions
from replicator_kuma.replication.state.records import LiveOff, Pending, SnapshotRef, Standing
from replicator_kuma.replication.state.state import State

SOON = 60.0
"""seconds after a live apply in which Kuma's end is laid to it"""

log = logging.getLogger(__name__)


def kuma_ended(instance: Instance, status: int) -> None:
    """Note the end of a Kuma that nobody asked to end; ``status`` is its exit status.

    A signal that ended it says nothing about the rows. Raises StateError.
    """
    state = instance.state.load()
    last = state.running.live_last
    if last is None or not last.begun or signal_of(status):
        return
    if not 0 <= time.time() - last.at < SOON:
        return
    why = f"{last.position}, exit code {status}"
    off = LiveOff(last.version, last.agent, why)
    instance.state.change(transitions.ended_after_live, off)
    log.error(
        "Uptime Kuma ended by itself right after a live change (%s): Kuma %s is restarted for "
        "changes from now on",
        *(why, last.version),
        extra=as_event("live_given_up"),
    )


def try_again_by_start(instance: Instance) -> None:
    """Before Kuma's start: make the doubted apply pending again. Raises StateError."""
    state = instance.state.load()
    if not state.running.live_doubted:
        return
    pending, applied = state.applying.pending, state.following.applied
    found, before = checkpoints.readable(instance.state.folder), before_folder(instance)
    one = found[-1] if found else None
    if one is not None and not one.undoes:
        if pending is None and applied is not None and applied.position == one.to:
            pending = _pending(state, applied, one)
            stood = Standing(one.was, one.policy, one.arrived, one.keeps_own)
            instance.state.change(transitions.reopened, pending, stood)
        # after the note: whoever dies in between finds the checkpoint here again
        if pending is not None and pending.mark.position == one.to and not before.exists():
            checkpoints.take_back(instance.state.folder, one, before)
    instance.state.change(transitions.doubt_over)


def _pending(state: State, applied: SnapshotRef, one: Checkpoint) -> Pending:
    """The confirmed apply as it was while it was pending."""
    return Pending(
        applied,
        "",
        "",
        writing=True,
        # the rows in place are the ones to try, whatever their digest is
        drifted=True,
        restart=True,
        policy=state.following.policy,
        arrived=state.following.arrived,
        keeps_own=state.following.keeps_own,
        words=one.sentence,
    )
