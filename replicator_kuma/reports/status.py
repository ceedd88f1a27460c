"""What an instance knows of itself: its role, its positions, how its last cycle ended.

Built from the state file and the supervisor's sign of life; only `newest` asks the repository.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from replicator_kuma.base.errors import Fenced, ReplicatorError, SnapshotShrinks
from replicator_kuma.base.text import counted
from replicator_kuma.base.times import shown, when
from replicator_kuma.config.settings import Mode, Settings
from replicator_kuma.daemon import heartbeat
from replicator_kuma.daemon.heartbeat import START, Beat
from replicator_kuma.replication import mode_mismatch, restart_cooldown
from replicator_kuma.replication.apply import failed_attempts
from replicator_kuma.replication.freshness import last_success
from replicator_kuma.replication.second_repository import seen_away
from replicator_kuma.replication.snapshot_ids import in_ids_of
from replicator_kuma.replication.state import hold_words
from replicator_kuma.replication.state.drill_record import Drill
from replicator_kuma.replication.state.state import Away, Last, Mark, State, StateFile
from replicator_kuma.reports import upkeep
from replicator_kuma.reports.health import no_room

if TYPE_CHECKING:
    from replicator_kuma.adapters.repository import Snapshot


_MODE = (
    "the newest snapshot is this instance's own: if it is to lead, set REPLICATOR_MODE=BACKUP here"
)


@dataclass(frozen=True)
class Choices:
    """What the operator chose for this instance. A leader has no strategy."""

    strategy: str = ""
    left_out: tuple[str, ...] = ()
    """tables that are not replicated"""
    local: tuple[str, ...] = ()
    overrides: str = ""
    """the file of REPLICATOR_OVERRIDES, or why it cannot be used"""
    rules: int = 0
    compatible: bool = False
    truncate: bool = False
    settings: tuple[str, ...] = ()
    """`+key` and `-key`, against the catalog's default"""

    def as_dict(self) -> dict[str, Any]:
        return {
            "tables_left_out": list(self.left_out),
            "local_entities": list(self.local),
            "overrides": self.overrides or None,
            "rules": self.rules,
            "schema": "compatible" if self.compatible else "strict",
            "on_misfit": "truncate" if self.truncate else "refuse",
            "settings": list(self.settings),
        }

    def words(self) -> str:
        """The same in one line: what is not the default."""
        rules = counted(self.rules, "rule")
        parts = (
            self.left_out and f"without {', '.join(self.left_out)}",
            self.local and f"own {', '.join(self.local)}",
            self.overrides and f"overrides {self.overrides} ({rules})",
            self.compatible and "compatible schemas too",
            self.truncate and "misfits are cut",
            self.settings and f"settings {', '.join(self.settings)}",
        )
        return "; ".join(part for part in parts if part) or "the leader's rows as they are"


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
    choices: Choices = field(default_factory=lambda: Choices())
    full: str | None = None
    """why the state may be older than the last cycle: the disk is full"""
    looked_at: float = field(default_factory=time.monotonic)
    """when ``beat`` was read: what a repository takes to answer makes no supervisor dead"""

    @property
    def held(self) -> Mark | None:
        """What this instance stands on, by its role."""
        leads = self.role == Mode.BACKUP.value
        return self.state.published if leads else self.state.applied

    @property
    def fenced(self) -> str | None:
        """Why this leader publishes nothing; a replica would not anyway."""
        replicas = {mode.value for mode in Mode if mode.replica}
        return None if self.role in replicas else self.state.fenced

    @property
    def shrink(self) -> str | None:
        """Why this replica does not follow the newest snapshot: most monitors would go."""
        return None if self.role == Mode.BACKUP.value else self.state.shrink or None

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
            "holding": hold_words.as_dict(state.hold) if self._follows else None,
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
            "away": upkeep.away_as_dict(self.away),
            **upkeep.as_dict(state, self.lagging),
            "supervisor": self._supervisor(),
        }

    @property
    def _promoted(self) -> bool:
        """Whether it follows a snapshot of its own: its mode is not that of a leader yet."""
        published, newest = self.state.published, self.newest
        if published is None or newest is None:
            return False
        return self._follows and published.position == newest.position

    @property
    def _awaits_mode(self) -> bool:
        """Whether `promote` made it the leader, and nobody else since, and its mode is old."""
        if not (self._follows and mode_mismatch.awaits_mode(self.state)):
            return False
        return self.newest is None or self._promoted

    @property
    def _killed(self) -> str:
        """That a signal ended Kuma on new rows; a leader applies what a person names, and once."""
        return failed_attempts.killed_sentence(self.state) if self._follows else ""

    @property
    def _drifts(self) -> bool:
        """Whether rows are known to differ; a leader's own rows are what they are."""
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
        """The supervisor's job; "" once it has noted its end, which a sign of life tells later."""
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
                f"{hold_words.held_words(hold)}; to go on: replicator restore --resume",
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
            yield "to do", _MODE
        if self.shrink:
            yield "not applied", f"{self.shrink} (replicator restore --now --allow-shrink)"
        if self.waits_until:
            yield "waits", _waits_words(state, self.waits_until)
        if state.stopped_by_me and self._supervisor() is None:
            yield (
                "Kuma",
                "stopped by an earlier run that did not start it again: the next cycle does",
            )
        if words := hold_words.unconfirmed_words(state):
            yield "unconfirmed", words
        if self._killed:
            yield "killed", self._killed
        yield "last cycle", _last_words(state)
        if self.full:
            yield "not noted", self.full
        if state.failing_since:
            yield "failing since", when(state.failing_since) or ""
        if state.drill is not None:
            yield "last drill", _ended(state.drill)
        if state.drill_failed not in (None, state.drill):
            yield "drill", f"not mended: {state.drill_failed.sentence}"
        if self.away:
            yield "repositories", upkeep.away_words(self.away)
        yield from upkeep.lines(state, self.lagging)
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
        lag = "" if self.behind is None else ", in place" if not self.behind else ""
        if self.behind:
            lag = f", {self.behind} ahead of this instance"
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


def choices(settings: Settings) -> Choices:
    """What was chosen, beside the catalog's defaults; reads the file of overrides."""
    from replicator_kuma.config.build import read_policy
    from replicator_kuma.dump.catalog import SETTINGS, TABLES, choose

    keys = settings.setting_keys
    chosen = choose(settings.include, settings.exclude)
    made = Choices(
        left_out=tuple(name for name in TABLES if name not in chosen),
        settings=(
            *(f"+{key}" for key in sorted(keys - SETTINGS)),
            *(f"-{key}" for key in sorted(SETTINGS - keys)),
        ),
    )
    if settings.mode is Mode.BACKUP:
        return made
    overrides, rules = str(settings.overrides or ""), 0
    try:
        rules = len(read_policy(settings)().overrides.rules)
    except ReplicatorError as error:
        overrides = str(error)
    return replace(
        made,
        strategy=settings.strategy.value,
        local=tuple(sorted(settings.local)),
        overrides=overrides,
        rules=rules,
        compatible=settings.compatible,
        truncate=settings.truncate,
    )


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


def _mark(mark: Mark | None) -> dict[str, Any] | None:
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


def _words(mark: Mark | None) -> str:
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


def _last_words(state: State) -> str:
    return "none yet" if state.last is None else _ended(state.last)


def _ended(last: Last | Drill) -> str:
    ago = max(0, round(time.time() - last.at))
    return f"{'ok' if last.ok else 'FAILED'}, {ago} s ago: {last.sentence}"
