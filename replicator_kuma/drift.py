"""Rows of a replica that are no longer those of the snapshot it has applied: drift.

Looked for at every cycle, without a call of restic. What becomes of it is the strategy's choice.
"""

from __future__ import annotations

import enum
import logging
import time

from replicator_kuma.cycle import Instance
from replicator_kuma.observe import fingerprint, observe
from replicator_kuma.repository import Position
from replicator_kuma.state import State

log = logging.getLogger(__name__)


class Step(enum.Enum):
    """What a cycle makes of the live rows."""

    EQUAL = enum.auto()
    HEAL = enum.auto()
    LEAVE = enum.auto()
    """they differ, and only the next snapshot or a person puts them right"""
    CAME_BACK = enum.auto()
    """the rows that a heal replaced are there again: another one would only restart Kuma"""


def judge(state: State, digest: str, *, heal: bool, reconcile: bool) -> Step:
    """What to do about live rows of this digest; a pure function."""
    if digest == state.live_digest:
        return Step.EQUAL
    if reconcile:
        return Step.HEAL
    if digest == state.healed:
        return Step.CAME_BACK
    return Step.HEAL if heal else Step.LEAVE


def look(instance: Instance, position: Position, *, reconcile: bool = False) -> Step:
    """Compare the live rows with those of the applied snapshot, and note what was found.

    ``reconcile`` reads them in any case, and has them put right. Raises DatabaseErrors,
    SettingsError.
    """
    state, heal = instance.state.load(), instance.policy().heal
    mark = fingerprint(instance)
    if not reconcile and mark and mark == state.unchanged:
        return _note(instance, state, Step.EQUAL, position, mark)
    digest = observe(instance).manifest.digest
    step = judge(state, digest, heal=heal, reconcile=reconcile)
    return _note(instance, state, step, position, mark)


def _note(instance: Instance, state: State, step: Step, position: Position, mark: str) -> Step:
    if step is Step.EQUAL:
        if state.drift:
            log.info("the rows equal %s again", position)
        noted = {"unchanged": mark, "drift": 0.0, "drift_words": "", "healed": ""}
    else:
        words = _words(step, position)
        if step is not Step.HEAL and words != state.drift_words:
            log.warning("%s", words)
        noted = {"unchanged": "", "drift": state.drift or time.time(), "drift_words": words}
    if any(getattr(state, name) != value for name, value in noted.items()):
        instance.state.update(**noted)
    return step


def _words(step: Step, position: Position) -> str:
    if step is Step.CAME_BACK:
        return (
            f"the rows of {position} were put in place, and differ again since Kuma's start in "
            "the same way as before: they stay as they are until they change"
        )
    if step is Step.LEAVE:
        return (
            f"rows here are no longer those of {position}: they stay until the next snapshot, the "
            "next start of `replicator run`, or `replicator restore --now`"
        )
    return f"rows here are no longer those of {position}: they are to be put right"
