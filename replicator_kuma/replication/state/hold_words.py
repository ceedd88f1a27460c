"""The hold of a replica: in words, checked, and restored after an error."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace

from replicator_kuma.base.errors import Held, Interrupted, KumaKilled
from replicator_kuma.base.times import when
from replicator_kuma.replication.state import transitions
from replicator_kuma.replication.state.file import StateFile
from replicator_kuma.replication.state.records import Hold
from replicator_kuma.replication.state.state import State

TO_GO_ON = "to go on: replicator restore --resume"


def held_words(hold: Hold) -> str:
    """Says at which position a replica is held, and since when."""
    what = str(hold.mark.position) if hold.mark is not None else "the rows from before any apply"
    going = ", to which an undo has yet to go," if hold.kept else ""
    return f"{what}{going} since {when(hold.since)}"


def in_place(state: State) -> bool:
    """Whether an undo's rows are in place, and only Kuma's confirmation is missing."""
    going = state.applying.going
    return going is not None and bool(going.undoes) and going.writing


def told(state: State) -> Hold | None:
    """The hold to show to people: an undo whose rows are in place counts as complete."""
    if state.following.hold is not None and in_place(state):
        return replace(state.following.hold, kept=0)
    return state.following.hold


def refuse_while_held(state: State) -> None:
    """Raise Held for a command that neither names a snapshot nor ends the hold."""
    if state.following.hold is not None:
        raise Held(f"this replica holds {held_words(state.following.hold)}: it stays there")


@contextlib.contextmanager
def holding(file: StateFile, hold: Hold) -> Iterator[None]:
    """Note the hold, for a block that goes there.

    After an error that the person sees, restore the hold from before, unless the new rows are in
    place.
    """
    before = file.load()
    file.change(transitions.held, hold)
    try:
        yield
    except (Interrupted, KumaKilled):
        raise  # the next cycle continues
    except Exception:
        state = file.load()
        wanted = state.following.hold.mark if state.following.hold is not None else None
        done = state.following.applied == wanted != before.following.applied
        if state.applying.going is None and not done:
            file.change(transitions.hold_was, before)
        raise
