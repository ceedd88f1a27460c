"""The document of an instance: its role, its positions, its repositories, how work there ended.

`report` reads the state file and the supervisor's sign of life, and waits for nobody; `compare`
adds what a listing of the repository says. `Report` shows it as JSON and as lines.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from replicator_kuma.base.errors import Fenced, ReplicatorError, SnapshotShrinks
from replicator_kuma.base.text import counted, sized
from replicator_kuma.base.times import ago, shown, when
from replicator_kuma.config.settings import Mode, Settings
from replicator_kuma.daemon import heartbeat
from replicator_kuma.daemon.heartbeat import START, Beat
from replicator_kuma.replication import mode_mismatch, restart_cooldown
from replicator_kuma.replication.apply import failed_attempts
from replicator_kuma.replication.freshness import last_success
from replicator_kuma.replication.second_repository import called, seen_away
from replicator_kuma.replication.snapshot_ids import in_ids_of
from replicator_kuma.replication.state import hold_words
from replicator_kuma.replication.state.file import StateFile
from replicator_kuma.replication.state.records import (
    Away,
    Drill,
    Hold,
    JobRecord,
    Last,
    SnapshotRef,
    Upkeep,
)
from replicator_kuma.replication.state.state import State
from replicator_kuma.reports.choices import Choices, choices
from replicator_kuma.reports.health import no_room

if TYPE_CHECKING:
    from replicator_kuma.adapters.repository import Snapshot


_TO_LEAD = (
    "the newest snapshot is this instance's own: if it is to lead, set REPLICATOR_MODE=BACKUP here"
)


@dataclass(frozen=True)
class Report:
    """One look at an instance. ``newest`` is None without an answer, and in an empty fleet."""

    role: str
    fleet: str
    instance: str
    state: State
    beat: Beat | None
    newest: Snapshot | None = None
    behind: int | None = None
    """how many snapshots are newer than what is held; None when that is not known"""
    unknown: str = ""
    """why the newest snapshot is not known"""
    engine: str = ""
    """of Kuma's database; empty where that cannot be told"""
    choices: Choices = field(default_factory=Choices)
    full: str | None = None
    """why the state may be older than the last cycle: the disk is full"""
    looked_at: float = field(default_factory=time.monotonic)
    """when ``beat`` was read: what a repository takes to answer makes no supervisor dead"""

    @property
    def held(self) -> SnapshotRef | None:
        """What this instance stands on, by its role."""
        return self.state.applied if self._follows else self.state.published

    @property
    def fenced(self) -> str | None:
        """Why this leader publishes nothing; a replica would not anyway."""
        replicas = {mode.value for mode in Mode if mode.replica}
        return None if self.role in replicas else self.state.fenced

    @property
    def shrink(self) -> str | None:
        """Why this replica does not follow the newest snapshot: most monitors would go."""
        return (self.state.shrink or None) if self._follows else None

    @property
    def waits_until(self) -> float:
        """When the newest snapshot may be applied, in seconds since the epoch; 0: it may now."""
        until = self.state.waits_until
        ahead = 0 < until - time.time() <= restart_cooldown.LONGEST  # else the clock was set
        return until if self._follows and ahead else 0.0

    @property
    def exit_code(self) -> int:
        """What `replicator status` ends with: that of a refusal which only a person ends, or 0."""
        if self.fenced:
            return Fenced.exit_code
        return SnapshotShrinks.exit_code if self.shrink else 0

    def as_dict(self) -> dict[str, Any]:
        """The JSON of `replicator status --json` (docs/json.md)."""
        state, last = self.state, self.state.last
        return {
            "role": self.role or None,
            "fleet": self.fleet,
            "instance": self.instance,
            "published": _mark(state.published),
            "applied": _mark(state.applied),
            "newest": str(self.newest.position) if self.newest else None,
            "newest_leader": self.newest.label.leader if self.newest else None,
            "newest_unknown": self.unknown or None,
            "behind": self.behind,
            "promoted": mode_mismatch.as_dict(state) if self._awaits_mode else None,
            "fenced": self.fenced,
            "shrink_refused": self.shrink,
            "waits_until": when(self.waits_until),
            "unconfirmed": str(state.pending.mark.position) if state.pending else None,
            "bad_snapshots": list(state.bad),
            "killed": self._killed or None,
            "engine": self.engine or None,
            "strategy": self.choices.strategy or None,
            "policy": self.choices.as_dict(),
            "holding": hold_as_dict(state.hold) if self._follows else None,
            "drift": {"since": when(state.drift), "words": state.drift_words}
            if self._drifts
            else None,
            "last_cycle": {
                "at": when(last.at),
                "ok": last.ok,
                "outcome": last.outcome or None,
                "sentence": last.sentence,
                "error": last.error or None,
                "exit_code": last.exit_code,
            }
            if last
            else None,
            "not_noted": self.full,
            "last_ok_at": when(state.last_ok_at),
            "last_success_at": when(last_success(state)),
            "refused": state.refused or None,
            "failing_since": when(state.failing_since),
            "drill": {"at": when(state.drill.at), **state.drill.as_dict()} if state.drill else None,
            "drill_failed": state.drill_failed.sentence if state.drill_failed else None,
            "away": [
                {"name": one.name, "since": when(one.since), "why": one.why} for one in self.away
            ],
            "chores": [_job_as_dict(noted) for noted in state.chores],
            "lagging": self.lagging or None,
            "repositories": [noted.as_dict() for noted in state.upkeep],
            "supervisor": self._supervisor(),
        }

    @property
    def _promoted(self) -> bool:
        """Whether the newest snapshot is its own, while its mode is still a replica's."""
        published, newest = self.state.published, self.newest
        if published is None or newest is None:
            return False
        return self._follows and published.position == newest.position

    @property
    def _awaits_mode(self) -> bool:
        """Whether `promote` made it the leader, it still is, and its mode is still a replica's."""
        if not (self._follows and mode_mismatch.awaits_mode(self.state)):
            return False
        return self.newest is None or self._promoted

    @property
    def _killed(self) -> str:
        """That a signal ended Kuma on new rows; "" on a leader, which applies only by hand."""
        return failed_attempts.killed_sentence(self.state) if self._follows else ""

    @property
    def _drifts(self) -> bool:
        """Whether rows differ from the applied snapshot; a leader has none to differ from."""
        return bool(self.state.drift) and self._follows

    @property
    def _follows(self) -> bool:
        return self.role != Mode.BACKUP.value

    @property
    def away(self) -> tuple[Away, ...]:
        """Which of two repositories this replica cannot read. (A leader's lags behind.)"""
        return self.state.away if self._follows else ()

    @property
    def lagging(self) -> str:
        """Which of two repositories this leader could not write to; "" on a replica.

        One that was promoted leads before its mode says so.
        """
        return self.state.lagging if self.state.promoted or not self._follows else ""

    def _supervisor(self) -> dict[str, Any] | None:
        beat = self.beat
        if beat is None or not heartbeat.alive(beat, self.looked_at):
            return None
        return {
            "pid": beat.pid,
            "kuma": beat.kuma,
            "job": beat.job or None,
            "job_since": when(self._job_since(beat)),
            "step": beat.step or None,
            "next_cycle": when(beat.next_cycle),
        }

    def _under_way(self) -> str:
        """The supervisor's job; "" once the state has its end, if the beat still names it."""
        beat, last = self.beat, self.state.last
        if beat is None or not beat.job:
            return ""
        ended = last is not None and last.at >= self._job_since(beat)
        return "" if ended and beat.job != START else beat.job

    @staticmethod
    def _job_since(beat: heartbeat.Beat) -> float:
        """Seconds since the epoch; 0 without a job."""
        return time.time() - (time.monotonic() - beat.job_since) if beat.job else 0.0

    def lines(self) -> Iterator[tuple[str, str]]:
        """The same for people: pairs of a name and a value."""
        state = self.state
        roles = {mode.value: "replica" if mode.replica else "leader" for mode in Mode}
        role = roles.get(self.role, "no role set")
        if self._awaits_mode:
            role = "promoted, but by its REPLICATOR_MODE still a replica"
        yield "instance", f"{self.instance}, {role} of fleet {self.fleet}"
        if state.published is not None or not self._follows:
            yield "published", _words(state.published)
        yield "applied", _words(state.applied)
        yield "newest", self._newest_words()
        yield "engine", self.engine or "cannot be told"
        if self.choices.strategy:
            yield "strategy", self.choices.strategy
        yield "policy", self.choices.words()
        if (hold := hold_words.told(state)) is not None and self._follows:
            yield (
                "holding",
                f"{hold_words.held_words(hold)}; {hold_words.TO_GO_ON}",
            )
        if self._drifts:
            yield "drift", f"since {when(state.drift)}: {state.drift_words}"
        if self.fenced:
            yield "fenced", self.fenced
            yield "to do", Fenced.hint
        if self._awaits_mode:
            yield "promoted", mode_mismatch.sentence(state)
            yield "to do", mode_mismatch.TO_DO
        elif self._promoted:
            yield "to do", _TO_LEAD
        if self.shrink:
            yield "not applied", f"{self.shrink} (replicator restore --now --allow-shrink)"
        if self.waits_until:
            yield "waits", _waits_words(state, self.waits_until)
        if state.stopped_by_me and self._supervisor() is None:
            yield (
                "Kuma",
                "stopped by an earlier run that did not start it again: the next cycle does",
            )
        if words := _unconfirmed_words(state):
            yield "unconfirmed", words
        if self._killed:
            yield "killed", self._killed
        yield from self._past_lines()
        yield from self._repository_lines()
        for noted in state.chores:
            if noted.at or noted.due:  # else it is off, and never ran
                yield f"{noted.name} job", _job_words(noted)
        yield from self._supervisor_lines()

    def _past_lines(self) -> Iterator[tuple[str, str]]:
        """How the last cycle and the last drill ended."""
        state = self.state
        yield "last cycle", "none yet" if state.last is None else _ended(state.last)
        if self.full:
            yield "not noted", self.full
        if state.failing_since:
            yield "failing since", when(state.failing_since) or ""
        if state.drill is not None:
            yield "last drill", _ended(state.drill)
        if state.drill_failed not in (None, state.drill):
            yield "drill", f"not mended: {state.drill_failed.sentence}"

    def _repository_lines(self) -> Iterator[tuple[str, str]]:
        if self.away:
            parts = (f"{called(a.name)} is away since {when(a.since)}: {a.why}" for a in self.away)
            yield "repositories", f"read from one of two: {'; '.join(parts)}"
        if self.lagging:
            yield "lagging", self.lagging
        for noted in self.state.upkeep:
            yield noted.name, _upkeep_words(noted)

    def _supervisor_lines(self) -> Iterator[tuple[str, str]]:
        supervisor = self._supervisor()
        if supervisor is None:
            yield "supervisor", "not running"
        else:
            yield "supervisor", f"process {supervisor['pid']}, Kuma {supervisor['kuma']}"
            under_way = self._under_way()
            if under_way:
                step = f", {supervisor['step']}" if supervisor["step"] else ""
                yield supervisor["job"], f"running since {supervisor['job_since']}{step}"
            if under_way != "cycle":
                yield "next cycle", supervisor["next_cycle"] or "not scheduled yet"

    def _newest_words(self) -> str:
        if self.unknown:
            return f"unknown: {self.unknown}"
        if self.newest is None:
            return "none in this fleet" if self.behind is not None else "not asked"
        lag = f", {self.behind} ahead of this instance" if self.behind else ""
        if self.behind == 0:
            lag = ", in place"
        return (
            f"{self.newest.position} of {self.newest.label.leader}, {shown(self.newest.time)}{lag}"
        )


