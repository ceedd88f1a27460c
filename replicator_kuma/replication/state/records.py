"""What the state remembers, as frozen values: of snapshots, applies, jobs, drills, repositories."""

from __future__ import annotations

from dataclasses import dataclass, field

from replicator_kuma.adapters.repository.snapshot import Position, Snapshot, SnapshotKey

Arrived = tuple[tuple[str, tuple[int, ...]], ...]
"""Tables and the ids of their rows that have come once, both in order."""


@dataclass(frozen=True)
class SnapshotRef:
    """A snapshot as this instance remembers it."""

    position: Position
    digest: str
    schema: str
    snapshot: str = field(default="", compare=False)
    """its id where it was noted, for people and for 0.3.0; "": the rows are no snapshot's"""
    writer: str = ""
    leader: str = ""
    monitors: int = 0
    rows: int = 0
    shrunk: Position | None = None
    """`Label.shrunk`"""

    @property
    def meant(self) -> SnapshotKey:
        """The key that it has, or will have once it is published."""
        return SnapshotKey(self.position, self.writer, self.digest)

    @property
    def key(self) -> SnapshotKey | None:
        """None for rows that are no snapshot's: an undo put them back."""
        return self.meant if self.snapshot else None

    def common_id(self, fleet: str) -> str:
        """`Label.common_id`; "" for rows that are no snapshot's."""
        return self.key.common_id(fleet) if self.key else ""

    def names(self, fleet: str) -> tuple[str, ...]:
        """By what it may be listed among bad snapshots: 0.3.0 noted its id there."""
        return (self.common_id(fleet), self.snapshot) if self.snapshot else ()

    @classmethod
    def of(cls, snapshot: Snapshot) -> SnapshotRef:
        """What is remembered of a listed snapshot."""
        label = snapshot.label
        return cls(
            position=label.position,
            digest=label.digest,
            schema=label.schema,
            snapshot=snapshot.id,
            writer=label.writer,
            leader=label.leader,
            monitors=label.monitors,
            rows=label.rows,
            shrunk=label.shrunk,
        )


@dataclass(frozen=True)
class Pending:
    """An apply that was begun and is not confirmed: Kuma has not been ready on its rows yet.

    ``base`` and ``target`` are digests of the live rows before and after; ``files`` are the file
    changes as (name, SHA-256 or None for a deletion) and stay listed until all are done.
    """

    mark: SnapshotRef
    base: str
    target: str
    files: tuple[tuple[str, str | None], ...] = ()
    purge: bool = False
    """monitors went: their history goes once Kuma is ready"""
    rollback: bool = False
    """it is the way back: the rows from before are being put in place again"""
    writing: bool = False
    """the transaction was begun: before that nothing can have been written"""
    drifted: bool = False
    """rows were found that are neither of the two: somebody wrote since, it proves nothing"""
    seen: bool = False
    """before that the rows were found in place, after an end in the middle"""
    restart: bool = False
    """Kuma is to run again after it"""
    replaced: str = ""
    """digest of the live rows and files that it was planned to replace"""
    digest: str = ""
    """what `Live.digest` is once it is confirmed; the next three are of `Following`"""
    policy: str = ""
    arrived: Arrived = ()
    keeps_own: bool = False
    earlier: Pending | None = None
    """the unconfirmed apply that it is laid over, and that stands if it is not written"""
    unread: bool = False
    """Kuma ran while the rows were written, and has not been started since: it knows the old"""
    words: str = ""
    """what it changes, in numbers"""
    undoes: int = 0
    """the number of the checkpoint that it puts back; 0: it is no undo"""
    back_to: SnapshotRef | None = None
    """what an undo's rows stood for, and so what is applied once it is confirmed"""


