"""The exchange between peers: asks each of them, answers them, and keeps what was heard.

A thread for each peer of the settings calls it every 5 s, unless the peer has just called: each
call goes both ways, so that one of two that name one another is enough. One more thread reads this
instance's own states when somebody needs them, and has the fleet judged when something is new in
it. A peer behind NAT that only calls us is heard by its calls. Nothing here is known to the cycles.
"""

from __future__ import annotations

import json
import logging
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from replicator_kuma.adapters.peers import Line, Peer, Unheard
from replicator_kuma.adapters.peers.http import HttpLine
from replicator_kuma.adapters.peers.packing import WORTH, packed, unpacked
from replicator_kuma.base.errors import MachineError, StateError, describe
from replicator_kuma.base.events import as_event
from replicator_kuma.base.json_members import check
from replicator_kuma.base.seldom import Seldom
from replicator_kuma.base.times import Moment
from replicator_kuma.config.settings import Settings
from replicator_kuma.reports.document import as_json
from replicator_kuma.reports.fleet.documents import Fleet, Heard, Monitors
from replicator_kuma.reports.fleet.envelope import NOTHING, Envelope, Known, Ledger, written
from replicator_kuma.reports.fleet.reading import Unreadable
from replicator_kuma.reports.fleet.speaker import EVERY, Speaker

PATH = "/api/v1/exchange"
QUESTION = "fleet"
"""the request on the control socket that `Exchange.answer` is for"""
FRESH = 0.9
"""part of the time from call to call for which own states are not read again: were it all of it,
each other call of a peer would find them a moment too young"""
PATIENCE = 1.0
"""seconds to wait for own states to be read; then older ones are told"""
MOST_CALLERS = 32
"""peers that only call us"""
MOST_MONITORS = 50_000
"""of all of them"""
REPLACED_AFTER = 3_600.0
"""seconds of silence after which a caller makes room for another one"""
FORGOTTEN_AFTER = 86_400.0
"""seconds of silence after which it is no longer shown"""

logger = logging.getLogger(__name__)

OwnDocument = Callable[[bool], Monitors]
"""(exact): `OwnStates.document`"""
Judge = Callable[[Monitors, Sequence[Heard], Moment, Fleet | None], Fleet]
"""(own, heard, now, before): `verdict.judge`"""


@dataclass(frozen=True)
class Reply:
    """What the server answers to `POST /api/v1/exchange`."""

    status: int
    """200; 400 no envelope; 413 too large; 503 nothing is known of this instance yet"""
    body: bytes
    """JSON"""
    encoding: str = ""
    """the Content-Encoding: `gzip`, or none"""


