"""What an instance remembers from cycle to cycle: one State of several frozen sections.

Code checks the state against the world before it trusts it (docs/architecture.md, rule 10). The
state holds no secret of Kuma, only digests, positions and sentences. Only the functions of
`transitions` change it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from replicator_kuma.adapters.repository.snapshot import Label, Position, SnapshotKey
from replicator_kuma.replication.state import records


@dataclass(frozen=True)
class Live:
    """The live rows at their last comparison."""

    digest: str = ""
    """the digest of a replica's rows while they equal the applied snapshot; "": unknown"""
    fingerprint: str = ""
    """of the database's files when the rows were found equal; "": read the rows again"""
    restored: records.Restored | None = None
    """Litestream brought the database back, and no cycle has decided yet which rows are newer"""


@dataclass(frozen=True)
class Leading:
    """What a leader remembers of its publishes. A replica keeps it: it may lead again."""

    publishing: records.SnapshotRef | None = None
    """the publish that was begun and has no noted end"""
    published: records.SnapshotRef | None = None
    identities: tuple[str, ...] = ()
    """digest of the last published dump, and `shrink.identities` of its monitors"""
    published_files: tuple[str, ...] = ()
    """the same digest, and its number of files (`shrink.count_files`)"""
    burned: Position | None = None
    """the highest position that this writer must never use again"""
    failed_digests: tuple[str, ...] = ()
    """digests of failed publishes since the last noted one: the repository may hold them"""
    fenced: str | None = None
    """why this leader is fenced: who published where it would go on; None: it is not fenced"""
    rivals: tuple[str, ...] = ()
    """ids of the snapshots that fenced it (`publish.ids_of`): while one is there, it stays so"""
    rollback_begun: Position | None = None
    """the position of a `rollback` that was begun and is not published yet"""
    rollback_applied: records.SnapshotRef | None = None
    """the snapshot that this rollback put in place; a person meant its deletions"""
    promoted_at: float = 0.0
    """when `promote` made this the leader; 0: never, or a cycle as the leader has ended since"""
    led_from: int = 0
    """the newest checkpoint when this became the leader: up to it, they are a replica's"""
    equivalent: str = ""
    """the rows that equal a snapshot of another engine (`SnapshotRef.equivalence_key`)"""
    verified_at: float = 0.0
    """when the repository was last asked and agreed; 0: ask it in any case"""

    def doubtful(self, newest: records.SnapshotRef) -> bool:
        """Whether a publish at this position failed: the repository may hold it."""
        if self.burned is None or newest.position > self.burned:
            return False
        return self.published is None or newest.position > self.published.position

    def equals(self, snapshot: records.SnapshotRef, digest: str) -> bool:
        """Whether live rows of this digest are the snapshot's, also in another engine's form."""
        return digest == snapshot.digest or self.equivalent == snapshot.equivalence_key(digest)

    def burned_with(self, newest: Position | None) -> Position | None:
        """The highest position never to use again; includes a begun publish that is not listed.

        After a leader is killed, its restic may go on and complete after our listing.
        """
        begun = self.publishing
        return records.highest(self.burned, begun if begun and newest != begun.position else None)


@dataclass(frozen=True)
class Following(records.Standing):
    """What a replica remembers of the snapshot that it follows. A promoted leader keeps it."""

    floor: Position | None = None
    """the highest position applied before a person went back; None: nobody went back"""
    hold: records.Hold | None = None
    shrink: str = ""
    """why the newest snapshot is not applied: it would remove too many monitors"""
    drift_digest: str = ""
    """digest of the live rows, if they differ from the applied snapshot"""
    healed: str = ""
    """digest of the rows that the last heal of the applied snapshot replaced"""
    healed_at: float = 0.0
    """when a cycle first found the rows equal after that heal; 0: never"""


@dataclass(frozen=True)
class Applying:
    """The current apply, and the failures of earlier ones."""

    pending: records.Pending | None = None
    stopped_by_me: bool = False
    """we stopped Kuma for an apply, and nobody has started it since"""
    bad: tuple[str, ...] = ()
    """common ids of snapshots that stopped Kuma in vain: refused, or Kuma did not start on them

    (0.3.0 noted the ids that were listed.)
    """
    bad_listed: tuple[tuple[str, str], ...] = ()
    """of those the common id, and the id that was listed: 0.3.0 knows a snapshot by that alone"""
    bad_why: records.Bad | None = None
    """the reason for the last of them; None if 0.3.0 noted it"""
    suspect: str = ""
    """common id of a snapshot after which Kuma was also late on the old rows"""
    failed: records.FailedAttempt | None = None
    """the last apply that stopped Kuma and failed; None: none since a success"""
    restart: records.Restart | None = None
    waits_until: float = 0.0
    """when the waiting snapshot may be applied; 0: none waits"""
    purge: bool = False
    """monitors were deleted, and their history has to be deleted too"""

    @property
    def going(self) -> records.Pending | None:
        """The unconfirmed apply, unless it is being reverted."""
        return None if self.pending is None or self.pending.rollback else self.pending


