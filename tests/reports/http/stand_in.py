"""An exchange with peers whose documents a test writes, of any size."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from replicator_kuma.adapters.repository import Position
from replicator_kuma.base.times import Moment
from replicator_kuma.reports.fleet.documents import (
    Fleet,
    Heard,
    Judged,
    Monitor,
    Monitors,
    Place,
)

NOW = Moment(1_900_000_000)


@dataclass(frozen=True)
class Answered:
    status: int
    body: bytes
    encoding: str = ""


@dataclass
class StandIn:
    """As `reports/fleet/exchange.py`; ``received`` has what peers sent."""

    monitors: Monitors
    judged: Fleet
    received: list[tuple[bytes, str]] = field(default_factory=list)

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def own(self) -> Monitors:
        return self.monitors

    def fleet(self) -> Fleet:
        return self.judged

    def heard(self) -> Sequence[Heard]:
        return ()

    def receive(self, body: bytes, encoding: str = "", *, accepts_gzip: bool = False) -> Answered:
        self.received.append((body, encoding))
        return Answered(200, json.dumps({"bytes": len(body)}).encode())


def exchange(monitors: int = 3, peers: int = 2, msg: str = "connect ECONNREFUSED") -> StandIn:
    """A fleet with so many monitors, the first of them down."""
    names = ["here", *(f"peer-{number}" for number in range(1, peers + 1))]
    own = tuple(
        Monitor(
            number,
            f"Shop checkout {number}",
            "http",
            True,
            None,
            ("team: shop",),
            "down" if number == 1 else "up",
            NOW,
            NOW,
            60,
            True,
            msg,
        )
        for number in range(1, monitors + 1)
    )
    judged = tuple(
        Judged(
            one.id,
            one.name,
            "down" if one.status == "down" else "up",
            tuple(names) if one.status == "down" else (),
            tuple(names),
            NOW,
            dict.fromkeys(names, one.status),
        )
        for one in own
    )
    position = Position(1, 7)
    places = tuple(
        Place(name, None, "replica", "0.4.0", "2.5.3", position, 0, NOW, "equal", "holds 1.7")
        for name in names
    )
    own_document = Monitors(
        instance="here",
        fleet="default",
        role="leader",
        version="0.4.0",
        kuma="2.5.3",
        position=position,
        behind=0,
        state="equal",
        sentence="leads, holds 1.7",
        beats_at=NOW,
        isolated=False,
        monitors=own,
    )
    sentence = "«Shop checkout 1» is down everywhere."
    return StandIn(own_document, Fleet("default", "majority", sentence, places, judged))
