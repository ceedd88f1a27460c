"""The state as JSON holds it. Top-level members that a newer version wrote are dropped."""

from __future__ import annotations

import dataclasses
from typing import Any

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
from replicator_kuma.replication.state.state import State


def encode(value: Any) -> Any:
    """A value of the state as JSON has it."""
    if isinstance(value, Position):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [encode(item) for item in value]
    return value


def decode_ref(value: Any) -> SnapshotRef | None:
    """What `encode` made of a mark; raises KeyError, TypeError, ValueError."""
    if value is None:
        return None
    known = {field.name for field in dataclasses.fields(SnapshotRef)}
    fields = {key: item for key, item in value.items() if key in known}
    for name in ("position", "shrunk"):
        if fields.get(name) is not None:
            fields[name] = Position.parse(fields[name])
    return SnapshotRef(**fields)


def decode_pending(value: Any) -> Pending | None:
    """What `encode` made of an apply; raises KeyError, TypeError, ValueError."""
    if value is None:
        return None
    mark, earlier = decode_ref(value["mark"]), decode_pending(value.get("earlier"))
    if mark is None:
        raise ValueError("pending without a mark")
    files = tuple((str(name), digest) for name, digest in value["files"])
    arrived = decode_arrived(value.get("arrived", ()))
    back_to = decode_ref(value.get("back_to"))
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
    read = {"mark": decode_ref(value["mark"]), "said": decode_position(value["said"])}
    return Hold(**{**value, **read})


def decode_arrived(value: Any) -> Arrived:
    """What `encode` made of the rows that have arrived; raises TypeError, ValueError."""
    return tuple((str(name), tuple(int(key) for key in ids)) for name, ids in value)


def decode(raw: dict[str, Any]) -> State:
    """The state that a file holds; raises KeyError, TypeError, ValueError."""
    known = {f.name for f in dataclasses.fields(State)}
    fields = {key: value for key, value in raw.items() if key in known}
    for name in ("intent", "published", "applied", "went_back"):
        fields[name] = decode_ref(fields.get(name))
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
    fields["chores"] = tuple(JobRecord(**noted) for noted in fields.get("chores", ()))
    fields["away"] = tuple(Away(**each) for each in fields.get("away", ()))
    fields["upkeep"] = tuple(Upkeep(**each) for each in fields.get("upkeep", ()))
    return State(**fields)


def _decode_vain(value: Any) -> FailedAttempt | None:
    if value is None:
        return None
    known = {f.name for f in dataclasses.fields(FailedAttempt)}
    fields = {key: item for key, item in value.items() if key in known}
    fields["holders"] = tuple(map(str, fields.get("holders", ())))
    return FailedAttempt(**fields)


def _decode_restart(value: Any) -> Restart | None:
    return None if value is None else Restart(float(value["at"]), float(value["begun"]))
