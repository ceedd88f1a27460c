"""The versions of Kuma on which live changes were proved: every table and the table of alerts."""

from __future__ import annotations

PROVED = frozenset({"1.23.17", "2.0.0-dev.0", "2.0.2", "2.3.2", "2.5.3"})
"""Kuma's versions. 2.0.0-dev.0 is the build on npm; the tag 2.0.2 calls itself 2.0.1."""

LIKE_THEM = frozenset(
    {
        *("1.23.14", "1.23.15", "1.23.16"),
        *("2.0.0", "2.0.1"),
        *("2.3.0", "2.3.1"),
        *("2.5.0", "2.5.1", "2.5.2"),
    }
)
"""Their files that the agent leans on are those of the next proved version, byte by byte.

Compared in Kuma's repository: server.js, uptime-kuma-server.js, client.js, settings.js,
prometheus.js, uptime-calculator.js, apicache.js, and the models of monitors, maintenances and
status pages. (2.5.0 has fewer notification services, no more.)
"""


def proved(version: str) -> bool:
    """Whether live changes were proved on this version, or on one with the same internals."""
    return version in PROVED | LIKE_THEM
