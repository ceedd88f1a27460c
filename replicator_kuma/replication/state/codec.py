"""The state as JSON holds it: one flat object, with the names that 0.3.0 reads and writes.

Members that a newer version wrote beside them are dropped.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from replicator_kuma.adapters.repository.snapshot import Position
from replicator_kuma.replication.state.records import (
    AWAY,
    CYCLE,
    DRIFT,
    DRILL,
    HOLD,
    KILL,
    LAGGING,
    Arrived,
    Bad,
    Drill,
    FailedAttempt,
    Hold,
    JobRecord,
    Last,
    Pending,
    Problem,
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
    raw["problems"] = encode(state.problems)
    return raw | _problems_of_0_3_0(state, raw)


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
    fields = {name: item for name, item in value.items() if name != "said"}
    return Hold(**{**fields, "mark": decode_ref(value["mark"])})


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
    if raw.get("last") is not None:
        fields["last"] = Last(**raw["last"])
    fields["vain"] = _decode_vain(raw.get("vain"))
    fields["restart"] = _decode_restart(raw.get("restart"))
    if raw.get("bad_why") is not None:
        fields["bad_why"] = Bad(**raw["bad_why"])
    for name in ("drill", "drill_failed"):
        fields[name] = Drill.read(raw.get(name))
    for name in ("bad", "identities", "published_files", "rivals", "tried"):
        fields[name] = tuple(raw.get(name, ()))
    fields["arrived"] = decode_arrived(raw.get("arrived", ()))
    fields["chores"] = tuple(JobRecord(**noted) for noted in raw.get("chores", ()))
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
    return State(writer=raw["writer"], problems=_decode_problems(raw), **sections)


def _problems_of_0_3_0(state: State, raw: dict[str, Any]) -> dict[str, Any]:
    """The members in which 0.3.0 keeps what is open: each where it was first needed."""
    cycle = next((one for one in state.problems if one.what == CYCLE), Problem(CYCLE))
    said = state.problem(HOLD)
    return {
        "failing_since": cycle.since,
        "told": list(cycle.told),
        "recovered_at": cycle.recovered_at,
        "drift": state.drift.since if state.drift else 0.0,
        "drift_words": state.drift.words if state.drift else "",
        "lagging": state.lagging,
        "away": encode(state.away),
        "hold": raw["hold"] and {**raw["hold"], "said": said.kind if said else None},
    }


def _decode_problems(raw: dict[str, Any]) -> tuple[Problem, ...]:
    if "problems" in raw:
        return tuple(Problem(**{**one, "told": tuple(one["told"])}) for one in raw["problems"])
    last, hold = raw.get("last") or {}, raw.get("hold") or {}
    since, error = raw.get("failing_since", 0.0), last.get("error", "")
    # 0.2.0 noted what it told only as its last error
    told = tuple(raw.get("told", ())) or (error,)
    found = [
        Problem(
            CYCLE,
            error if since else "",
            since,
            last.get("sentence", "") if since else "",
            told if since else (),
            raw.get("recovered_at", 0.0),
        )
    ]
    if words := raw.get("drift_words") or raw.get("drift"):
        found.append(_known(DRIFT, str(words), raw["drift"], raw.get("drift_words", "")))
    if words := raw.get("lagging"):
        found.append(_known(LAGGING, LAGGING, last.get("at") or 1.0, words))
    if hold.get("said"):
        found.append(_known(HOLD, hold["said"], hold["since"], ""))
    for one in raw.get("away", ()):
        found.append(_known(AWAY + one["name"], AWAY, one["since"], one["why"]))
    for job in raw.get("chores", ()):
        if not job["ok"]:
            found.append(_known(job["name"], job["error"], job["at"], job["sentence"]))
    drill, failed = raw.get("drill"), raw.get("drill_failed")
    if drill and not drill["ok"] and all(one.what != DRILL for one in found):
        found.append(_known(DRILL, "DrillFailed", drill["at"], drill["sentence"]))
    if failed and failed["failed_at"] == "kill":
        found.append(_known(KILL, "DrillFailed", failed["at"], failed["sentence"]))
    return tuple(
        sorted((one for one in found if one.since or one.recovered_at), key=lambda one: one.what)
    )


def _known(what: str, kind: str, since: float, words: str) -> Problem:
    """A problem that was told before there was a ledger."""
    return Problem(what, kind, since, words, (kind,))


def _decode_vain(value: Any) -> FailedAttempt | None:
    if value is None:
        return None
    known = {f.name for f in dataclasses.fields(FailedAttempt)}
    fields = {key: item for key, item in value.items() if key in known}
    fields["holders"] = tuple(map(str, fields.get("holders", ())))
    return FailedAttempt(**fields)


def _decode_restart(value: Any) -> Restart | None:
    return None if value is None else Restart(float(value["at"]), float(value["begun"]))
