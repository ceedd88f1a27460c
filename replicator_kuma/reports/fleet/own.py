"""The document of this instance: its place in the fleet, and its monitors.

It reads local files and what was read of Kuma's tables: never the repository, never a peer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress

import replicator_kuma
from replicator_kuma.adapters.database.beats import MonitorBeats
from replicator_kuma.adapters.kuma.agent.client import NoAgent
from replicator_kuma.base.errors import KumaError, RepositoryUnreachable, SettingsError
from replicator_kuma.base.times import Moment
from replicator_kuma.config.build import build_agent, read_policy
from replicator_kuma.config.settings import Mode, Settings
from replicator_kuma.dump.catalog import choose
from replicator_kuma.dump.transform.version_names import named
from replicator_kuma.replication.instance import Way
from replicator_kuma.replication.state.file import StateFile
from replicator_kuma.replication.state.state import State
from replicator_kuma.reports.fleet.documents import Heard, Monitor, Monitors, MonitorStatus
from replicator_kuma.reports.fleet.voters import isolated
from replicator_kuma.reports.sentence import held_by, told

STALE = 3
"""intervals after which a heartbeat is too old to vote"""
LONGEST_NAME = 200
"""characters of a monitor's name, its type and a tag; Kuma on MariaDB has names of 150"""
MOST_TAGS = 50
_MONITORS = "monitor"
"""their table"""
LONGEST_MSG = 300
"""characters of a heartbeat's message, as the page shows it. No single text that somebody typed
into Kuma, or that a target answered, can fill what a peer takes (`adapters/peers/packing.py`)"""


def document(
    settings: Settings,
    beats: Sequence[MonitorBeats] | None,
    heard: Sequence[Heard],
    now: Moment,
    kuma: str | None = None,
    rows: Rows | None = None,
) -> Monitors:
    """What this instance tells of itself. Raises StateError.

    ``beats``: of `Beats.monitors`, read at ``now``; None while they cannot be read. ``heard``: what
    is known of the peers, for `Monitors.isolated`. ``kuma``: its version, from `kuma_version`.
    ``rows``: those of the document before.
    """
    state = StateFile(settings.state_dir).load()
    follows = (settings.mode.value if settings.mode else state.outcome.role) != Mode.BACKUP.value
    said = told(state, settings.instance, follows=follows)
    seen, held = state.outcome.newest_seen, held_by(state, follows=follows)
    monitors = (rows or Rows()).of(beats or (), now)
    newest = seen is not None and held is not None and seen.position == held.position
    return Monitors(
        instance=settings.instance,
        fleet=settings.fleet,
        role="replica" if follows else "leader",
        version=replicator_kuma.__version__,
        kuma=kuma or (named(held.schema) if held else None),
        position=said.held,
        behind=said.behind,
        state=said.state,
        sentence=said.sentence,
        beats_at=None if beats is None else now,
        isolated=isolated(monitors, heard, repository_answers=repository_answers(state)),
        monitors=monitors,
        changed_at=Moment.of(seen.made_at) if newest and seen else None,
        chooses_monitors=chooses_monitors(settings),
    )


def chooses_monitors(settings: Settings) -> bool:
    """Whether its settings choose which of the fleet's monitors this instance has.

    True also where its overrides cannot be read: nobody knows what they say.
    """
    if _MONITORS not in choose(settings.include, settings.exclude):
        return True
    try:
        rules = read_policy(settings)().overrides.rules
    except SettingsError:
        return True
    return any(rule.skip and rule.table == _MONITORS for rule in rules)


class Rows:
    """Monitors as the document shows them; those of the one before serve again where they can."""

    def __init__(self) -> None:
        self._made: dict[int, tuple[MonitorBeats, Monitor, float, float]] = {}
        """by id, and between which times the row is the same"""

    def of(self, found: Sequence[MonitorBeats], now: Moment) -> tuple[Monitor, ...]:
        made = {}
        for beats in found:
            before = self._made.get(beats.id)
            if before is None or before[0] is not beats or not before[2] < now < before[3]:
                before = (beats, monitor(beats, now), *_same_between(beats, now))
            made[beats.id] = before
        self._made = made
        return tuple(each[1] for each in made.values())


def _same_between(beats: MonitorBeats, now: Moment) -> tuple[float, float]:
    """Between which times it votes as it does now: a heartbeat grows too old by time alone."""
    newest = beats.newest
    if newest is None:
        return -math.inf, math.inf
    too_old = STALE * _every(beats)
    low, high = newest.at - too_old, newest.at + too_old
    if low < now < high:
        return low, high
    return (-math.inf, low) if now <= low else (high, math.inf)


def _votes(beats: MonitorBeats, now: Moment) -> bool:
    newest = beats.newest
    if newest is None or not beats.active or newest.status == "maintenance":
        return False
    # one from the future was written before the clock was set back
    return abs(now - newest.at) < STALE * _every(beats)


def _every(beats: MonitorBeats) -> int:
    """Seconds to the next heartbeat, at most."""
    pending = beats.newest is not None and beats.newest.status == "pending"
    return max(beats.interval, beats.retry_interval) if pending else beats.interval


def monitor(beats: MonitorBeats, now: Moment) -> Monitor:
    """A monitor as the document shows it, with its vote by the clock of this machine."""
    newest = beats.newest
    status: MonitorStatus = "none" if newest is None else newest.status
    if not beats.active:
        status = "paused"
    return Monitor(
        id=beats.id,
        name=beats.name[:LONGEST_NAME],
        type=beats.type[:LONGEST_NAME],
        active=beats.active,
        parent=beats.parent,
        tags=tuple(tag[:LONGEST_NAME] for tag in beats.tags[:MOST_TAGS]),
        status=status,
        since=Moment.of(beats.since or 0.0) if beats.active else None,
        beat_at=Moment.of(newest.at) if newest else None,
        interval=beats.interval,
        votes=_votes(beats, now),
        msg=newest.msg[:LONGEST_MSG] if newest else None,
    )


def kuma_version(settings: Settings) -> str | None:
    """The version of the running Kuma, asked of the agent in its process; None: nobody tells."""
    if settings.apply == Way.RESTART.value:
        return None
    with suppress(NoAgent, KumaError):
        return build_agent(settings).hello().version
    return None


def repository_answers(state: State) -> bool:
    """Whether the repository answered the last cycle; True also where none has asked it."""
    last = state.outcome.last
    return last is None or last.ok or last.error != RepositoryUnreachable.__name__
