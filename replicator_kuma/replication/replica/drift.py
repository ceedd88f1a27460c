"""Finds drift: rows of a replica that differ from the snapshot that it has applied.

Every cycle looks for it, without a call of restic. The strategy decides what is done about it.
"""

from __future__ import annotations

import enum
import logging
import time
from functools import partial

from replicator_kuma.adapters.repository import Position
from replicator_kuma.base.events import as_event
from replicator_kuma.replication import problems
from replicator_kuma.replication.instance import Instance
from replicator_kuma.replication.observe import fingerprint, observe
from replicator_kuma.replication.state import transitions
from replicator_kuma.replication.state.records import DRIFT
from replicator_kuma.replication.state.state import State

AGAIN = 3600.0
"""Seconds after a heal in which the same rows are not healed again: each heal restarts Kuma"""

log = logging.getLogger(__name__)


class Step(enum.Enum):
    """What a cycle does about the live rows."""

    EQUAL = enum.auto()
    HEAL = enum.auto()
    LEAVE = enum.auto()
    """they differ, and only the next snapshot or a person corrects them"""
    ASK = enum.auto()
    """they differ, but may be this replica's own: a plan has to tell, once for such rows"""
    CAME_BACK = enum.auto()
    """the rows that a heal replaced came back: another heal would only restart Kuma"""


def judge(state: State, digest: str, *, heal: bool, reconcile: bool, now: float = 0.0) -> Step:
    """What to do about live rows with this digest; a pure function. ``now``: by time.time.

    If no cycle found the rows equal after a heal, Kuma itself changes them at its start. If one
    did, a tool that is slower than a cycle changes them.
    """
    following = state.following
    if digest == state.live.digest:
        return Step.EQUAL
    if reconcile:
        return Step.HEAL
    if digest == following.healed and not following.healed_at:
        return Step.CAME_BACK
    if heal:
        soon = digest == following.healed and 0 <= now - following.healed_at < AGAIN
        return Step.CAME_BACK if soon else Step.HEAL
    asked = digest == following.drift_digest
    return Step.ASK if following.keeps_own and not asked else Step.LEAVE


def look(
    instance: Instance,
    position: Position | str,
    *,
    reconcile: bool = False,
    may_heal: bool = True,
) -> Step:
    """Compare the live rows with those of the applied snapshot, and note the result.

    ``reconcile``: read the rows in any case, and have them corrected. Without ``may_heal``, they
    are never corrected. Raises DatabaseErrors, SettingsError.
    """
    state = instance.state.load()
    mark = fingerprint(instance)
    if not reconcile and mark and mark == state.live.fingerprint:
        instance.state.change(transitions.rows_equal, mark, now=time.time())
        return Step.EQUAL
    digest, heal = observe(instance).manifest.digest, may_heal and instance.policy().heal
    step = judge(state, digest, heal=heal, reconcile=reconcile, now=time.time())
    if step is Step.EQUAL:
        also = partial(transitions.rows_equal, fingerprint=mark, now=time.time())
        problems.clear(
            instance,
            DRIFT,
            lambda _was: log.info(
                "the rows equal %s again", position, extra=as_event("drift_ended")
            ),
            also=also,
        )
    elif step is not Step.ASK:
        note(instance, step, position, digest, gone=not may_heal)
    return step


def note(
    instance: Instance, step: Step, position: Position | str, digest: str, *, gone: bool = False
) -> None:
    """Note that rows differ, and since when; tells it once.

    ``gone``: the snapshot is no longer in the repository.
    """
    state = instance.state.load()
    words = _words(step, position, by_kuma=not state.following.healed_at)
    if step is Step.LEAVE:
        words = f"rows here are no longer those of {position}: they stay {_until(state, gone)}"
    _raise(instance, words, digest, tells=step is not Step.HEAL)


def note_unpublished(instance: Instance, position: Position, digest: str) -> str:
    """Note that a promoted instance's rows are newer than its snapshot; returns the words."""
    words = f"rows here have changed since {position}, and are not published yet"
    _raise(instance, words, digest)
    return words


def _raise(instance: Instance, words: str, digest: str, *, tells: bool = True) -> None:
    """Raise the drift problem; with other words it is told as another kind of problem."""
    tell, also = partial(log.warning, "%s", words), partial(transitions.drifted, digest=digest)
    problems.raise_(instance, DRIFT, words, words, tell, tells=tells, also=also)


def _until(state: State, gone: bool) -> str:
    """The words that say how long the drift stays."""
    if gone:
        return "as they are, for the repository has it no more (replicator restore --resume)"
    hold = state.following.hold
    if hold is not None and hold.mark is not None:
        again = f"`replicator restore --now --snapshot {hold.mark.position}`"
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
