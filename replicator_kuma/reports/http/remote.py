"""An instance at an address, as the page shows it: for `replicator fleet --serve`.

What it answers is untrusted: read by the types of the documents, in bounded time and size.
"""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Self, TypeVar

from replicator_kuma.adapters.peers import Line, Peer, Unheard
from replicator_kuma.adapters.peers.http import HttpLine
from replicator_kuma.base.errors import InstanceUnreachable, MachineError
from replicator_kuma.base.times import lasting
from replicator_kuma.reports.document import Status
from replicator_kuma.reports.fleet.documents import Fleet, Heard, Monitors, MonitorStatus
from replicator_kuma.reports.fleet.reading import Unreadable, loads, read
from replicator_kuma.reports.http.change_list import change_sets
from replicator_kuma.reports.http.kept import Kept
from replicator_kuma.reports.http.summary import Summary
from replicator_kuma.reports.http.view import Beats

T = TypeVar("T")

FRESH = 5.0
"""seconds for which an answer is shown again"""
PAGE = 6.0
"""seconds that one page waits for all answers together: it asks for six documents, and has 10 s
(`lobby.py`). What comes later is there for the next page"""
HANGS = 1.0
"""seconds: after a failure that took so long nothing is asked for FRESH seconds"""
_MOST_HOURS = 32
"""monitors whose heartbeats are kept"""


class Remote:
    """A `PageView` of one fleet, through the API of one of its instances.

    All that asks raises InstanceUnreachable.
    """

    def __init__(
        self,
        peer: Peer,
        token: str,
        line: Line | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``peer``: the name that is shown until the instance tells its own, and its address."""
        self._instance = _Instance(peer.name, line or HttpLine(peer, token), clock)
        self._clock = clock
        self._until: float | None = None
        """when the time of this page is over; None: each question has the time of a page"""
        self.with_messages = True

    def in_time(self) -> Self:
        """This view for one page, whose time begins now."""
        made = copy.copy(self)
        made._until = self._clock() + PAGE
        return made

    @property
    def name(self) -> str:
        return self._instance.name

    def summary(self) -> Summary:
        return self._of(self._instance.documents["summary"], Summary)

    def fleet(self) -> Fleet:
        return self._of(self._instance.documents["fleet"], Fleet)

    def own(self) -> Monitors:
        return self._of(self._instance.documents["monitors"], Monitors)

    def status(self) -> Status:
        return self._of(self._instance.documents["status"], Status)

    def trouble(self) -> str | None:
        """None: the sentence of its summary says it."""
        return None

    def heard(self) -> Sequence[Heard]:
        return ()

    def own_changes(self) -> Mapping[int, tuple[tuple[float, MonitorStatus], ...]]:
        return {}

    def log(self, limit: int) -> list[dict[str, Any]]:
        return self._of(self._instance.log, list)[:limit]

    def beats(self, monitor: int) -> Beats | None:
        if all(one.id != monitor for one in self.own().monitors):
            return None
        return self._of(self._instance.hour(monitor), Beats)

    def _of(self, kept: Kept[Any], kind: type[T]) -> T:
        left = PAGE if self._until is None else max(0.0, self._until - self._clock())
        try:
            found = kept.get(left)
        except MachineError:
            raise InstanceUnreachable(
                f"{self.name}: no answer within the {lasting(PAGE)} that a page has"
            ) from None
        assert isinstance(found, kind)
        return found


class _Instance:
    """What is known of one instance, whoever looks. It is asked for one document at a time."""

    def __init__(self, name: str, line: Line, clock: Callable[[], float]) -> None:
        self.name = name
        self._line = line
        self._clock = clock
        self._turn = threading.Lock()
        self._hung: tuple[float, InstanceUnreachable] | None = None
        """the last failure that took HANGS seconds, and when it came"""
        self.documents = {
            path: self._keeping(path, partial(self._ask, path, kind))
            for path, kind in _KINDS.items()
        }
        self.log = self._keeping("log", self._ask_log)
        self._hours: dict[int, Kept[Beats]] = {}
        """of monitors that were looked at, the last one last"""
        self._hours_lock = threading.Lock()

    def hour(self, monitor: int) -> Kept[Beats]:
        """A monitor's heartbeats of the last hour."""
        with self._hours_lock:
            path = f"beats/{monitor}"
            kept = self._hours.pop(monitor, None)
            kept = kept or self._keeping(path, partial(self._ask, path, Beats))
            self._hours[monitor] = kept
            while len(self._hours) > _MOST_HOURS:
                del self._hours[next(iter(self._hours))]
            return kept

    def _keeping(self, name: str, make: Callable[[], T]) -> Kept[T]:
        return Kept(f"{name} of {self.name}", make, fresh=FRESH)

    def _ask(self, path: str, kind: type[T]) -> T:
        raw = self._raw(path)
        try:
            return read(kind, raw)
        except Unreadable as error:
            raise self._odd(path, error) from None

    def _ask_log(self) -> list[dict[str, Any]]:
        raw = self._raw("log?limit=20")
        try:
            if not isinstance(raw, list):
                raise TypeError("it is no list")
            change_sets(raw)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self._odd("log", error) from None
        return raw

    def _raw(self, path: str) -> Any:
        try:
            with self._turn:
                return loads(self._answer(path))
        except Unreadable as error:
            raise self._odd(path, error) from None

    def _answer(self, path: str) -> bytes:
        began = self._clock()
        if self._hung is not None and began - self._hung[0] < FRESH:
            raise InstanceUnreachable(str(self._hung[1]))
        try:
            return self._line.ask(None, f"/api/v1/{path}")
        except Unheard as error:
            failed = InstanceUnreachable(f"{self.name}: {error}")
            now = self._clock()
            if now - began >= HANGS:
                self._hung = now, failed
            raise failed from None

    def _odd(self, path: str, error: Exception) -> InstanceUnreachable:
        return InstanceUnreachable(
            f"{self.name} tells nothing at /api/v1/{path} that is understood here: {error}"
        )


_KINDS: Mapping[str, type[Any]] = {
    "summary": Summary,
    "fleet": Fleet,
    "monitors": Monitors,
    "status": Status,
}
"""the document at each path that is asked for again and again"""
