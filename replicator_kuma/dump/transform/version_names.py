"""The known schemas of Uptime Kuma's versions; for messages only."""

from __future__ import annotations

from collections.abc import Collection

from replicator_kuma.base.text import counted

_SEEN = {
    "443c77c53eedadbf": "2.0.0-dev.0 of npm",
    "3d5382b7b81e6c45": "1.23",
    "21ca7ef615f45ffd": "2.0",
    "0cc70d6f0f4fda59": "2.1.0",
    "27e89a40ad78d19b": "2.1.1 to 2.3",
    "b37ed8a51cec8b51": "2.4",
    "3769579af38f34c2": "2.5.0",
    "a8e38070b2b7a8b2": "2.5.1 to 2.5.3",
}
"""Fingerprints of the migrations that these versions have, older ones first."""


def named(fingerprint: str) -> str | None:
    """The versions known to have this schema."""
    return _SEEN.get(fingerprint)


def advice(ours: str, theirs: str) -> str:
    """What to do about two schemas; it never advises an older Kuma on a newer database."""
    order = list(_SEEN)
    if ours in order and theirs in order and order.index(ours) > order.index(theirs):
        return (
            f"Upgrade the leader to Uptime Kuma {named(ours)}; until then this one keeps its rows. "
            "To follow an older Kuma all the same: REPLICATOR_SCHEMA=compatible"
        )
    version = named(theirs)
    kuma = f"Uptime Kuma {version}" if version else "the leader's version of Uptime Kuma"
    return f"Install {kuma} here, unless this one is newer: then upgrade the leader."


def describe(ours: Collection[str], theirs: Collection[str]) -> str:
    """The differences between two schemas, in a few words."""
    lacking, beyond = sorted(set(theirs) - set(ours)), sorted(set(ours) - set(theirs))
    parts = []
    if lacking:
        parts.append(f"it lacks {counted(len(lacking), 'migration')} up to {lacking[-1]!r}")
    if beyond:
        parts.append(f"it has {len(beyond)} more, up to {beyond[-1]!r}")
    return f": {' and '.join(parts)}" if parts else ""