@dataclass(frozen=True)
class Hold:
    """A replica's position by a person's word: it follows no newer one until `restore --resume`.

    Noted before the rows are touched; what was not done then the next cycle does.
    """

    since: float
    """seconds since the epoch"""
    mark: SnapshotRef | None = None
    """None: the rows from before anything was applied"""
    kept: int = 0
    """the number of the checkpoint that an undo has yet to put back; 0: none"""

    def holds(self, snapshot: SnapshotKey | None) -> bool:
        """Whether it is of this snapshot."""
        return self.mark is not None and self.mark.key == snapshot is not None


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
    """what the error said to try"""


@dataclass(frozen=True)
class JobRecord:
    """A maintenance job of `run`: when it is due, how it went; times in seconds since the epoch."""

    name: str
    window: str
    due: float = 0.0
    tries: int = 0
    """how often it was begun since it was due"""
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
    """when it last went well"""


@dataclass(frozen=True)
class RepositoryUpkeep:
    """What housekeeping has found in one repository; times are seconds since the epoch."""

    name: str
    at: float = 0.0
    snapshots: int = 0
    """of this fleet"""
    bytes: int = 0
    """of all data there"""
    part: int = 0
    """the part of ``parts`` that was checked last"""
    parts: int = 0
    checked_at: float = 0.0
    damaged: str = ""
    """what the last check has found"""
    refused: bool = False
    """nothing may be removed there (append-only)"""


CYCLE = "cycle"
DRIFT = "drift"
HOLD = "hold"
LAGGING = "lagging repository"
DRILL = "drill"
KILL = "drill --kill"
HOUSEKEEPING = "housekeeping"
AWAY = "away: "
"""and the name of the repository"""
HELD_BACK = ""
"""stands among what was told for a problem that was not"""


@dataclass(frozen=True)
class Problem:
    """A problem that is open, or one that ended a while ago; seconds since the epoch."""

    what: str
    """what has it: a cycle, a maintenance job, a repository"""
    kind: str = ""
    """in which way: an error's class, where it has one"""
    since: float = 0.0
    """0: it is not open"""
    words: str = ""
    told: tuple[str, ...] = ()
    """kinds of it that were told since it began"""
    recovered_at: float = 0.0
    """when its last end was told; 0: it was not, or long ago"""

    @property
    def was_told(self) -> bool:
        """Whether somebody knows of it, so that its end is news."""
        return any(kind != HELD_BACK for kind in self.told)


@dataclass(frozen=True)
class Away:
    """A repository that gives no answer; ``since`` is seconds since the epoch."""

    name: str
    since: float
    why: str


@dataclass(frozen=True)
class FailedAttempt:
    """An apply that failed after Kuma had stopped for it; ``at`` is seconds since the epoch."""

    aim: str
    """which snapshot it was, by which choices"""
    position: str
    outages: int
    at: float
    sentence: str
    hint: str = ""
    exit_code: int = 1
    grounds: str = ""
    """what could be seen of its cause: schema, triggers, how Kuma is stopped"""
    holders: tuple[str, ...] = ()
    """who had the database open while Kuma was stopped"""
    room: int = 0
    """bytes that were free"""
    signal: int = 0
    """what ended Kuma on its rows; 0: it is another cause"""


@dataclass(frozen=True)
class Bad:
    """Why the snapshot that was called bad last is not tried again."""

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
    """when the cycle began that had stopped it"""


@dataclass(frozen=True)
class Drill:
    """How a drill of the newest snapshot ended, ``at`` in seconds since the epoch."""

    at: float
    ok: bool
    sentence: str
    position: str = ""
    steps: tuple[tuple[str, float], ...] = ()
    """names and seconds of those that went well"""
    kuma: bool = False
    """a throw-away Kuma was to boot on it"""
    failed_at: str = ""
    """the step that did not go well"""


def still_failed(before: Drill | None, ended: Drill) -> Drill | None:
    """The failure that stands after a drill of a snapshot, which says only how far that goes."""
    if not ended.ok:
        return ended
    mends = before is None or before.failed_at not in ("start", "kill")
    return None if mends or (ended.kuma and before and before.failed_at == "start") else before
