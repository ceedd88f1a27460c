"""Who votes on a monitor, and how many have to agree: pure functions, no clock but the caller's.

*Voter*: an instance that was heard within 30 s and says of itself that its newest heartbeat is
fresh, the monitor active and in no maintenance, and that it is not isolated. *Quorum*: the
majority of the voters; of two or fewer, all of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from replicator_kuma.reports.fleet.documents import Heard, Monitor, Monitors

MISSED = 3
"""contacts in a row without an answer, after which a peer is silent"""
FRESH = 30.0
"""seconds since the last contact: older answers do not vote"""
CALLS = 20.0
"""the same for a peer that only calls us, every 5 s: three calls missed"""
FELL_WITHIN = 300.0
"""seconds within which monitors fell together"""
LEAST_FALLEN = 5
PART_FALLEN = 0.8
_VOTES = ("up", "down", "pending")


def quorum(voters: int) -> int:
    """How many of so many voters have to say down."""
    return voters if voters <= 2 else voters // 2 + 1


def silent(heard: Heard) -> bool:
    """Whether this peer counts as gone: three contacts missed, or nothing heard for too long."""
    if heard.document is None or heard.age is None or heard.missed >= MISSED:
        return True
    return heard.age > (FRESH if heard.url else CALLS)


def troubles(own: Monitors, heard: Sequence[Heard]) -> list[str]:
    """Why each peer's answers are not used, in the order of ``heard``; "" where they are.

    A silent peer has no trouble by that alone. A name that comes twice is nobody's: its answers
    are not told apart.
    """
    names = Counter([own.instance, *(one.name for one in heard)])
    found = []
    for one in heard:
        why, document = one.trouble, one.document
        if not why and names[one.name] > 1:
            why = "its name comes twice: give every instance its own (REPLICATOR_INSTANCE)"
        if not why and document is not None:
            if document.fleet != own.fleet:
                why = f"it belongs to fleet {document.fleet}"
            elif document.instance != one.name:
                why = f"it calls itself {document.instance}: correct its name in REPLICATOR_PEERS"
        found.append(why)
    return found


def votes(document: Monitors, monitor: Monitor) -> bool:
    """Whether an instance that is not silent votes on this monitor."""
    return (
        monitor.votes
        and monitor.active
        and monitor.status in _VOTES
        and not document.isolated
        and document.beats_at is not None
    )


def isolated(
    monitors: Collection[Monitor], heard: Sequence[Heard], *, repository_answers: bool
) -> bool:
    """Whether this instance's own line is lost rather than what it watches.

    No peer and no repository answers, and at least 5 monitors and 80 % of the active ones went
    down (or pending, on the way there) within five minutes. Groups do not count: they fall with
    their children.
    """
    if repository_answers or not all(map(silent, heard)):
        return False
    watched = [m for m in monitors if m.active and m.type != "group" and m.status in _VOTES]
    fallen = sorted(m.since for m in watched if m.status != "up" and m.since is not None)
    most = start = 0
    for end, at in enumerate(fallen):
        while at - fallen[start] > FELL_WITHIN:
            start += 1
        most = max(most, end - start + 1)
    return most >= LEAST_FALLEN and most >= PART_FALLEN * len(watched)
