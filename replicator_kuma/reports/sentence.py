"""The one sentence that a person should read about an instance, and the state behind it.

`status` and the documents of the fleet (reports/fleet) show it. It reads the state alone: no
repository, no supervisor. Worst first: what only a person ends, then what ends by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from replicator_kuma.adapters.repository.snapshot import Position
from replicator_kuma.base.errors import (
    Fenced,
    SchemaMismatch,
    ShrinkRefused,
    SnapshotMisfit,
    SnapshotShrinks,
)
from replicator_kuma.base.text import counted, plain_line
from replicator_kuma.base.times import when
from replicator_kuma.replication import mode_mismatch
from replicator_kuma.replication.state import hold_words
from replicator_kuma.replication.state.records import SnapshotRef
from replicator_kuma.replication.state.state import State

OwnState = Literal["equal", "behind", "drift", "fenced", "misfit"]
LONGEST = 400
"""characters of a sentence: some of its parts are errors' texts"""
_MISFITS = (SchemaMismatch.__name__, SnapshotMisfit.__name__)

CYCLES_FAIL = "cycles fail"
"""how the sentence of an instance begins to say so; `reports/http/open_problems.py` looks for it"""


@dataclass(frozen=True)
class Told:
    """What is to be told of an instance."""

    state: OwnState
    sentence: str
    held: Position | None
    """what it holds"""
    behind: int | None
    """newer snapshots that the last listing showed; None: nothing was listed, or unknown"""


def told(state: State, name: str, *, follows: bool) -> Told:
    """What the state says of the instance ``name``; ``follows``: its role is that of a replica."""
    held = held_by(state, follows=follows)
    position = held.position if held else None
    seen = state.outcome.newest_seen
    behind = seen.behind(position) if seen else None
    if not follows and held is not None and behind is None:
        behind = 0  # a leader that nobody fences holds the newest
    kind, sentence = _judged(state, position, behind, follows=follows)
    line = plain_line(f"{name}: {sentence}")
    return Told(kind, line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…", position, behind)


def held_by(state: State, *, follows: bool) -> SnapshotRef | None:
    """The snapshot that an instance of this role stands on."""
    return state.following.applied if follows else state.leading.published


def _judged(
    state: State, held: Position | None, behind: int | None, *, follows: bool
) -> tuple[OwnState, str]:
    late: OwnState = "equal" if behind == 0 else "behind"
    if not follows and state.leading.fenced:
        return "fenced", f"this leader is fenced: {state.leading.fenced}. {Fenced.hint}"
    if follows and (mismatch := mode_mismatch.promoted(state)):
        return late, f"{mismatch.sentence}. {mode_mismatch.TO_DO}"
    last = state.outcome.last
    if last is not None and not last.ok and last.error in _MISFITS:
        return "misfit", f"{last.sentence}. {last.hint}"
    if follows and state.following.shrink:
        return late, f"{state.following.shrink}. {SnapshotShrinks.hint}"
    if follows and state.drift:
        since = when(state.drift.since)
        return "drift", f"rows differ from snapshot {held} since {since}: {state.drift.words}"
    why = _why(state, follows=follows)
    if held is None:
        return "behind", f"holds no snapshot yet{f': {why}' if why else ''}"
    if behind != 0:
        lag = f"{counted(behind, 'snapshot')} behind" if behind else "behind"
        lag = lag if state.outcome.newest_seen else "not compared with the repository yet"
        return "behind", f"holds snapshot {held}, {lag}{f': {why}' if why else ''}"
    if why:
        return "equal", f"holds snapshot {held}, the newest that was seen, but {why}"
    said = f"holds snapshot {held}, the newest" if follows else f"leads, at snapshot {held}"
    return "equal", said


def _why(state: State, *, follows: bool) -> str:
    """What keeps the instance from going on, in words; "": nothing that is known."""
    hold = hold_words.told(state) if follows else None
    if hold is not None:
        return f"it is held: {hold_words.held_words(hold)} ({hold_words.TO_GO_ON})"
    last = state.outcome.last
    if last is not None and not last.ok:
        since = f" since {when(state.failing_since)}" if state.failing_since else ""
        hint = f". {last.hint}" if last.error == ShrinkRefused.__name__ else ""
        return f"{CYCLES_FAIL}{since}: {last.sentence}{hint}"
    if state.applying.waits_until and last is not None:
        return last.sentence
    return ""
