"""The documents of a fleet: what one instance tells its peers, and what follows from all of them.

`document.as_json` prints them. `/api/v1/monitors` and the exchange between peers are `Monitors`,
`/api/v1/fleet` and `replicator fleet --json` are `Fleet`. Members are added; none is removed.
Times are those of the clock of whoever tells them. Nothing is judged by comparing two clocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from replicator_kuma.adapters.repository import Position
from replicator_kuma.base.times import Moment

MonitorStatus = Literal["up", "down", "pending", "maintenance", "paused", "none"]
"""`none`: active, and no heartbeat yet"""
CellStatus = Literal["up", "down", "pending", "maintenance", "paused", "none", "silent", "absent"]
"""`silent`: its instance does not answer, or cannot read its Kuma's database; `absent`: that
instance has no such monitor"""
Verdict = Literal["up", "down", "partial", "unknown"]
"""`partial`: some voters say down, but fewer than the quorum; `unknown`: nobody votes"""
InstanceState = Literal["equal", "behind", "drift", "fenced", "silent", "misfit"]


@dataclass(frozen=True, slots=True)
class Monitor:
    """A monitor as one instance's Kuma sees it."""

    id: int
    name: str
    type: str
    active: bool
    """false also where a group above it is paused"""
    parent: int | None
    tags: tuple[str, ...]
    """name, or `name: value`"""
    status: MonitorStatus
    since: Moment | None
    """since when it has this status"""
    beat_at: Moment | None
    """its newest heartbeat"""
    interval: int
    """seconds from check to check"""
    votes: bool
    """its newest heartbeat is younger than three intervals, it is active and not in maintenance:
    told by the instance itself, by its own clock"""
    msg: str | None = None
    """that heartbeat's message; only for who has the token"""


@dataclass(frozen=True)
class Monitors:
    """What an instance tells of itself: its place in the fleet, its monitors in Kuma's order."""

    instance: str
    fleet: str
    role: str
    """leader or replica"""
    version: str
    """of replicator-kuma"""
    kuma: str | None
    """its version, where it is known"""
    position: Position | None
    """what it holds"""
    behind: int | None
    """newer snapshots that it knows of"""
    state: InstanceState
    """never silent: that is for others to say"""
    sentence: str
    """what a person should know of it, made by the code of `replicator status`"""
    beats_at: Moment | None
    """when the heartbeats were read; null while Kuma's database cannot be read"""
    isolated: bool
    """no peer and no repository answers, and most monitors fell together: it votes nowhere"""
    monitors: tuple[Monitor, ...]
    changed_at: Moment | None = None
    """when the snapshot that it holds was made, by the leader's clock; for sentences only"""
    chooses_monitors: bool = False
    """its settings choose which monitors it has: its tables are without them, or a rule of its
    overrides skips some. What it lacks is not missing"""


@dataclass(frozen=True)
class Place:
    """An instance of the fleet, as the instance sees it that tells this."""

    name: str
    url: str | None
    """null for the instance itself, and for a peer that only calls us"""
    role: str | None
    version: str | None
    kuma: str | None
    position: Position | None
    behind: int | None
    contact_at: Moment | None
    """when it was last heard, by the clock of who tells this"""
    state: InstanceState
    sentence: str
    here: bool = False
    """it is the instance that tells this"""
    isolated: bool = False
    """it says so of itself (`Monitors.isolated`): its monitors' states say nothing"""
    unreadable: bool = False
    """its Kuma's database cannot be read (`Monitors.beats_at`): it votes on no monitor"""


@dataclass(frozen=True, slots=True)
class Judged:
    """A monitor over all places."""

    id: int
    name: str
    verdict: Verdict
    down_in: tuple[str, ...]
    """voters that say down"""
    voters: tuple[str, ...]
    since: Moment | None
    """since when the verdict stands, by the clock of who tells this"""
    states: Mapping[str, CellStatus]
    """by the name of the instance"""
    missing_in: tuple[str, ...] = ()
    """instances that lack it for a minute already, and should have it: they hold the snapshot that
    has it (reports/fleet/missing.py)"""
    missing_since: Moment | None = None
    """since when one of them lacks it, by the clock of who tells this; within the first minute
    `missing_in` names none"""


@dataclass(frozen=True)
class Fleet:
    """The fleet as one instance sees it; what needs a look stands first in both lists."""

    fleet: str
    quorum: str
    """majority"""
    sentence: str
    instances: tuple[Place, ...]
    monitors: tuple[Judged, ...]


@dataclass(frozen=True)
class Heard:
    """What is known of one peer. It is no document: each instance keeps its own."""

    name: str
    url: str | None
    document: Monitors | None = None
    """the newest that it sent, whole"""
    age: float | None = None
    """seconds since the last contact, by this process's monotonic clock; None: never"""
    contact_at: Moment | None = None
    missed: int = 0
    """contacts in a row that failed; always 0 for a peer that only calls us"""
    trouble: str = ""
    """why its answers are not used: a name that comes twice, another fleet, no such document"""
    seen: Mapping[int, tuple[tuple[float, MonitorStatus], ...]] = field(default_factory=dict)
    """changes of status that the exchange saw in the last 24 hours, by monitor, oldest first"""
    why: str = ""
    """why the last call of it failed; "" where it did not, and for a peer that only calls us"""
