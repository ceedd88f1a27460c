"""The first steps of an apply, however Kuma gets its rows: what a later process needs is noted."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import shutil

from replicator_kuma.base.effects import effect
from replicator_kuma.base.errors import DatabaseLocked, ReplicatorError
from replicator_kuma.base.events import as_event
from replicator_kuma.base.state_directory import unusable
from replicator_kuma.dump.files import link_or_copy
from replicator_kuma.dump.format import Dump
from replicator_kuma.dump.plan import Plan
from replicator_kuma.replication.apply import staging
from replicator_kuma.replication.apply.confirm import purge_history
from replicator_kuma.replication.apply.prepare import Planned, expected_digest, takes_monitors
from replicator_kuma.replication.apply.recovery import (
    PARTIAL,
    before_folder,
    resolve_before_start,
)
from replicator_kuma.replication.instance import Instance
from replicator_kuma.replication.state import transitions
from replicator_kuma.replication.state.records import Pending, SnapshotRef

log = logging.getLogger(__name__)


def first_pending(
    instance: Instance, todo: Plan, mark: SnapshotRef, *, restart: bool, unread: bool
) -> Pending:
    """The note of an apply before its plan is noted; deletes history that would be in its way.

    ``restart`` and ``unread`` are those of `Pending`. Raises DatabaseErrors.
    """
    first = Pending(mark, "", "", restart=restart, unread=unread)
    if (earlier := instance.state.load().applying.pending) is not None:
        below = dataclasses.replace(earlier, earlier=None)
        return dataclasses.replace(first, purge=earlier.purge, earlier=below)
    _purge_orphans(instance, todo)
    return first


def _purge_orphans(instance: Instance, todo: Plan) -> None:
    """Delete history that belongs to no monitor: a new monitor with the same id would get it.

    Another program or an older replicator left it, or the last apply set it aside. Deleting may
    take long, so it happens while Kuma still runs. Raises DatabaseErrors.
    """
    due = instance.state.load().applying.purge
    if due or any(t.counts.added for t in todo.tables if t.name == "monitor"):
        try:
            purge_history(instance)
        except DatabaseLocked as error:
            if due:
                raise
            log.warning(
                "history that belongs to no monitor stays: %s",
                error,
                extra=as_event("history_stays"),
            )


def note(instance: Instance, planned: Planned, first: Pending, *, stops: bool) -> None:
    """Note in the state what a later process needs to complete or revert this apply.

    Raises StateError.
    """
    todo = planned.plan
    _keep_before(instance, planned.live, first.earlier)
    staging.stage(instance.data_dir, planned.wanted.folder, todo.files)
    purge = first.purge or takes_monitors(todo)
    live, wanted = planned.live.manifest, planned.wanted.manifest
    pending = dataclasses.replace(
        planned.described(first, instance.tables),
        base=todo.base,
        target=todo.target,
        files=todo.files,
        purge=purge,
        replaced=live.digest,
        digest=expected_digest(instance, live, wanted),
        words=todo.summary.sentence(),
    )
    instance.state.change(transitions.apply_begun, pending, stops=stops)
    effect("pending noted")


def _keep_before(instance: Instance, live: Dump, earlier: Pending | None) -> None:
    """Save the rows on which Kuma was last ready: those from before an unconfirmed apply.

    Raises StateError.
    """
    folder = before_folder(instance)
    if earlier is not None and (folder / "manifest.json").exists():
        return
    partial = folder.with_name(PARTIAL)
    shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(partial, ignore_errors=True)
    try:
        effect("keeping the rows from before")
        shutil.copytree(live.folder, partial, copy_function=link_or_copy)
        staging.sync_tree(partial)
        partial.rename(folder)
    except OSError as error:
        raise unusable("cannot keep the rows from before", error) from error


def drop_unwritten(instance: Instance) -> None:
    """After an error: drop what was noted, unless it was written after all. Never raises."""
    with contextlib.suppress(ReplicatorError):
        resolve_before_start(instance)
