"""What `replicator status` says of chores and of the repositories' upkeep."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from replicator_kuma.adapters.repository.pair import SECOND
from replicator_kuma.base.errors import ReplicatorError
from replicator_kuma.base.text import counted
from replicator_kuma.base.times import when
from replicator_kuma.replication.state.state import Away, Noted, State, Upkeep


def size(count: int) -> str:
    """Bytes for people."""
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"


def called(name: str) -> str:
    """One of two repositories, by the name of its place, in a sentence."""
    return name if name == SECOND else f"the first {name}"


def seen_away(
    errors: Mapping[str, ReplicatorError], before: Sequence[Away], now: float
) -> tuple[Away, ...]:
    """Who gave no answer, by a listing's errors; those who gave none before, since then."""
    since = {each.name: each.since for each in before}
    return tuple(
        Away(name, since.get(name, now), str(error).removeprefix(f"{name}: "))
        for name, error in errors.items()
    )


def away_as_dict(away: Sequence[Away]) -> list[dict[str, Any]]:
    """`away` of `--json` (docs/json.md)."""
    return [{"name": one.name, "since": when(one.since), "why": one.why} for one in away]


def away_words(away: Sequence[Away]) -> str:
    """The same for people."""
    parts = [f"{called(one.name)} is away since {when(one.since)}: {one.why}" for one in away]
    return f"read from one of two: {'; '.join(parts)}"


def chore_as_dict(noted: Noted) -> dict[str, Any]:
    """One of `chores` in `replicator status --json` (docs/json.md)."""
    return {
        "name": noted.name,
        "window": noted.window or None,
        "due": when(noted.due),
        "at": when(noted.at),
        "seconds": noted.seconds,
        "ok": noted.ok if noted.at else None,
        "sentence": noted.sentence or None,
        "error": noted.error or None,
        "exit_code": noted.exit_code,
        "last_ok_at": when(noted.ok_at),
    }


def upkeep_as_dict(noted: Upkeep) -> dict[str, Any]:
    """What is known of one repository, as `--json` prints it (docs/json.md)."""
    return {
        "name": noted.name,
        "at": when(noted.at),
        "snapshots": noted.snapshots,
        "bytes": noted.bytes,
        "checked_at": when(noted.checked_at),
        "checked_part": noted.part or None,
        "parts": noted.parts or None,
        "damaged": noted.damaged or None,
        "append_only": noted.refused,
    }


def as_dict(state: State, lagging: str) -> dict[str, Any]:
    """`chores`, `lagging` and `repositories` of `--json` (docs/json.md)."""
    return {
        "chores": [chore_as_dict(noted) for noted in state.chores],
        "lagging": lagging or None,
        "repositories": [upkeep_as_dict(noted) for noted in state.upkeep],
    }


def lines(state: State, lagging: str) -> Iterator[tuple[str, str]]:
    """The same for people: pairs of a name and a value."""
    if lagging:
        yield "lagging", lagging
    for each in state.upkeep:
        yield each.name, _words(each)
    for noted in state.chores:
        if not (noted.at or noted.due):
            continue  # off, and it never ran
        due = f"; next {when(noted.due)}" if noted.due else ""
        how = "ok" if noted.ok else "FAILED"
        went = f"{how}, {when(noted.at)}: {noted.sentence}" if noted.at else "has not run yet"
        yield f"{noted.name} chore", went + due


def _words(noted: Upkeep) -> str:
    if noted.damaged:
        return f"DAMAGED: {noted.damaged}"
    parts = [
        f"{counted(noted.snapshots, 'snapshot')} of this fleet",
        f"{size(noted.bytes)} in all",
    ]
    if noted.checked_at:
        parts.append(f"part {noted.part} of {noted.parts} checked {when(noted.checked_at)}")
    if noted.refused:
        parts.append("nothing may be removed there")
    return ", ".join(parts)
