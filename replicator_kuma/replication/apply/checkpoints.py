"""Checkpoints: the rows that confirmed applies replaced; `undo` puts them back.

Kept are those of the last five applies, and of the first apply of each hour of a day. So an undo
reaches the rows from before a long series of changes.

    kept/12/rows/       a dump; until its apply was confirmed, this folder was `before/`
    kept/12/note.json   the time, the positions before and after, what changed

A checkpoint is written as `12.part` and then renamed, so that it is complete or absent.
Checkpoints hold secrets, as kuma.db does: folders have mode 0700, files 0600.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from replicator_kuma.adapters.repository import Position
from replicator_kuma.base.effects import effect
from replicator_kuma.base.errors import CacheFull, ReplicatorError, SnapshotRefused
from replicator_kuma.base.events import as_event
from replicator_kuma.base.folders import Folder
from replicator_kuma.base.state_directory import unusable
from replicator_kuma.dump.format import Dump
from replicator_kuma.replication import last_dump, published_dump
from replicator_kuma.replication.state.codec import decode, encode
from replicator_kuma.replication.state.file import sync
from replicator_kuma.replication.state.records import Arrived, Pending, SnapshotRef, highest
from replicator_kuma.replication.state.state import State

MOST = 5
"""How many checkpoints of the last applies are kept, and also how many of undos."""
MOST_BYTES = 1024**3
"""The most bytes that all checkpoints may use together; the newest one is always kept."""

_HOUR, _DAY = 3600, 86400
_NOTE, _ROWS, _PART, _GONE = "note.json", "rows", ".part", ".gone"
_NO_NOTE = (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError)
_TIMES = (1.0, 253402300799.0)
"""the range of seconds since the epoch that a date can show: until the year 9999"""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint: the rows of ``was``, which an apply of ``to`` replaced.

    ``at`` is seconds since the epoch; ``policy``, ``arrived`` and ``keeps_own`` are copies of what
    the state held about these rows at that time.
    """

    number: int
    folder: Path
    """the folder of the dump"""
    at: float
    to: Position
    sentence: str
    bytes: int
    was: SnapshotRef | None = None
    undoes: int = 0
    """the number of the checkpoint that the apply put back; 0: the apply was no undo"""
    policy: str = ""
    arrived: Arrived = ()
    keeps_own: bool = False

    @property
    def words(self) -> str:
        """Describes the apply in one line."""
        came = f"{self.was.position}" if self.was is not None else "its own rows"
        sentence = self.sentence or "what it changed was not noted"  # 0.2.0 began the apply
        if self.undoes:
            return f"undo of {self.undoes}: {sentence}"
        return f"{came} → {self.to}: {sentence}"


@dataclass(frozen=True)
class Damaged:
    """A checkpoint that cannot be read, and why."""

    number: int
    why: str


Kept = Checkpoint | Damaged


def _root(state: Path) -> Path:
    return state / "kept"


def readable(state: Path) -> list[Checkpoint]:
    """The checkpoints of a state directory that can be read, oldest first."""
    return [one for one in read_all(state) if isinstance(one, Checkpoint)]


def read_all(state: Path) -> list[Kept]:
    """The checkpoints of a state directory, also those that cannot be read; oldest first."""
    return [_read(number, folder) for number, folder in _numbered(state)]


def _numbered(state: Path, suffix: str = "") -> list[tuple[int, Path]]:
    root = _root(state)
    names = [path.name for path in root.iterdir()] if root.is_dir() else []
    bare = [name.removesuffix(suffix) for name in names if name.endswith(suffix)]
    return sorted((int(name), root / f"{name}{suffix}") for name in bare if name.isdecimal())


def _read(number: int, folder: Path) -> Kept:
    try:
        return _intact(number, folder)
    except (FileNotFoundError, NotADirectoryError) as error:
        return Damaged(number, f"{Path(error.filename).name} is not there")
    except OSError as error:
        name = Path(error.filename or folder).name
        return Damaged(number, f"{name} cannot be read: {error.strerror}")
    except _NO_NOTE as error:
        log.debug("%s is no checkpoint: %r", folder, error)
        return Damaged(number, f"{_NOTE} cannot be understood")


