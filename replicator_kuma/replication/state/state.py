"""What an instance remembers from cycle to cycle: one frozen value a subject, in one State.

What is known here is compared with the world before it is believed (docs/architecture.md,
rule 10); it holds no secret of Kuma, only digests, positions and sentences. It changes by the
functions of `transitions` alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from replicator_kuma.adapters.repository.snapshot import Label, Position, SnapshotKey
from replicator_kuma.replication.state.records import (
    AWAY,
    CYCLE,
    DRIFT,
    LAGGING,
    Arrived,
    Away,
    Bad,
    Drill,
    FailedAttempt,
    Hold,
    JobRecord,
    Last,
    Pending,
    Problem,
    RepositoryUpkeep,
    Restart,
    SnapshotRef,
)


@dataclass(frozen=True)
class Live:
    """The live rows, as they were compared last."""

    digest: str = ""
    """what a replica's rows hash to while they are those of the applied snapshot; "": unknown"""
    fingerprint: str = ""
    """of the database's files when they were found equal; "": the rows are to be read"""


@dataclass(frozen=True)
class Leading:
    """What a leader remembers of its publishes. A replica keeps it: it may lead again."""

    publishing: SnapshotRef | None = None
    """the publish that was begun and whose end is not noted"""
    published: SnapshotRef | None = None
    identities: tuple[str, ...] = ()
    """digest of what was published last, and `shrink.identities` of its monitors"""
    published_files: tuple[str, ...] = ()
    """that digest, and how many files it held (`shrink.count_files`)"""
    burned: Position | None = None
    """the highest position that must never be used again by this writer"""
    failed_digests: tuple[str, ...] = ()
    """digests whose publish failed since the last that is noted: what may be found up to there"""
    fenced: str | None = None
    """who published where this leader would go on; None: nobody"""
    rivals: tuple[str, ...] = ()
    """ids of the snapshots that fenced it (`publish.ids_of`): while one is there, it stays so"""
    rollback_begun: Position | None = None
    """a `rollback` to there was begun, and is not published yet"""
    rollback_applied: SnapshotRef | None = None
    """what that rollback has put in place: a person meant the monitors to go that went by it"""
    promoted_at: float = 0.0
    """when `promote` made this the leader, until a cycle as the leader ends; 0: it did not"""
    led_from: int = 0
    """the newest checkpoint when this became the leader: those up to there are a replica's"""
    equivalent: str = ""
    """which rows mean the same as a snapshot of another engine (`leader.equivalence_key`)"""
    verified_at: float = 0.0
    """when the repository was last asked, and agreed; 0: it is to be asked in any case"""

    def doubtful(self, newest: SnapshotRef) -> bool:
        """Whether a publish at this position failed: its content may be there in part, or whole."""
        if self.burned is None or newest.position > self.burned:
            return False
        return self.published is None or newest.position > self.published.position

    def burned_with(self, newest: Position | None) -> Position | None:
        """What must not be used again: also the position of a begun publish that is not listed.

        The restic of a leader that was killed lives on, and can end after we looked.
        """
        positions = [self.burned] if self.burned is not None else []
        if self.publishing is not None and newest != self.publishing.position:
            positions.append(self.publishing.position)
        return max(positions, default=None)


@dataclass(frozen=True)
class Following:
    """What a replica remembers of the snapshot that it follows. A promoted leader keeps it."""

    applied: SnapshotRef | None = None
    policy: str = ""
    """`Policy.fingerprint` by which the applied snapshot came over; another one compares anew"""
    arrived: Arrived = ()
    """rows of local entities that came from a leader once: they do not come again"""
    keeps_own: bool = False
    """some of the rows behind `Live.digest` are this replica's own: it may change them"""
    floor: Position | None = None
    """the highest position that was applied before a person went back; None: nobody did"""
    hold: Hold | None = None
    shrink: str = ""
    """why the newest snapshot is not applied: too many monitors would go"""
    drift_digest: str = ""
    """of the live rows, where they are not those of the applied snapshot"""
    healed: str = ""
    """digest of the rows that the last heal of the applied snapshot replaced"""
    healed_at: float = 0.0
    """when a cycle first found the rows equal after that heal; 0: none has"""


