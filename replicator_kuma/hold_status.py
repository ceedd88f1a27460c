"""Where a replica stays by a person's word, as `status`, the log and errors tell it."""

from __future__ import annotations

from typing import Any

from replicator_kuma.state import Hold
from replicator_kuma.upkeep_status import when


def held_words(hold: Hold) -> str:
    """Where a replica stays, and since when."""
    what = str(hold.mark.position) if hold.mark is not None else "the rows from before any apply"
    going = ", to which an undo is under way," if hold.kept else ""
    return f"{what}{going} since {when(hold.since)}"


def as_dict(hold: Hold | None) -> dict[str, Any] | None:
    """The same for programs (docs/json.md)."""
    if hold is None:
        return None
    mark = hold.mark
    return {
        "position": str(mark.position) if mark else None,
        "snapshot": mark.snapshot if mark else None,
        "since": when(hold.since),
    }
