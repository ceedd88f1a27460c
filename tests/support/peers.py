"""Instances that exchange documents: a test sets their states, their servers are on loopback."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Self

from replicator_kuma.adapters.peers import Peer
from replicator_kuma.adapters.peers.http import HttpLine
from replicator_kuma.adapters.repository import Position
from replicator_kuma.base.errors import StateError
from replicator_kuma.base.text import plain_json
from replicator_kuma.base.times import Moment
from replicator_kuma.reports.document import as_json
from replicator_kuma.reports.fleet.documents import (
    Fleet,
    Heard,
    Judged,
    Monitor,
    Monitors,
    MonitorStatus,
    Place,
)
from replicator_kuma.reports.fleet.exchange import PATH, Exchange
from tests.support.loopback import Loopback, Quiet
from tests.support.waiting import wait_until

TOKEN = "shown-by-each-to-all"
EPOCH = 1_935_000_000


def monitor(
    number: int, status: MonitorStatus = "up", *, at: int = 0, interval: int = 60
) -> Monitor:
    """A monitor whose newest heartbeat was so many seconds after EPOCH."""
    return Monitor(
        id=number,
        name=f"Shop {number}",
        type="http",
        active=True,
        parent=None if number % 5 else 5,
        tags=("prod", f"team: {number % 7}"),
        status=status,
        since=Moment(EPOCH - 3600 * number),
        beat_at=Moment(EPOCH + at),
        interval=interval,
        votes=True,
        msg="200 - OK",
    )


def document(name: str, monitors: Sequence[Monitor] = (), fleet: str = "default") -> Monitors:
    """The document of an instance that is well."""
    return Monitors(
        instance=name,
        fleet=fleet,
        role="replica",
        version="0.4.0",
        kuma="2.5.3",
        position=Position(1, 7),
        behind=0,
        state="equal",
        sentence="Holds 1.7, the newest.",
        beats_at=Moment(EPOCH),
        isolated=False,
        monitors=tuple(monitors),
    )


def judged(own: Monitors, heard: Sequence[Heard], now: Moment, before: Fleet | None) -> Fleet:
    """A stand-in for the verdict: who says what, without votes."""
    known = [own, *(one.document for one in heard if one.document is not None)]
    names = {m.id: m.name for each in known for m in each.monitors}
    states = {
        number: {d.instance: m.status for d in known for m in d.monitors if m.id == number}
        for number in names
    }
    return Fleet(
        fleet=own.fleet,
        quorum="majority",
        sentence=f"{len(known)} of {len(heard) + 1} instances are heard.",
        instances=tuple(
            Place(
                d.instance, None, d.role, d.version, d.kuma, d.position, d.behind, now, d.state, ""
            )
            for d in known
        ),
        monitors=tuple(
            Judged(
                number,
                name,
                "down" if "down" in states[number].values() else "up",
                tuple(n for n, status in states[number].items() if status == "down"),
                tuple(states[number]),
                None,
                states[number],
            )
            for number, name in names.items()
        ),
    )


class Instance:
    """An exchange with a server of its own, whose states a test sets."""

    def __init__(
        self,
        name: str,
        monitors: Sequence[Monitor] = (),
        *,
        fleet: str = "default",
        token: str = TOKEN,
        port: int = 0,
    ) -> None:
        self.name = name
        self.states = document(name, monitors, fleet)
        self.fails = False
        """whether its states cannot be read"""
        self.reads = 0
        self.readers = set[str]()
        self.judgements = 0
        self.token = token
        self.exchange: Exchange | None = None
        self.ended = False
        self.bytes_in = self.bytes_out = self.calls = 0
        owner = self

        class Handler(Quiet):
            protocol_version = "HTTP/1.1"

            def post(self) -> None:
                body = self.body()
                if owner.ended:  # a connection that was kept: its process would be gone
                    self.close_connection = True
                    return
                if self.headers["Authorization"] != f"Bearer {owner.token}" or self.path != PATH:
                    self.say(401 if self.path == PATH else 404)
                    return
                assert owner.exchange is not None
                gzip = "gzip" in self.headers["Accept-Encoding"]
                packed = self.headers.get("Content-Encoding", "")
                answer = owner.exchange.receive(body, packed, accepts_gzip=gzip)
                owner.calls += 1
                owner.bytes_in += len(body)
                owner.bytes_out += len(answer.body)
                encoding = {"Content-Encoding": answer.encoding} if answer.encoding else {}
                self.say(answer.status, answer.body, **encoding)

            def get(self) -> None:
                assert owner.exchange is not None
                if self.headers["Authorization"] != f"Bearer {owner.token}":
                    self.say(401)
                    return
                self.say(200, plain_json(as_json(owner.exchange.fleet())).encode())

        self.server = Loopback(Handler, port)

    @property
    def url(self) -> str:
        return self.server.url

    def asks(self, *peers: Peer, token: str = TOKEN, every: float = 0.1) -> Self:
        """Make its exchange, with these peers, and start it; ``every``: seconds, 5 in earnest."""
        self.exchange = Exchange(
            self._read,
            peers,
            self._judge,
            lambda peer: HttpLine(peer, token),
            every=every,
        )
        self.exchange.start()
        return self

    def peer(self, name: str = "") -> Peer:
        """It, as the others' setting names it."""
        return Peer(name or self.name, self.url)

    def sees(self, *monitors: Monitor) -> None:
        """From now on its Kuma has these."""
        self.states = replace(self.states, monitors=monitors)

    def heard(self, name: str) -> Heard:
        """What it knows of a peer."""
        assert self.exchange is not None
        return next(one for one in self.exchange.heard() if one.name == name)

    def hears(self, name: str, status: str, number: int = 1, deadline: float = 60.0) -> float:
        """Wait until it knows that there a monitor has this status; returns the seconds."""
        began = time.monotonic()

        def known() -> bool:
            assert self.exchange is not None
            found = [one.document for one in self.exchange.heard() if one.name == name]
            return any(
                (each.id, each.status) == (number, status)
                for document in found
                if document is not None
                for each in document.monitors
            )

        wait_until(known, f"{self.name} hears from {name} that {number} is {status}", deadline)
        return time.monotonic() - began

    def stop(self) -> None:
        """End exchange and server."""
        self.ended = True
        if self.exchange is not None:
            self.exchange.stop()
        self.server.close()

    def _read(self, exact: bool) -> Monitors:
        self.reads += 1
        self.readers.add(str(threading.get_ident()))
        if self.fails:
            raise StateError("the state cannot be read")
        return self.states

    def _judge(
        self, own: Monitors, heard: Sequence[Heard], now: Moment, before: Fleet | None
    ) -> Fleet:
        self.judgements += 1
        return judged(own, heard, now, before)
