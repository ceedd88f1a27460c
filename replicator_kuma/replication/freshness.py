"""Whether replication is on time: `status --fresh`, for a monitor under `run` and cron.

The state alone answers: no repository, supervisor or secret is needed.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

from replicator_kuma.base.errors import (
    Fenced,
    ReplicatorError,
    ShrinkRefused,
    SnapshotRefused,
    StoppedInVain,
    describe,
)
from replicator_kuma.base.times import ago, lasting, when
from replicator_kuma.replication.state import hold_words
from replicator_kuma.replication.state.state import State

INTERVALS = 3
LEAST = 1800.0
"""seconds; with a short interval, one slow cycle must not alert anybody"""
WAITING = "waiting"
"""`instance.Outcome.WAITING`, without that module's imports: a monitor asks often"""
SKEW = 60.0
"""seconds by which the clock may have been set back since the last success"""

_REFUSALS = (Fenced, ShrinkRefused, SnapshotRefused, StoppedInVain)
"""only a person, or another snapshot of the leader, ends these; waiting does not"""


class Verdict(enum.Enum):
    FRESH = "fresh"
    LATE = "late"
    FENCED = "fenced"
    REFUSED = "refused"
    HELD = "held"

    @property
    def exit_code(self) -> int:
        """0, 1 or 2, as in Nagios: OK, WARNING, CRITICAL."""
        return {Verdict.FRESH: 0, Verdict.LATE: 1}.get(self, 2)


@dataclass(frozen=True)
class Freshness:
    """``sentence`` says why; ``last_success`` is seconds since the epoch, 0 for never."""

    verdict: Verdict
    sentence: str
    last_success: float
    age: float | None
    """seconds since then; None if unknown"""
    max_age: float

    @property
    def line(self) -> str:
        """What `status --fresh` prints; always one line."""
        return " ".join(f"{self.verdict.value}: {self.sentence}".split())

    def as_dict(self) -> dict[str, Any]:
        """The JSON of `status --fresh --json` (docs/json.md)."""
        fresh = self.verdict is Verdict.FRESH
        return {
            "fresh": fresh,
            "exit_code": self.verdict.exit_code,
            "verdict": self.verdict.value,
            "last_success_at": when(self.last_success),
            "age": None if self.age is None else round(self.age),
            "max_age": round(self.max_age),
            "sentence": self.sentence,
        }


def after_success(state: State, outcome: str, now: float) -> tuple[float, str]:
    """`Outcomes.fresh_at` and `Outcomes.refused` after a cycle without an error.

    A cycle that only waited does not count as a success: else a replica without a leader would
    be fresh forever.
    """
    if outcome == WAITING:
        return last_success(state), state.outcome.refused
    return now, ""


def after_failure(state: State, error: Exception) -> tuple[float, str]:
    """The same after a cycle that failed.

    A refusal stays noted while another failure hides it: the snapshot is still refused while
    its repository is away.
    """
    refusal = isinstance(error, _REFUSALS)
    failed = state.applying.failed
    if isinstance(error, StoppedInVain) and failed is not None and failed.signal:
        refusal = False  # Kuma was killed: the apply is retried after a pause
    refused = describe(error) if refusal else state.outcome.refused
    return last_success(state), refused


def last_success(state: State) -> float:
    """When a cycle last succeeded; seconds since the epoch, 0 for never.

    0.3.0 did not note it. Then this is the time of its last cycle, or of the last one without an
    error, if this instance has ever had a snapshot.
    """
    last = state.outcome.last
    if state.outcome.fresh_at or last is None:
        return state.outcome.fresh_at
    if last.ok:
        return last.at if last.outcome != WAITING else 0.0
    return state.outcome.last_ok_at if state.has_snapshot else 0.0


def late(state: State, max_age: float, now: float) -> str | None:
    """Why replication is late; None if a cycle succeeded within the last ``max_age`` seconds."""
    moment = last_success(state)
    if not moment:
        why = "no cycle has gone well yet" if state.outcome.last else "no cycle has ended yet"
    elif now < moment - SKEW:
        # The age is unknown. Stopped replication must not look fresh until the clock catches up;
        # the next cycle that succeeds notes a correct time.
        why = "the last cycle that went well is noted in the future: the clock was set back"
    elif now - moment > max_age:
        why = f"{_went_well(now - moment)}, more than {lasting(max_age)}"
    else:
        return None
    return why + _since(state)


def patience(interval: float) -> float:
    """The default for how old the last success may be, in seconds."""
    return max(INTERVALS * interval, LEAST)


def judge(
    state: State, leads: bool, max_age: float, now: float, full: str | None = None
) -> Freshness:
    """The answer for a monitor; a pure function. ``leads``: this instance is a leader.

    ``full``: why the state cannot be written, so that it may be old.
    """
    moment = last_success(state)
    age = max(0.0, now - moment) if moment and now >= moment - SKEW else None
    refused = state.outcome.refused or ("" if leads else state.following.shrink)
    if leads and state.leading.fenced:
        verdict, sentence = Verdict.FENCED, state.leading.fenced
    elif refused:
        verdict, sentence = Verdict.REFUSED, refused
    elif not leads and (hold := hold_words.told(state)) is not None:
        where = hold_words.held_words(hold)
        verdict, sentence = Verdict.HELD, f"{where}; {hold_words.TO_GO_ON}"
    elif why := late(state, max_age, now):
        verdict, sentence = Verdict.LATE, f"{why}; {full}" if full else why
    else:
        verdict, sentence = Verdict.FRESH, _went_well(age or 0.0) + _since(state)
    return Freshness(verdict, sentence, moment, age, max_age)


def unknown(error: ReplicatorError, max_age: float | None = None) -> Freshness:
    """The answer if the state cannot be read: then nothing counts as fresh."""
    return Freshness(Verdict.LATE, str(error), 0.0, None, max_age or LEAST)


def _went_well(age: float) -> str:
    return f"a cycle last went well {ago(age)}"


def _since(state: State) -> str:
    """The result of the last cycle, if it did not succeed."""
    last = state.outcome.last
    if last is None:
        return ""
    if not last.ok:
        return f"; the last cycle failed: {last.sentence}"
    return f"; the last cycle waits: {last.sentence}" if last.outcome == WAITING else ""
