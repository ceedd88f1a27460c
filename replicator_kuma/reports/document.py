"""The document of an instance: what `replicator status` tells, in named parts.

`status.py` makes it. `as_json` and `terminal.py` render it; another rendering reads the same
members. `scripts/status_schema.py` writes docs/status.schema.json from these types, with the texts
below the members. Sentences are facts too: a rendering shows them as they are.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal, TypeVar

from replicator_kuma.adapters.repository import Position
from replicator_kuma.base.errors import Fenced, SnapshotShrinks
from replicator_kuma.base.times import Moment, when
from replicator_kuma.config.settings import Mode
from replicator_kuma.replication.mode_mismatch import Promoted
from replicator_kuma.replication.state.records import RepositoryUpkeep

T = TypeVar("T")


def part(kind: type[T], record: object, **others: Any) -> T:
    """A part of the document: a record's members of the same names, and ``others``.

    Seconds become a Moment. What is empty or 0 becomes None where the part may have None.
    """
    for name, hint in kind.__annotations__.items():
        if name not in others:
            value = getattr(record, name)
            value = value or None if "None" in hint else value
            others[name] = Moment(value) if "Moment" in hint and value is not None else value
    return kind(**others)


@dataclass(frozen=True)
class Snapshot:
    """A snapshot as this instance remembers it."""

    position: Position
    digest: str
    schema: str
    snapshot: str
    """its id"""
    leader: str
    monitors: int
    rows: int


@dataclass(frozen=True)
class Policy:
    """What the operator chose, against the catalog's defaults. A leader has no overrides."""

    tables_left_out: tuple[str, ...] = ()
    """tables that are not replicated"""
    local_entities: tuple[str, ...] = ()
    """tables of which this replica keeps rows of its own"""
    overrides: str | None = None
    """the file of REPLICATOR_OVERRIDES, or why it cannot be used"""
    rules: int = 0
    """how many rules that file has"""
    schema: Literal["strict", "compatible"] = "strict"
    on_misfit: Literal["refuse", "truncate"] = "refuse"
    settings: tuple[str, ...] = ()
    """+key and -key, against the default"""


@dataclass(frozen=True)
class Holding:
    """Where a replica stays by a person's word."""

    position: Position | None
    """null for the rows from before any apply"""
    snapshot: str | None
    since: Moment


@dataclass(frozen=True)
class Drift:
    """Rows that differ from the applied snapshot, as the last cycle saw them."""

    since: Moment
    words: str


@dataclass(frozen=True)
class CycleEnd:
    """How the last cycle ended."""

    at: Moment
    ok: bool
    outcome: str | None
    """nothing, published, applied or waiting; null where it failed"""
    sentence: str
    error: str | None
    """the class of the error"""
    exit_code: int


@dataclass(frozen=True)
class DrillEnd:
    """How the last drill of the newest snapshot ended."""

    at: Moment
    ok: bool
    position: str | None
    sentence: str
    steps: Mapping[str, float]
    """seconds of the steps that went well, by name"""
    kuma: bool
    """whether a throw-away Uptime Kuma was to boot on it"""
    failed_at: str | None
    """the step that did not go well"""


@dataclass(frozen=True)
class Away:
    """A repository that gives no answer."""

    name: str
    since: Moment
    why: str


@dataclass(frozen=True)
class Job:
    """What `replicator run` does in a window."""

    name: str
    window: str | None
    due: Moment | None
    at: Moment | None
    """when it last ended; null before the first run"""
    seconds: float
    """how long it took"""
    ok: bool | None
    """null before the first run"""
    sentence: str | None
    error: str | None
    exit_code: int
    last_ok_at: Moment | None


@dataclass(frozen=True)
class Problem:
    """What does not go well: told once when it begins, and once when it ends."""

    what: str
    """what has it: `cycle`, a job, a repository, `drift`, `hold`"""
    kind: str
    """in which way: an error's class, where it has one"""
    since: Moment
    words: str
    told: bool
    """somebody was told, by a notification or in the log"""


@dataclass(frozen=True)
class Repository:
    """A repository as housekeeping found it."""

    name: str
    at: Moment | None
    snapshots: int
    """of this fleet"""
    bytes: int
    """of all data there"""
    checked_at: Moment | None
    checked_part: int | None
    """the one of `parts` that was checked last"""
    parts: int | None
    damaged: str | None
    """what the check found"""
    append_only: bool
    """nothing may be removed there"""

    @classmethod
    def of(cls, noted: RepositoryUpkeep) -> Repository:
        """What housekeeping has noted, as status and housekeeping print it."""
        return part(cls, noted, checked_part=noted.part or None, append_only=noted.refused)


@dataclass(frozen=True)
class Supervisor:
    """`replicator run`, while it runs."""

    pid: int
    kuma: str
    """ready, starting, migrating, setup, other or stopped"""
    job: str | None
    """what runs now"""
    job_since: Moment | None
    step: str | None
    """what the job does now, in words"""
    next_cycle: Moment | None
    change_watch: str | None
    """`works`: edits are noticed within a second; else why they are found at the interval only;
    null where nobody looks for them"""


@dataclass(frozen=True)
class Changes:
    """How Kuma gets new rows."""

    way: str
    """REPLICATOR_APPLY: auto, live or restart"""
    agent: str | None
    """the version of the Kuma in whose process the agent answers now"""
    why_not_live: str | None
    """why a change cannot be made while Kuma runs; null: it can, or `restart` is wanted"""
    restart_due: str | None
    """why a person should restart Kuma once: it began without a user, or runs another agent"""
    live_at: Moment | None
    """when a running Kuma last took rows over"""