def _intact(number: int, folder: Path) -> Checkpoint:
    raw: dict[str, Any] = json.loads((folder / _NOTE).read_text())
    (folder / _ROWS / "manifest.json").stat()
    at = float(raw["at"])
    if not _TIMES[0] <= at <= _TIMES[1]:
        raise ValueError(f"no time: {at}")
    return Checkpoint(
        number=number,
        folder=folder / _ROWS,
        at=at,
        to=Position.parse(raw["to"]),
        sentence=str(raw["sentence"]),
        bytes=int(raw["bytes"]),
        was=decode(SnapshotRef | None, raw["was"]),
        undoes=int(raw["undoes"]),
        policy=str(raw["policy"]),
        arrived=decode(Arrived, raw["arrived"]),
        keeps_own=bool(raw["keeps_own"]),
    )


def eligible(found: Sequence[Kept], state: State, *, leads: bool) -> list[Kept]:
    """The checkpoints that an undo without a number may put back, one at each run.

    Rows that a leader replaced while it was a replica follow that replica's own rules. The fleet
    gets them only if a person names the number. ``leads``: the settings say that this instance
    leads. A promoted instance leads before its settings say so.
    """
    leads = leads or (state.promoted and state.following.hold is None)
    above = state.leading.led_from if leads else 0
    return [one for one in found if one.number > above]


def unconfirmed(state: State) -> bool:
    """Whether Kuma has not confirmed the last apply yet: that apply has no checkpoint yet."""
    going = state.applying.going
    return going is not None and not going.undoes


def next_to_undo(found: Sequence[Kept]) -> Kept | None:
    """The checkpoint that an undo puts back now: the one of the last apply that is not undone.

    After an undo of checkpoint N, the rows are those from before N: all later applies are undone.
    A damaged one is in the way of all that are older.
    """
    below: int | None = None
    for one in sorted(found, key=lambda each: each.number, reverse=True):
        if below is None or one.number < below:
            if isinstance(one, Damaged) or not one.undoes:
                return one
            below = one.undoes
    return None


def newest_number(state: Path) -> int:
    """The number of the newest checkpoint, damaged ones included; 0: there is none."""
    return max((number for number, _folder in _numbered(state)), default=0)


def mark_of_replaced(state: State, pending: Pending, before: Path) -> SnapshotRef | None:
    """The snapshot whose rows this apply replaced; None: the rows were this instance's own.

    For a leader, this may be its last publish, not its last apply.
    """
    with contextlib.suppress(SnapshotRefused):
        users = Dump.open(before).manifest.tables.get("user")
        if users is not None and users.rows == 0:
            return None  # a Kuma that was never set up holds no snapshot's rows
    if state.leading.rollback_applied is not None:
        return state.leading.rollback_applied
    led, was = state.leading.published, state.following.applied
    known = highest(was, state.following.floor)
    if led is None or (known is not None and led.position <= known):
        return was
    # a former leader's unpublished rows are its own: no snapshot has them
    published = state.leading.rollback_begun is not None or pending.replaced == led.digest
    return led if published else None


def prepare(state: Path, before: Path, least: int = 0, **noted: Any) -> None:
    """Write the note of a checkpoint, before the state says that its apply is confirmed.

    `commit` then makes the checkpoint. Its number is at least ``least``, and above all others.
    ``noted`` are fields of `Checkpoint`. Never raises: on a full disk it deletes older checkpoints;
    if that does not help, this apply gets no checkpoint.
    """
    while True:
        try:
            _prepare(state, before, least, noted)
            break
        except OSError as error:
            abandon(state)
            if not (_full(error) and _drop_oldest(state)):
                log.warning(
                    "what this apply replaced is not kept: %s",
                    error,
                    extra=as_event("checkpoint_failed"),
                )
                break


def _prepare(state: Path, before: Path, least: int, noted: dict[str, Any]) -> None:
    effect("noting a checkpoint")
    abandon(state)
    taken = [1, *(number + 1 for suffix in ("", _GONE) for number, _ in _numbered(state, suffix))]
    root = _root(state)
    root.mkdir(mode=0o700, exist_ok=True)
    part = root / f"{max(least, *taken)}{_PART}"
    part.mkdir(mode=0o700)
    size = 0
    for path in (before, *before.rglob("*")):
        path.chmod(0o700 if path.is_dir() else 0o600)
        size += path.stat().st_size
    text = json.dumps({name: encode(value) for name, value in noted.items()} | {"bytes": size})
    with Folder.open(part) as folder:
        folder.write(_NOTE, lambda file: file.write(text.encode()))
    for name in (root, state):
        sync(name)


