"""A drill: restores the newest snapshot beside the instance, checks it, and deletes it.

It runs the code of a restore, in a scratch folder (scratch.py). The instance's own database,
files and Kuma are only read.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from replicator_kuma.adapters.kuma.socketio import session_token
from replicator_kuma.adapters.kuma.throwaway import ThrowAway, Visit
from replicator_kuma.adapters.notify import Kind
from replicator_kuma.adapters.repository import Snapshot, missing
from replicator_kuma.base.errors import (
    AlreadyRunning,
    DrillFailed,
    Interrupted,
    KumaError,
    NotAsWritten,
    ReplicatorError,
    RepositoryError,
    SettingsError,
    SnapshotNotFound,
    SnapshotRefused,
    StateError,
)
from replicator_kuma.base.events import as_event
from replicator_kuma.base.text import counted
from replicator_kuma.base.times import lasting
from replicator_kuma.dump.catalog import Dangle
from replicator_kuma.dump.format import Dump
from replicator_kuma.replication import problems
from replicator_kuma.replication.apply import prepare, staging
from replicator_kuma.replication.apply.transaction import carry_out
from replicator_kuma.replication.drill import scratch
from replicator_kuma.replication.hints import advise
from replicator_kuma.replication.instance import Instance
from replicator_kuma.replication.observe import observe
from replicator_kuma.replication.schema_check import require_schema
from replicator_kuma.replication.snapshots import fetched, find
from replicator_kuma.replication.state import transitions
from replicator_kuma.replication.state.records import DRILL, Drill, Pending, SnapshotRef, highest

NOTE_WAIT = 60.0
"""Seconds that a drill waits for a running cycle before it notes its result."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Drilled:
    """A drill that succeeded; ``steps`` are names and seconds."""

    snapshot: Snapshot
    steps: tuple[tuple[str, float], ...]
    kuma: bool
    warnings: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        return sum(seconds for _name, seconds in self.steps)

    @property
    def sentence(self) -> str:
        label = self.snapshot.label
        parts = ", ".join(f"{name} {lasting(seconds)}" for name, seconds in self.steps)
        seen = "; a throw-away Uptime Kuma showed them" if self.kuma else ""
        return (
            f"snapshot {label.position} of {label.leader} can be recovered in "
            f"{lasting(self.seconds)} ({parts}): {counted(label.monitors, 'monitor')}, "
            f"{counted(label.rows, 'row')}, digest {label.digest[:12]}{seen}"
        )

    def as_dict(self) -> dict[str, Any]:
        """The JSON that `--json` prints (a documented contract: docs/json.md)."""
        label = self.snapshot.label
        return {
            "sentence": self.sentence,
            "position": str(label.position),
            "digest": label.digest,
            "monitors": label.monitors,
            "rows": label.rows,
            "seconds": round(self.seconds, 3),
            "steps": {name: round(seconds, 3) for name, seconds in self.steps},
            "kuma": self.kuma,
            "warnings": list(self.warnings),
        }


@dataclass
class _Course:
    """The progress of a drill; ``steps`` are those that succeeded."""

    instance: Instance
    position: str = ""
    steps: list[tuple[str, float]] = field(default_factory=list)
    failed_at: str = ""

    @contextlib.contextmanager
    def step(self, name: str, words: str) -> Iterator[None]:
        """Time a step; an error in it is the drill's result."""
        self.instance.step(words)
        began = time.monotonic()
        try:
            yield
        except (Interrupted, AlreadyRunning):
            raise
        except (ReplicatorError, OSError) as error:
            raise self.failed(name, error) from error
        self.steps.append((name, time.monotonic() - began))

    def failed(self, step: str, error: Exception) -> DrillFailed:
        """The drill's error, with the hint of its cause."""
        self.failed_at = step
        said = str(error.strerror if isinstance(error, OSError) else error)
        of = f"the drill of snapshot {self.position}" if self.position else "the drill"
        hint = None
        if isinstance(error, ReplicatorError):
            with contextlib.suppress(ReplicatorError):
                advise(error, self.instance.leads, self.instance.state.load())
            hint = error.hint
        return DrillFailed(f"{of} failed to {step}: {said}", hint=hint)