def report(settings: Settings) -> Report:
    """What is known without asking anybody; raises StateError."""
    state = StateFile(settings.state_dir).load()
    role = settings.mode.value if settings.mode else state.role
    beat = heartbeat.read(settings.state_dir)
    return Report(
        role,
        settings.fleet,
        settings.instance,
        state,
        beat,
        engine=_engine(settings),
        choices=choices(settings),
        full=no_room(settings.state_dir),
    )


def _engine(settings: Settings) -> str:
    from replicator_kuma.config.build import build_store

    try:
        store = build_store(settings)
    except ReplicatorError:
        return ""
    return f"embedded-{store.engine}" if store.embedded else store.engine


def compare(
    known: Report, snapshots: Sequence[Snapshot], away: Mapping[str, ReplicatorError] | None = None
) -> Report:
    """The report with the fleet's snapshots: how far is this instance behind?

    ``away``: who of two gave no answer to that listing, and how.
    """
    newest = snapshots[-1] if snapshots else None
    held = known.held
    newer = [s for s in snapshots if held is None or s.position > held.position]
    state = in_ids_of(snapshots, known.state)
    state = replace(state, away=seen_away(away or {}, state.away, time.time()))
    return replace(known, state=state, newest=newest, behind=len({s.position for s in newer}))


