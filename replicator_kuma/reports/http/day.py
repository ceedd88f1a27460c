"""The last 24 hours of a monitor over all places, as a bar of half hours.

Pure: it is given the changes of status that each place was seen to make.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from replicator_kuma.base.times import lasting
from replicator_kuma.reports.fleet.documents import MonitorStatus

DAY = 86_400
PARTS = 48
"""of the bar; each is half an hour"""
Kind = Literal["down", "some", "pending", "other", "up", "unknown"]
"""`down`: in every place that is known; `some`: in some of them; `other`: paused, in maintenance or
without a heartbeat; `unknown`: no place is known"""
_WORST_FIRST: tuple[Kind, ...] = ("down", "some", "pending", "up", "other", "unknown")
_WORDS: Mapping[Kind, str] = {
    "down": "down everywhere for",
    "some": "down in some places for",
    "pending": "pending for",
    "up": "up for",
    "other": "not watched for",
    "unknown": "no data for",
}
_LEFT, _STEP, _WIDTH, _HEIGHT = 0.5, 3, 2, 16
_TALL: Mapping[Kind, int] = {
    "down": 16,
    "some": 12,
    "pending": 9,
    "up": 6,
    "other": 2,
    "unknown": 1,
}
"""Each kind has a height of its own, so that the bar is read without colours. Dots: no data."""

Changes = Iterable[tuple[float, MonitorStatus]]


@dataclass(frozen=True)
class Day:
    """A bar: ``paths`` are of SVG, 144 wide and 16 high; ``words`` say the same."""

    paths: tuple[tuple[Kind, str], ...]
    words: str

    @property
    def no_data(self) -> bool:
        """Whether nothing is known of it all the time: the template says so in words."""
        return [kind for kind, _path in self.paths] == ["unknown"]

    @property
    def all_up(self) -> bool:
        """Whether it was up all the time: the template draws such a bar once."""
        return [kind for kind, _path in self.paths] == ["up"]


def day(now: float, places: Mapping[str, Changes]) -> Day:
    """The bar of the 24 hours before the minute of ``now`` ends (seconds since the epoch).

    So it stays the same for a minute, and with it the page. ``places``: each one's changes of
    status, in any order. Before the first one nothing is known.
    """
    now = -(-now // 60) * 60
    spans = _spans(now, places)
    worst: list[int] = [len(_WORST_FIRST) - 1] * PARTS
    seconds: dict[Kind, float] = {}
    for start, end, kind in spans:
        seconds[kind] = seconds.get(kind, 0.0) + end - start
        rank = _WORST_FIRST.index(kind)
        first = int((start - (now - DAY)) * PARTS // DAY)
        # an end at the border of a part is not in the next one
        last = -int(-(end - (now - DAY)) * PARTS // DAY)
        for part in range(first, min(last, PARTS)):
            if rank < worst[part]:
                worst[part] = rank
    return Day(_drawn(tuple(_WORST_FIRST[rank] for rank in worst)), _words(seconds))


def _spans(now: float, places: Mapping[str, Changes]) -> list[tuple[float, float, Kind]]:
    """The day in spans without a change."""
    states: dict[str, MonitorStatus] = {}
    events = sorted((at, name, status) for name, seen in places.items() for at, status in seen)
    begin = now - DAY
    found: list[tuple[float, float, Kind]] = []
    for at, name, status in events:
        # a peer's clock may be ahead
        moment = min(max(at, now - DAY), now)
        if moment > begin:
            found.append((begin, moment, _kind(states.values())))
            begin = moment
        states[name] = status
    if now > begin:
        found.append((begin, now, _kind(states.values())))
    return found


def _kind(states: Iterable[MonitorStatus]) -> Kind:
    here = set(states)
    if "down" in here:
        return "some" if here & {"up", "pending"} else "down"
    if "pending" in here:
        return "pending"
    if "up" in here:
        return "up"
    return "other" if here else "unknown"


def _words(seconds: Mapping[Kind, float]) -> str:
    parts = (
        f"{words} {lasting(round(seconds[kind]))}"
        for kind, words in _WORDS.items()
        if seconds.get(kind, 0) >= 1
    )
    return f"Last 24 hours: {', '.join(parts)}"


@lru_cache(maxsize=1024)
def _drawn(parts: tuple[Kind, ...]) -> tuple[tuple[Kind, str], ...]:
    drawn: dict[Kind, list[str]] = {}
    for number, kind in enumerate(parts):
        drawn.setdefault(kind, []).append(_rectangle(number, kind))
    return tuple((kind, "".join(paths)) for kind, paths in drawn.items())


def _rectangle(part: int, kind: Kind) -> str:
    tall, wide = _TALL[kind], 1 if kind == "unknown" else _WIDTH
    return f"M{_LEFT + part * _STEP:g} {_HEIGHT - tall}h{wide}v{tall}h-{wide}z"


UP_ALL_DAY = "".join(_rectangle(part, "up") for part in range(PARTS))
"""The path of a monitor that was up all the time: a page draws it once for all of them."""
