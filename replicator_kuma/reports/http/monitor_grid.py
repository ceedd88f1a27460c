"""The grid of the page: monitors against places. What needs a look stands first; the rest folds.

Pure. Names come from documents of others and are shown by the template, which escapes them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from replicator_kuma.base.times import Moment
from replicator_kuma.reports.fleet import signs
from replicator_kuma.reports.fleet.documents import (
    CellStatus,
    Fleet,
    Heard,
    Judged,
    Monitor,
    Monitors,
    MonitorStatus,
)
from replicator_kuma.reports.fleet.sentence import listed, missing_words, short
from replicator_kuma.reports.http.day import Day, day

Kind = Literal[
    "down",
    "disagree",
    "missing",
    "unsure",
    "unknown",
    "none",
    "maintenance",
    "paused",
    "up",
]
"""`missing`: a place lacks it that should have it. `unsure`: some place says down or pending, and
the verdict is another one. `unknown`: no place tells. `none`: active, and no heartbeat anywhere"""
KINDS: Mapping[Kind, str] = {
    "down": "down",
    "disagree": "where places disagree",
    "missing": signs.MISSING[1],
    "unsure": "not sure",
    "unknown": "unknown",
    "none": "without a heartbeat",
    "maintenance": "in maintenance",
    "paused": "paused",
    "up": "up",
}
"""In the order and in the words of the line of counts."""
LOOKS: frozenset[Kind] = frozenset({"down", "disagree", "missing", "unsure"})
"""Monitors of these kinds are shown; the others are folded into a count."""
MOST = 100
"""rows of monitors that need a look, where not all are asked for: the page stays small and fast
while everything is down"""
DEEPEST = 4
"""groups around a monitor that are shown and searched: a page of many in one another stays fast"""

Seen = Mapping[int, tuple[tuple[float, MonitorStatus], ...]]
"""Changes of status by monitor: seconds since the epoch, the new status."""


@dataclass(frozen=True)
class Row:
    """A monitor over all places."""

    id: int
    name: str
    kind: Kind
    judged: Judged
    words: str
    """where it is down or missing, or what is not sure; empty where there is nothing to say"""
    since: Moment | None
    """since when its verdict stands, or it is missing; None where it is about neither"""
    besides: str
    """where it is missing, if the words are about something worse"""
    whys: tuple[tuple[str, str], ...]
    """messages of the newest heartbeats that say down, each with the places that have it; ""
    where all of them do"""
    cells: tuple[CellStatus, ...]
    """one for each of the grid's places"""
    groups: tuple[str, ...]
    """the groups that it lies in, outermost first"""
    tags: tuple[str, ...]
    type: str
    day: Day | None


@dataclass(frozen=True)
class Grid:
    """What the page shows of the monitors."""

    places: tuple[str, ...]
    counts: tuple[tuple[Kind, int], ...]
    """of all monitors, in the order of KINDS, without zeros"""
    looks: tuple[Row, ...]
    """what needs a look, worst first"""
    rest: tuple[Row, ...]
    """all others, as Kuma orders them; empty where they are folded"""
    folded: tuple[tuple[Kind, int], ...]
    """how many monitors are not shown here, and of which kinds"""
    matching: int
    """how many monitors the filter lets through"""

    @property
    def cells(self) -> frozenset[CellStatus]:
        """The states of the cells that are shown."""
        return frozenset(cell for row in (*self.looks, *self.rest) for cell in row.cells)

    @property
    def kinds(self) -> frozenset[Kind]:
        """The kinds of the rows that are shown."""
        return frozenset(row.kind for row in (*self.looks, *self.rest))

    @property
    def hidden(self) -> int:
        """How many monitors are not shown here."""
        return sum(count for _kind, count in self.folded)


