"""What the state remembers of snapshots and applies: values, and how JSON holds them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from replicator_kuma.adapters.repository.snapshot import Position, Snapshot

Arrived = tuple[tuple[str, tuple[int, ...]], ...]
"""Tables and the ids of their rows that have come once, both in order."""


@dataclass(frozen=True)
class Mark:
    """A snapshot as this instance remembers it."""

    position: Position
    digest: str
    schema: str
    snapshot: str = ""
    writer: str = ""
    leader: str = ""
    monitors: int = 0
    rows: int = 0
    shrunk: Position | None = None
    """`Label.shrunk`"""

    @classmethod
    def of(cls, snapshot: Snapshot) -> Mark:
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

    mark: Mark
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
    """what `State.live_digest` is once it is confirmed, and so on for the next three"""
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
    back_to: Mark | None = None
    """what an undo's rows stood for, and so what is applied once it is confirmed"""


@dataclass(frozen=True)
class Hold:
    """A replica's position by a person's word: it follows no newer one until `restore --resume`.

    Noted before the rows are touched; what was not done then the next cycle does.
    """

    since: float
    """seconds since the epoch"""
    mark: Mark | None = None
    """None: the rows from before anything was applied"""
    kept: int = 0
    """the number of the checkpoint that an undo has yet to put back; 0: none"""
    said: Position | None = None
    """the newest position of which the log has told that it is not followed"""


def encode(value: Any) -> Any:
    """A value of the state as JSON has it."""
    if isinstance(value, Position):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [encode(item) for item in value]
    return value


def decode_mark(value: Any) -> Mark | None:
    """What `encode` made of a mark; raises KeyError, TypeError, ValueError."""
    if value is None:
        return None
    known = {field.name for field in dataclasses.fields(Mark)}
    fields = {key: item for key, item in value.items() if key in known}
    for name in ("position", "shrunk"):
        if fields.get(name) is not None:
            fields[name] = Position.parse(fields[name])
    return Mark(**fields)


def decode_pending(value: Any) -> Pending | None:
    """What `encode` made of an apply; raises KeyError, TypeError, ValueError."""
    if value is None:
        return None
    mark, earlier = decode_mark(value["mark"]), decode_pending(value.get("earlier"))
    if mark is None:
        raise ValueError("pending without a mark")
    files = tuple((str(name), digest) for name, digest in value["files"])
    arrived = decode_arrived(value.get("arrived", ()))
    back_to = decode_mark(value.get("back_to"))
    changed = {"mark": mark, "files": files, "earlier": earlier, "arrived": arrived}
    changed["back_to"] = back_to
    return Pending(**{**value, **changed})


def decode_position(value: Any) -> Position | None:
    """What `encode` made of a position; raises ValueError."""
    return None if value is None else Position.parse(value)


def decode_hold(value: Any) -> Hold | None:
    """What `encode` made of a hold; raises KeyError, TypeError, ValueError."""
    if value is None:
        return None
    read = {"mark": decode_mark(value["mark"]), "said": decode_position(value["said"])}
    return Hold(**{**value, **read})


def decode_arrived(value: Any) -> Arrived:
    """What `encode` made of the rows that have arrived; raises TypeError, ValueError."""
    return tuple((str(name), tuple(int(key) for key in ids)) for name, ids in value)