@dataclass(frozen=True)
class Push:
    """Hints of new snapshots: REPLICATOR_SIGNAL_URL."""

    server: str
    """its address"""
    stream: str | None
    """up or down: a replica's; null on a leader, and where `replicator run` does not run"""
    since: Moment | None
    """since when it is up or down"""
    why: str | None
    """why it is down"""


@dataclass(frozen=True)
class History:
    """Litestream beside `replicator run`: REPLICATOR_LITESTREAM_URL."""

    store: str
    """where it streams to: the folder of this instance, without secrets"""
    stream: str | None
    """streams, begins, behind (a minute without a complete upload) or down; null where
    `replicator run` does not run"""
    sent_at: Moment | None
    """up to when the store has all that was committed"""
    why: str | None
    """why it could not send"""
    restarts: int
    """how often Litestream ended by itself since the start of `replicator run`"""


@dataclass(frozen=True)
class ForPeople:
    """What a person is told beside it. It is no member of the JSON."""

    newest_time: str = ""
    earlier: str = ""
    """what v1 or v2 left in the repository, while this fleet has no snapshot there"""
    holding: str = ""
    waits: str = ""
    unconfirmed: str = ""
    left_stopped: bool = False
    """an earlier run stopped Kuma, and did not start it again"""


@dataclass(frozen=True)
class Status:
    """What `replicator status --json` prints of an instance.

    Times are RFC 3339 in UTC. Members are added; none is removed or changes its meaning without a
    note in the changelog.
    """

    role: str | None
    """REPLICATOR_MODE: BACKUP (leader), RESTORE or RESTORE_LOCAL_ENTITY_REPLICATION (replica)"""
    fleet: str
    instance: str
    published: Snapshot | None
    applied: Snapshot | None
    newest: Position | None
    newest_leader: str | None
    newest_unknown: str | None
    """why the newest snapshot is not known"""
    behind: int | None
    """snapshots newer than what is held; null when that is not known"""
    behind_since: Moment | None
    """when the first of them was made"""
    sentence: str
    """what a person should know of it first: what needs a hand, or that nothing does"""
    newest_seen: Position | None
    """the newest snapshot of the last cycle that listed the repository"""
    newest_seen_at: Moment | None
    """when the repository gave the listing that is known; to the minute, where nobody asked it
    now"""
    push: Push | None
    """null where no hints are sent or read"""
    history: History | None
    """null where nothing is streamed"""
    promoted: Promoted | None
    fenced: str | None
    """why this leader publishes nothing"""
    shrink_refused: str | None
    """why a replica does not apply the newest snapshot: too many monitors would go"""
    waits_until: Moment | None
    """when a replica applies the change that it has seen: Kuma was restarted shortly before"""
    unconfirmed: Position | None
    """the position whose rows Kuma was not ready on yet"""
    bad_snapshots: tuple[str, ...]
    """ids, those of `replicator snapshots` where the repository was asked"""
    killed: str | None
    """that a signal ended Kuma while it started on new rows, and when they are tried again"""
    engine: str | None
    """sqlite, mariadb or embedded-mariadb; null where it cannot be told"""
    changes: Changes
    strategy: str | None
    """SNAPSHOT, DEFAULT or NOTIFICATIONS_INSERT_MERGE; null on a leader"""
    policy: Policy
    holding: Holding | None
    drift: Drift | None
    last_cycle: CycleEnd | None
    not_noted: str | None
    """why it cannot be noted now how cycles end, so that what is shown may be old"""
    last_ok_at: Moment | None
    """the last cycle without an error"""
    last_success_at: Moment | None
    """the last cycle that went well and did not only wait"""
    refused: str | None
    """why a cycle was refused in a way that only a person ends, until one goes well"""
    failing_since: Moment | None
    drill: DrillEnd | None
    drill_failed: str | None
    """the last failure of a drill, until one goes well that gets as far"""
    away: tuple[Away, ...]
    """which of a replica's two repositories gives no answer"""
    chores: tuple[Job, ...]
    lagging: str | None
    """which of a leader's two repositories lacks the newest snapshot, and why"""
    repositories: tuple[Repository, ...]
    problems: tuple[Problem, ...]
    """all that is open, by `what`"""
    supervisor: Supervisor | None
    for_people: ForPeople = field(default_factory=ForPeople, metadata={"json": False})

    @property
    def follows(self) -> bool:
        """Whether it is no leader by its mode."""
        return self.role != Mode.BACKUP.value

    @property
    def held(self) -> Snapshot | None:
        """What this instance stands on, by its role."""
        return self.applied if self.follows else self.published

    @property
    def exit_code(self) -> int:
        """What `replicator status` ends with: that of a refusal which only a person ends, or 0."""
        if self.fenced:
            return Fenced.exit_code
        return SnapshotShrinks.exit_code if self.shrink_refused else 0


def as_json(value: Any) -> Any:
    """A document, or a part of one, as `--json` prints it."""
    if isinstance(value, Moment):
        return when(value)
    if isinstance(value, Position):
        return str(value)
    kind: Any = type(value)
    if (printed := _printed(kind)) is not None:
        return {name: as_json(getattr(value, name)) for name in printed}
    return [as_json(item) for item in value] if isinstance(value, tuple) else value


@functools.cache
def _printed(kind: Any) -> tuple[str, ...] | None:
    """The members of a part that its JSON has; None: this is no part."""
    if not is_dataclass(kind):
        return None
    return tuple(f.name for f in fields(kind) if f.metadata.get("json", True))
