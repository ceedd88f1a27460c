"""Scratch folders in the state directory; also deletes what dead processes left there."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from replicator_kuma.base.errors import ReplicatorError
from replicator_kuma.base.events import as_event
from replicator_kuma.base.state_directory import unusable
from replicator_kuma.replication.apply.recovery import resolve_before_start
from replicator_kuma.replication.drill import scratch
from replicator_kuma.replication.hints import advise
from replicator_kuma.replication.instance import Instance
from replicator_kuma.replication.state import transitions
from replicator_kuma.replication.state.state import State

PREVIEW = "preview-"
"""Scratch folders of previews, with their process id; they need no lock."""

log = logging.getLogger(__name__)


@contextlib.contextmanager
def workspace(instance: Instance) -> Iterator[State]:
    """An empty scratch folder, ``instance.work``, for the block; yields the state.

    Put it around every cycle, with the lock held. First it resolves an interrupted apply, starts
    Kuma if an earlier process has stopped it, and deletes what dead processes left. Dumps hold
    secrets: the folder is deleted after the block. Raises ReplicatorErrors, with a fitting hint.
    """
    instance.cooldown.begin()
    try:
        yield _begin(instance)
    except ReplicatorError as error:
        with contextlib.suppress(ReplicatorError):
            advise(error, instance.leads, instance.state.load())
        raise
    finally:
        instance.cooldown.end()
        shutil.rmtree(instance.work, ignore_errors=True)


def _begin(instance: Instance) -> State:
    instance.state.prepare()
    try:
        resolve_before_start(instance)
    finally:
        state = _restart_kuma(instance)
    _forget_scratch(instance.state.folder)
    scratch.forget(instance)
    empty_workspace(instance)
    return state


def empty_workspace(instance: Instance) -> None:
    """Empty the scratch folder, or create it; raises StateError."""
    try:
        shutil.rmtree(instance.work, ignore_errors=True)
        instance.work.mkdir(mode=0o700)
    except OSError as error:
        raise unusable("cannot make a scratch folder", error) from error


@contextlib.contextmanager
def preview_workspace(instance: Instance) -> Iterator[Instance]:
    """The instance with a scratch folder for this process alone, for the block.

    It takes no lock, so use it only to read. Raises StateError.
    """
    made = replace(instance, scratch=f"{PREVIEW}{os.getpid()}")
    instance.state.prepare()
    try:
        empty_workspace(made)
        yield made
    finally:
        shutil.rmtree(made.work, ignore_errors=True)


def _restart_kuma(instance: Instance) -> State:
    """Start a Kuma that an earlier process stopped; a supervisor starts its child itself."""
    state = instance.state.load()
    if not state.applying.stopped_by_me:
        return state
    if instance.kuma.manages and not instance.kuma.owned:
        log.warning(
            "an earlier run stopped Kuma and did not start it again: starting it",
            extra=as_event("kuma_started_again"),
        )
        instance.start_kuma()
    return instance.state.change(transitions.kuma_started)


def _forget_scratch(folder: Path) -> None:
    """Delete what killed processes left: previews (they hold secrets) and partial state files."""
    for path in folder.glob(f"{PREVIEW}*"):
        if not Path(f"/proc/{path.name.removeprefix(PREVIEW)}").exists():
            shutil.rmtree(path, ignore_errors=True)
    for path in (*folder.glob(".state.*.tmp"), *folder.glob(".supervisor.*.tmp")):
        path.unlink(missing_ok=True)
