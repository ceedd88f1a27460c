"""Shows a fleet as lines for people: a sentence, the instances, and the monitors.

Each state has a shape and a word, so that no colour is needed. What needs a look stands first in
the document already.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from replicator_kuma.base.text import counted
from replicator_kuma.base.times import ago, lasting
from replicator_kuma.reports.fleet.documents import CellStatus, Fleet, Judged, Place
from replicator_kuma.reports.fleet.missing import lacks
from replicator_kuma.reports.fleet.sentence import missing_words
from replicator_kuma.reports.fleet.signs import MISSING, lacks_words, without_vote

LONGEST_NAME = 40
"""columns of a name; a longer one is cut"""
_WORDS: Mapping[CellStatus, str] = {
    "up": "up",
    "down": "down",
    "pending": "pending",
    "maintenance": "maintenance",
    "paused": "paused",
    "none": "no heartbeat yet",
    "silent": "silent",
    "absent": "no such monitor there",
}


@dataclass(frozen=True)
class Shapes:
    """The signs of a terminal. ``of``: by status."""

    of: Mapping[CellStatus, str]
    needs_look: str
    unknown: str
    dot: str
    """between counts"""
    cut: str
    """the end of a name that is cut"""


UNICODE = Shapes(
    {
        **{"up": "●", "down": "✕", "pending": "◐", "maintenance": "M"},
        **{"paused": "‖", "none": "·", "silent": "?", "absent": "-"},
    },
    *("◐", "?", " · ", "…"),
)
ASCII = Shapes(
    {
        **{"up": "+", "down": "X", "pending": "o", "maintenance": "M"},
        **{"paused": "=", "none": ".", "silent": "?", "absent": "-"},
    },
    *("o", "?", ", ", "..."),
)
_COLUMNS = ("", "name", "role", "snapshot", "state", "Kuma", "heard", "")
"""of the instances"""
_IN_ASCII = str.maketrans({"«": '"', "»": '"', "·": "-", "…": "..."})


def shapes(encoding: str | None) -> Shapes:
    """The shapes that a terminal of this encoding can show."""
    try:
        "".join((*UNICODE.of.values(), UNICODE.dot, UNICODE.cut)).encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return ASCII
    return UNICODE


def needs_look(fleet: Fleet) -> bool:
    """Whether a monitor is down or missing somewhere, or an instance needs a look.

    It does where it is silent, isolated, fenced or a misfit, or its Kuma cannot be read.
    """
    return any(map(_monitor_needs_look, fleet.monitors)) or any(
        without_vote(place) or place.state in ("silent", "fenced", "misfit")
        for place in fleet.instances
    )


def lines(fleet: Fleet, now: float, signs: Shapes, *, all_of_them: bool = False) -> Iterator[str]:
    """The lines of a fleet; ``now``: seconds since the epoch."""
    yield _said(fleet.sentence, signs)
    yield ""
    yield "INSTANCES"
    lacking = lacks(fleet.monitors)
    rows = (_instance(place, lacking[place.name], now, signs) for place in fleet.instances)
    yield from _table([_COLUMNS, *rows])
    yield ""
    shown = [one for one in fleet.monitors if all_of_them or _monitor_needs_look(one)]
    rest = "" if len(shown) == len(fleet.monitors) else "   (all: --all)"
    yield f"MONITORS   {_counts(fleet, signs)}{rest}"
    if shown:
        names = list(dict.fromkeys(place.name for place in fleet.instances))
        yield from _table([_monitor(one, names, now, signs) for one in shown])
        used = {status for one in shown for status in one.states.values()}
        keys = [f"{sign} {_WORDS[status]}" for status, sign in signs.of.items() if status in used]
        yield ""
        yield "   ".join(keys)


def changes(fleet: Fleet, signs: Shapes) -> dict[str, str]:
    """What is told when it differs from the last time, by what it is about.

    Without the sentence: it says how long ago something was, which is no news.
    """
    found, lacking = {}, lacks(fleet.monitors)
    for place in fleet.instances:
        sign, state = _sign(place, lacking[place.name], signs), _state(place, lacking[place.name])
        found[f"instance {place.name}"] = f"{sign} {place.name}: {state}"
    for one in filter(_monitor_needs_look, fleet.monitors):
        words = _told(one, lambda _since: "")
        found[f"monitor {one.id}"] = f"{_verdict_sign(one, signs)} {one.name}: {words}"
    return found


def _said(sentence: str, signs: Shapes) -> str:
    return sentence.translate(_IN_ASCII) if signs is ASCII else sentence


def _instance(place: Place, lacked: int, now: float, signs: Shapes) -> Sequence[str]:
    heard = ago(max(0.0, now - place.contact_at)) if place.contact_at else "never heard"
    if place.here:
        heard = "(here)"
    elif place.state == "silent" and place.contact_at:
        heard = f"silent {lasting(max(0.0, now - place.contact_at))}"
    # what a silent instance told last is old
    was = "was " if place.state == "silent" else ""
    quiet = place.state in ("equal", "behind") and not without_vote(place)
    return (
        _sign(place, lacked, signs),
        _short(place.name, signs),
        place.role or "?",
        f"{was}{place.position}" if place.position else "-",
        _state(place, lacked),
        f"{was}{place.kuma}" if place.kuma else "-",
        heard,
        "" if quiet else _said(place.sentence, signs),
    )


def _state(place: Place, lacked: int) -> str:
    if found := without_vote(place):
        word = found[1]
    elif place.state == "behind" and place.behind:
        word = f"{place.behind} behind"
    else:
        word = place.state
    return f"{word}, {lacks_words(lacked)}" if lacked else word


def _sign(place: Place, lacked: int, signs: Shapes) -> str:
    if without_vote(place) or place.state == "silent":
        return signs.unknown
    if place.state == "equal":
        if lacked:
            return signs.needs_look
        return signs.of["up"]
    return signs.needs_look if place.state in ("behind", "drift") else signs.of["down"]


def _monitor_needs_look(one: Judged) -> bool:
    return one.verdict in ("down", "partial") or bool(one.missing_in)


def _is_missing(one: Judged) -> bool:
    """Whether that it is missing somewhere is the worst of it."""
    return bool(one.missing_in) and one.verdict in ("up", "unknown")


def _monitor(one: Judged, names: Sequence[str], now: float, signs: Shapes) -> Sequence[str]:
    cells = [f"{_short(n, signs)} {signs.of[one.states[n]]}" for n in names if n in one.states]
    return (
        _verdict_sign(one, signs),
        _short(one.name, signs),
        "  ".join(cells),
        _told(one, lambda since: f", {lasting(max(0.0, now - since))}"),
    )


def _told(one: Judged, lasts: Callable[[float], str]) -> str:
    """What is said of a monitor, and how long it lasts. That it is up elsewhere is no news."""
    votes = "" if one.missing_in and one.verdict == "up" else _votes(one)
    parts = ((votes, one.since), (missing_words(one), one.missing_since))
    return "; ".join(f"{words}{lasts(at) if at else ''}" for words, at in parts if words)


def _verdict_sign(one: Judged, signs: Shapes) -> str:
    if _is_missing(one):
        return signs.needs_look
    if one.verdict == "unknown":
        alike = set(one.states.values()) - {"silent", "absent"}
        return signs.of[alike.pop()] if len(alike) == 1 else signs.unknown
    return signs.needs_look if one.verdict == "partial" else signs.of[one.verdict]


def _votes(one: Judged) -> str:
    if one.verdict == "down":
        return f"DOWN in {len(one.down_in)} of {len(one.voters)}"
    if one.verdict == "partial":
        return f"only {', '.join(one.down_in)}"
    if one.verdict == "up":
        return "up"
    return _what_instead(one)


def _what_instead(one: Judged) -> str:
    """Why nobody votes on it."""
    found = sorted(set(one.states.values()) - {"silent", "absent"})
    return ", ".join(_WORDS[status] for status in found) or "nobody tells"


def _counts(fleet: Fleet, signs: Shapes) -> str:
    disagree = "where places disagree"
    words = {"down": "down", "partial": disagree, "up": "up"}
    missing = MISSING[1]

    def counted_as(one: Judged) -> str:
        if _is_missing(one):
            return missing
        return words.get(one.verdict) or (
            "paused" if "paused" in one.states.values() else "unknown"
        )

    found = Counter(map(counted_as, fleet.monitors))
    ordered = [w for w in ("down", disagree, missing, "unknown", "paused", "up") if found[w]]
    return signs.dot.join(f"{found[w]} {w}" for w in ordered) or counted(0, "monitor")


def _short(name: str, signs: Shapes) -> str:
    """A name of at most LONGEST_NAME columns."""
    # another instance chose it: 2,000 characters, or one with 1,999 marks that take no column
    line = name[: 4 * LONGEST_NAME]
    if line == name and _width(line) <= LONGEST_NAME:
        return name
    while _width(line) > LONGEST_NAME - len(signs.cut):
        line = line[:-1]
    return line + signs.cut


def _width(text: str) -> int:
    """Columns of a terminal: wide characters take two, marks on others none."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    if not rows:
        return
    widths = [max(_width(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = (c + " " * (w - _width(c)) for c, w in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()
