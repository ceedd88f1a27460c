"""What is known of the instance that runs here, from its files and what runs beside its cycles."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from replicator_kuma.adapters.database.beats import Beat
from replicator_kuma.adapters.repository import Position
from replicator_kuma.base.errors import DatabaseUnreachable, ReplicatorError
from replicator_kuma.base.times import Moment
from replicator_kuma.config.settings import Settings
from replicator_kuma.daemon import heartbeat
from replicator_kuma.replication.change_log import ChangeReader, Seen
from replicator_kuma.replication.change_sets import snapshot_as_dict
from replicator_kuma.replication.state.file import StateFile
from replicator_kuma.replication.state.state import State
from replicator_kuma.reports.document import Status
from replicator_kuma.reports.fleet.documents import Fleet, Heard, Monitors, MonitorStatus
from replicator_kuma.reports.health import health, stuck
from replicator_kuma.reports.http.kept import Kept
from replicator_kuma.reports.http.summary import Summary, summarize
from replicator_kuma.reports.http.view import Beats, HourBeat
from replicator_kuma.reports.status import Answer, status

READY = ("ready", "setup")
"""Kuma's states in which people may be sent to it: its set-up page waits for one"""
AN_HOUR = 3600.0
UNSEEN = "no cycle has asked the repository since REPLICATOR_HTTP was set"


class Peers(Protocol):
    """What the exchange with peers knows (`reports/fleet/exchange.py`)."""

    def own(self) -> Monitors:
        """This instance's document. Raises ReplicatorErrors."""

    def fleet(self) -> Fleet:
        """The fleet as seen from here. Raises ReplicatorErrors."""

    def heard(self) -> Sequence[Heard]:
        """What is known of each peer."""

    def receive(self, body: bytes, encoding: str = "", *, accepts_gzip: bool = False) -> Reply:
        """Answer a peer's call. Never raises."""


class Reply(Protocol):
    """What a peer is answered."""

    @property
    def status(self) -> int: ...
    @property
    def body(self) -> bytes: ...
    @property
    def encoding(self) -> str: ...


class States(Protocol):
    """Reads Kuma's heartbeats (`reports/fleet/own_states.py`). Raises ReplicatorErrors."""

    def recent(self, monitor: int, since: float) -> Sequence[Beat]:
        """A monitor's heartbeats from then on, oldest first."""

    def changes(self) -> Mapping[int, tuple[tuple[float, MonitorStatus], ...]]:
        """Changes of status in the last 24 hours by monitor, oldest first."""


class Here:
    """The `View` of the instance that runs here."""

    def __init__(
        self, settings: Settings, peers: Peers | None = None, states: States | None = None
    ) -> None:
        """``peers``: None where no exchange runs; ``states``: None where nobody reads them."""
        self._settings, self._peers, self._states = settings, peers, states
        self._silent: tuple[Monitors, Monitors] | None = None
        """a document, and the same without messages"""
        self._reader = ChangeReader(settings.state_dir)
        self._status = Kept("status", self._make_status)
        self._summary = Kept("summary", self._make_summary)

    @property
    def name(self) -> str:
        return self._settings.instance

    @property
    def with_messages(self) -> bool:
        return bool(self._settings.http_token)

    def in_time(self) -> Here:
        """Itself: no part of it waits for another machine."""
        return self

    def status(self) -> Status:
        return self._status.get()

    def _make_status(self) -> Status:
        return status(self._settings, lambda: _answer(self._reader.seen()))

    def state(self) -> State:
        """The state file; raises StateError."""
        return StateFile(self._settings.state_dir).load()

    def seen(self) -> Seen | None:
        """The last listing that a cycle saw."""
        return self._reader.seen()

    def peers(self) -> Peers:
        """The exchange; raises DatabaseUnreachable where none runs."""
        if self._peers is None:
            raise DatabaseUnreachable("no exchange runs here: the states of monitors are not read")
        return self._peers

    def own(self) -> Monitors:
        own = self.peers().own()
        if self.with_messages:
            return own
        last = self._silent
        if last is None or last[0] is not own:
            monitors = tuple(replace(one, msg=None) for one in own.monitors)
            last = self._silent = (own, replace(own, monitors=monitors))
        return last[1]

    def fleet(self) -> Fleet:
        return self.peers().fleet()

    def heard(self) -> Sequence[Heard]:
        return self._peers.heard() if self._peers is not None else ()

    def log(self, limit: int, since: Position | None = None) -> list[dict[str, Any]]:
        return self._reader.entries(limit, since)

    def snapshots(self) -> list[dict[str, Any]]:
        seen, held = self._reader.seen(), self.status().held
        mine = held.snapshot if held is not None else ""
        listing = seen.listing if seen is not None else ()
        return [{**snapshot_as_dict(one), "held": one.id == mine} for one in listing]

    def beats(self, monitor: int) -> Beats | None:
        there = next((one for one in self.own().monitors if one.id == monitor), None)
        if there is None:
            return None
        if self._states is None:
            raise DatabaseUnreachable("heartbeats are not read here")
        messages = self.with_messages
        found = self._states.recent(monitor, time.time() - AN_HOUR)
        beats = (HourBeat(Moment(b.at), b.status, b.msg if messages else None) for b in found)
        return Beats(monitor, there.name, tuple(beats))

    def own_changes(self) -> Mapping[int, tuple[tuple[float, MonitorStatus], ...]]:
        return self._states.changes() if self._states is not None else {}

    def summary(self) -> Summary:
        return self._summary.get()

    def _make_summary(self) -> Summary:
        try:
            fleet = self._peers.fleet() if self._peers is not None else None
        except ReplicatorError:
            fleet = None
        return summarize(self.status(), fleet, self.trouble())

    def trouble(self) -> str | None:
        return health(self._settings)

    def stuck(self) -> str | None:
        return stuck(self._settings)

    def not_ready(self) -> str | None:
        beat = heartbeat.read(self._settings.state_dir)
        if not heartbeat.alive(beat) or beat is None:
            return "the supervisor gives no sign of life"
        if beat.kuma not in READY:
            return f"Uptime Kuma is {beat.kuma or 'not known yet'}"
        if self.state().outcome.last is None:
            return "no cycle has ended yet"
        return None


def _answer(seen: Seen | None) -> Answer:
    return Answer(unknown=UNSEEN) if seen is None else Answer(seen.listing, at=seen.at)
