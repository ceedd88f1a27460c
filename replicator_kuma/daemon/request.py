"""A client's request to the supervisor: an action and its options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from replicator_kuma.base.errors import SettingsError
from replicator_kuma.base.json_members import FLAG, NAME, OTHER, WAIT, Kind, check
from replicator_kuma.replication.actions import (
    Backup,
    Cycle,
    KillDrill,
    Promote,
    Restore,
    Resume,
    Rollback,
    Undo,
)

SERVED: Mapping[str, type[Cycle | KillDrill]] = {
    kind.command: kind for kind in (Backup, Restore, Promote, Undo, Rollback, KillDrill)
}
"""Actions that the supervisor runs for a client; `Resume` comes under `Restore`'s name."""
_SAID: Mapping[str, Kind] = {"wait": WAIT, "fleet": NAME, "mode": NAME}


@dataclass(frozen=True)
class Request:
    """An action that a client asks for. A field that is None: the client did not say."""

    action: Cycle | KillDrill
    force: bool = False
    """`Run.force`"""
    restart: bool = False
    """`Run.restart`"""
    wait: float | None = None
    """seconds to wait for another client's action"""
    fleet: str | None = None
    mode: str | None = None
    """the mode by the client's settings; the supervisor's mode must be the same"""

    def options(self) -> dict[str, Any]:
        """Its JSON without the command; 0.3.0 reads it too."""
        force = {"force": self.force} if self.action.forcible else {}
        if self.restart:  # an older supervisor does not know it, and restarts Kuma anyway
            force["restart"] = True
        said = {name: getattr(self, name) for name in _SAID}
        given = {name: value for name, value in said.items() if value is not None}
        return {**self.action.to_json(), **force, **given}

    @classmethod
    def of(cls, command: str, options: Mapping[str, Any]) -> Request:
        """Parse a request; SettingsError for unknown or missing members, or wrong types."""
        kind = SERVED.get(command)
        if kind is None:
            raise SettingsError(f"the supervisor knows no command {command[:40]!r}", hint=OTHER)
        if kind is Restore and options.get("resume"):
            kind = Resume
        known = {**_SAID, "force": FLAG, "restart": FLAG} if kind.forcible else _SAID
        beside = {name: value for name, value in options.items() if name in known}
        check(command, beside, {name: known[name] for name in beside})
        own = {name: value for name, value in options.items() if name not in known}
        return cls(kind.from_json(own), **beside)
