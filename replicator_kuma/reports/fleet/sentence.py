"""The sentences of a fleet: of each place, and the one that says it all.

Names and texts come from others: they stand on one line, without control characters, and cut. So
the length is bounded whatever they are.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from replicator_kuma.adapters.repository.snapshot import Position
from replicator_kuma.base.text import counted, plain_line
from replicator_kuma.base.times import Moment, roughly
from replicator_kuma.reports.fleet.documents import Heard, Judged, Monitors, Place

NAME = 40
"""characters of a name in a sentence"""
LONGEST = 400
"""characters of a sentence"""
NAMED = 3
"""monitors, or places, that are named one by one"""


def peer_sentence(
    document: Monitors | None, heard: Heard | None, trouble: str = "", *, answers: bool = True
) -> str:
    """What a person should know of one place; ``heard`` is None for the instance itself."""
    if answers and document is not None:
        if document.isolated:
            return _cut(
                f"{short(document.instance)}: is isolated: no peer and no repository answers it, "
                "and most monitors fell together. It votes on none"
            )
        if document.beats_at is None:
            return _cut(f"{document.sentence}; its Kuma's database cannot be read")
        return _cut(document.sentence)
    assert heard is not None
    name = short(heard.name)
    if trouble:
        return _cut(f"{name}: its answers are not used: {trouble}")
    if heard.age is None:
        return _cut(f"{name}: has never answered")
    why = f" ({heard.why})" if heard.why else ""
    return _cut(f"{name}: has not answered for {roughly(heard.age)}{why}")


def late_sentence(name: str, held: Position, newest: Position) -> str:
    """That a place still takes its snapshot for the newest, and another one holds a newer."""
    return (
        f"{short(name)}: holds snapshot {held}, and has not looked since snapshot {newest} was made"
    )


def fleet_sentence(
    own: Monitors,
    heard: Sequence[Heard],
    places: Sequence[Place],
    monitors: Sequence[Judged],
    groups: Collection[int],
    now: Moment,
) -> str:
    """The one sentence about all: worst first; ``groups`` are ids of monitors of type group."""
    parts = [
        *_of_own(own),
        *_of_monitors(monitors, groups),
        *_of_places(own, heard, places),
        *_of_unknown(own, monitors),
    ]
    if not _any_worse(own, places, monitors):  # rows that differ are how it is missing
        parts = [*_of_missing(monitors), *parts]
    if parts:
        return _joined(parts)
    changed = (
        f", last change {roughly(now - at)} ago" if (at := own.changed_at) and at <= now else ""
    )
    number = counted(len(monitors), "monitor")
    verb = "hold" if len(places) > 1 else "holds"
    held = f"{verb} snapshot {own.position}" if own.position else f"{verb} no snapshot yet"
    if len(places) > 1:
        return f"Everything is equal: {len(places)} instances {held}, {number}{changed}."
    return f"All is well: {short(own.instance)} {held}, {number}{changed}."


def short(name: str) -> str:
    """A name on one line, cut."""
    line = plain_line(name)
    return line if len(line) <= NAME else f"{line[: NAME - 1]}…"


def _of_own(own: Monitors) -> Iterable[str]:
    name = short(own.instance)
    if own.isolated:
        yield f"{name} is isolated: no peer and no repository answers, so it votes nowhere"
    elif own.beats_at is None:
        yield f"The monitors of {name} cannot be read: Kuma's database does not answer"


def _of_monitors(monitors: Sequence[Judged], groups: Collection[int]) -> Iterable[str]:
    bad = [one for one in monitors if one.verdict in ("down", "partial")]
    # a group falls with its children: it is named only where none of these is
    bad = [one for one in bad if one.id not in groups] or bad
    for verdict, where in (("down", ""), ("partial", " in some places")):
        found = [one for one in bad if one.verdict == verdict]
        yield from map(_monitor, found[:NAMED])
        if more := len(found[NAMED:]):
            verb = "is" if more == 1 else "are"
            yield f"{counted(more, 'more monitor')} {verb} down{where}"


def _monitor(one: Judged) -> str:
    name, down, voters = short(one.name), len(one.down_in), len(one.voters)
    count = f"({down} of {voters})"
    if one.verdict == "partial":
        return f"«{name}» is down in {listed(one.down_in)} only {count}"
    if down == voters:
        return (
            f"«{name}» is down" if len(one.states) == 1 else f"«{name}» is down everywhere {count}"
        )
    return f"«{name}» is down in {listed(one.down_in)} {count}"


def _of_places(own: Monitors, heard: Sequence[Heard], places: Sequence[Place]) -> Iterable[str]:
    blind = {
        one.name
        for one in heard
        if one.document and (one.document.isolated or one.document.beats_at is None)
    }
    found = [
        place
        for place in places
        if place.name in blind
        or (
            place.state != "equal"
            and not (own.isolated and (place.here or place.state == "silent"))
        )
    ]
    for place in found[:NAMED]:
        yield place.sentence.rstrip(".")
    if more := len(found[NAMED:]):
        yield f"{counted(more, 'more instance')} {'needs' if more == 1 else 'need'} a look"


def _of_unknown(own: Monitors, monitors: Sequence[Judged]) -> Iterable[str]:
    """What runs somewhere, and nobody votes on: its heartbeats are old, or cannot be trusted."""
    runs = {"up", "down", "pending", "silent"}
    quiet = {"paused", "maintenance"}
    found = [
        one
        for one in monitors
        if one.verdict == "unknown"
        and runs.intersection(one.states.values())
        and not quiet.intersection(one.states.values())
    ]
    if found and not own.isolated:
        yield f"Nobody can judge {counted(len(found), 'monitor')} now: no fresh heartbeat"


def _any_worse(own: Monitors, places: Sequence[Place], monitors: Sequence[Judged]) -> bool:
    """Whether something is worse than that a monitor is missing somewhere."""
    return (
        any(one.verdict in ("down", "partial") for one in monitors)
        or any(
            place.state not in ("equal", "drift") or place.isolated or place.unreadable
            for place in places
        )
        or any(_of_unknown(own, monitors))
    )


def _of_missing(monitors: Sequence[Judged]) -> Iterable[str]:
    found = [one for one in monitors if one.missing_in]
    where = {one.missing_in for one in found}
    if len(found) > NAMED and len(where) == 1:
        yield f"{counted(len(found), 'monitor')} are missing in {listed(where.pop())}"
        return
    for one in found[:NAMED]:
        yield f"«{short(one.name)}» is {missing_words(one)}"
    if more := len(found[NAMED:]):
        verb = "is" if more == 1 else "are"
        yield f"{counted(more, 'more monitor')} {verb} missing in some places"


def missing_words(one: Judged) -> str:
    """Which places lack it though they should have it; "" where none does."""
    return f"missing in {listed(one.missing_in)}" if one.missing_in else ""


def listed(names: Sequence[str]) -> str:
    """The first names of places, cut, and how many more there are."""
    first = [short(name) for name in names[:NAMED]]
    if len(names) > NAMED:
        first.append(f"{len(names) - NAMED} more")
    return ", ".join(first)


def _joined(parts: Sequence[str]) -> str:
    """The parts as sentences, as many as there is room for."""
    text = ""
    for done, part in enumerate(parts):
        sentence = f"{part}."
        rest = f" And {len(parts) - done} more." if done else ""
        if text and len(text) + 1 + len(sentence) + len(rest) > LONGEST:
            return f"{text}{rest}"
        text = f"{text} {_cut(sentence)}" if text else _cut(sentence)
    return text


def _cut(text: str) -> str:
    line = plain_line(text)
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"
