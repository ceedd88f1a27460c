"""The records in the state, as frozen values: snapshots, applies, jobs, drills, repositories."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from replicator_kuma.adapters.repository.snapshot import Label, Position, Snapshot, SnapshotKey
from replicator_kuma.base.times import moment_of

Arrived = tuple[tuple[str, tuple[int, ...]], ...]
"""Tables and the ids of their rows that came from a leader once, both sorted."""


@dataclass(frozen=True)
class SnapshotRef:
    """A snapshot as this instance remembers it."""

    position: Position
    digest: str
    schema: str
    snapshot: str = field(default="", compare=False)
    """its id when it was noted, for people and for 0.3.0; "": the rows belong to no snapshot"""
    writer: str = ""
    leader: str = ""
    monitors: int = 0
    rows: int = 0
    shrunk: Position | None = None
    """`Label.shrunk`"""

    @property
    def meant(self) -> SnapshotKey:
        """The key that the snapshot has, or will have once it is published."""
        return SnapshotKey(self.position, self.writer, self.digest)

    @property
    def key(self) -> SnapshotKey | None:
        """The snapshot's key; None for rows without a snapshot, which an undo put back."""
        return self.meant if self.snapshot else None

    def common_id(self, fleet: str) -> str:
        """`Label.common_id`; "" for rows without a snapshot."""
        return self.key.common_id(fleet) if self.key else ""

    def equivalence_key(self, digest: str) -> str:
        """The note that live rows of this digest equal this snapshot of another engine."""
        return f"{self.position} {self.writer} {self.digest} {digest}"

    def names(self, fleet: str) -> tuple[str, ...]:
        """By what it may be listed among bad snapshots: 0.3.0 noted its id there."""
        return (self.common_id(fleet), self.snapshot) if self.snapshot else ()

    @classmethod
    def of(cls, snapshot: Snapshot) -> SnapshotRef:
        """The record of a listed snapshot."""
        return cls.labelled(snapshot.label, snapshot.id)

    @classmethod
    def labelled(cls, label: Label, snapshot: str = "") -> SnapshotRef:
        """The record of a snapshot with this label; "": it is not listed yet."""
        ours = (label.writer, label.leader, label.monitors, label.rows, label.shrunk)
        return cls(label.position, label.digest, label.schema, snapshot, *ours)


def highest(*known: SnapshotRef | Position | None) -> Position | None:
    """The highest of these positions and of those of these snapshots; None: there is none."""
    found = [one.position if isinstance(one, SnapshotRef) else one for one in known if one]
    return max(found, default=None)


@dataclass(frozen=True)
class Standing:
    """What an instance's rows stand for: their snapshot, and the choices that made them of it."""

    applied: SnapshotRef | None = None
    policy: str = ""
    """`Policy.fingerprint` of their apply; if it changes, the rows are compared again"""
    arrived: Arrived = ()
    """rows of local tables that came from a leader once: they are not inserted again"""
    keeps_own: bool = False
    """some rows behind `Live.digest` are this replica's own: it may change them"""


@dataclass(frozen=True)
class Pending:
    """An apply that was begun and is not confirmed: Kuma has not been ready on its rows yet.

    ``base`` and ``target`` are digests of the live rows before and after it. ``files`` are the
    file changes: (name, SHA-256 or None for a deletion); all stay listed until all are done.
    """

    mark: SnapshotRef
    base: str
    target: str
    files: tuple[tuple[str, str | None], ...] = ()
    purge: bool = False
    """monitors are deleted: their history is deleted once Kuma is ready"""
    rollback: bool = False
    """this is the revert of an apply: the old rows are being put back"""
    writing: bool = False
    """the transaction was begun; if False, nothing can have been written"""
    drifted: bool = False
    """the live rows match neither digest: somebody wrote since, so they prove nothing"""
    seen: bool = False
    """after an interruption, the new rows were found in place (before ``drifted``)"""
    restart: bool = False
    """Kuma has to run again after the apply"""
    replaced: str = ""
    """digest of the live rows and files that the plan replaces"""
    digest: str = ""
    """the `Live.digest` after confirmation"""
    policy: str = ""
    arrived: Arrived = ()
    keeps_own: bool = False
    earlier: Pending | None = None
    """the unconfirmed apply before this one; it stays pending if this one is not written"""
    unread: bool = False
    """Kuma ran while the rows were written and was not restarted: it has the old rows in memory"""
    words: str = ""
    """what the apply changes, in numbers"""
    undoes: int = 0
    """the number of the checkpoint that this undo puts back; 0: it is no undo"""
    back_to: SnapshotRef | None = None
    """the snapshot of an undo's rows, which is the applied one after confirmation"""

    @property
    def standing(self) -> Standing:
        """What the rows stand for once Kuma has confirmed them."""
        applied = self.back_to if self.undoes else self.mark
        return Standing(applied, self.policy, self.arrived, self.keeps_own)


