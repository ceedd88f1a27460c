"""The running Uptime Kuma: how it is stopped and started, and whether it is ready."""

from __future__ import annotations

from typing import Protocol


class KumaService(Protocol):
    """One way to stop and start Kuma. All raise KumaError with a hint, nothing else."""

    name: str
    """child, docker, systemd, command or none; for messages"""

    owned: bool
    """Kuma is our child: it ends with us, and its supervisor starts it."""

    manages: bool
    """False for `none`: its stop and start do nothing, so do not rely on them."""

    @property
    def pid(self) -> int | None:
        """The process id of a Kuma that we own; None for others, and before its first start."""

    def running(self) -> bool:
        """Whether Kuma's process exists (ready or not)."""

    def ended_with(self) -> int | None:
        """The exit status of a Kuma that has ended; 128 + n if signal n ended it.

        None if it is unknown, or if we asked Kuma to end.
        """

    def stop(self) -> None:
        """Ask Kuma to end and wait until it is gone. Harmless when it is not running.

        Never kills a Kuma that does not end by itself: it may be migrating.
        """

    def start(self) -> None:
        """Start Kuma; returns at once, without waiting for readiness. Harmless when it runs."""
