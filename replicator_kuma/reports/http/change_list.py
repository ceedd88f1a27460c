"""Entries of `log --json` as the page lists them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from replicator_kuma.base.times import Moment, moment_of
from replicator_kuma.dump.change_words import line

MOST = 20
"""snapshots"""
MOST_LINES = 50
"""of one snapshot"""
_WITHOUT_FORMER = {
    "the first snapshot of this fleet": "the first snapshot",
    "the oldest snapshot that is kept": "the oldest snapshot that is kept",
}
"""Notes of a snapshot that was compared with none, and how its sentence then begins."""


@dataclass(frozen=True)
class ChangeSet:
    """What one snapshot changed."""

    key: str
    """the same for the same snapshot; fit for an id in HTML"""
    position: str
    at: Moment | None
    leader: str
    sentence: str
    notes: tuple[str, ...]
    lines: tuple[str, ...]
    more: int
    """how many lines are left out"""


def change_sets(entries: Sequence[Mapping[str, Any]]) -> tuple[ChangeSet, ...]:
    """The entries, newest first, as they came."""
    return tuple(map(_change_set, entries))


def _change_set(entry: Mapping[str, Any]) -> ChangeSet:
    snapshot = entry["snapshot"]
    changes = entry.get("changes") or ()
    notes = tuple(map(str, entry.get("notes") or ()))
    first = next((note for note in notes if note in _WITHOUT_FORMER), None)
    begins = f"{_WITHOUT_FORMER[first]}: " if first is not None else ""
    key = re.sub(r"[^0-9a-zA-Z.]", "", f"{snapshot['position']}.{snapshot['id']}")[:24]
    return ChangeSet(
        key,
        str(snapshot["position"]),
        _moment(snapshot["time"]),
        str(snapshot["leader"]),
        f"{begins}{entry['sentence']}",
        tuple(note for note in notes if note != first),
        tuple(_lines(islice(changes, MOST_LINES))),
        max(0, len(changes) - MOST_LINES),
    )


def _lines(changes: Iterator[Mapping[str, Any]]) -> Iterator[str]:
    """Their secrets are masked already, by the code that compared the snapshots."""
    return map(line, changes)


def _moment(text: object) -> Moment | None:
    try:
        return Moment(moment_of(str(text)))
    except ValueError:
        return None
