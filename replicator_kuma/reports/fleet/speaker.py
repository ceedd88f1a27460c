"""What is known of one peer, by whichever side calls: contacts, its document, what is wrong."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping
from types import MappingProxyType

from replicator_kuma.adapters.peers import Peer
from replicator_kuma.base.events import as_event
from replicator_kuma.base.times import Moment, lasting
from replicator_kuma.reports.fleet.documents import Heard, MonitorStatus
from replicator_kuma.reports.fleet.envelope import Copy, Envelope, Known

EVERY = 5.0
"""seconds from call to call"""
JUST = 0.8
"""part of the time from call to call in which a call of the other side replaces ours"""
LATER = 1.1
"""the same: after its last call, we call if its next one has not come"""
MISSES = 3
"""calls in a row that fail: then a peer is silent"""
SILENT_AFTER = 20.0
"""seconds without a call: then a peer that only calls us is silent"""
WHOLE_EVERY = 300.0
"""seconds from one whole document to the next"""
CLASH_LASTS = 60.0
"""seconds for which a name counts as one of two processes after they were last seen in turn"""
TRY_EVERY = 30.0
"""seconds from one whole document to the next for a peer that does not take ours"""
KEPT = 86_400.0
"""seconds for which changes of status are kept"""
MOST_CHANGES = 5_000
"""changes of status that are kept of a peer; the oldest go first"""
SAY_EVERY = 600.0
"""seconds in which a peer that comes and goes is told of once"""
_MOST_PROCESSES = 8

logger = logging.getLogger(__name__)

Seen = Mapping[int, tuple[tuple[float, MonitorStatus], ...]]


class Speaker:
    """One name in the fleet. The caller holds a lock around all calls."""

    def __init__(self, name: str, peer: Peer | None, now: float) -> None:
        """``peer``: where it is asked; None: it only calls us. ``now``: monotonic."""
        self.name = name
        self.peer = peer
        self.missed = 0
        self.trouble = ""
        """why what it says is not used"""
        self.refusal = ""
        """what it is told of that: not what it told us, or each would go on because of the other"""
        self.why = ""
        """why the last call failed"""
        self.has: Known | None = None
        """what it has of our document, as it said last"""
        self.called_at: float | None = None
        """when it called us last"""
        self.asked_at: float | None = None
        """when the call began that has no answer yet"""
        self._tried_at = -TRY_EVERY
        self._copy = Copy()
        self._whole_at = 0.0
        self._contact: tuple[float, Moment] | None = None
        self._sign = now
        self._process = ""
        self._earlier: dict[str, float] = {}
        """processes that had this name before, and when they were last replaced"""
        self._clash_at: float | None = None
        self._changes: deque[tuple[float, int, MonitorStatus]] = deque(maxlen=MOST_CHANGES)
        self._seen: Seen | None = None
        self._silent = False
        self._told = False
        self._told_since = -SAY_EVERY

    @property
    def monitors(self) -> int:
        """How many its document has."""
        return len(self._copy.listed)

    def quiet_for(self, now: float) -> float:
        """Seconds since its last sign of life, or since it is known here."""
        return now - self._sign

    def silent(self, now: float) -> bool:
        """Whether it gives no sign of life."""
        if self.peer is None:
            return self.quiet_for(now) > SILENT_AFTER
        return self._misses(now) >= MISSES

    def next_call(self, began: float, now: float, every: float, *, goes_on: bool) -> float:
        """When to call it next, if the last turn began at ``began``.

        Where it calls us, a little after its next call is due, so that ours is needed only if that
        does not come. ``goes_on``: where both called at the same time, we are the one that goes on.
        """
        if goes_on or not self.just_called(now, every):
            return began + every
        return (self.called_at or now) + LATER * every

    def just_called(self, now: float, every: float) -> bool:
        """Whether its own call has brought already what one of ours would bring."""
        called = self.called_at is not None and now - self.called_at < JUST * every
        return called and not self.trouble

    def known(self, now: float) -> Known | None:
        """What is known of its document; None: it is to be sent whole."""
        if not self._copy.version or now - self._whole_at >= WHOLE_EVERY:
            return None
        return Known(self._copy.process, self._copy.version)

    def to_be_told(self, now: float) -> bool:
        """Whether our states go to it: not while what it says is refused here.

        Where it refuses ours, it gets them once in a while, since only they can change its mind.
        """
        if not self.trouble:
            return True
        if self.refusal or now - self._tried_at < TRY_EVERY:
            return False
        self._tried_at = now
        return True

    def of_two_processes(self, process: str, now: float) -> bool:
        """Note which process spoke by this name; whether two of them do so in turn.

        A process that was replaced by another and speaks again was not restarted.
        """
        if process != self._process:
            if process in self._earlier:
                self._clash_at = now
            if self._process:
                self._earlier[self._process] = now
                while len(self._earlier) > _MOST_PROCESSES:
                    del self._earlier[min(self._earlier, key=self._earlier.__getitem__)]
            self._process = process
        return self._clash_at is not None and now - self._clash_at < CLASH_LASTS

    def hear(self, envelope: Envelope, now: float, at: Moment) -> bool:
        """Take what it says; whether more is new than times of heartbeats. Raises Unreadable."""
        head, listed = self._copy.head, self._copy.listed
        changes = self._copy.take(envelope)
        if envelope.document is not None and envelope.base is None:
            self._whole_at = now
        for before, monitor in changes:
            if before is not None and before.status != monitor.status:
                self._changes.append((float(at), monitor.id, monitor.status))
                self._seen = None
        if self.trouble and not self._copy.version:
            self.has, self._sign = envelope.known, now
            return False  # it says nothing that could end the trouble
        came_back = bool(self.trouble) or self.silent(now) or self._contact is None
        self.has = envelope.known
        self.missed, self.trouble, self.why, self.refusal = 0, "", "", ""
        self._contact, self._sign = (now, at), now
        news = bool(changes) or listed != self._copy.listed or head != self._copy.head
        return came_back or news

    def miss(self, why: str, now: float) -> bool:
        """Note that a call of ours was not answered; whether that is news."""
        before = (self.silent(now), self.trouble)
        self.missed += 1
        self.why, self.trouble, self.refusal = why, "", ""
        return before != (self.silent(now), self.trouble)

    def refuse(self, why: str, now: float, *, called: bool, ours: bool = False) -> bool:
        """Note that what it says is not used; whether that is news.

        ``called``: it was an answer to us. ``ours``: we refuse it, so that it is told why, and
        what it sent before is dropped: whose it is is not sure.
        """
        before = self.trouble
        self.missed += called and self.peer is not None
        self.why = self.trouble = why
        self.has, self._sign = None, now
        self.refusal = why if ours else ""
        if ours:
            self._copy = Copy()
        return before != why

    def heard(self, now: float) -> Heard:
        """What the judge and the page are told."""
        return Heard(
            self.name,
            self.peer.url if self.peer else None,
            self._copy.document,
            now - self._contact[0] if self._contact else None,
            self._contact[1] if self._contact else None,
            self._misses(now),
            self.trouble,
            self._seen_since(self._contact[1] - KEPT if self._contact else 0.0),
            self.why,
        )

    def _misses(self, now: float) -> int:
        """Calls that failed; one that hangs (a name server may) counts as often as it is due."""
        hanging = int((now - self.asked_at) // EVERY) if self.asked_at is not None else 0
        return self.missed + hanging

    def _seen_since(self, oldest: float) -> Seen:
        while self._changes and self._changes[0][0] < oldest:
            self._changes.popleft()
            self._seen = None
        if self._seen is None:
            found: dict[int, list[tuple[float, MonitorStatus]]] = {}
            for at, monitor, status in self._changes:
                found.setdefault(monitor, []).append((at, status))
            self._seen = MappingProxyType({m: tuple(each) for m, each in found.items()})
        return self._seen

    def look(self, now: float) -> bool:
        """Log a problem once when it begins and once when it ends; whether silence is news."""
        before, self._silent = self._silent, self.silent(now)
        bad = self.trouble or (self.why or "it does not call any more") * self._silent
        if not bad:
            if self._told:
                since = lasting(now - self._told_since)
                logger.info(
                    "peer %s: all is well again, after %s",
                    self.name,
                    since,
                    extra=as_event("peer_works"),
                )
            self._told = False
        elif not self._told and self._told_since + SAY_EVERY <= now:
            self._told, self._told_since = True, now
            logger.warning("peer %s: %s", self.name, bad, extra=as_event("peer_failed"))
        return before != self._silent
