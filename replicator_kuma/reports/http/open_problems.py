"""What is open, since when, and what a person does: by place, the one here first. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from replicator_kuma.base import errors
from replicator_kuma.base.errors import (
    DrillFailed,
    Fenced,
    Held,
    ReplicatorError,
    RepositoryDamaged,
    RepositoryUnreachable,
    SchemaMismatch,
    SnapshotMisfit,
    SnapshotShrinks,
    TwoLeaders,
)
from replicator_kuma.base.times import Moment
from replicator_kuma.replication import mode_mismatch
from replicator_kuma.replication.state.records import CYCLE, DRIFT, HOLD
from replicator_kuma.reports.document import Problem, Status
from replicator_kuma.reports.fleet.documents import Fleet, Place
from replicator_kuma.reports.fleet.sentence import short
from replicator_kuma.reports.http.page_text import Clock
from replicator_kuma.reports.sentence import CYCLES_FAIL

MOST_PLACES = 3
"""other places whose problems stand above; of the others, the table of instances tells"""
_GRAVE = frozenset(
    one.__name__
    for one in (
        *(DrillFailed, Fenced, RepositoryDamaged, SchemaMismatch, SnapshotMisfit),
        *(SnapshotShrinks, TwoLeaders),
    )
)
"""Kinds of problems that make the first line red (`summary.state_of`), whoever has them."""
_DOCTOR = "replicator doctor"
_TO_HEAL = "To put the snapshot's rows back: replicator restore --now"
_COMMANDS = (
    "backup|restore|promote|undo|rollback|snapshots|diff|run|status|doctor|drill|housekeeping|init"
    "|log"
)
_COMMAND = re.compile(
    # a POSITION is for the person to fill in
    rf"replicator (?:{_COMMANDS})\b(?: (?:--[a-z][a-z-]*|[A-Z]{{2,}}\b))*"
    r"|restic (?:unlock|snapshots)\b|REPLICATOR_MODE=[A-Z]+"
)


@dataclass(frozen=True)
class Open:
    """A problem that is open."""

    words: str
    since: Moment | None
    to_do: str
    """what to type or to look at next; empty where nothing is known"""
    grave: bool = False
    """a person has to do something now: it has the colour of a first line that says so"""


@dataclass(frozen=True)
class PlaceProblems:
    """What is open in one place."""

    name: str
    problems: tuple[Open, ...]
    """the worst first"""
    all_told: bool
    """they say all that the sentence of the place says"""

    @property
    def grave(self) -> bool:
        """Whether one of them is."""
        return any(problem.grave for problem in self.problems)


def problems_by_place(
    here: str,
    status: Status | None,
    fleet: Fleet | None,
    troubles: Mapping[str, str],
    trouble: str | None,
    clock: Clock,
) -> Iterator[PlaceProblems]:
    """What is open on the instance ``here``, then in the places that fail or cannot be believed.

    ``troubles``: by peer, why its answers are not used. ``trouble``: why ``here`` is unhealthy.
    """
    places = fleet.instances if fleet else ()
    lost = any(place.isolated for place in places if place.name == here)
    found = list(open_problems(status, trouble, isolated=lost)) if status else []
    if lost:
        found.insert(0, Open(f"{short(here)} is isolated", None, _ISOLATED_HERE, grave=True))
    elif _unreadable(here, places) and not _of_database(status):
        found.append(Open("the monitors of its Kuma cannot be read", None, _UNREADABLE_HERE))
    if found:
        found.sort(key=lambda one: not one.grave)
        sentence = next((place.sentence for place in places if place.name == here), "")
        told = lost or any(one.words in sentence for one in found)
        yield PlaceProblems(here, tuple(found), all_told=told)
    if lost:  # that nobody is heard follows from it
        return
    others = [
        place
        for place in places
        if place.name != here and (_not_to_be_believed(place) or CYCLES_FAIL in place.sentence)
    ]
    for place in others[:MOST_PLACES]:
        words = place.sentence.removeprefix(f"{short(place.name)}: ")
        to_do = _of_other(place, clock) if not troubles.get(place.name) else ""
        yield PlaceProblems(place.name, (Open(words, None, to_do),), all_told=True)


_ISOLATED_HERE = (
    "Look at the network of this machine: its peers and its repository do not answer. Its "
    "monitors' states say nothing; alerts of its own Kuma still go out."
)

_UNREADABLE_HERE = (
    "Why: replicator doctor. While Kuma starts, this ends by itself. Until then this instance has "
    "no vote on what is down."
)


def _unreadable(here: str, places: Iterable[Place]) -> bool:
    return any(place.unreadable for place in places if place.name == here)


def _of_database(status: Status | None) -> bool:
    """Whether a problem tells already what is wrong with Kuma's database."""
    kinds = {problem.kind for problem in status.problems} if status else set()
    return any(kind.startswith("Database") for kind in kinds)


