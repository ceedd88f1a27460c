"""Makes the document of a fleet of what each instance tells: pure, without a clock of its own.

Equal documents give equal verdicts, in whatever order they come. Times of other machines are used
for durations only: how long before its own reading an instance saw a change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from replicator_kuma.adapters.repository.snapshot import Position
from replicator_kuma.base.times import Moment
from replicator_kuma.reports.fleet.documents import (
    CellStatus,
    Fleet,
    Heard,
    InstanceState,
    Judged,
    Monitor,
    Monitors,
    Place,
    Verdict,
)
from replicator_kuma.reports.fleet.missing import AFTER, Alike, alike
from replicator_kuma.reports.fleet.sentence import fleet_sentence, late_sentence, peer_sentence
from replicator_kuma.reports.fleet.voters import quorum, silent, troubles, votes

QUORUM = "majority"
_WORST_FIRST: tuple[InstanceState, ...] = (
    "fenced",
    "misfit",
    "silent",
    "drift",
    "behind",
    "equal",
)


@dataclass(frozen=True)
class _Source:
    """An instance whose answers are used."""

    name: str
    document: Monitors
    age: float
    """seconds since it was heard"""
    by_id: Mapping[int, Monitor]

    def since(self, monitor: Monitor, now: Moment) -> float | None:
        """Since when it sees this status, by our clock; None: it does not know.

        Both times come from its own clock: only their distance is used.
        """
        if monitor.since is None or self.document.beats_at is None:
            return None
        return now - self.age - max(0.0, self.document.beats_at - monitor.since)


def judge(own: Monitors, heard: Sequence[Heard], now: Moment, before: Fleet | None) -> Fleet:
    """The fleet as this instance sees it.

    ``heard``: one for each peer that is set or that calls us. ``before``: the last result, whose
    `since` is carried on while a verdict stands; None at the start.
    """
    trouble = troubles(own, heard)
    sources = [_source(own, 0.0)]
    for one, why in zip(heard, trouble, strict=True):
        if one.document is not None and not why and not silent(one):
            sources.append(_source(one.document, one.age or 0.0))
    sources.sort(key=lambda source: source.name)
    answering = {source.name for source in sources if source.document.beats_at is not None}
    names = sorted({own.instance, *(one.name for one in heard)})
    away = [name for name in names if name not in answering]
    earlier = {one.id: one for one in before.monitors} if before else {}
    newest = max((s.document.position for s in sources if s.document.position), default=None)
    comparable = alike(((s.document, s.by_id.keys()) for s in sources), newest)
    judged = [
        _judged(number, sources, away, comparable, now, earlier.get(number))
        for number in _in_order(sources)
    ]
    monitors = tuple(sorted(judged, key=_look))
    places = [_place(own, None, now, newest)]
    for one, why in zip(heard, trouble, strict=True):
        places.append(_peer(one, why, newest))
    places.sort(key=_place_order)
    groups = {m.id for source in sources for m in source.document.monitors if m.type == "group"}
    return Fleet(
        fleet=own.fleet,
        quorum=QUORUM,
        sentence=fleet_sentence(own, heard, places, monitors, groups, now),
        instances=tuple(places),
        monitors=monitors,
    )


def _place_order(place: Place) -> tuple[object, ...]:
    """What needs a look first, then the leader; the order of answers is no matter."""
    rank = _WORST_FIRST.index(place.state)
    if place.isolated or place.unreadable:
        rank = min(rank, _WORST_FIRST.index("silent"))
    return rank, place.role != "leader", place.name, place.url or "", place.contact_at or 0.0


def _source(document: Monitors, age: float) -> _Source:
    by_id = {monitor.id: monitor for monitor in document.monitors}
    return _Source(document.instance, document, age, by_id)


def _in_order(sources: Sequence[_Source]) -> list[int]:
    """All monitors' ids, as the leader orders them; those that only others have come after."""
    leading = sorted(sources, key=lambda s: (s.document.role != "leader", s.name))
    return list(dict.fromkeys(number for source in leading for number in source.by_id))


