"""Who is told. A notifier never raises and never delays a cycle."""

from __future__ import annotations

from typing import Protocol


class Notifier(Protocol):
    def send(self, title: str, message: str, *, urgent: bool = False) -> None:
        """Hand a message over; returns at once, also when the server is dead. Never raises."""

    def close(self, timeout: float = 2.0) -> None:
        """Give messages under way at most ``timeout`` seconds, then let them go."""