def grid(
    fleet: Fleet,
    own: Monitors | None,
    histories: Mapping[str, History],
    now: float,
    *,
    query: str = "",
    all_rows: bool = False,
    messages: bool = False,
) -> Grid:
    """The grid of a fleet.

    ``own``: the document that knows groups, tags and Kuma's order; None where Kuma cannot be read.
    ``histories``: the changes of status of each place. ``query`` filters by name, group, tag and
    type; a filtered grid folds nothing, nor does one with ``all_rows``. ``messages``: those of
    heartbeats may be shown.
    """
    places = tuple(place.name for place in fleet.instances)
    known = {monitor.id: monitor for monitor in own.monitors} if own else {}
    kinds = {judged.id: kind_of(judged) for judged in fleet.monitors}
    wanted = query.casefold().split()
    matching = [
        judged for judged in fleet.monitors if not wanted or _matches(wanted, judged, known)
    ]

    def row(judged: Judged) -> Row:
        return _row(judged, kinds[judged.id], places, known, histories, now, messages=messages)

    looks = [judged for judged in matching if kinds[judged.id] in LOOKS]
    rest = [judged for judged in matching if kinds[judged.id] not in LOOKS]
    shown_looks = looks if all_rows else looks[:MOST]
    room = len(rest) if all_rows else (MOST - len(shown_looks) if wanted else 0)
    shown_rest = _as_kuma_orders(rest, known)[: max(0, room)] if room > 0 else []
    shown = {judged.id for judged in (*shown_looks, *shown_rest)}
    return Grid(
        places,
        _counts(kinds.values()),
        tuple(map(row, shown_looks)),
        tuple(map(row, shown_rest)),
        _counts(kinds[judged.id] for judged in matching if judged.id not in shown),
        len(matching),
    )


def kind_of(judged: Judged) -> Kind:
    """How the page counts a monitor.

    A place that is silent, or lacks it for a known reason, is told elsewhere.
    """
    if judged.verdict == "down":
        return "down"
    if judged.verdict == "partial":
        return "disagree"
    if judged.missing_in:
        return "missing"
    here = set(judged.states.values()) - {"silent", "absent"}
    if here & {"down", "pending"}:
        return "unsure"
    if judged.verdict == "up":
        return "up"
    if not here:
        return "unknown"
    if here <= {"paused"}:
        return "paused"
    if here <= {"paused", "maintenance"}:
        return "maintenance"
    return "none" if here <= {"none", "paused", "maintenance"} else "unknown"


@dataclass(frozen=True)
class History:
    """The changes of status of one place: those that were seen, and since when it is as it is."""

    monitors: Mapping[int, Monitor]
    """of its document"""
    seen: Seen

    def of(self, number: int) -> Sequence[tuple[float, MonitorStatus]]:
        """The changes of one monitor; empty where nothing is known."""
        monitor = self.monitors.get(number)
        seen = self.seen.get(number, ())
        if monitor is None or monitor.since is None:
            return seen
        return (*seen, (monitor.since, monitor.status))


def histories(own: Monitors | None, seen: Seen, heard: Iterable[Heard]) -> Mapping[str, History]:
    """What is known of each place, by its name. ``seen``: this instance's own changes."""
    found: dict[str, History] = {}
    if own is not None:
        found[own.instance] = History({one.id: one for one in own.monitors}, seen)
    for peer in heard:
        if peer.document is not None:
            monitors = {one.id: one for one in peer.document.monitors}
            found.setdefault(peer.name, History(monitors, peer.seen))
    return found


def groups_of(monitor: Monitor | None, known: Mapping[int, Monitor]) -> tuple[str, ...]:
    """The names of the innermost DEEPEST groups around a monitor, outermost first.

    A circle ends it.
    """
    found: list[str] = []
    passed: set[int] = set()
    while (
        len(found) < DEEPEST
        and monitor is not None
        and monitor.parent is not None
        and monitor.parent not in passed
    ):
        passed.add(monitor.parent)
        monitor = known.get(monitor.parent)
        if monitor is not None:
            found.insert(0, monitor.name)
    return tuple(found)


