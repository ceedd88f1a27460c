"""An Uptime Kuma that nobody here manages."""

from __future__ import annotations


class NoKuma:
    """Stops and starts nothing; check ``manages`` before you rely on it."""

    name = "none"
    owned = False
    pid = None
    manages = False

    def running(self) -> bool:
        """True: the state is unknown here, so Kuma may be running."""
        return True

    def ended_with(self) -> int | None:
        """None: it is unknown."""
        return None

    def stop(self) -> None:
        """Does nothing."""

    start = stop
