"""Where a replica stays because a person sent it there, as `status`, the log and errors tell it."""

from __future__ import annotations

from dataclasses import replace

from replicator_kuma.base.times import when
from replicator_kuma.replication.state.state import Hold, State


def held_words(hold: Hold) -> str:
    """Where a replica stays, and since when."""
    what = str(hold.mark.position) if hold.mark is not None else "the rows from before any apply"
    going = ", to which an undo has yet to go," if hold.kept else ""
    return f"{what}{going} since {when(hold.since)}"


def in_place(state: State) -> bool:
    """Whether an undo's rows are there, and only Kuma has yet to confirm them."""
    pending = state.pending
    undone = pending is not None and bool(pending.undoes) and pending.writing
    return undone and pending is not None and not pending.rollback


def told(state: State) -> Hold | None:
    """The hold as people are told of it: an undo whose rows are in place has got there."""
    if state.hold is not None and in_place(state):
        return replace(state.hold, kept=0)
    return state.hold
