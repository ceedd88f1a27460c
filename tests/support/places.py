"""Documents of instances for tests of a fleet: what one tells, and what is heard of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from replicator_kuma.adapters.repository import Position
from replicator_kuma.base.times import Moment
from replicator_kuma.reports.fleet.documents import Heard, Monitor, Monitors

NOW = Moment(1_796_000_000)


def monitor(number: int, status: str = "up", **members: Any) -> Monitor:
    """A monitor that votes wherever its status lets it, since 100 s before `NOW`."""
    made = Monitor(
        id=number,
        name=f"m{number}",
        type="http",
        active=status != "paused",
        parent=None,
        tags=(),
        status=status,  # type: ignore[arg-type]
        since=Moment(NOW - 100),
        beat_at=Moment(NOW - 5),
        interval=60,
        votes=status in ("up", "down", "pending"),
    )
    return dataclasses.replace(made, **members)


def place(name: str, monitors: Iterable[Monitor | str] = (), **members: Any) -> Monitors:
    """An instance that holds 1.7; of monitors given by status alone, the ids count from 1."""
    made = Monitors(
        instance=name,
        fleet="home",
        role="replica",
        version="0.4.0",
        kuma="2.5.3",
        position=Position(1, 7),
        behind=0,
        state="equal",
        sentence=f"{name}: holds snapshot 1.7, the newest",
        beats_at=NOW,
        isolated=False,
        monitors=tuple(
            monitor(k, one) if isinstance(one, str) else one for k, one in enumerate(monitors, 1)
        ),
    )
    return dataclasses.replace(made, **members)


def heard(document: Monitors, age: float = 2.0, **members: Any) -> Heard:
    """A peer that told this document so many seconds ago."""
    made = Heard(
        name=document.instance,
        url=f"https://{document.instance}.example",
        document=document,
        age=age,
        contact_at=Moment(NOW - age),
    )
    return dataclasses.replace(made, **members)
