"""Signs and words for what documents say: a shape and a word beside each colour."""

from __future__ import annotations

from collections.abc import Mapping

from replicator_kuma.base.text import counted
from replicator_kuma.reports.fleet.documents import CellStatus, InstanceState, Place, Verdict

CELLS: Mapping[CellStatus, tuple[str, str]] = {
    "up": ("●", "up"),
    "down": ("✕", "down"),
    "pending": ("◐", "pending"),
    "maintenance": ("M", "maintenance"),
    "paused": ("‖", "paused"),
    "none": ("·", "no heartbeat yet"),
    "silent": ("?", "silent"),
    "absent": ("-", "not there"),
}
"""What one instance says of a monitor: sign and word."""
VERDICTS: Mapping[Verdict, tuple[str, str]] = {
    "up": ("●", "up"),
    "down": ("✕", "down"),
    "partial": ("◐", "the places disagree"),
    "unknown": ("?", "nobody can tell"),
}
MISSING = ("◐", "missing somewhere")
"""Of a monitor that an instance lacks which should have it, if it is not down anywhere."""
CONDITIONS: Mapping[str, tuple[str, str]] = {
    "ok": ("●", "all is well"),
    "warn": ("◐", "needs a look"),
    "fail": ("✕", "broken"),
    "unknown": ("?", "not known"),
}
"""The state of an instance and its fleet in one word (`Summary.state`); `unknown`: there is none"""
INSTANCES: Mapping[InstanceState, tuple[str, str]] = {
    "equal": ("●", "newest"),
    "behind": ("◐", "behind"),
    "drift": ("◐", "rows differ"),
    "misfit": ("✕", "cannot take the rows"),
    "fenced": ("✕", "fenced"),
    "silent": ("?", "silent"),
}
ISOLATED = ("?", "isolated")
"""Of an instance whose own line is lost, whatever it holds."""
UNREADABLE = ("?", "Kuma not readable")
"""Of an instance that answers, and whose Kuma's database cannot be read, whatever it holds."""


def instance(place: Place, *, lacks: bool = False) -> tuple[str, str]:
    """The sign and the word of an instance; ``lacks``: a monitor is missing there."""
    found = without_vote(place) or INSTANCES[place.state]
    return (MISSING[0], found[1]) if lacks and found == INSTANCES["equal"] else found


def lacks_words(number: int) -> str:
    """What is said of an instance where so many monitors are missing."""
    return f"lacks {counted(number, 'monitor')}"


def without_vote(place: Place) -> tuple[str, str] | None:
    """The sign and the word of an instance that answers and votes nowhere; None: it may vote."""
    if place.isolated:
        return ISOLATED
    return UNREADABLE if place.unreadable else None
