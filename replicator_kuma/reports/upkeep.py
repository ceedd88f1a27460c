"""What `replicator status` says of chores and of the repositories' upkeep."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from replicator_kuma.base.text import counted, size
from replicator_kuma.base.times import when
from replicator_kuma.replication.second_repository import called
from replicator_kuma.replication.state.state import Away, Noted, State, Upkeep


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


def as_dict(state: State, lagging: str) -> dict[str, Any]:
    """`chores`, `lagging` and `repositories` of `--json` (docs/json.md)."""
    return {
        "chores": [chore_as_dict(noted) for noted in state.chores],
        "lagging": lagging or None,
        "repositories": [noted.as_dict() for noted in state.upkeep],
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