def unreachable(known: Report, why: str) -> Report:
    """The report where the repository gave no answer."""
    return replace(known, unknown=why)


def _mark(mark: SnapshotRef | None) -> dict[str, Any] | None:
    if mark is None:
        return None
    return {
        "position": str(mark.position),
        "digest": mark.digest,
        "schema": mark.schema,
        "snapshot": mark.snapshot,
        "leader": mark.leader,
        "monitors": mark.monitors,
        "rows": mark.rows,
    }


def hold_as_dict(hold: Hold | None) -> dict[str, Any] | None:
    """`holding` of `--json` (docs/json.md)."""
    if hold is None:
        return None
    mark = hold.mark
    return {
        "position": str(mark.position) if mark else None,
        "snapshot": mark.snapshot if mark else None,
        "since": when(hold.since),
    }


def _job_as_dict(noted: JobRecord) -> dict[str, Any]:
    """One of `chores` in `replicator status --json` (docs/json.md)."""
    return {
        "name": noted.name,
        "window": noted.window or None,
        "due": when(noted.due),
        "at": when(noted.at),
        "seconds": noted.seconds,
        "ok": noted.ok if noted.at else None,
        "sentence": noted.sentence or None,
        "error": noted.error or None,
        "exit_code": noted.exit_code,
        "last_ok_at": when(noted.ok_at),
    }