@dataclass(frozen=True)
class Applying:
    """The apply that is under way, and the failures of the last ones."""

    pending: Pending | None = None
    stopped_by_me: bool = False
    """Kuma was stopped for an apply, and nobody has started it since"""
    bad: tuple[str, ...] = ()
    """common ids of snapshots that stopped Kuma in vain: refused, or Kuma did not start on them

    (0.3.0 noted the ids that were listed.)
    """
    bad_listed: tuple[tuple[str, str], ...] = ()
    """of those the common id, and the id that was listed: 0.3.0 knows a snapshot by that alone"""
    bad_why: Bad | None = None
    """of the last of them; None where 0.3.0 noted it"""
    suspect: str = ""
    """common id of a snapshot after which Kuma came up on the old rows only late"""
    failed: FailedAttempt | None = None
    """the last apply for which Kuma was stopped and that was not written; None: none since"""
    restart: Restart | None = None
    waits_until: float = 0.0
    """when the snapshot that waits for its turn may be applied; 0: none waits"""
    purge: bool = False
    """monitors went: their history is to be deleted"""


@dataclass(frozen=True)
class Upkeep:
    """How maintenance jobs, drills and housekeeping went."""

    jobs: tuple[JobRecord, ...] = ()
    drill: Drill | None = None
    """the last one"""
    drill_failed: Drill | None = None
    """the last one that failed, until one goes well that gets as far"""
    repositories: tuple[RepositoryUpkeep, ...] = ()


@dataclass(frozen=True)
class Outcomes:
    """How cycles ended; times are seconds since the epoch."""

    last: Last | None = None
    last_ok_at: float = 0.0
    fresh_at: float = 0.0
    """when a cycle last went well and did not only wait; 0: none, or 0.3.0 wrote this"""
    refused: str = ""
    """why a cycle was refused in a way that only a person ends, until one goes well"""
    role: str = ""


@dataclass(frozen=True)
class State:
    """All that one instance remembers; ``writer`` is its own random id in snapshots' labels."""

    writer: str
    live: Live = field(default_factory=Live)
    leading: Leading = field(default_factory=Leading)
    following: Following = field(default_factory=Following)
    applying: Applying = field(default_factory=Applying)
    upkeep: Upkeep = field(default_factory=Upkeep)
    outcome: Outcomes = field(default_factory=Outcomes)
    problems: tuple[Problem, ...] = ()
    """by name: those that are open, and those that ended within the last hour"""

    def problem(self, what: str) -> Problem | None:
        """An open problem; None: there is none of that name."""
        return next((one for one in self.problems if one.what == what and one.since), None)

    @property
    def failing_since(self) -> float:
        """Since when cycles fail; 0: the last one did not."""
        failing = self.problem(CYCLE)
        return failing.since if failing else 0.0

    @property
    def drift(self) -> Problem | None:
        """None: the live rows are those of the applied snapshot."""
        return self.problem(DRIFT)

    @property
    def lagging(self) -> str:
        """Which of a leader's two repositories lags behind, and why; "": neither."""
        behind = self.problem(LAGGING)
        return behind.words if behind else ""

    @property
    def away(self) -> tuple[Away, ...]:
        """Which of a replica's two repositories gave no answer to the last listing."""
        return tuple(
            Away(one.what.removeprefix(AWAY), one.since, one.words)
            for one in self.problems
            if one.what.startswith(AWAY) and one.since
        )

    def highest_applied(self) -> Position | None:
        """The highest position that was ever applied here, confirmed or not."""
        following, pending = self.following, self.applying.pending
        positions = [mark.position for mark in (following.applied,) if mark is not None]
        if following.floor is not None:
            positions.append(following.floor)
        if pending is not None and not pending.rollback:
            positions.append(pending.mark.position)
        return max(positions, default=None)

    @property
    def has_snapshot(self) -> bool:
        """Whether rows of this instance are in a snapshot, or came from one."""
        return self.leading.published is not None or self.following.applied is not None

    @property
    def promoted(self) -> bool:
        """Whether its rows are what it published itself: it leads, whatever its mode says yet."""
        published = self.leading.published
        return published is not None and published == self.following.applied

    def applied_by(self, snapshot: SnapshotKey | None, policy: str) -> bool:
        """Whether this snapshot is the applied one, by this policy: applying it again is a heal."""
        return self.stands_on(snapshot) and self.following.policy == policy

    def stands_on(self, snapshot: SnapshotKey | None) -> bool:
        """Whether this snapshot is the applied one."""
        applied = self.following.applied
        return applied is not None and applied.key == snapshot is not None

    def has_published(self, snapshot: SnapshotKey) -> bool:
        """Whether this snapshot is the one that was published last from here."""
        return self.leading.published is not None and self.leading.published.key == snapshot

    def attempted(self, label: Label) -> bool:
        """Whether this writer's failed publishes may have left this snapshot, in part or whole.

        Its content counts, not the position alone: a copy of this instance has the same writer id.
        """
        leading, after = self.leading, self.leading.published
        burned = leading.burned
        if label.writer != self.writer or burned is None or label.position > burned:
            return False
        late = after is None or label.position > after.position
        # (0.2.0 noted no contents)
        return late and (not leading.failed_digests or label.digest in leading.failed_digests)
