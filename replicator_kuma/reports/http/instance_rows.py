"""What the page shows of each instance of the fleet, from its `Place`. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from replicator_kuma.reports.fleet import signs
from replicator_kuma.reports.fleet.documents import Fleet, Place
from replicator_kuma.reports.fleet.missing import lacks


@dataclass(frozen=True)
class InstanceRow:
    """An instance."""

    place: Place
    sign: str
    kind: str
    """what colours the sign: `isolated`, `unreadable`, `fail`, or its state"""
    aside: str
    """beside its name: its role, and whether it can be believed"""
    snapshot: str
    """what it holds, how far that is from the newest, and how many monitors it lacks"""
    kuma: str
    old: bool
    """it is silent: both are what it told last"""
    says: tuple[str, ...]
    """what stands below it"""


def instance_rows(
    fleet: Fleet, troubles: Mapping[str, str], told: Collection[str]
) -> Iterator[InstanceRow]:
    """The rows, in the order of the fleet.

    ``troubles``: by peer, why its answers are not used. ``told``: names of the places whose
    problems stand above with the same words; they are not said again.
    """
    lacking = lacks(fleet.monitors)
    for place in fleet.instances:
        lacked = lacking[place.name]
        sign, word = signs.instance(place, lacks=lacked > 0)
        old = place.state == "silent"
        was = "was " if old else ""
        role = place.role or "role not known"
        beside = signs.without_vote(place) or place.state in ("silent", "fenced")
        yield InstanceRow(
            place,
            sign,
            _kind(place, lacked),
            f"{role}, {word}" if beside else role,
            f"{was}{_snapshot(place, lacked)}" if place.position else _without(place),
            f"{was}{place.kuma}" if place.kuma else "not known",
            old,
            () if place.name in told else tuple(_says(place, troubles.get(place.name, ""))),
        )


def _kind(place: Place, lacked: int) -> str:
    if place.isolated:
        # of the one here the first line is red
        return "fail" if place.here else "isolated"
    if place.unreadable:
        return "unreadable"
    return "behind" if lacked and place.state == "equal" else place.state


def _snapshot(place: Place, lacked: int) -> str:
    words = [str(place.position)]
    if place.state == "silent":
        return words[0]
    if place.behind:
        words.append(f"{place.behind} behind")
    elif place.state in ("equal", "behind"):
        words.append(signs.INSTANCES[place.state][1])
    if place.state in ("drift", "misfit"):
        words.append(signs.INSTANCES[place.state][1])
    if lacked:
        words.append(signs.lacks_words(lacked))
    return ", ".join(words)


def _without(place: Place) -> str:
    return "not known" if place.state == "silent" else "nothing yet"


def _says(place: Place, trouble: str) -> Iterator[str]:
    if (place.state != "equal" or signs.without_vote(place)) and place.sentence:
        yield place.sentence
    if trouble and trouble not in place.sentence:
        yield trouble
