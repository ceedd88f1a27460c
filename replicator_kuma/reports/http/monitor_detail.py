"""What the page tells of one monitor: the beats of the last hour here, and the other places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from replicator_kuma.base.times import Moment
from replicator_kuma.reports.fleet.documents import (
    CellStatus,
    Fleet,
    Heard,
    Judged,
    Monitor,
    Monitors,
    MonitorStatus,
    Place,
)
from replicator_kuma.reports.http.monitor_grid import Seen, groups_of
from replicator_kuma.reports.http.view import Beats, HourBeat

HOUR = 3600
MOST_CHANGES = 20
"""of one place, newest first"""
MOST_BEATS = 60
"""in the list, newest first; the bar has all"""
_WIDE, _HIGH = 300, 16
_TALL = {"down": 16, "pending": 9, "up": 6}
"""the height of a beat in the bar; of any other status 2"""


@dataclass(frozen=True)
class PlaceDetail:
    """A monitor in one place."""

    name: str
    status: CellStatus
    since: Moment | None
    beat_at: Moment | None
    msg: str | None
    changes: tuple[tuple[Moment, MonitorStatus], ...]
    """newest first, of the last 24 hours"""


@dataclass(frozen=True)
class Detail:
    """One monitor."""

    id: int
    judged: Judged | None
    """None: there is no such monitor"""
    monitor: Monitor | None
    groups: tuple[str, ...]
    beats: tuple[HourBeat, ...]
    """of the last hour here, newest first"""
    bar: tuple[tuple[str, str], ...]
    """by status, paths of SVG, 300 wide and 16 high"""
    trouble: str
    """why the beats cannot be read"""
    places: tuple[PlaceDetail, ...]


def detail(
    number: int,
    fleet: Fleet,
    own: Monitors | None,
    seen: Seen,
    heard: Sequence[Heard],
    beats: Beats | None,
    trouble: str,
    now: float,
) -> Detail:
    """What is known of the monitor ``number``. ``seen``: this instance's own changes."""
    judged = next((one for one in fleet.monitors if one.id == number), None)
    known = {monitor.id: monitor for monitor in own.monitors} if own else {}
    documents: dict[str, tuple[Monitors | None, Seen]] = {
        one.name: (one.document, one.seen) for one in heard
    }
    if own is not None:
        documents[own.instance] = (own, seen)
    places = (
        _place(number, place, judged, *documents.get(place.name, (None, {})))
        for place in fleet.instances
    )
    found = tuple(reversed(beats.beats)) if beats else ()
    return Detail(
        number,
        judged,
        known.get(number),
        groups_of(known.get(number), known),
        found,
        _bar(found, now),
        trouble,
        tuple(places) if judged else (),
    )


def _place(
    number: int, place: Place, judged: Judged | None, document: Monitors | None, seen: Seen
) -> PlaceDetail:
    status = judged.states.get(place.name, "absent") if judged else "absent"
    monitors = document.monitors if document else ()
    there = next((monitor for monitor in monitors if monitor.id == number), None)
    changes = tuple((Moment(at), now) for at, now in reversed(seen.get(number, ())))
    return PlaceDetail(
        place.name,
        status,
        # of a silent place the last thing that it said is no news of now
        there.since if there and status != "silent" else None,
        # another place does not tell each heartbeat, unless it is too old
        there.beat_at if there and (place.here or not there.votes) else None,
        there.msg if there else None,
        changes[:MOST_CHANGES],
    )


def _bar(beats: Sequence[HourBeat], now: float) -> tuple[tuple[str, str], ...]:
    drawn: dict[str, list[str]] = {}
    for beat in beats:
        left = (beat.at - (now - HOUR)) / HOUR * _WIDE
        if 0 <= left < _WIDE:
            tall = _TALL.get(beat.status, 2)
            kind = beat.status if beat.status in _TALL else "other"
            drawn.setdefault(kind, []).append(f"M{left:.0f} {_HIGH - tall}h2v{tall}h-2z")
    return tuple((kind, "".join(paths)) for kind, paths in drawn.items())