@dataclass(frozen=True)
class Running:
    """What is known of changing the rows of a running Kuma, without a restart."""

    live_last: records.LiveApply | None = None
    live_off: records.LiveOff | None = None
    live_doubted: bool = False
    """Kuma ended by itself right after the last live apply, and has not started since"""
    agent_hung: str = ""
    """SHA-256 of the agent's file that hung: a child is started without this one"""
    live_why_not: str = ""
    """why the last apply could not be live, as it was logged; "": it was, or need not be"""


@dataclass(frozen=True)
class Upkeep:
    """The results of maintenance jobs, drills and housekeeping."""

    jobs: tuple[records.JobRecord, ...] = ()
    drill: records.Drill | None = None
    """the last one"""
    drill_failed: records.Drill | None = None
    """the last failed drill, until a drill succeeds that goes as far"""
    repositories: tuple[records.RepositoryUpkeep, ...] = ()


@dataclass(frozen=True)
class Outcomes:
    """How cycles ended; times are seconds since the epoch."""

    last: records.Last | None = None
    last_ok_at: float = 0.0
    fresh_at: float = 0.0
    """when a cycle last succeeded and did not only wait; 0: never, or 0.3.0 wrote this"""
    refused: str = ""
    """why a cycle was refused so that only a person can help; "" after a success"""
    role: str = ""
    newest_seen: records.NewestSeen | None = None
    """what the last listing showed; None: none since this version began to note it"""


@dataclass(frozen=True)
class State:
    """All that one instance remembers; ``writer`` is its own random id in snapshots' labels."""

    writer: str
    live: Live = field(default_factory=Live)
    leading: Leading = field(default_factory=Leading)
    following: Following = field(default_factory=Following)
    applying: Applying = field(default_factory=Applying)
    running: Running = field(default_factory=Running)
    upkeep: Upkeep = field(default_factory=Upkeep)
    outcome: Outcomes = field(default_factory=Outcomes)
    problems: tuple[records.Problem, ...] = ()
    """sorted by name: open problems, and those that ended within the last hour"""

    def problem(self, what: str) -> records.Problem | None:
        """An open problem; None: there is none of that name."""
        known = self.noted(what)
        return known if known.since else None

    def noted(self, what: str) -> records.Problem:
        """A problem that is open, or ended recently; else an empty record of that name."""
        return next((one for one in self.problems if one.what == what), records.Problem(what))

    @property
    def failing_since(self) -> float:
        """Since when cycles have been failing; 0: the last one did not fail."""
        return self.noted(records.CYCLE).since

    @property
    def drift(self) -> records.Problem | None:
        """The problem of drift; None: the live rows equal the applied snapshot."""
        return self.problem(records.DRIFT)

    @property
    def lagging(self) -> str:
        """Which of a leader's two repositories lags behind, and why; "": neither."""
        behind = self.problem(records.LAGGING)
        return behind.words if behind else ""

    @property
    def away(self) -> tuple[records.Away, ...]:
        """Which of a replica's two repositories gave no answer to the last listing."""
        return tuple(
            records.Away(one.what.removeprefix(records.AWAY), one.since, one.words)
            for one in self.problems
            if one.what.startswith(records.AWAY) and one.since
        )

    def highest_applied(self) -> Position | None:
        """The highest position ever applied here, confirmed or not."""
        going = self.applying.going
        mark = going.mark if going else None
        return records.highest(self.following.applied, self.following.floor, mark)

    @property
    def has_snapshot(self) -> bool:
        """Whether rows of this instance are in a snapshot, or came from one."""
        return self.leading.published is not None or self.following.applied is not None

    @property
    def knows_fleet(self) -> bool:
        """Whether it has a snapshot, or began to publish one."""
        return self.has_snapshot or self.leading.publishing is not None

    @property
    def promoted(self) -> bool:
        """Whether its rows are its own publish: it leads, even if its mode does not say so yet."""
        published = self.leading.published
        return published is not None and published == self.following.applied

    def applied_by(self, snapshot: SnapshotKey | None, policy: str) -> bool:
        """Whether this snapshot was applied with this policy: applying it again is a heal."""
        return self.stands_on(snapshot) and self.following.policy == policy

    def stands_on(self, snapshot: SnapshotKey | None) -> bool:
        """Whether this snapshot is the applied one."""
        applied = self.following.applied
        return applied is not None and applied.key == snapshot is not None

    def has_published(self, snapshot: SnapshotKey) -> bool:
        """Whether this snapshot is this instance's last publish."""
        return self.leading.published is not None and self.leading.published.key == snapshot

    def attempted(self, label: Label) -> bool:
        """Whether a failed publish of this writer may have left this snapshot, in part or whole.

        The content counts too, not only the position: a copy of this instance has its writer id.
        """
        leading, after = self.leading, self.leading.published
        burned = leading.burned
        if label.writer != self.writer or burned is None or label.position > burned:
            return False
        late = after is None or label.position > after.position
        # (0.2.0 noted no contents)
        return late and (not leading.failed_digests or label.digest in leading.failed_digests)