@dataclass(frozen=True)
class Hold:
    """The position to which a person sent a replica: it follows no newer one until resumed.

    Noted before the rows are touched; the next cycle completes what was interrupted.
    """

    since: float
    """seconds since the epoch"""
    mark: SnapshotRef | None = None
    """the held snapshot; None: the rows from before the first apply"""
    kept: int = 0
    """the number of the checkpoint that an undo has yet to put back; 0: none"""

    def holds(self, snapshot: SnapshotKey | None) -> bool:
        """Whether this snapshot is the held one."""
        return self.mark is not None and self.mark.key == snapshot is not None


@dataclass(frozen=True)
class LiveApply:
    """The last apply that a running Kuma took over without a restart."""

    at: float
    """seconds since the epoch"""
    position: Position
    begun: float
    """when that Kuma's process began; 0: Kuma has been started again since"""
    version: str
    """Kuma's"""
    agent: str
    """SHA-256 of the agent's file"""


@dataclass(frozen=True)
class LiveOff:
    """Live applies are off for this version of Kuma with this agent: Kuma ended after one."""

    version: str
    agent: str
    why: str


@dataclass(frozen=True)
class Last:
    """How the last cycle ended; times are seconds since the epoch."""

    at: float
    ok: bool
    sentence: str
    outcome: str = ""
    error: str = ""
    exit_code: int = 0
    hint: str = ""
    """the hint of the error"""


@dataclass(frozen=True)
class NewestSeen:
    """The newest snapshot of the last listing; times are seconds since the epoch."""

    at: float
    """when the repository was asked"""
    position: Position | None = None
    """None: the fleet had no snapshot"""
    made_at: float = 0.0
    """when that snapshot was made, by the leader's clock; 0: its time cannot be read"""
    held: Position | None = None
    """what this instance held then"""
    newer: int = 0
    """how many positions were above it"""

    @classmethod
    def of(cls, snapshots: Sequence[Snapshot], held: SnapshotRef | None, now: float) -> NewestSeen:
        """What a listing shows; ``held``: what the rows of this instance stand on."""
        at = held.position if held else None
        newest = snapshots[-1] if snapshots else None
        return cls(
            at=now,
            position=newest.position if newest else None,
            made_at=_made_at(newest) if newest else 0.0,
            held=at,
            newer=len({s.position for s in snapshots if at is None or s.position > at}),
        )

    def behind(self, held: Position | None) -> int | None:
        """How many snapshots an instance that holds ``held`` now is behind; None: unknown.

        Positions between two of one epoch are taken for snapshots, although a failed publish may
        have left some of them out. Across epochs at least one is known.
        """
        if self.position is None or (held is not None and held >= self.position):
            return 0
        if held == self.held:
            return self.newer
        if held is None or held.epoch != self.position.epoch:
            return None
        return self.position.sequence - held.sequence


def _made_at(snapshot: Snapshot) -> float:
    try:
        return moment_of(snapshot.time)
    except ValueError:  # its writer may be anybody
        return 0.0


@dataclass(frozen=True)
class JobRecord:
    """A maintenance job of `run`: when it is due, how it ended; in seconds since the epoch."""

    name: str
    window: str
    due: float = 0.0
    tries: int = 0
    """how many times it was begun since it was due"""
    at: float = 0.0
    """when it last ended; 0: it never ran"""
    seconds: float = 0.0
    """how long it took"""
    ok: bool = True
    sentence: str = ""
    error: str = ""
    exit_code: int = 0
    hint: str = ""
    ok_at: float = 0.0
    """when it last succeeded"""