def _not_to_be_believed(place: Place) -> bool:
    return place.isolated or place.unreadable or place.state == "silent"


def _of_other(place: Place, clock: Clock) -> str:
    name = short(place.name)
    if not _not_to_be_believed(place):
        return "" if _COMMAND.search(place.sentence) else f"Why, on the machine {name}: {_DOCTOR}"
    if place.isolated:
        return (
            f"Look at the network of the machine {name}: its peers and its repository do not "
            "answer it. Its monitors' states say nothing; alerts of its own Kuma still go out."
        )
    if place.unreadable:
        return (
            f"Look on the machine {name} why its Kuma's database cannot be read: replicator doctor "
            "says it. Until then it has no vote on what is down."
        )
    at = clock.short(place.contact_at) if place.contact_at is not None else ""
    heard = f"it was last heard at {at}" if at else "it was never heard"
    url = f"; its address: {place.url}" if place.url else ""
    return f"Look whether the machine {name} is up and replicator run runs there; {heard}{url}"


def store_doubt(status: Status) -> str:
    """Why the repositories cannot be called whole, though housekeeping found no damage; or ""."""
    if any(problem.kind == RepositoryDamaged.__name__ for problem in status.problems):
        return "a problem above says that it is damaged"
    drill = status.drill
    if drill is not None and drill.failed_at in ("find", "fetch"):
        which = f"snapshot {drill.position}" if drill.position else "a snapshot"
        return f"the last drill could not {drill.failed_at} {which}"
    return ""


def open_problems(
    status: Status, trouble: str | None = None, *, isolated: bool = False
) -> Iterator[Open]:
    """What is open, in the order of the document. What a problem says already is said once.

    ``trouble``: why the instance is unhealthy. ``isolated``: its own line is lost, so that nothing
    is to be looked for in the repository.
    """
    stuck = trouble or status.fenced or status.refused or status.shrink_refused
    kinds = set()
    for problem in status.problems:
        kinds.add(problem.kind if problem.what not in (DRIFT, HOLD) else problem.what)
        grave = problem.kind in _GRAVE or bool(stuck and problem.what == CYCLE)
        to_do = _to_do(problem)
        if isolated and problem.kind == RepositoryUnreachable.__name__:
            to_do = ""
        yield Open(problem.words, problem.since, to_do, grave)
    if status.fenced and not kinds & {"Fenced", "TwoLeaders"}:
        yield Open(status.fenced, None, Fenced.hint, grave=True)
    if status.promoted:
        yield Open(status.promoted.sentence, status.promoted.at, mode_mismatch.TO_DO)
    if status.shrink_refused and SnapshotShrinks.__name__ not in kinds:
        yield Open(status.shrink_refused, None, SnapshotShrinks.hint, grave=True)
    if status.drift and DRIFT not in kinds:
        yield Open(status.drift.words, status.drift.since, _TO_HEAL)
    if status.holding and HOLD not in kinds:
        words = f"holding: {status.for_people.holding}"
        yield Open(words, status.holding.since, Held.hint)
    if status.not_noted:
        yield Open(status.not_noted, None, errors.MachineError.hint)


def _to_do(problem: Problem) -> str:
    if problem.what in (DRIFT, HOLD):
        return _TO_HEAL if problem.what == DRIFT else Held.hint
    found = getattr(errors, problem.kind, None)
    if isinstance(found, type) and issubclass(found, ReplicatorError):
        return found.hint
    return ""


def without_advice(sentence: str, problems: Iterable[PlaceProblems]) -> str:
    """The first line without the advice that stands below it, where it can be copied."""
    for place in problems:
        for problem in place.problems:
            if problem.to_do:
                sentence = sentence.replace(f" {problem.to_do.rstrip('.')}.", "")
    return sentence


def with_commands(sentence: str) -> Iterator[tuple[bool, str]]:
    """The parts of a sentence: whether each is something to type, and its text."""
    done = 0
    for found in _COMMAND.finditer(sentence):
        yield False, sentence[done : found.start()]
        yield True, found[0]
        done = found.end()
    yield False, sentence[done:]
