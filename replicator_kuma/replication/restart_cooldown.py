"""The least time between two automatic restarts of Kuma, so that monitors can send beats.

Kuma starts its monitors one after another. A replica that restarts Kuma for each edit of a busy
hour would hardly monitor. Only the newest snapshot waits; a person's command never waits.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Protocol

from replicator_kuma.adapters.database import Store
from replicator_kuma.adapters.kuma import KumaService
from replicator_kuma.base.errors import DatabaseError
from replicator_kuma.base.times import ago, lasting, when
from replicator_kuma.replication.state import transitions
from replicator_kuma.replication.state.file import StateFile
from replicator_kuma.replication.state.records import Restart

LONGEST = 900.0
"""The most seconds that a restart delays the next one: a lag of hours would help nobody."""
STARTS = 3
"""Kuma is not restarted for this many times the duration of its last start"""
PER_MONITOR = 0.65
"""estimated seconds of a start for each monitor, until the first beats (docs/kuma.md)"""
EARLY = 5.0
"""Seconds by which a cycle may be early: cron's next one would be a whole interval later"""
PUSH = "push"
"""the type of a monitor that beats only when it is pushed, not at Kuma's start"""

log = logging.getLogger(__name__)


@dataclass
class Cooldown:
    """How often a cycle may restart one Kuma, and what this process knows of its restarts.

    For this process's own restarts, ``ticks`` gives the age: a clock that is set does not change
    it. For others, ``wall`` does. Copies of an instance share it.
    """

    every: float = 0.0
    """REPLICATOR_RESTORE_INTERVAL in seconds; 0: no cycle waits"""
    wall: Callable[[], float] = time.time
    ticks: Callable[[], float] = time.monotonic
    _begun: float = 0.0
    _starting: tuple[float, float] | None = None
    _known: tuple[float, float] | None = field(default=None, repr=False)
    """`Restart.at` of this process's last restart, and ``ticks`` at that time"""

    def begin(self) -> None:
        """Note that a cycle begins."""
        self._begun, self._starting = self.wall(), None

    def end(self) -> None:
        """Note that the cycle ended: later restarts do not belong to it."""
        self._begun, self._starting = 0.0, None

    def starting(self) -> None:
        """Note that Kuma is about to be started again: its monitors beat from now on."""
        self._starting = (self.wall(), self.ticks())

    def restarted(self, *, long_since: bool = True) -> Restart:
        """The restart to note once Kuma was started again for new rows.

        ``long_since`` False: Kuma was started again just now, after `starting` was called.
        """
        now = (self.wall(), self.ticks())
        at, ticks = (self._starting if long_since else None) or now
        self._known, self._starting = (at, ticks), None
        return Restart(at, self._begun or at)

    def age(self, restart: Restart) -> float:
        """Seconds since Kuma was started; below 0 if the clock was set back since."""
        if self._known is not None and self._known[0] == restart.at:
            return self.ticks() - self._known[1]
        return self.wall() - restart.at


@dataclass(frozen=True)
class Wait:
    """Kuma is not to be restarted yet."""

    until: float
    """seconds since the epoch"""
    age: float
    """seconds since Kuma was started"""
    start: float
    """seconds that Kuma's start took, or an estimate of them"""
    every: float

    def sentence(self, position: object) -> str:
        """Says why this position is not applied in this cycle."""
        restarted = f"Kuma restarted {ago(self.age)}"
        why = f"{restarted} and needs its monitors to beat first"
        if STARTS * self.start < self.every:
            rule = "REPLICATOR_RESTORE_INTERVAL is the least time between two restarts"
            why = f"{restarted}, and {rule}"
        return f"{position} waits until {when(self.until)}: {why}"


def left(every: float, age: float, lead: float, start: float) -> float:
    """Seconds until Kuma may be restarted again; 0 or less: now. A pure function.

    ``age``: since Kuma was started; ``lead``: from the begin of that cycle until Kuma's start;
    ``start``: the duration of Kuma's start.
    """
    by_interval = every - min(EARLY, every / 10) - age - lead
    return min(max(by_interval, STARTS * start - age), LONGEST - age)