def _matches(wanted: Sequence[str], judged: Judged, known: Mapping[int, Monitor]) -> bool:
    monitor = known.get(judged.id)
    texts = [judged.name]
    if monitor is not None:
        texts += [monitor.type, *monitor.tags, *groups_of(monitor, known)]
    text = "\n".join(texts).casefold()
    return all(word in text for word in wanted)


def _row(
    judged: Judged,
    kind: Kind,
    places: Sequence[str],
    known: Mapping[int, Monitor],
    histories: Mapping[str, History],
    now: float,
    *,
    messages: bool,
) -> Row:
    monitor = known.get(judged.id)
    seen = {
        place: history.of(judged.id)
        for place, history in histories.items()
        if place in judged.states
    }
    return Row(
        judged.id,
        judged.name,
        kind,
        judged,
        *_said(judged, kind),
        _whys(judged, histories) if messages else (),
        tuple(judged.states.get(place, "absent") for place in places),
        groups_of(monitor, known),
        monitor.tags if monitor else (),
        monitor.type if monitor else "",
        day(now, seen) if any(seen.values()) else None,
    )


def _said(judged: Judged, kind: Kind) -> tuple[str, Moment | None, str]:
    """The words of a row, since when, and what is said besides."""
    missing = missing_words(judged)
    if kind == "missing":
        return "; ".join(filter(None, (_doubts(judged), missing))), judged.missing_since, ""
    if kind == "unsure":
        return _doubts(judged), None, missing
    return _words(judged), judged.since, missing


def _words(judged: Judged) -> str:
    fallen, voters = len(judged.down_in), len(judged.voters)
    if not fallen:
        return ""
    if fallen < voters:
        only = " only" if judged.verdict == "partial" else ""
        return f"down in {listed(judged.down_in)}{only} ({fallen} of {voters})"
    if len(judged.states) == 1:
        return "down"
    return f"down everywhere ({fallen} of {voters}: {listed(judged.voters)})"


def _doubts(judged: Judged) -> str:
    """Who says something else than the verdict, and has no vote or only waits for a retry.

    Empty where nobody does.
    """
    by_state = {
        state: [place for place, told in judged.states.items() if told == state]
        for state in ("down", "pending")
    }
    said = [f"{state} in {listed(places)}" for state, places in by_state.items() if places]
    return f"{KINDS['unsure']}: {', '.join(said)}" if said else ""


def _whys(judged: Judged, histories: Mapping[str, History]) -> tuple[tuple[str, str], ...]:
    """Equal messages once: where one cause has it fall everywhere, one line says so."""
    found: dict[str, list[str]] = {}
    fallen = [place for place, state in judged.states.items() if state == "down"]
    for place in fallen:
        history = histories.get(place)
        there = history.monitors.get(judged.id) if history else None
        if there is not None and there.msg:
            found.setdefault(there.msg, []).append(place)
    return tuple(
        ("" if places == fallen else ", ".join(map(short, places)), msg)
        for msg, places in found.items()
    )


def _counts(kinds: Iterable[Kind]) -> tuple[tuple[Kind, int], ...]:
    found = Counter(kinds)
    return tuple((kind, found[kind]) for kind in KINDS if found[kind])


def _as_kuma_orders(monitors: Sequence[Judged], known: Mapping[int, Monitor]) -> list[Judged]:
    """A group before its members, siblings in the order of the document; unknown ones last."""
    children: dict[int | None, list[int]] = {}
    for monitor in known.values():
        parent = monitor.parent if monitor.parent in known else None
        children.setdefault(parent, []).append(monitor.id)
    order = {number: place for place, number in enumerate(_walk(children))}
    return sorted(monitors, key=lambda judged: order.get(judged.id, len(order)))


def _walk(children: Mapping[int | None, Sequence[int]]) -> Iterator[int]:
    """Every monitor below no group, each before its children. A circle of groups is left out."""
    left: list[int] = list(reversed(children.get(None, ())))
    while left:
        number = left.pop()
        yield number
        left += reversed(children.get(number, ()))