class Exchange:
    """A SideService: asks all peers every 5 s. All methods may be called by any thread."""

    def __init__(
        self,
        own: OwnDocument,
        peers: Sequence[Peer],
        judge: Judge,
        line: Callable[[Peer], Line],
        *,
        every: float = EVERY,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """``own`` reads this instance's states: one thread calls it, once in ``every`` seconds."""
        self._read = own
        self._judge = judge
        self._every = every
        self._clock = clock
        self._wall = wall
        self._process = secrets.token_hex(16)
        self._lock = threading.Condition()
        """held for moments only: around all that is below"""
        self._ledger = Ledger()
        self._read_at: dict[bool, float] = {}
        """when own states were read last, in any way and exactly"""
        self._wanted = set[bool]()
        """in which ways they are to be read"""
        self._news = False
        self._failed = False
        self._end = threading.Event()
        self._seldom = Seldom(logger)
        self._speakers = {peer.name: Speaker(peer.name, peer, clock()) for peer in peers}
        self._lines = {peer.name: line(peer) for peer in peers}
        self._judging = threading.Lock()
        self._turn = 0
        """counts whatever may change the judged view"""
        self._fleet: tuple[int, float, Fleet] | None = None
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin, in threads of its own. Raises MachineError."""
        calls: list[Callable[[], None]] = [partial(self._call_on, name) for name in self._lines]
        self._threads = [
            threading.Thread(target=each, name="fleet", daemon=True)
            for each in [self._look_after, *calls]
        ]
        try:
            for thread in self._threads:
                thread.start()
        except RuntimeError as error:
            self.stop()
            raise MachineError("the machine gives no thread for the exchange with peers") from error

    def stop(self) -> None:
        """End within 0.3 s, also while a peer hangs: a thread that a name server holds is left."""
        with self._lock:
            self._end.set()
            self._lock.notify_all()
        for line in self._lines.values():
            line.cut()
        until = time.monotonic() + 0.2
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, until - time.monotonic()))

    def own(self) -> Monitors:
        """This instance's document, at most 5 s old. Raises StateError: none was read yet."""
        with self._lock:
            return self._own(exact=True)

    def heard(self) -> tuple[Heard, ...]:
        """What is known of each peer: those of the settings first, then those that only call us."""
        with self._lock:
            now = self._clock()
            return tuple(speaker.heard(now) for speaker in self._speakers.values())

    def fleet(self) -> Fleet:
        """The fleet as seen from here, judged when something is new. Raises as `own`."""
        with self._lock:
            own = self._own()
        return self._judged(own)

    def answer(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The fleet as JSON, for a client of the control socket. Raises as `own`."""
        check(QUESTION, options, {})
        found: dict[str, Any] = as_json(self.fleet())
        return found

    def receive(self, body: bytes, encoding: str = "", *, accepts_gzip: bool = False) -> Reply:
        """Answer a peer's `POST /api/v1/exchange`. Never raises ReplicatorErrors.

        ``body`` as it came, MOST bytes of `packing` at most, ``encoding`` its Content-Encoding.
        """
        try:
            envelope = Envelope.of(unpacked(body, encoding))
        except Unheard:
            return Reply(413, b'{"error":"too large, or packed in an unknown way"}')
        except Unreadable as error:
            why = f"no envelope of an exchange: {error}"
            return Reply(400, json.dumps({"error": why}).encode())
        with self._lock:
            try:
                own = self._own()
            except StateError:
                return Reply(503, b'{"error":"nothing is known of this instance yet"}')
            answer = self._answered(envelope, own)
        if accepts_gzip and len(answer) >= WORTH:
            return Reply(200, packed(answer), "gzip")
        return Reply(200, answer)

    # --- own states -------------------------------------------------------------------------

    def _own(self, *, exact: bool = False) -> Monitors:
        """The document that was read last, after a look for a newer one where that is old."""
        read = self._read_at.get(exact)
        if read is None or self._clock() - read >= FRESH * self._every:
            self._wanted.add(exact)
            self._lock.notify_all()
            self._lock.wait_for(
                lambda: self._read_at.get(exact) != read or self._end.is_set(), PATIENCE
            )
        if self._ledger.document is None:
            raise StateError("the states of the monitors have not been read yet")
        return self._ledger.document

    def _look_after(self) -> None:
        """Read own states when they are wanted, and judge when something is new, until the end."""
        while True:
            with self._lock:
                self._lock.wait_for(self._due, self._every)
                if self._end.is_set():
                    return
                wanted, exact = bool(self._wanted), True in self._wanted
                now = self._clock()
                self._forget(now)
                for speaker in self._speakers.values():
                    if speaker.look(now):
                        self._changed(True)
            if wanted:
                self._read_own(exact=exact)
            with self._lock:
                news, self._news, own = self._news, False, self._ledger.document
            if news and own is not None:
                try:
                    self._judged(own)
                except Exception as error:
                    self._bug("the fleet cannot be judged", error)

    def _bug(self, what: str, error: Exception) -> None:
        """A bug must not end the exchange, nor fill the log: it may come every 5 s."""
        kind = f"{what}: {type(error).__name__}: this is a bug in replicator-kuma"
        self._seldom.say(logging.ERROR, "bug", kind, bug=True)

    def _due(self) -> bool:
        return self._end.is_set() or bool(self._wanted) or self._news

    def _read_own(self, *, exact: bool) -> None:
        try:
            document = self._read(exact)
        except Exception as error:
            if not self._failed:
                logger.warning(
                    "the states of the monitors cannot be read: %s",
                    describe(error),
                    extra=as_event("beats_unreadable"),
                )
                logger.debug("what happened", exc_info=True)
            self._failed, document = True, None
        else:
            if self._failed:
                logger.info(
                    "the states of the monitors can be read again", extra=as_event("beats_readable")
                )
            self._failed = False
        with self._lock:
            for way in {False, exact}:
                self._wanted.discard(way)
                self._read_at[way] = self._clock()
            last = self._ledger.document
            if document is None and last is not None:
                # what was read last is no news of now: this instance must not vote by it
                document = replace(last, beats_at=None, monitors=(), sentence=_unread(last))
            if document is not None and self._ledger.take(document):
                self._news = True
            self._turn += 1
            self._lock.notify_all()

    def _judged(self, own: Monitors) -> Fleet:
        with self._judging:
            with self._lock:
                turn, now = self._turn, self._clock()
            known = self._fleet
            # silence comes by time alone
            if known is not None and known[0] == turn and now - known[1] < self._every:
                return known[2]
            before = known[2] if known else None
            fleet = self._judge(own, self.heard(), Moment(self._wall()), before)
            self._fleet = (turn, now, fleet)
            return fleet

    # --- peers that we call -----------------------------------------------------------------

    def _call_on(self, name: str) -> None:
        """Call one peer every 5 s, until the end."""
        speaker, line = self._speakers[name], self._lines[name]
        while True:
            began, called = self._clock(), False
            try:
                called = self._call(speaker, line)
            except Exception as error:
                self._bug(f"the exchange with {name} fails", error)
            with self._lock:
                own = self._ledger.document
                goes_on = called and own is not None and own.instance < name
                due = speaker.next_call(began, self._clock(), self._every, goes_on=goes_on)
            if self._end.wait(max(0.0, due - self._clock())):
                return

    def _call(self, speaker: Speaker, line: Line) -> bool:
        """Call it, unless that is of no use now; whether it was called."""
        with self._lock:
            if speaker.just_called(self._clock(), self._every):
                return False
            try:
                own = self._own()
            except StateError:
                return False  # who does not know itself has nothing to tell
            body = self._written(speaker, own, speaker.refusal or None)
            speaker.asked_at = self._clock()
        failed: Unheard | Unreadable | None = None
        envelope = None
        try:
            envelope = Envelope.of(line.ask(body, PATH))
        except (Unheard, Unreadable) as error:
            failed = error
        with self._lock:
            now = self._clock()
            speaker.asked_at = None
            if self._end.is_set():
                return True
            if envelope is not None:
                self._take(speaker, envelope, own, called=True)
                return True
            if isinstance(failed, Unheard) and not failed.answered:
                news = speaker.miss(str(failed), now)
            else:
                why = str(failed) if isinstance(failed, Unheard) else f"no such document: {failed}"
                news = speaker.refuse(why, now, called=True)
            self._changed(news)
            return True

    # --- what both ways share ---------------------------------------------------------------

    def _written(self, speaker: Speaker | None, own: Monitors, refused: str | None = None) -> bytes:
        """What we send: nothing of our states to whom we do not know for one of this fleet."""
        envelope = partial(Envelope, self._process, own.instance, own.fleet, 0, refused=refused)
        if speaker is None or not speaker.to_be_told(self._clock()):
            return written(envelope(), NOTHING)
        has = speaker.has
        version = has.version if has is not None and has.process == self._process else None
        known: Known | None = speaker.known(self._clock())
        return written(envelope(known), self._ledger.since(version))

    def _answered(self, envelope: Envelope, own: Monitors) -> bytes:
        """Take what a caller sent; returns the answer to it."""
        speaker = self._speakers.get(envelope.instance)
        if envelope.process == self._process:
            return self._written(None, own)
        if speaker is None:
            if envelope.fleet != own.fleet:
                return self._written(None, own, f"this is the fleet {own.fleet}")
            speaker = self._admitted(envelope)
        if speaker is None or not self._fits(speaker, envelope):
            return self._written(None, own, f"{MOST_CALLERS} others call already, or too much")
        self._take(speaker, envelope, own, called=False)
        speaker.called_at = self._clock()
        return self._written(speaker, own, speaker.refusal or None)

    def _take(self, speaker: Speaker, envelope: Envelope, own: Monitors, *, called: bool) -> None:
        """Note what a peer sent, whoever called."""
        now = self._clock()
        why = self._not_to_use(speaker, envelope, own, now)
        if not why and envelope.refused:
            why = f"it does not take our states: {envelope.refused[:200]}"
            self._changed(speaker.refuse(why, now, called=called))
            return
        if not why:
            try:
                self._changed(speaker.hear(envelope, now, Moment(self._wall())))
                return
            except Unreadable as error:
                why = f"no such document: {error}"
        self._changed(speaker.refuse(why, now, called=called, ours=True))

    def _not_to_use(self, speaker: Speaker, envelope: Envelope, own: Monitors, now: float) -> str:
        if envelope.process == self._process:
            return "this is this instance itself: name the addresses of the others only"
        if envelope.instance != speaker.name:
            return f"it says that it is {envelope.instance}: correct REPLICATOR_PEERS"
        if envelope.fleet != own.fleet:
            return f"it is of the fleet {envelope.fleet}, not of {own.fleet}"
        document = envelope.document
        if document and (document.instance, document.fleet) != (envelope.instance, envelope.fleet):
            return "no such document: it is another one's"
        if envelope.instance == own.instance:
            return "another process calls itself by the name of this instance"
        if speaker.of_two_processes(envelope.process, now):
            return "two processes call themselves by this name"
        return ""

    def _admitted(self, envelope: Envelope) -> Speaker | None:
        """The place of a caller that no setting names; None if there is none for it."""
        now = self._clock()
        callers = [each for each in self._speakers.values() if each.peer is None]
        speaker, goes = Speaker(envelope.instance, None, now), None
        if len(callers) >= MOST_CALLERS:
            goes = max(callers, key=lambda each: each.quiet_for(now))
            if goes.quiet_for(now) < REPLACED_AFTER:
                return None
        if not self._fits(speaker, envelope):
            return None
        if goes is not None:
            del self._speakers[goes.name]
        self._speakers[speaker.name] = speaker
        return speaker

    def _fits(self, speaker: Speaker, envelope: Envelope) -> bool:
        """Whether there is room for what a caller sends whole: it may have been small at first."""
        if speaker.peer is not None or envelope.document is None or envelope.base is not None:
            return True
        others = (s for s in self._speakers.values() if s.peer is None and s.name != speaker.name)
        more = len(envelope.document.monitors)
        return sum(each.monitors for each in others) + more <= MOST_MONITORS

    def _forget(self, now: float) -> None:
        for name, speaker in list(self._speakers.items()):
            if speaker.peer is None and speaker.quiet_for(now) > FORGOTTEN_AFTER:
                del self._speakers[name]
                self._changed(True)

    def _changed(self, news: bool) -> None:
        """Something was heard; ``news``: more than times, so that the fleet is judged now."""
        self._turn += 1
        if news and not self._news:
            self._news = True
            self._lock.notify_all()


def _unread(last: Monitors) -> str:
    return f"{last.instance}: its own state cannot be read (its log says why)"


def exchange_of(settings: Settings, own: OwnDocument, judge: Judge) -> Exchange:
    """The exchange of an instance with the peers and the token of its settings."""
    return Exchange(own, settings.peers, judge, lambda peer: HttpLine(peer, settings.http_token))