@dataclass(frozen=True)
class Beats:
    """The first beats of the active monitors after a start of Kuma; seconds after it."""

    active: int = 0
    beaten: int = 0
    """how many of them have beaten"""
    first: float = 0.0
    last: float = 0.0

    def start(self) -> float:
        """Seconds that the start takes: measured once all have beaten, estimated before that.

        A monitor that never beats makes it longer by its share only, not endless.
        """
        steps = self.beaten - 1
        each = (self.last - self.first) / steps if steps > 0 else PER_MONITOR
        return self.last + each * (self.active - self.beaten)


def first_beats(store: Store, since: float) -> Beats:
    """The monitors' first beats since Kuma was started at ``since`` (seconds since the epoch).

    Uses an index of Kuma's, with one lookup for each monitor. Raises DatabaseError.
    """
    text = datetime.fromtimestamp(since, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    with store.read() as reader:
        if not {"monitor", "heartbeat"} <= reader.schema.tables.keys():
            return Beats()
        [(active, beaten, first, last)] = reader.query(
            "SELECT count(*), count(began), min(began), max(began) FROM ("
            "SELECT (SELECT min(h.time) FROM heartbeat h "
            f"WHERE h.monitor_id = m.id AND h.time > '{text}') AS began "
            f"FROM monitor m WHERE m.active = 1 AND m.type <> '{PUSH}') AS beats"
        )
    return Beats(int(active), int(beaten), _seconds(first, since), _seconds(last, since))


def _seconds(last: object, since: float) -> float:
    """Seconds from the start to a beat; Kuma writes times in UTC, without an offset."""
    try:
        moment = datetime.fromisoformat(str(last)).replace(tzinfo=UTC)
    except ValueError:  # no beat yet, or one that another program wrote
        return 0.0
    return max(0.0, moment.timestamp() - since)


class Restartable(Protocol):
    """What `look` needs of an Instance (instance.py imports this module)."""

    cooldown: Cooldown
    state: StateFile
    store: Store
    kuma: KumaService


def look(instance: Restartable) -> Wait | None:
    """The wait of a cycle that would restart Kuma now, also noted in the state; None: no wait.

    Call only in a cycle that no person asked for. Only a running Kuma makes a cycle wait.
    """
    cooldown, state = instance.cooldown, instance.state.load()
    if not cooldown.every or state.applying.restart is None:
        return None
    if not (instance.kuma.manages and instance.kuma.running()):
        return None
    restart, age = state.applying.restart, cooldown.age(state.applying.restart)
    lead = min(max(restart.at - restart.begun, 0.0), LONGEST)
    if age < 0:
        # the age is unknown: count from now, or a wait could last for years
        restart, age = Restart(cooldown.wall(), cooldown.wall() - lead), 0.0
        instance.state.change(transitions.restart_was, restart)
    if age >= LONGEST:
        return None
    start = _start(instance, restart, age)
    seconds = left(cooldown.every, age, lead, start)
    if seconds <= 0:
        return None
    wait = Wait(cooldown.wall() + seconds, age, start, cooldown.every)
    instance.state.change(transitions.waits, wait.until)
    return wait


def _start(instance: Restartable, restart: Restart, age: float) -> float:
    """Seconds that this start of Kuma takes; 0 if its beats cannot be read.

    Beats count only from the start on, whatever the clocks say.
    """
    with contextlib.suppress(DatabaseError):
        beats = first_beats(instance.store, restart.at)
        beats = replace(beats, first=min(beats.first, age), last=min(beats.last, age))
        start = beats.start()
        log.debug(
            "%d of %d monitors have beaten: the start takes %s",
            *(beats.beaten, beats.active, lasting(start)),
        )
        return start
    return 0.0
