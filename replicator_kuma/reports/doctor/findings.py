"""What a check of `replicator doctor` gets, and what it yields."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from replicator_kuma.base.errors import ReplicatorError
from replicator_kuma.config import build
from replicator_kuma.config.settings import Settings
from replicator_kuma.dump.catalog import choose

if TYPE_CHECKING:
    from replicator_kuma.adapters.database import Store
    from replicator_kuma.adapters.repository import Listing


class Level(Enum):
    OK = "OK"
    WARN = "WARN"
    FAIL = "FAIL"


@dataclass(frozen=True)
class Finding:
    """The result of one check; ``exit_code`` is that of the error that a cycle would meet."""

    check: str
    level: Level
    message: str
    hint: str = ""
    exit_code: int = 0

    @classmethod
    def of_error(cls, check: str, error: ReplicatorError) -> Finding:
        """The finding of a check that raised an error."""
        return cls(check, Level.FAIL, str(error), beyond_doctor(error.hint), error.exit_code)

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "level": self.level.value}


Found = Iterator[tuple[Level, str, str]]
"""What a check yields: level, message, hint. A check that raises a ReplicatorError has failed."""


def ok(message: str) -> tuple[Level, str, str]:
    return Level.OK, message, ""


def warn(message: str, hint: str = "") -> tuple[Level, str, str]:
    return Level.WARN, message, hint


@dataclass
class Context:
    """The instance to check, and results of earlier checks for later ones."""

    settings: Settings
    interrupted: Callable[[], bool]
    snapshots: Listing | None = field(default=None, init=False)
    """the fleet's snapshots, listed by the check `repository`; None: it gave no answer"""
    readable: bool = field(default=False, init=False)
    """whether the check `database` found that the tables can be read"""

    @property
    def leads(self) -> bool:
        return self.settings.leads is True

    @property
    def follows(self) -> bool:
        """Whether the instance is a replica; without a role, both this and `leads` are false."""
        return self.settings.leads is False

    def store(self) -> Store:
        return build.build_store(self.settings)

    def chosen(self) -> frozenset[str]:
        """The tables that are replicated."""
        return choose(self.settings.include, self.settings.exclude)


Check = Callable[[Context], Found]


def beyond_doctor(hint: str) -> str:
    """The hint without the advice to run doctor, for somebody who has just run it."""
    return re.sub(r"(,? or run|\s*Try): replicator doctor\.?", "", hint).strip()


def exit_code(findings: Sequence[Finding]) -> int:
    """The exit code of the first failure; 0 if there is none (a warning is no failure)."""
    return next((f.exit_code or 1 for f in findings if f.level is Level.FAIL), 0)
