"""The instance's own memory: one small JSON file, replaced whole, and the lock beside it.

What is known here is compared with the world before it is believed (DESIGN, rule 10); it holds no
secret of Kuma, only digests, positions and sentences.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from replicator_kuma.adapters.repository.snapshot import Position
from replicator_kuma.base.errors import AlreadyRunning, StateError
from replicator_kuma.base.folders import Folder
from replicator_kuma.base.state_directory import anchored, read, unusable
from replicator_kuma.base.times import when
from replicator_kuma.replication.state.compat import put_together, set_apart
from replicator_kuma.replication.state.drill_record import Drill
from replicator_kuma.replication.state.records import (
    Arrived,
    Hold,
    Mark,
    Pending,
    decode_arrived,
    decode_hold,
    decode_mark,
    decode_pending,
    decode_position,
    encode,
)

__all__ = [
    "Arrived",
    "Away",
    "Bad",
    "Hold",
    "Last",
    "Mark",
    "Noted",
    "Pending",
    "Restart",
    "State",
    "StateFile",
    "Upkeep",
    "Vain",
]
VERSION = 1
LOCK_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


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
class Noted:
    """A chore of `replicator run`: when it is due, and how it went; seconds since the epoch."""

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
class Upkeep:
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

    def as_dict(self) -> dict[str, Any]:
        """What `--json` prints of it (docs/json.md)."""
        return {
            "name": self.name,
            "at": when(self.at),
            "snapshots": self.snapshots,
            "bytes": self.bytes,
            "checked_at": when(self.checked_at),
            "checked_part": self.part or None,
            "parts": self.parts or None,
            "damaged": self.damaged or None,
            "append_only": self.refused,
        }


@dataclass(frozen=True)
class Away:
    """A repository that gives no answer; ``since`` is seconds since the epoch."""

    name: str
    since: float
    why: str


@dataclass(frozen=True)
class Vain:
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


NO_DRIFT = {"drift": 0.0, "drift_words": "", "drift_digest": ""}
"""The fields of a State where the live rows do not differ from the applied snapshot's."""


@dataclass(frozen=True)
class State:
    writer: str
    intent: Mark | None = None
    published: Mark | None = None
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
    applied: Mark | None = None
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
    went_back: Mark | None = None
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
    vain: Vain | None = None
    """the last apply for which Kuma was stopped and that was not written; None: none since"""
    restart: Restart | None = None
    waits_until: float = 0.0
    """when the snapshot that waits for its turn may be applied (`pace`); 0: none waits"""
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
    chores: tuple[Noted, ...] = ()
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


def _decode(raw: dict[str, Any]) -> State:
    known = {f.name for f in dataclasses.fields(State)}
    fields = {key: value for key, value in raw.items() if key in known}
    for name in ("intent", "published", "applied", "went_back"):
        fields[name] = decode_mark(fields.get(name))
    for name in ("burned", "floor", "rolled_back"):
        fields[name] = decode_position(fields.get(name))
    fields["hold"] = decode_hold(fields.get("hold"))
    fields["pending"] = decode_pending(fields.get("pending"))
    if fields.get("last") is not None:
        fields["last"] = Last(**fields["last"])
    fields["vain"] = _decode_vain(fields.get("vain"))
    fields["restart"] = _decode_restart(fields.get("restart"))
    if fields.get("bad_why") is not None:
        fields["bad_why"] = Bad(**fields["bad_why"])
    for name in ("drill", "drill_failed"):
        fields[name] = Drill.read(fields.get(name))
    for name in ("bad", "identities", "published_files", "rivals", "told", "tried"):
        fields[name] = tuple(fields.get(name, ()))
    fields["arrived"] = decode_arrived(fields.get("arrived", ()))
    fields["chores"] = tuple(Noted(**noted) for noted in fields.get("chores", ()))
    fields["away"] = tuple(Away(**each) for each in fields.get("away", ()))
    fields["upkeep"] = tuple(Upkeep(**each) for each in fields.get("upkeep", ()))
    return State(**fields)


