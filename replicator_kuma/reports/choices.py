"""What the operator chose for one instance: its tables, settings' keys, overrides and strategy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from replicator_kuma.base.errors import ReplicatorError
from replicator_kuma.base.text import counted
from replicator_kuma.config.settings import Settings


@dataclass(frozen=True)
class Choices:
    """What differs from the catalog's defaults. A leader has no strategy and no overrides."""

    strategy: str = ""
    left_out: tuple[str, ...] = ()
    """tables that are not replicated"""
    local: tuple[str, ...] = ()
    overrides: str = ""
    """the file of REPLICATOR_OVERRIDES, or why it cannot be used"""
    rules: int = 0
    compatible: bool = False
    truncate: bool = False
    settings: tuple[str, ...] = ()
    """`+key` and `-key`, against the catalog's default"""

    def as_dict(self) -> dict[str, Any]:
        """`policy` of `replicator status --json` (docs/json.md)."""
        return {
            "tables_left_out": list(self.left_out),
            "local_entities": list(self.local),
            "overrides": self.overrides or None,
            "rules": self.rules,
            "schema": "compatible" if self.compatible else "strict",
            "on_misfit": "truncate" if self.truncate else "refuse",
            "settings": list(self.settings),
        }

    def words(self) -> str:
        """The same in one line for people."""
        rules = counted(self.rules, "rule")
        parts = (
            self.left_out and f"without {', '.join(self.left_out)}",
            self.local and f"own {', '.join(self.local)}",
            self.overrides and f"overrides {self.overrides} ({rules})",
            self.compatible and "compatible schemas too",
            self.truncate and "misfits are cut",
            self.settings and f"settings {', '.join(self.settings)}",
        )
        return "; ".join(part for part in parts if part) or "the leader's rows as they are"


def choices(settings: Settings) -> Choices:
    """What was chosen, beside the catalog's defaults; reads the file of overrides."""
    from replicator_kuma.config.build import read_policy
    from replicator_kuma.dump.catalog import SETTINGS, TABLES, choose

    keys = settings.setting_keys
    chosen = choose(settings.include, settings.exclude)
    made = Choices(
        left_out=tuple(name for name in TABLES if name not in chosen),
        settings=(
            *(f"+{key}" for key in sorted(keys - SETTINGS)),
            *(f"-{key}" for key in sorted(SETTINGS - keys)),
        ),
    )
    if settings.leads:
        return made
    overrides, rules = str(settings.overrides or ""), 0
    try:
        rules = len(read_policy(settings)().overrides.rules)
    except ReplicatorError as error:
        overrides = str(error)
    return replace(
        made,
        strategy=settings.strategy.value,
        local=tuple(sorted(settings.local)),
        overrides=overrides,
        rules=rules,
        compatible=settings.compatible,
        truncate=settings.truncate,
    )
