"""Tells other programs whether an instance works (`health`) and whether it replicates (`fresh`).

`health` is for a container's health check, and `stuck` for whoever restarts a container by it.
`fresh` is for a monitor: a restart does not help while the repository is away.

Under `replicator run` the supervisor's heartbeat decides. If no supervisor has ever run, or if a
cycle has ended after its last heartbeat, the last cycle decides: cron runs the cycles then.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path

from replicator_kuma.base.errors import StateError
from replicator_kuma.config.settings import Mode, Settings
from replicator_kuma.daemon import control, heartbeat
from replicator_kuma.replication import freshness
from replicator_kuma.replication.freshness import Freshness
from replicator_kuma.replication.state.file import StateFile
from replicator_kuma.replication.state.state import State

AFTER = 3 * heartbeat.EVERY
"""Seconds: a cycle that ended sooner after the last heartbeat may be that supervisor's own."""


def health(settings: Settings, max_age: float | None = None) -> str | None:
    """Why this instance is unhealthy; None if it is healthy. Reads two small files.

    ``max_age``: the longest time in seconds since the last cycle that went well.
    """
    folder = settings.state_dir
    supervised = heartbeat.seen_at(folder) > 0
    trouble = _supervisor(folder) if supervised else None
    try:
        state = StateFile(folder).load()
    except StateError as error:
        return trouble or str(error)
    if not supervised or (trouble and _is_history(state, folder)):
        trouble = _by_cycles(state)
    trouble = trouble or no_room(folder)
    if not trouble and max_age is not None and state.outcome.last is not None:
        trouble = freshness.late(state, max_age, time.time())
    if trouble:
        return trouble
    return state.upkeep.drill_failed.sentence if state.upkeep.drill_failed is not None else None


def stuck(settings: Settings) -> str | None:
    """Why a restart of this `replicator run` would help; None: it would not. Reads a small file.

    A drill that failed, a full disk and a Kuma that somebody else starts are no reasons: each
    restart would be an outage for nothing. On a full disk the heartbeat may tell nothing.
    """
    if no_room(settings.state_dir):
        return None
    beat = heartbeat.read(settings.state_dir)
    if beat is not None and settings.kuma_service(supervised=True) != "child":
        beat = replace(beat, kuma_bad_since=0.0)
    return heartbeat.trouble(beat)


def fresh(settings: Settings, max_age: float | None = None) -> Freshness:
    """How fresh this instance's rows are; reads one small file. Raises StateError.

    ``max_age``: the longest time in seconds since the last cycle that went well; None for three
    intervals of its role, and at least half an hour.
    """
    state = StateFile(settings.state_dir).load()
    leads = (settings.mode.value if settings.mode else state.outcome.role) == Mode.BACKUP.value
    interval = settings.backup_interval if leads else settings.restore_interval
    patience = max_age or freshness.patience(interval)
    return freshness.judge(state, leads, patience, time.time(), no_room(settings.state_dir))


def _is_history(state: State, folder: Path) -> bool:
    """Whether a cycle ended after the supervisor had gone: cron or a person runs the cycles now.

    A supervisor that hangs is not gone: it listens at its socket, and its worker may end cycles.
    """
    if state.outcome.last is None or state.outcome.last.at <= heartbeat.seen_at(folder) + AFTER:
        return False
    try:
        return not control.listening(folder)
    except StateError:
        return False


def _supervisor(folder: Path) -> str | None:
    trouble = heartbeat.trouble(heartbeat.read(folder))
    # A supervisor that cannot write its heartbeat (some disks need room to write over a file)
    # looks like one that is gone.
    if trouble is not None and _free(folder) < heartbeat.ROOM:
        return f"{trouble}, and no space is left in {folder}"
    return trouble


def _by_cycles(state: State) -> str | None:
    """Why the last cycle failed; None if it went well. It decides where no supervisor runs."""
    if state.outcome.last is None:
        return "replicator run is not running here, and no cycle has ended yet"
    if not state.outcome.last.ok:
        return f"the last cycle failed: {state.outcome.last.sentence}"
    return None


def no_room(folder: Path) -> str | None:
    """Why the state may be older than the last cycle: the disk is full."""
    if _free(folder) >= heartbeat.ROOM:
        return None
    return f"no space is left in {folder}: how a cycle ends cannot be noted"


def _free(folder: Path) -> int:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return heartbeat.ROOM
