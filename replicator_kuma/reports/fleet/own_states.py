"""Reads the monitors of the Kuma that runs here, for the exchange and for the page."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from replicator_kuma.adapters.database.beats import Beat, Beats, MonitorBeats
from replicator_kuma.adapters.repository import Position
from replicator_kuma.base.errors import DatabaseError, DatabaseLocked, ReplicatorError
from replicator_kuma.base.times import Moment
from replicator_kuma.config.build import build_store
from replicator_kuma.config.settings import Settings
from replicator_kuma.reports.fleet import own
from replicator_kuma.reports.fleet.documents import Heard, Monitors, MonitorStatus

A_DAY = 86_400.0
LOCKED_FOR = 15.0
"""seconds for which a database that is locked counts as it was read last: nobody waits for it"""
ASK_KUMA_EVERY = 60.0
"""seconds after which the running Kuma is asked for its version again"""


class OwnStates:
    """One thread at a time reads; all methods may be called by any thread."""

    def __init__(
        self,
        settings: Settings,
        *,
        beats: Callable[[], Beats] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``beats``: opens the database that Kuma uses now; raises ReplicatorErrors."""
        self._settings = settings
        self._open = beats or (lambda: build_store(settings).beats())
        self._clock = clock
        self._lock = threading.Lock()
        self._beats: Beats | None = None
        self._kuma: tuple[float, str | None] | None = None
        self._rows = own.Rows()
        self._position: Position | None = None
        """of the document before"""
        self._found: tuple[float, Sequence[MonitorBeats]] | None = None
        """when all monitors were read last, and what was found"""

    def document(self, heard: Sequence[Heard], *, exact: bool = True) -> Monitors:
        """What this instance tells of itself now; without monitors while they cannot be read.

        ``exact``: of `Beats.monitors`. Raises StateError.
        """
        made = self._document(heard, exact=exact)
        before, self._position = self._position, made.position
        # with another snapshot its monitors are told, or a deleted one looks as if others lacked it
        return made if exact or made.position == before else self._document(heard, exact=True)

    def _document(self, heard: Sequence[Heard], *, exact: bool) -> Monitors:
        found = self._read(exact=exact)
        now, version = Moment(time.time()), self._version()
        return own.document(self._settings, found, heard, now, version, self._rows)

    def _read(self, *, exact: bool) -> Sequence[MonitorBeats] | None:
        try:
            with self._reading() as beats:
                found = beats.monitors(exact=exact)
        except DatabaseLocked:
            last = self._found
            return last[1] if last and self._clock() - last[0] < LOCKED_FOR else None
        except ReplicatorError:
            return None
        self._found = (self._clock(), found)
        return found

    def changes(self) -> dict[int, tuple[tuple[float, MonitorStatus], ...]]:
        """Changes of status in the last 24 hours by monitor, oldest first, as `Heard.seen`.

        Raises ReplicatorErrors.
        """
        with self._reading() as beats:
            changes = beats.changes(time.time() - A_DAY)
        found: dict[int, list[tuple[float, MonitorStatus]]] = {}
        for change in changes:
            found.setdefault(change.monitor, []).append((change.at, change.status))
        return {monitor: tuple(seen) for monitor, seen in found.items()}

    def recent(self, monitor: int, since: float) -> tuple[Beat, ...]:
        """A monitor's heartbeats since then, oldest first; raises ReplicatorErrors."""
        with self._reading() as beats:
            return beats.recent(monitor, since)

    def close(self) -> None:
        """Let go of the database; the next call opens it again."""
        with self._lock:
            self._forget()

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Beats]:
        with self._lock:
            if self._beats is None:
                self._beats = self._open()
            try:
                yield self._beats
            except DatabaseLocked:
                raise
            except DatabaseError:
                self._forget()  # Kuma may use another database now
                raise

    def _forget(self) -> None:
        if self._beats is not None:
            self._beats.close()
        self._beats = None

    def _version(self) -> str | None:
        now = self._clock()
        if self._kuma is None or now - self._kuma[0] >= ASK_KUMA_EVERY:
            self._kuma = (now, own.kuma_version(self._settings))
        return self._kuma[1]
