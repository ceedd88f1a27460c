"""An instance's policy: which part of a snapshot it takes, and how it changes the rows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass, field

from replicator_kuma.dump.catalog import SETTINGS
from replicator_kuma.dump.transform.overrides import Overrides


@dataclass(frozen=True)
class Policy:
    """Chosen by the operator of one instance; a leader only uses ``settings``."""

    settings: frozenset[str] = SETTINGS
    """REPLICATOR_SETTINGS: the keys of `setting` that are replicated"""
    heal: bool = False
    """RESTORE_MERGE_STRATEGY: drift of live rows is corrected at every cycle"""
    local: frozenset[str] = frozenset()
    """tables whose rows are received once and then are the replica's own"""
    overrides: Overrides = field(default_factory=Overrides)
    compatible: bool = False
    """REPLICATOR_SCHEMA: apply also from another schema if nothing is lost"""
    truncate: bool = False
    """REPLICATOR_ON_MISFIT: cut values that the database cannot store, instead of refusing"""

    def fingerprint(self, tables: Collection[str]) -> str:
        """A hash that changes whenever the same snapshot could give other rows here."""
        parts = [
            sorted(tables),
            sorted(self.settings),
            sorted(self.local),
            self.overrides.digest,
            self.compatible,
            self.truncate,
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
