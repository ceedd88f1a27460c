"""The control socket as 0.3.0 speaks it, on both of its ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from replicator_kuma.base.errors import SettingsError

KNOWN = ("backup", "restore", "promote", "undo", "rollback", "drill-kill")

REQUESTS = (
    b'{"command": "backup", "options": {"allow_shrink": false, "reconcile": true, "wait": 0.0}}\n',
    b'{"command": "backup", "options": {"allow_shrink": true, "reconcile": true, "wait": 300.0, '
    b'"fleet": "default", "mode": "BACKUP"}}\n',
    b'{"command": "promote", "options": {"force": true, "wait": 0.0}}\n',
    b'{"command": "undo", "options": {"number": null, "force": false, "wait": 300.0}}\n',
    b'{"command": "rollback", "options": {"snapshot": "1.7", "at": null, "force": false, '
    b'"wait": 0.0}}\n',
)
"""What its commands send to the supervisor of a leader."""


class OldSupervisor:
    """A handler for `ControlServer` that does what 0.3.0 does: `done` is what it carried out.

    It ignores options that it does not know, and compares fleet and mode.
    """

    def __init__(self, fleet: str = "default", mode: str = "BACKUP") -> None:
        self.own = {"fleet": fleet, "mode": mode}
        self.done: list[str] = []

    def __call__(
        self, command: str, options: Mapping[str, Any], _progress: object
    ) -> dict[str, Any]:
        for name, ours in self.own.items():
            if options.get(name, ours) != ours:
                raise SettingsError(f"the supervisor that runs here has {name} {ours}")
        if command not in KNOWN:
            raise SettingsError(f"the supervisor knows no command {command!r}")
        self.done.append(command)
        return {"sentence": "done", "warnings": []}