def drill(
    instance: Instance, snapshot: str | None = None, kuma: ThrowAway | None = None
) -> Drilled:
    """Restore a snapshot in a scratch folder: the newest one, or the named one.

    Then boot ``kuma`` on it. Needs no lock, but takes it for a moment to note the result for the
    newest one. Raises DrillFailed, noted and told; other errors if the drill could not begin: an
    unreachable repository, a database without a schema, another drill.
    """
    course = steps(instance, snapshot, kuma)
    while True:
        try:
            next(course)
        except StopIteration as end:
            drilled: Drilled = end.value
            return drilled


def steps(
    instance: Instance,
    snapshot: str | None = None,
    kuma: ThrowAway | None = None,
    *,
    tell: bool = True,
) -> Generator[None, None, Drilled]:
    """`drill`, step by step: other work may run at each ``yield``.

    ``tell``: notify; False if the caller does that.
    """
    if kuma is not None:
        if instance.store.quieten is None:
            raise SettingsError(
                "a throw-away Kuma boots on SQLite only, and this instance's Kuma uses MariaDB",
                hint="Try without it: replicator drill. Or on an instance with SQLite.",
            )
        kuma.check()
    course = _Course(instance)
    try:
        chosen = _find(course, snapshot)
        yield
        drilled = yield from _run(course, chosen, kuma)
    except DrillFailed as error:
        if snapshot is None:
            _note(instance, course, error, kuma is not None, tell)
        raise
    if snapshot is None:
        _note(instance, course, drilled.sentence, kuma is not None, tell)
    return drilled


def _find(course: _Course, wanted: str | None) -> Snapshot:
    """The snapshot to drill; if it no longer exists, the drill fails."""
    instance = course.instance
    instance.step("asking the repository")
    try:
        snapshots = instance.repository.snapshots(instance.fleet)
        state = instance.state.load()
        known = highest(state.following.applied, state.leading.published)
        if not snapshots and known:
            raise missing(snapshots, "the repository holds no snapshot of this fleet any more")
        if wanted is None and known and snapshots[-1].position < known:
            raise missing(
                snapshots,
                f"the newest snapshot is {snapshots[-1].position}, but {known} is known here",
            )
    except RepositoryError as error:
        if error.retryable:
            raise
        raise course.failed("find", error) from error
    if wanted is None and not snapshots:
        raise SnapshotNotFound(
            f"fleet {instance.fleet!r} has no snapshot yet: nothing to drill",
            hint=SnapshotNotFound.none_yet,
        )
    found = snapshots[-1] if wanted is None else find(snapshots, wanted)
    course.position = str(found.position)
    return found


def _run(
    course: _Course, snapshot: Snapshot, kuma: ThrowAway | None
) -> Generator[None, None, Drilled]:
    with contextlib.ExitStack() as stack:
        at = _opened(course, stack)
        with course.step("fetch", f"fetching {snapshot.position}"):
            source = fetched(at, snapshot, "fetched")
        yield
        with course.step("load", "loading it into a scratch database"):
            planned = _load(at, source, snapshot)
        yield
        with course.step("check", "checking it"):
            warnings = _check(at, planned, snapshot)
        if kuma is not None:
            yield
            with course.step("start", "starting a throw-away Uptime Kuma"):
                seconds = _boot(at, kuma)
            course.steps[-1] = ("start", seconds)  # Kuma's end is not part of a recovery
    return Drilled(
        snapshot, tuple(course.steps), kuma is not None, (*warnings, *planned.came.notes)
    )


def _opened(course: _Course, stack: contextlib.ExitStack) -> Instance:
    """Open the scratch. A full disk fails the drill: a recovery would meet it too."""
    try:
        return stack.enter_context(scratch.opened(course.instance))
    except StateError as error:
        raise course.failed("make room", error) from error


