"""The running Uptime Kuma: how it is stopped and started, and whether it is ready."""

from __future__ import annotations

from typing import Protocol


class KumaService(Protocol):
    """One way to stop and start Kuma. All raise KumaError with a hint, nothing else."""

    name: str
    """child, docker, systemd, command, none: for messages"""

    owned: bool
    """Kuma is our child: it ends with us, and its supervisor starts it."""

    manages: bool
    """False for `none`: stop and start do nothing, and nobody may count on them."""

    @property
    def pid(self) -> int | None:
        """The process id of a Kuma that we own; None for any other, and before its first start."""

    def running(self) -> bool:
        """Whether Kuma's process is there (ready or not)."""

    def ended_with(self) -> int | None:
        """The exit status of a Kuma that is gone, 128 + n where signal n ended it.

        None where nobody can tell, and where we asked it to end.
        """

    def stop(self) -> None:
        """Ask Kuma to end and wait until it is gone. Harmless when it is not running.

        Never kills a Kuma that does not end by itself: that one may be migrating.
        """

    def start(self) -> None:
        """Start Kuma; returns at once, without waiting for readiness. Harmless when it runs."""
