"""Rows of a replica that are no longer those of the snapshot it has applied: drift.

Looked for at every cycle, without a call of restic. What becomes of it is the strategy's choice.
"""

from __future__ import annotations

import enum
import logging
import time

from replicator_kuma.adapters.repository import Position
from replicator_kuma.replication.instance import Instance
from replicator_kuma.replication.observe import fingerprint, observe
from replicator_kuma.replication.state.records import NO_DRIFT
from replicator_kuma.replication.state.state import State

AGAIN = 3600.0
"""Seconds in which rows that were healed are not healed again: each time Kuma is down"""

log = logging.getLogger(__name__)


class Step(enum.Enum):
    """What a cycle makes of the live rows."""

    EQUAL = enum.auto()
    HEAL = enum.auto()
    LEAVE = enum.auto()
    """they differ, and only the next snapshot or a person puts them right"""
    ASK = enum.auto()
    """they differ, but may be this replica's own: only a plan can tell, once for such rows"""
    CAME_BACK = enum.auto()
    """the rows that a heal replaced are there again: another one would only restart Kuma"""


def judge(state: State, digest: str, *, heal: bool, reconcile: bool, now: float = 0.0) -> Step:
    """What to do about live rows of this digest; a pure function. ``now``: by time.time.

    Rows that no cycle has found equal since their heal are written at Kuma's own start; others,
    by a tool that is slower than a cycle.
    """
    if digest == state.live_digest:
        return Step.EQUAL
    if reconcile:
        return Step.HEAL
    if digest == state.healed and not state.healed_at:
        return Step.CAME_BACK
    if heal:
        soon = digest == state.healed and 0 <= now - state.healed_at < AGAIN
        return Step.CAME_BACK if soon else Step.HEAL
    return Step.ASK if state.keeps_own and digest != state.drift_digest else Step.LEAVE


def look(
    instance: Instance,
    position: Position | str,
    *,
    reconcile: bool = False,
    may_heal: bool = True,
) -> Step:
    """Compare the live rows with those of the applied snapshot, and note what was found.

    ``reconcile`` reads them in any case, and has them put right; without ``may_heal`` nothing
    does. Raises DatabaseErrors, SettingsError.
    """
    state = instance.state.load()
    mark = fingerprint(instance)
    if not reconcile and mark and mark == state.unchanged:
        _note(instance, state, unchanged=mark, **equal(state))
        return Step.EQUAL
    digest, heal = observe(instance).manifest.digest, may_heal and instance.policy().heal
    step = judge(state, digest, heal=heal, reconcile=reconcile, now=time.time())
    if step is Step.EQUAL:
        if state.drift:
            log.info("the rows equal %s again", position)
        _note(instance, state, unchanged=mark, **equal(state))
    elif step is not Step.ASK:
        note(instance, step, position, digest, gone=not may_heal)
    return step


def equal(state: State) -> dict[str, object]:
    """What a cycle notes that finds the rows equal to the applied snapshot's."""
    first = state.healed and not state.healed_at
    return {**NO_DRIFT, "healed_at": time.time()} if first else {**NO_DRIFT}


def note(
    instance: Instance, step: Step, position: Position | str, digest: str, *, gone: bool = False
) -> None:
    """Remember that rows differ, and since when; said once.

    ``gone``: the snapshot is not in the repository any more.
    """
    state = instance.state.load()
    words = _words(step, position, by_kuma=not state.healed_at)
    if step is Step.LEAVE:
        words = f"rows here are no longer those of {position}: they stay {_until(state, gone)}"
    if step is not Step.HEAL and words != state.drift_words:
        log.warning("%s", words)
    since = state.drift or time.time()
    _note(instance, state, unchanged="", drift=since, drift_words=words, drift_digest=digest)


def note_unpublished(instance: Instance, position: Position, digest: str) -> str:
    """Remember that rows of a promoted instance are newer than its snapshot; returns the words."""
    state = instance.state.load()
    words = f"rows here have changed since {position}, and are not published yet"
    if words != state.drift_words:
        log.warning("%s", words)
    since = state.drift or time.time()
    _note(instance, state, unchanged="", drift=since, drift_words=words, drift_digest=digest)
    return words


def _note(instance: Instance, state: State, **noted: object) -> None:
    if any(getattr(state, name) != value for name, value in noted.items()):
        instance.state.update(**noted)


def _until(state: State, gone: bool) -> str:
    """How long rows that differ stay so."""
    if gone:
        return "as they are, for the repository has it no more (replicator restore --resume)"
    if state.hold is not None and state.hold.mark is not None:
        again = f"`replicator restore --now --snapshot {state.hold.mark.position}`"
        return f"until the next start of `replicator run`, or {again}"
    return (
        "until the next snapshot, the next start of `replicator run`, or `replicator restore --now`"
    )


def _words(step: Step, position: Position | str, *, by_kuma: bool) -> str:
    if step is Step.CAME_BACK and not by_kuma:
        return (
            f"the rows of {position} were put in place, and differ again in the same way within "
            "an hour: something else writes them. They stay as they are until that hour is over"
        )
    if step is Step.CAME_BACK:
        return (
            f"the rows of {position} were put in place, and differ again since Kuma's start in "
            "the same way as before: they stay as they are until they change"
        )
    return f"rows here are no longer those of {position}: they are to be put right"