def abandon(state: Path) -> None:
    """Delete the prepared note: its apply is not confirmed."""
    for _number, part in _numbered(state, _PART):
        shutil.rmtree(part, ignore_errors=True)


def commit(state: Path, before: Path) -> None:
    """Make a checkpoint of the prepared note, if there is one; delete checkpoints that are too old.

    Can be repeated. Never raises: the apply itself is complete.
    """
    try:
        for number, part in _numbered(state, _PART):
            if before.exists() and (part / _NOTE).exists():
                before.rename(part / _ROWS)
            if (part / _ROWS / "manifest.json").exists():
                sync(part)
                part.rename(_root(state) / str(number))
                sync(_root(state))
        abandon(state)
        _prune(state)
    except OSError as error:
        log.warning(
            "cannot keep what an apply replaced: %s", error, extra=as_event("checkpoint_failed")
        )


def take_back(state: Path, one: Checkpoint, before: Path) -> None:
    """Move a checkpoint's rows back to where its apply was pending. Raises StateError."""
    try:
        shutil.rmtree(before, ignore_errors=True)
        one.folder.rename(before)
        _remove(state, one.number)
        sync(state)
    except OSError as error:
        raise unusable("cannot take a checkpoint back", error) from error


def _prune(state: Path) -> None:
    for _number, folder in _numbered(state, _GONE):
        shutil.rmtree(folder, ignore_errors=True)
    kept, found = read_all(state), readable(state)
    for lost in kept:
        newer = [one for one in found if one.number > lost.number]
        # kept as long as an intact one: an undo has to say that it is damaged
        if isinstance(lost, Damaged) and len(newer) >= MOST:
            _remove(state, lost.number)
    stays = _staying(found)
    for one in found:
        if one not in stays:
            _remove(state, one.number)
    while len(stays) > 1 and sum(one.bytes for one in stays) > MOST_BYTES:
        _remove(state, stays.pop(0).number)


def _staying(found: Sequence[Checkpoint]) -> list[Checkpoint]:
    """The checkpoints to keep, of all that can be read, oldest first; a pure function.

    An hour is represented by its oldest one: that has the rows from before all its applies.
    """
    applies = [one for one in found if not one.undoes]
    stays = {one.number for one in (*applies[-MOST:], *[o for o in found if o.undoes][-MOST:])}
    hours = dict[int, int]()
    for one in reversed(applies):
        if abs(applies[-1].at - one.at) < _DAY:
            hours[int(one.at // _HOUR)] = one.number
    return [one for one in found if one.number in stays or one.number in hours.values()]


def _remove(state: Path, number: int) -> None:
    folder = _root(state) / str(number)
    gone = folder.with_name(f"{number}{_GONE}")
    folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def make_room(state: Path, error: ReplicatorError, spare: int = 0) -> bool:
    """If ``error`` says that the disk is full, delete what can be spared; whether it did.

    First the dumps that are kept to be faster, then the oldest checkpoint. If True,
    the caller may retry. ``spare`` is the number of a checkpoint that is not deleted.
    """
    cause: BaseException | None = error
    while cause is not None and not _full(cause):
        cause = cause.__cause__
    if cause is None:
        return False
    spared = [last_dump.forget(state), published_dump.forget(state)]
    return any(spared) or _drop_oldest(state, spare)


def _full(error: BaseException) -> bool:
    codes = (errno.ENOSPC, errno.EDQUOT)
    if isinstance(error, shutil.Error):  # from copying a folder: it holds texts, no errno
        return any(f"[Errno {code}]" in str(error) for code in codes)
    return isinstance(error, CacheFull) or (isinstance(error, OSError) and error.errno in codes)


def _drop_oldest(state: Path, spare: int = 0) -> bool:
    for one in readable(state):
        if one.number != spare:
            with contextlib.suppress(OSError):
                _remove(state, one.number)
                log.warning(
                    "disk full: deleted the undo copy from before %s to make room",
                    one.to,
                    extra=as_event("checkpoint_dropped"),
                )
                return True
    return False