def _decode_vain(value: Any) -> Vain | None:
    if value is None:
        return None
    known = {f.name for f in dataclasses.fields(Vain)}
    fields = {key: item for key, item in value.items() if key in known}
    fields["holders"] = tuple(map(str, fields.get("holders", ())))
    return Vain(**fields)


def _decode_restart(value: Any) -> Restart | None:
    return None if value is None else Restart(float(value["at"]), float(value["begun"]))


class StateFile:
    """The state on disk. ``update`` returns only when the change would survive a power loss."""

    def __init__(self, folder: Path) -> None:
        self.name = folder
        """as it was given: for messages, and for who only looks"""
        self._lock_depth = self._lock_holder = 0
        self._new = State(writer=secrets.token_hex(8))

    @property
    def folder(self) -> Path:
        """To work in; asked for again at each use. Raises StateError (`anchors`)."""
        return anchored(self.name)

    def prepare(self) -> None:
        """Make the folder (0700); raises StateError when that is impossible.

        Its parent has to be there: a mistyped DATA_DIR must not come into being.
        """
        anchored(self.name, make=True)

    def load(self) -> State:
        """The state; a new one with a new writer id where there is none yet.

        Raises StateError when the file is there and cannot be understood: guessing could make a
        second leader. Another user's folder may be looked into; nothing is ever written there.
        """
        try:
            text = read(self.name, self.path.name)
            if text is None:
                return self._new
            raw = json.loads(text)
        except OSError as error:
            raise unusable(f"cannot read {self.path}", error) from error
        except (ValueError, RecursionError) as error:
            raise StateError(f"cannot read {self.path}: {error}") from error
        try:
            if raw["version"] != VERSION:
                raise StateError(
                    f"{self.path} was written by another version of replicator-kuma",
                    hint="Install that version again, or a newer one. Do not move the file away: "
                    "it knows what this instance has published and applied.",
                )
            return _decode(put_together(raw["state"]))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise StateError(f"cannot understand {self.path}: {error!r}") from error

    @property
    def path(self) -> Path:
        """The file, by its name: for messages."""
        return self.name / "state.json"

    def exists(self) -> bool:
        return self.path.exists()

    def update(self, **changes: Any) -> State:
        """Replace some fields and write the whole state durably; returns the new state."""
        state = dataclasses.replace(self.load(), **changes)
        self.save(state)
        return state

    def save(self, state: State) -> None:
        self.prepare()
        raw = {"version": VERSION, "state": set_apart(encode(state))}
        text = json.dumps(raw, indent=1) + "\n"
        try:
            with Folder.open(self.folder) as folder:
                folder.write(self.path.name, lambda file: file.write(text.encode()))
        except OSError as error:
            raise unusable(f"cannot write {self.path}", error) from error

    @contextlib.contextmanager
    def lock(self, wait: float = 0.0) -> Iterator[None]:
        """Hold the instance's lock: one cycle at a time, over processes and threads.

        Raises AlreadyRunning when it is not free within ``wait`` seconds. The kernel frees it
        when its process ends, however it ends. May be entered again by the thread that holds it.
        """
        if self._lock_depth and self._lock_holder == threading.get_ident():
            self._lock_depth += 1
            try:
                yield
            finally:
                self._lock_depth -= 1
            return
        self.prepare()
        try:
            descriptor = os.open(self.folder / "lock", LOCK_FLAGS, 0o600)
        except OSError as error:
            raise unusable(f"cannot open the lock in {self.name}", error) from error
        try:
            acquire(descriptor, wait)
            self._lock_depth, self._lock_holder = 1, threading.get_ident()
            try:
                yield
            finally:
                self._lock_depth = 0
        finally:
            os.close(descriptor)


def acquire(descriptor: int, wait: float) -> None:
    """Lock an open file for this process alone; raises AlreadyRunning after ``wait`` seconds."""
    deadline = time.monotonic() + wait
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise AlreadyRunning("another replicator is working on this instance") from None
            time.sleep(0.05)


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable (fsync of the folder itself)."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