def _judged(
    number: int,
    sources: Sequence[_Source],
    away: Sequence[str],
    comparable: Alike,
    now: Moment,
    before: Judged | None,
) -> Judged:
    states: dict[str, CellStatus] = dict.fromkeys(away, "silent")
    voters: list[tuple[_Source, Monitor]] = []
    name = ""
    for source in sources:
        monitor = source.by_id.get(number)
        if monitor is not None and (not name or source.document.role == "leader"):
            name = monitor.name
        if source.name in states:  # its database cannot be read: what it told is of no use
            continue
        states[source.name] = "absent" if monitor is None else monitor.status
        if monitor is not None and votes(source.document, monitor):
            voters.append((source, monitor))
    down = [(source, monitor) for source, monitor in voters if monitor.status == "down"]
    verdict = _verdict(len(voters), len(down))
    lacking = comparable.lacking(number)
    missing_since = _missing_since(now, before) if lacking else None
    return Judged(
        id=number,
        name=name,
        verdict=verdict,
        down_in=tuple(source.name for source, _ in down),
        voters=tuple(source.name for source, _ in voters),
        since=_since(verdict, voters, now, before),
        states=dict(sorted(states.items())),
        missing_in=lacking if missing_since and now - missing_since >= AFTER else (),
        missing_since=missing_since,
    )


def _missing_since(now: Moment, before: Judged | None) -> Moment:
    if before is None or before.missing_since is None:
        return now
    return min(before.missing_since, now)  # the clock may have been set back since


def _verdict(voters: int, down: int) -> Verdict:
    if not voters:
        return "unknown"
    if not down:
        return "up"
    return "down" if down >= quorum(voters) else "partial"


def _since(
    verdict: Verdict,
    voters: Sequence[tuple[_Source, Monitor]],
    now: Moment,
    before: Judged | None,
) -> Moment | None:
    """Since when the verdict stands: carried on, or now where another one stood before.

    For a monitor that nobody has judged before: when the votes that make the verdict were all
    there. Down: when the quorum was reached; partial: the first down; up: the last that came up.
    """
    if before is not None:
        if before.verdict != verdict:
            return now
        # the clock may have been set back since
        return before.since if before.since is None else min(before.since, now)
    is_down = verdict in ("down", "partial")
    known = sorted(
        at
        for source, monitor in voters
        if (monitor.status == "down") == is_down and (at := source.since(monitor, now)) is not None
    )
    if not known:
        return None
    if verdict == "down":
        return Moment(min(known[min(quorum(len(voters)), len(known)) - 1], now))
    return Moment(min(known[0] if verdict == "partial" else known[-1], now))


def _look(judged: Judged) -> int:
    """What needs a look first: down, partial, missing, what nobody can tell, then what is quiet."""
    states = set(judged.states.values())
    if judged.verdict == "down":
        return 0
    if judged.verdict == "partial":
        return 1
    if judged.missing_in:
        return 2
    if judged.verdict == "up":
        return 3 if states & {"down", "pending"} else 5
    return 6 if states & {"paused", "maintenance"} and not states & {"down", "pending"} else 4


def _place(
    document: Monitors, heard: Heard | None, contact_at: Moment | None, newest: Position | None
) -> Place:
    """An instance that answers."""
    state, behind, sentence = document.state, document.behind, peer_sentence(document, heard)
    if document.position is not None and newest is not None and document.position < newest:
        if state == "equal":  # it does not know that yet
            state = "behind"
            if not document.isolated and document.beats_at is not None:
                sentence = late_sentence(document.instance, document.position, newest)
        if document.position.epoch == newest.epoch:
            behind = max(behind or 0, newest.sequence - document.position.sequence)
        else:
            behind = max(behind or 0, 1)
    return Place(
        name=document.instance,
        url=heard.url if heard else None,
        role=document.role,
        version=document.version,
        kuma=document.kuma,
        position=document.position,
        behind=behind,
        contact_at=contact_at,
        state=state,
        sentence=sentence,
        here=heard is None,
        isolated=document.isolated,
        unreadable=document.beats_at is None,
    )


def _peer(heard: Heard, trouble: str, newest: Position | None) -> Place:
    document = heard.document
    if document is not None and not trouble and not silent(heard):
        return _place(document, heard, heard.contact_at, newest)
    last = None if trouble else document
    return Place(
        name=heard.name,
        url=heard.url,
        role=last.role if last else None,
        version=last.version if last else None,
        kuma=last.kuma if last else None,
        position=last.position if last else None,
        behind=last.behind if last else None,
        contact_at=heard.contact_at,
        state="silent",
        sentence=peer_sentence(last, heard, trouble, answers=False),
    )