@dataclass(frozen=True)
class RepositoryUpkeep:
    """What housekeeping found in one repository; times are seconds since the epoch."""

    name: str
    at: float = 0.0
    snapshots: int = 0
    """the number of this fleet's snapshots"""
    bytes: int = 0
    """the size of all data in the repository"""
    part: int = 0
    """the part of ``parts`` that was checked last"""
    parts: int = 0
    checked_at: float = 0.0
    damaged: str = ""
    """the damage that the last check found; "": none"""
    refused: bool = False
    """the repository allows no deletion (append-only)"""


CYCLE = "cycle"
DRIFT = "drift"
HOLD = "hold"
LAGGING = "lagging repository"
DRILL = "drill"
HISTORY = "history"
KILL = "drill --kill"
HOUSEKEEPING = "housekeeping"
AWAY = "away: "
"""the name of a repository follows"""
HELD_BACK = ""
"""in ``told``, marks a problem that was not told yet"""


@dataclass(frozen=True)
class Problem:
    """A problem that is open, or that ended recently; times are seconds since the epoch."""

    what: str
    """what has the problem: a cycle, a maintenance job, a repository"""
    kind: str = ""
    """the kind of problem: the error's class, if there is one"""
    since: float = 0.0
    """0: it is not open"""
    words: str = ""
    told: tuple[str, ...] = ()
    """the kinds that were told since it began"""
    recovered_at: float = 0.0
    """when its last end was told; 0: it was not, or long ago"""

    @property
    def was_told(self) -> bool:
        """Whether the problem was told, so that its end has to be told too."""
        return any(kind != HELD_BACK for kind in self.told)


@dataclass(frozen=True)
class Away:
    """A repository that does not answer; ``since`` is seconds since the epoch."""

    name: str
    since: float
    why: str


@dataclass(frozen=True)
class Restored:
    """The database that Litestream brought back, until a cycle has compared it with the fleet."""

    txid: int
    """its last transaction, by Litestream's count"""
    at: float
    """when that was uploaded, in seconds since the epoch, by the clock of this instance"""

    def before(self, history: int, made: float) -> bool:
        """Whether a snapshot of this instance holds what happened after it.

        ``history``: `Label.history` of the snapshot; 0: then the time at which it was made counts.
        """
        return self.txid < history if history else self.at < made


@dataclass(frozen=True)
class FailedAttempt:
    """An apply that failed after Kuma had stopped for it; ``at`` is seconds since the epoch."""

    aim: str
    """the snapshot and the policy, as one key"""
    position: str
    outages: int
    at: float
    sentence: str
    hint: str = ""
    exit_code: int = 1
    grounds: str = ""
    """a fingerprint of the visible cause: schema, triggers, how Kuma is stopped"""
    holders: tuple[str, ...] = ()
    """who had the database open while Kuma was stopped"""
    room: int = 0
    """free bytes on the disk at that time"""
    signal: int = 0
    """the signal that ended Kuma on the new rows; 0: another cause"""


@dataclass(frozen=True)
class Bad:
    """Why the last snapshot that was called bad is not retried."""

    position: str
    at: float
    """seconds since the epoch"""
    sentence: str


@dataclass(frozen=True)
class Restart:
    """Kuma's last restart for an apply; seconds since the epoch."""

    at: float
    """when Kuma was started again"""
    begun: float
    """when the cycle that stopped Kuma began"""


@dataclass(frozen=True)
class Drill:
    """How a drill of the newest snapshot ended, ``at`` in seconds since the epoch."""

    at: float
    ok: bool
    sentence: str
    position: str = ""
    steps: tuple[tuple[str, float], ...] = ()
    """names and seconds of the steps that succeeded"""
    kuma: bool = False
    """the drill included a boot of a throw-away Kuma"""
    failed_at: str = ""
    """the step that failed; "": none"""