def _words(mark: SnapshotRef | None) -> str:
    if mark is None:
        return "nothing"
    return (
        f"{mark.position} of {mark.leader}, {counted(mark.monitors, 'monitor')}, "
        f"digest {mark.digest[:12]}, snapshot {mark.snapshot[:8]}"
    )


def _waits_words(state: State, until: float) -> str:
    since = f" at {when(state.restart.at)}" if state.restart else ""
    return (
        f"a change is applied at {when(until)}: Kuma was restarted{since}, and its monitors are to "
        "beat first (at once: replicator restore --now)"
    )


def _ended(last: Last | Drill) -> str:
    return f"{'ok' if last.ok else 'FAILED'}, {ago(time.time() - last.at)}: {last.sentence}"


def _unconfirmed_words(state: State) -> str:
    """What an apply that is not confirmed has got to; empty where there is none."""
    pending = state.pending
    if pending is None:
        return ""
    rows = f"the rows that undo {pending.undoes} puts back" if pending.undoes else "its rows"
    if pending.rollback:
        rows = "the rows from before it, which are put back"
    what = f"{pending.mark.position}: {rows}"
    return f"{what}; " + (
        "Kuma was not ready on them yet" if pending.writing else "they are not written yet"
    )


def _job_words(noted: JobRecord) -> str:
    went = "has not run yet"
    if noted.at:
        went = f"{'ok' if noted.ok else 'FAILED'}, {when(noted.at)}: {noted.sentence}"
    return f"{went}; next {when(noted.due)}" if noted.due else went


def _upkeep_words(noted: Upkeep) -> str:
    if noted.damaged:
        return f"DAMAGED: {noted.damaged}"
    parts = [
        f"{counted(noted.snapshots, 'snapshot')} of this fleet",
        f"{sized(noted.bytes)} in all",
    ]
    if noted.checked_at:
        parts.append(f"part {noted.part} of {noted.parts} checked {when(noted.checked_at)}")
    if noted.refused:
        parts.append("nothing may be removed there")
    return ", ".join(parts)