def _load(at: Instance, source: Dump, snapshot: Snapshot) -> prepare.Planned:
    seen = prepare.observe_live(at)
    require_schema(at, snapshot, seen.live, source)
    planned = prepare.prepare(at, source, seen)
    _stage(at, planned, snapshot)
    carry_out(at, planned, lambda fitting: _stage(at, fitting, snapshot))
    return planned


def _stage(at: Instance, planned: prepare.Planned, snapshot: Snapshot) -> None:
    """Stage the files, and note what an apply notes before it writes."""
    todo = planned.plan
    staging.stage(at.data_dir, planned.wanted.folder, todo.files)
    pending = Pending(SnapshotRef.of(snapshot), todo.base, todo.target, todo.files)
    at.state.change(transitions.pending_is, pending)


def _check(at: Instance, planned: prepare.Planned, snapshot: Snapshot) -> tuple[str, ...]:
    """Check integrity, references, digest and counts of the loaded rows; returns the warnings."""
    label, source, wanted = snapshot.label, planned.source.manifest, planned.wanted.manifest
    if (label.rows, label.monitors) != (source.rows, source.monitors):
        raise SnapshotRefused(
            f"its tags say {counted(label.rows, 'row')} and "
            f"{counted(label.monitors, 'monitor')}, it holds {source.rows} and {source.monitors}"
        )
    at.store.check()
    seen = observe(at)
    if seen.unset:
        raise SnapshotRefused("the snapshot has no user: nobody could log in")
    if lost := [d for d in seen.dangling if d.dangle is not Dangle.KEEP]:
        raise SnapshotRefused(f"the snapshot holds references to missing rows: {lost[0]}")
    with at.store.read() as reader:
        for name, entry in wanted.only(at.tables).tables.items():
            rows = reader.count(name)
            if name != "setting" and rows != entry.rows:
                raise NotAsWritten(
                    f"{name} has {counted(rows, 'row')}, and should have {entry.rows}"
                )
    if seen.manifest.digest != prepare.expected_digest(at, planned.live.manifest, wanted):
        raise NotAsWritten("what was loaded has another digest than what was wanted")
    return tuple(map(str, seen.dangling))


def _boot(at: Instance, kuma: ThrowAway) -> float:
    """Boot a Kuma on the scratch, without active monitors; its seconds. Raises KumaError."""
    quieten = at.store.quieten
    assert quieten is not None
    account = quieten()
    token = session_token(account.username, account.password, account.secret)
    shown = kuma.monitors(Visit(at.data_dir, token, at.store.in_use))
    found, wanted = shown.monitors, account.monitors
    if found != wanted:
        odd = sorted(found.items() ^ wanted.items())
        raise KumaError(
            f"Uptime Kuma shows {len(found)} monitors, and should show {len(wanted)}; the first "
            f"that differs has id {odd[0][0]}"
        )
    return shown.seconds


def _note(
    instance: Instance, course: _Course, end: str | DrillFailed, booted: bool, tell: bool
) -> None:
    """Note how a drill of the newest snapshot ended, and tell it. Never raises."""
    ended = Drill(
        at=time.time(),
        ok=not course.failed_at,
        sentence=str(end),
        position=course.position,
        steps=tuple((name, round(seconds, 3)) for name, seconds in course.steps),
        kuma=booted,
        failed_at=course.failed_at,
    )
    noted = partial(transitions.drilled, ended=ended)
    locked = False
    try:
        with instance.state.lock(NOTE_WAIT):
            locked = True
            if tell:
                problems.work_ended(instance, DRILL, end, DRILL, Kind.DRILLS, also=noted)
            else:
                instance.state.change(noted)
    except (AlreadyRunning, StateError) as error:
        log.warning(
            "how the drill ended could not be noted: %s", error, extra=as_event("drill_unnoted")
        )
        if tell and not locked and isinstance(end, DrillFailed):
            problems.tell_failed(instance, DRILL, end, DRILL, Kind.DRILLS)
