"""How drills ended, as the state file keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Drill:
    """How a drill of the newest snapshot ended, ``at`` in seconds since the epoch."""

    at: float
    ok: bool
    sentence: str
    position: str = ""
    steps: tuple[tuple[str, float], ...] = ()
    """names and seconds of those that went well"""
    kuma: bool = False
    """a throw-away Kuma was to boot on it"""
    failed_at: str = ""
    """the step that did not go well"""

    @classmethod
    def read(cls, value: Mapping[str, Any] | None) -> Drill | None:
        """From the state file's JSON; raises ValueError, TypeError, KeyError."""
        if value is None:
            return None
        steps = tuple((str(name), float(seconds)) for name, seconds in value["steps"])
        return cls(**{**value, "steps": steps})

    def as_dict(self) -> dict[str, Any]:
        """What `status --json` shows of it, without its time (docs/json.md)."""
        return {
            "ok": self.ok,
            "position": self.position or None,
            "sentence": self.sentence,
            "steps": dict(self.steps),
            "kuma": self.kuma,
            "failed_at": self.failed_at or None,
        }


def still_failed(before: Drill | None, ended: Drill) -> Drill | None:
    """The failure that stands after a drill of a snapshot, which says only how far that goes."""
    if not ended.ok:
        return ended
    mends = before is None or before.failed_at not in ("start", "kill")
    return None if mends or (ended.kuma and before and before.failed_at == "start") else before
