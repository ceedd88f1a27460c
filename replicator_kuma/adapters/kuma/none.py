"""An Uptime Kuma that nobody here manages."""

from __future__ import annotations


class NoKuma:
    """Stops and starts nothing; look at ``manages`` before counting on it."""

    name = "none"
    owned = False
    pid = None
    manages = False

    def running(self) -> bool:
        """True: it cannot be told from here, so Kuma may be running."""
        return True

    def ended_with(self) -> int | None:
        """None: nobody can tell."""
        return None

    def stop(self) -> None:
        """Nothing."""

    start = stop
