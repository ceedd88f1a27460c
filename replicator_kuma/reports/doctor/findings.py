"""What a check of `replicator doctor` found: its level, its words, what to try."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any


class Level(Enum):
    OK = "OK"
    WARN = "WARN"
    FAIL = "FAIL"


@dataclass(frozen=True)
class Finding:
    """What one check found; ``exit_code`` is that of the error that a cycle would meet."""

    check: str
    level: Level
    message: str
    hint: str = ""
    exit_code: int = 0

    def as_dict(self) -> dict[str, Any]:
        return {
            "check": self.check,
            "level": self.level.value,
            "message": self.message,
            "hint": self.hint,
            "exit_code": self.exit_code,
        }


def beyond_doctor(hint: str) -> str:
    """What is left to try for somebody who has just run doctor."""
    return re.sub(r"(,? or run|\s*Try): replicator doctor\.?", "", hint).strip()


Found = Iterator[tuple[Level, str, str]]
"""What a check yields: level, message, hint. One that raises a ReplicatorError has failed."""


def exit_code(findings: Sequence[Finding]) -> int:
    """That of the first failure; 0 without one (a warning is none)."""
    return next((f.exit_code or 1 for f in findings if f.level is Level.FAIL), 0)
