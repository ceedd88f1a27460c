"""What the page shows of each instance of the fleet, from its `Place`. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from replicator_kuma.reports.fleet import signs
from replicator_kuma.reports.fleet.documents import Fleet, Place


@dataclass(frozen=True)
class InstanceRow:
    """An instance."""

    place: Place
    sign: str
    kind: str
    """what colours the sign: `isolated`, `unreadable`, `fail`, or its state"""
    aside: str
    """beside its name: its role, and whether it can be believed"""
    configuration: str
    """the snapshot that it holds, and how far that is from the newest"""
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
    for place in fleet.instances:
        sign, word = signs.instance(place)
        old = place.state == "silent"
        was = "was " if old else ""
        role = place.role or "role not known"
        beside = signs.without_vote(place) or place.state in ("silent", "fenced")
        yield InstanceRow(
            place,
            sign,
            _kind(place),
            f"{role}, {word}" if beside else role,
            f"{was}{_configuration(place)}" if place.position else _without(place),
            f"{was}{place.kuma}" if place.kuma else "not known",
            old,
            () if place.name in told else tuple(_says(place, troubles.get(place.name, ""))),
        )


def _kind(place: Place) -> str:
    if place.isolated:
        # of the one here the first line is red
        return "fail" if place.here else "isolated"
    if place.unreadable:
        return "unreadable"
    return place.state


def _configuration(place: Place) -> str:
    words = [str(place.position)]
    if place.state == "silent":
        return words[0]
    if place.behind:
        words.append(f"{place.behind} behind")
    elif place.state in ("equal", "behind"):
        words.append(signs.INSTANCES[place.state][1])
    if place.state in ("drift", "misfit"):
        words.append(signs.INSTANCES[place.state][1])
    return ", ".join(words)


def _without(place: Place) -> str:
    return "not known" if place.state == "silent" else "nothing yet"


def _says(place: Place, trouble: str) -> Iterator[str]:
    if (place.state != "equal" or signs.without_vote(place)) and place.sentence:
        yield place.sentence
    if trouble and trouble not in place.sentence:
        yield trouble
