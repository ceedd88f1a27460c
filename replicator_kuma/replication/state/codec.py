"""The state as JSON: one flat object, with the names that 0.3.0 reads and writes.

Unknown members (of a newer version) are dropped at the top level. Inside a record they are an
error, because facts about an apply must not be lost.
"""

from __future__ import annotations

import dataclasses
import functools
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from replicator_kuma.adapters.repository.snapshot import Position
from replicator_kuma.replication.state import records
from replicator_kuma.replication.state.records import (
    FailedAttempt,
    NewestSeen,
    Problem,
    SnapshotRef,
)
from replicator_kuma.replication.state.state import State

_SECTIONS = ("live", "leading", "following", "applying", "running", "upkeep", "outcome")
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
_MAY_LACK = (SnapshotRef, FailedAttempt, Problem, NewestSeen)
"""Records of which this version may know less than the one that wrote them."""


def encode(value: Any) -> Any:
    """A value of the state, as JSON holds it."""
    if isinstance(value, Position):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [encode(item) for item in value]
    return value


def decode(kind: Any, value: Any) -> Any:
    """The reverse of `encode` for a value of this type; raises KeyError, TypeError, ValueError."""
    if isinstance(kind, UnionType):
        inner, none = get_args(kind)
        assert none is type(None)
        return None if value is None else decode(inner, value)
    if get_origin(kind) is tuple:
        inner = get_args(kind)
        if inner[-1] is Ellipsis:
            return tuple(decode(inner[0], item) for item in value)
        return tuple(decode(each, item) for each, item in zip(inner, value, strict=True))
    if kind is Position:
        return Position.parse(value)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        types = _types(kind)
        known = {name: item for name, item in value.items() if name in types}
        given = known if issubclass(kind, _MAY_LACK) else value
        return kind(**{name: decode(types[name], item) for name, item in given.items()})
    return value


@functools.cache
def _types(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def encode_state(state: State) -> dict[str, Any]:
    """The whole state as one flat object."""
    raw: dict[str, Any] = {"writer": state.writer, "problems": encode(state.problems)}
    for section in _SECTIONS:
        for name, value in encode(getattr(state, section)).items():
            raw[_ON_DISK.get((section, name), name)] = value
    # 0.3.0 refuses what it finds there by its id in the listing
    listed = (one for _, one in state.applying.bad_listed if one not in raw["bad"])
    raw["bad"] = [*raw["bad"], *listed]
    return raw | _problems_of_0_3_0(state, raw)


def decode_state(raw: dict[str, Any]) -> State:
    """The state that a file holds; raises KeyError, TypeError, ValueError."""
    problems, hold, sections = _decode_problems(raw), raw.get("hold"), {}
    if hold is not None:
        raw = {**raw, "hold": {name: item for name, item in hold.items() if name != "said"}}
    if last := raw.get("last"):
        raw = {**raw, "last": {**last, "ok": last["ok"] or bool(last["outcome"])}}
    of_0_3_0 = {listed for name, listed in raw.get("bad_listed", ()) if listed != name}
    raw = {**raw, "bad": [name for name in raw.get("bad", ()) if name not in of_0_3_0]}
    for section in _SECTIONS:
        kind = _types(State)[section]
        names = {name: _ON_DISK.get((section, name), name) for name in _types(kind)}
        own = {name: raw[there] for name, there in names.items() if there in raw}
        sections[section] = decode(kind, own)
    return State(writer=raw["writer"], problems=problems, **sections)


def _problems_of_0_3_0(state: State, raw: dict[str, Any]) -> dict[str, Any]:
    """The open problems as the members that 0.3.0 uses for them."""
    cycle, said, last = state.noted(records.CYCLE), state.problem(records.HOLD), raw["last"]
    return {
        # a cycle that only waits ends no failure, and 0.3.0 tells no end after one that went well
        "last": last and {**last, "ok": last["ok"] and not cycle.since},
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
        noted: tuple[Problem, ...] = decode(tuple[Problem, ...], raw["problems"])
        return noted
    last, hold = raw.get("last") or {}, raw.get("hold") or {}
    since, error = raw.get("failing_since", 0.0), last.get("error", "")
    # 0.2.0 noted only the last error that it told
    told = tuple(raw.get("told", ())) or (error,)
    found = [
        Problem(
            records.CYCLE,
            error if since else "",
            since,
            last.get("sentence", "") if since else "",
            told if since else (),
            raw.get("recovered_at", 0.0),
        )
    ]
    if words := raw.get("drift_words") or raw.get("drift"):
        found.append(_known(records.DRIFT, str(words), raw["drift"], raw.get("drift_words", "")))
    if words := raw.get("lagging"):
        found.append(_known(records.LAGGING, records.LAGGING, last.get("at") or 1.0, words))
    if hold.get("said"):
        found.append(_known(records.HOLD, hold["said"], hold["since"], ""))
    for one in raw.get("away", ()):
        found.append(_known(records.AWAY + one["name"], records.AWAY, one["since"], one["why"]))
    drill, failed = raw.get("drill"), raw.get("drill_failed")
    for job in raw.get("chores", ()):
        # one by hand that went well since leaves the scheduled one's note as it was
        mended = job["name"] == records.DRILL and drill and drill["ok"] and drill["at"] > job["at"]
        if not job["ok"] and not mended:
            found.append(_known(job["name"], job["error"], job["at"], job["sentence"]))
    if drill and not drill["ok"] and all(one.what != records.DRILL for one in found):
        found.append(_known(records.DRILL, "DrillFailed", drill["at"], drill["sentence"]))
    if failed and failed["failed_at"] == "kill":
        found.append(_known(records.KILL, "DrillFailed", failed["at"], failed["sentence"]))
    return tuple(
        sorted((one for one in found if one.since or one.recovered_at), key=lambda one: one.what)
    )


def _known(what: str, kind: str, since: float, words: str) -> Problem:
    """A problem that was told by a version without the list of problems."""
    return Problem(what, kind, since, words, (kind,))
