"""What runs beside the cycles of `replicator run`, in threads of its own."""

from __future__ import annotations

from typing import Protocol


class SideService(Protocol):
    """The page and the exchange with peers: they are handed in, and disturb no cycle."""

    def start(self) -> None:
        """Begin, in threads of its own. Raises SettingsError or MachineError if it cannot."""

    def stop(self) -> None:
        """End within 0.3 s. Never raises; does nothing if it has not begun."""
