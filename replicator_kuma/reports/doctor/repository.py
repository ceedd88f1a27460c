"""Checks of the repository: whether it answers, and what the next cycle makes of its snapshots."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from replicator_kuma.base.errors import StateError, TwoLeaders
from replicator_kuma.base.text import counted
from replicator_kuma.base.times import lasting, moment_of, shown
from replicator_kuma.config import build
from replicator_kuma.replication.leader.decide import View, own_newest
from replicator_kuma.replication.replica.decide import newest_to_follow, refuse_bad
from replicator_kuma.replication.snapshots import of_earlier
from replicator_kuma.replication.state.file import StateFile
from replicator_kuma.reports.doctor.findings import Context, Found, ok, warn

if TYPE_CHECKING:
    from replicator_kuma.adapters.repository import Listing

CLOCK_SKEW = 300.0
"""seconds"""


def access(context: Context) -> Found:
    """Whether it can be opened and listed; later checks use the list. Raises RepositoryErrors."""
    repository = build.build_repository(context.settings, interrupted=context.interrupted)
    repository.check_access()
    context.snapshots = repository.snapshots(context.settings.fleet)
    for warning in context.snapshots.warnings:
        yield warn(warning)
    found = counted(len(context.snapshots), "snapshot")
    yield ok(f"{found} of fleet {context.settings.fleet}")


def newest(context: Context) -> Found:
    """The newest snapshot and how many leaders there were. Raises the next cycle's errors."""
    snapshots = context.snapshots
    if snapshots is None:
        return
    with suppress(StateError):  # `state directory` has reported it
        _judge(context, snapshots)
    if not snapshots:
        first = "Publish the first: replicator backup" if context.leads else "Run its leader."
        yield warn(f"this fleet has no snapshot yet{of_earlier(snapshots)}", first)
        return
    last = snapshots[-1]
    epoch = [s.label for s in snapshots if s.position.epoch == last.position.epoch]
    names = ", ".join(sorted({label.leader for label in epoch}))
    if len({label.writer for label in epoch}) > 1:
        yield warn(
            f"epoch {last.position.epoch} has snapshots of two writers: {names}",
            TwoLeaders.hint,
        )
    elif "," in names:
        yield ok(f"the leader has had several names in this epoch: {names}")
    yield ok(f"{last.position} of {last.label.leader}, {shown(last.time)}")


def _judge(context: Context, snapshots: Listing) -> None:
    """Raise what the next cycle would raise for these snapshots, by the cycle's own code."""
    state = StateFile(context.settings.state_dir).load()
    if context.leads:
        own_newest(View(context.settings.instance, state, snapshots, None, None, 0, 0))
        return
    to_follow = newest_to_follow(state, context.settings.fleet, snapshots)
    if to_follow is not None:
        refuse_bad(state, to_follow)


def clock(context: Context) -> Found:
    """Whether snapshots come from the future: this misleads only people who read the times."""
    if not context.snapshots:
        return
    with suppress(ValueError):
        latest = max(moment_of(s.time) for s in context.snapshots)
        ahead = latest - time.time()
        if ahead > CLOCK_SKEW:
            yield warn(
                f"the newest snapshot is {lasting(ahead)} in the future",
                "Set the clock here, or the leader's.",
            )
            return
        yield ok("no snapshot comes from the future")
