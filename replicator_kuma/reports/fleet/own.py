"""The document of this instance: its place in the fleet, and its monitors.

It reads local files and what was read of Kuma's tables: never the repository, never a peer.
"""

from __future__ import annotations

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
    monitors = (rows or Rows()).of(beats or ())
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
        self._made: dict[int, tuple[MonitorBeats, Monitor]] = {}
        self._last: tuple[Sequence[MonitorBeats], tuple[Monitor, ...]] = ((), ())

    def of(self, found: Sequence[MonitorBeats]) -> tuple[Monitor, ...]:
        if found is not self._last[0]:
            before, self._made = self._made, {}
            for beats in found:
                known = before.get(beats.id)
                same = known is not None and known[0] is beats
                self._made[beats.id] = known if known and same else (beats, monitor(beats))
            self._last = found, tuple(each[1] for each in self._made.values())
        return self._last[1]


def monitor(beats: MonitorBeats) -> Monitor:
    """A monitor as the document shows it."""
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
        votes=beats.fresh and status != "maintenance",
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
