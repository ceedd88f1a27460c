"""What this process has counted since it began, for `/metrics`: nothing else reads it."""

from __future__ import annotations

import threading
from collections.abc import Mapping

Labels = tuple[tuple[str, str], ...]


class Counters:
    """Sums by name and labels. Counting takes a microsecond and never raises."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sums: dict[str, dict[Labels, float]] = {}

    def add(self, name: str, value: float = 1.0, /, **labels: str) -> None:
        """Add to a sum; the values of labels are words of the program, never of a user."""
        key = tuple(sorted(labels.items()))
        with self._lock:
            sums = self._sums.setdefault(name, {})
            sums[key] = sums.get(key, 0.0) + value

    def set(self, name: str, value: float, /, **labels: str) -> None:
        """Note the newest value of something that goes up and down."""
        key = tuple(sorted(labels.items()))
        with self._lock:
            self._sums.setdefault(name, {})[key] = value

    def of(self, name: str) -> Mapping[Labels, float]:
        """All sums of a name."""
        with self._lock:
            return dict(self._sums.get(name, {}))


COUNTED = Counters()
"""of this process"""

RESTIC_CALLS = "restic_calls"
RESTIC_VERSION = "restic_version"
"""1, with the version as its label"""
ROWS = "rows"
RESTIC_SECONDS = "restic_seconds"
CYCLES = "cycles"
CYCLE_ERRORS = "cycle_errors"
CYCLE_SECONDS = "cycle_duration_seconds"
CHANGES = "changes"
KUMA_RESTARTS = "kuma_restarts"
KUMA_DOWN = "kuma_down_seconds"
LIVE_APPLIES = "live_applies"
NOTIFICATIONS = "notifications"
