"""What one instance makes of a snapshot: its part of it, and its own changes to it."""

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
    """RESTORE_MERGE_STRATEGY: live rows that differ are put right at every cycle"""
    local: frozenset[str] = frozenset()
    """tables whose rows arrive once and are the replica's own then"""
    overrides: Overrides = field(default_factory=Overrides)
    compatible: bool = False
    """REPLICATOR_SCHEMA: apply also from another schema where nothing is lost"""
    truncate: bool = False
    """REPLICATOR_ON_MISFIT: cut what the database cannot hold, instead of refusing"""

    def fingerprint(self, tables: Collection[str]) -> str:
        """Changes whenever the same snapshot could come to mean other rows here."""
        parts = [
            sorted(tables),
            sorted(self.settings),
            sorted(self.local),
            self.overrides.digest,
            self.compatible,
            self.truncate,
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
