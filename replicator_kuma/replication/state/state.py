"""What an instance remembers from cycle to cycle.

What is known here is compared with the world before it is believed (docs/architecture.md,
rule 10); it holds no secret of Kuma, only digests, positions and sentences.
"""

from __future__ import annotations

from dataclasses import dataclass

from replicator_kuma.adapters.repository.snapshot import Position
from replicator_kuma.replication.state.records import (
    Arrived,
    Away,
    Bad,
    Drill,
    FailedAttempt,
    Hold,
    JobRecord,
    Last,
    Pending,
    Restart,
    SnapshotRef,
    Upkeep,
)


@dataclass(frozen=True)
class State:
    writer: str
    intent: SnapshotRef | None = None
    published: SnapshotRef | None = None
    identities: tuple[str, ...] = ()
    """digest of what was published last, and `shrink.identities` of its monitors"""
    published_files: tuple[str, ...] = ()
    """that digest, and how many files it held (`shrink.count_files`)"""
    burned: Position | None = None
    """the highest position that must never be used again by this writer"""
    tried: tuple[str, ...] = ()
    """digests whose publish failed since the last that is noted: what may be found up to there"""
    fenced: str | None = None
    rivals: tuple[str, ...] = ()
    """common ids of the snapshots that fenced it: while one of them is there, it stays so"""
    shrink: str = ""
    """why a replica does not apply the newest snapshot: too many monitors would go"""
    applied: SnapshotRef | None = None
    applied_policy: str = ""
    """`Policy.fingerprint` by which the applied snapshot came over; another one compares anew"""
    arrived: Arrived = ()
    """rows of local entities that came from a leader once: they do not come again"""
    keeps_own: bool = False
    """some of the rows behind `live_digest` are this replica's own: it may change them"""
    floor: Position | None = None
    """the highest position that was applied before a person went back; None: nobody did"""
    hold: Hold | None = None
    rolled_back: Position | None = None
    """a leader's `rollback` to there was begun, and has yet to be published"""
    went_back: SnapshotRef | None = None
    """what it has put in place: that monitors went by it was meant"""
    promoted_at: float = 0.0
    """when `promote` made this the leader, until a cycle as the leader ends; 0: it did not"""
    led_from: int = 0
    """the newest checkpoint when this became the leader: those up to there are a replica's"""
    pending: Pending | None = None
    stopped_by_me: bool = False
    bad: tuple[str, ...] = ()
    """common ids of snapshots that stopped Kuma in vain: refused, or Kuma did not start on them"""
    bad_why: Bad | None = None
    """of the last of them; None where 0.3.0 noted it"""
    suspect: str = ""
    """common id of a snapshot after which Kuma came up on the old rows only late"""
    vain: FailedAttempt | None = None
    """the last apply for which Kuma was stopped and that was not written; None: none since"""
    restart: Restart | None = None
    waits_until: float = 0.0
    """when the snapshot that waits for its turn may be applied; 0: none waits"""
    purge: bool = False
    verified_at: float = 0.0
    """when a leader last asked the repository, and it agreed; 0: it is to ask in any case"""
    unchanged: str = ""
    """fingerprint of the files that gave `live_digest`"""
    live_digest: str = ""
    live_schema: str = ""
    alike: str = ""
    """what a leader on another engine has found to mean the same (`leader.alike_key`)"""
    drift: float = 0.0
    """since when the live rows differ from the applied snapshot, unhealed; 0: they do not"""
    drift_words: str = ""
    drift_digest: str = ""
    """digest of the rows that were found to differ"""
    healed: str = ""
    """digest of the rows that the last heal of the applied snapshot replaced"""
    healed_at: float = 0.0
    """when a cycle first found the rows equal after that heal; 0: none has"""
    last: Last | None = None
    last_ok_at: float = 0.0
    fresh_at: float = 0.0
    """when a cycle last went well and did not only wait; 0: none, or 0.3.0 wrote this"""
    refused: str = ""
    """why a cycle was refused in a way that only a person ends, until one goes well"""
    failing_since: float = 0.0
    recovered_at: float = 0.0
    """when it was last told that cycles work again"""
    told: tuple[str, ...] = ()
    """kinds of failures that were told since cycles last went well"""
    role: str = ""
    chores: tuple[JobRecord, ...] = ()
    drill: Drill | None = None
    """the last one"""
    drill_failed: Drill | None = None
    """the last one that failed, until one goes well that gets as far"""
    upkeep: tuple[Upkeep, ...] = ()
    away: tuple[Away, ...] = ()
    """which of a replica's two repositories gave no answer to the last listing"""
    lagging: str = ""
    """which of a leader's two repositories lags behind, and why"""

    def highest_applied(self) -> Position | None:
        """The highest position that was ever applied here, confirmed or not."""
        positions = [mark.position for mark in (self.applied,) if mark is not None]
        if self.floor is not None:
            positions.append(self.floor)
        if self.pending is not None and not self.pending.rollback:
            positions.append(self.pending.mark.position)
        return max(positions, default=None)

    @property
    def has_snapshot(self) -> bool:
        """Whether rows of this instance are in a snapshot, or came from one."""
        return self.published is not None or self.applied is not None

    @property
    def promoted(self) -> bool:
        """Whether its rows are what it published itself: it leads, whatever its mode says yet."""
        return self.published is not None and self.published == self.applied

    def applied_by(self, snapshot: str, policy: str) -> bool:
        """Whether this snapshot is the applied one, by this policy: applying it again is a heal."""
        applied = self.applied is not None and self.applied.snapshot == snapshot
        return applied and self.applied_policy == policy
