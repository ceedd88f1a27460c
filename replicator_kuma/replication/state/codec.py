"""The state as JSON holds it: one flat object, with the names that 0.3.0 reads and writes.

Members that a newer version wrote beside them are dropped.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from replicator_kuma.adapters.repository.snapshot import Position
from replicator_kuma.replication.state.records import (
    Arrived,
    Away,
    Bad,
    Drift,
    Drill,
    FailedAttempt,
    Hold,
    JobRecord,
    Last,
    Pending,
    RepositoryUpkeep,
    Restart,
    SnapshotRef,
)
from replicator_kuma.replication.state.state import (
    Applying,
    Following,
    Leading,
    Live,
    Outcomes,
    State,
    Upkeep,
)

_SECTIONS = {
    "live": Live,
    "leading": Leading,
    "following": Following,
    "applying": Applying,
    "upkeep": Upkeep,
    "outcome": Outcomes,
}
_ON_DISK = {
    ("live", "digest"): "live_digest",
    ("live", "fingerprint"): "unchanged",
    ("leading", "publishing"): "intent",
    ("leading", "failed_digests"): "tried",
    ("leading", "rollback_begun"): "rolled_back",
    ("leading", "rollback_applied"): "went_back",
    ("leading", "equivalent"): "alike",
    ("following", "policy"): "applied_policy",
    ("applying", "failed"): "vain",
    ("upkeep", "jobs"): "chores",
    ("upkeep", "repositories"): "upkeep",
}
"""Names of members that are others than those of the fields."""


def encode_state(state: State) -> dict[str, Any]:
    """All members, flat."""
    raw: dict[str, Any] = {"writer": state.writer}
    for section, kind in _SECTIONS.items():
        values = getattr(state, section)
        for each in dataclasses.fields(kind):
            name = _ON_DISK.get((section, each.name), each.name)
            raw[name] = encode(getattr(values, each.name))
    drift = state.following.drift
    raw["drift"] = drift.since if drift else 0.0
    raw["drift_words"] = drift.words if drift else ""
    raw["drift_digest"] = drift.digest if drift else ""
    return raw


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
    fields = {**raw}
    for name in ("intent", "published", "applied", "went_back"):
        fields[name] = decode_ref(raw.get(name))
    for name in ("burned", "floor", "rolled_back"):
        fields[name] = decode_position(raw.get(name))
    fields["hold"] = decode_hold(raw.get("hold"))
    fields["pending"] = decode_pending(raw.get("pending"))
    fields["drift"] = _decode_drift(raw)
    if raw.get("last") is not None:
        fields["last"] = Last(**raw["last"])
    fields["vain"] = _decode_vain(raw.get("vain"))
    fields["restart"] = _decode_restart(raw.get("restart"))
    if raw.get("bad_why") is not None:
        fields["bad_why"] = Bad(**raw["bad_why"])
    for name in ("drill", "drill_failed"):
        fields[name] = Drill.read(raw.get(name))
    for name in ("bad", "identities", "published_files", "rivals", "told", "tried"):
        fields[name] = tuple(raw.get(name, ()))
    fields["arrived"] = decode_arrived(raw.get("arrived", ()))
    fields["chores"] = tuple(JobRecord(**noted) for noted in raw.get("chores", ()))
    fields["away"] = tuple(Away(**each) for each in raw.get("away", ()))
    fields["upkeep"] = tuple(RepositoryUpkeep(**each) for each in raw.get("upkeep", ()))
    sections = {
        section: kind(
            **{
                each.name: fields[name]
                for each in dataclasses.fields(kind)
                if (name := _ON_DISK.get((section, each.name), each.name)) in fields
            }
        )
        for section, kind in _SECTIONS.items()
    }
    return State(writer=raw["writer"], **sections)


def _decode_drift(raw: dict[str, Any]) -> Drift | None:
    if not raw.get("drift"):
        return None
    return Drift(raw["drift"], raw.get("drift_words", ""), raw.get("drift_digest", ""))


def _decode_vain(value: Any) -> FailedAttempt | None:
    if value is None:
        return None
    known = {f.name for f in dataclasses.fields(FailedAttempt)}
    fields = {key: item for key, item in value.items() if key in known}
    fields["holders"] = tuple(map(str, fields.get("holders", ())))
    return FailedAttempt(**fields)


def _decode_restart(value: Any) -> Restart | None:
    return None if value is None else Restart(float(value["at"]), float(value["begun"]))
