"""Finds other processes that have Kuma's database open, and whether one may be a Kuma.

Nothing is written while a Kuma runs. For other programs, SQLite's own locks suffice: a program
that reads permanently (Litestream, a database browser) must not block writes. The rule is in
docs/kuma.md, «Who has the database open».
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

from replicator_kuma.adapters.kuma.readiness import Readiness, probe, shown
from replicator_kuma.adapters.kuma.readiness import place as place_of
from replicator_kuma.base.errors import DatabaseError, DatabaseMigrating, KumaError, ReplicatorError
from replicator_kuma.base.events import as_event
from replicator_kuma.base.processes import Listener, Process, listeners
from replicator_kuma.base.times import lasting
from replicator_kuma.replication.instance import Instance

PATIENCE = 10.0
"""seconds that another Kuma may take to end before we give up the start"""
_READER = 2.0
_HINT = "Is it a second Kuma? End it. Or close what else is connected to Kuma's database."

log = logging.getLogger(__name__)
_told = set[str]()
"""processes already logged: a side-car may stay for months, and is named once"""


def seen_up(instance: Instance) -> bool:
    """Whether a process listens at Kuma's address; if so, its later silence shows Kuma's end."""
    return instance.listens is not None and instance.listens()


def by_kuma(instance: Instance, *, was_up: bool = False) -> str:
    """Who has the database open and may be a Kuma, in words; empty if there is none.

    Waits a moment for short readers (`diff`) and an ending Kuma. ``was_up``: a process listened at
    Kuma's address before Kuma was stopped.
    """
    end = time.monotonic() + _READER
    while instance.store.in_use():
        found = instance.store.holders()
        over = time.monotonic() >= end
        if (found or over) and _ruled_out(instance, found, was_up=was_up):
            others = tuple(holder for holder in found if holder.pid != instance.streamed_by())
            who = _words(others) or "a process that cannot be seen from here"
            if found and not others:  # our own Litestream alone, which has it open for ever
                return ""
            level = logging.DEBUG if who in _told else logging.INFO
            log.log(
                level,
                "%s has Kuma's database open, and is no Kuma: writing beside it",
                who,
                extra=as_event("database_shared"),
            )
            _told.add(who)
            return ""
        if over:
            return _words(found) or "something that cannot be seen from here"
        time.sleep(0.05)
    return ""


def _ruled_out(instance: Instance, found: tuple[Process, ...], *, was_up: bool) -> bool:
    """Whether none of them can be a Kuma: even a Kuma that we cannot see listens at a port."""
    if not instance.store.shows_processes or instance.listens is None:
        return False
    if any(holder.maybe_kuma for holder in found):
        return False
    return (bool(found) or was_up) and not instance.listens()


def require_one_kuma(instance: Instance) -> None:
    """Before a stop: raise KumaError if a second process may be a Kuma, which would go on."""
    if not instance.store.shows_processes:
        return
    found = [holder for holder in instance.store.holders() if holder.maybe_kuma]
    child = instance.kuma.pid
    others = [holder for holder in found if holder.session != child] if child else found[1:]
    if others:
        raise KumaError(
            f"{_words(tuple(found))} have Kuma's database open, and each may be a Kuma: "
            "none was stopped"
            if len(found) > 1
            else f"{found[0]} has Kuma's database open, and may be another Kuma: ours was not "
            "stopped",
            hint=_HINT,
        )


@dataclass(frozen=True)
class Address:
    """Where a child listens, and where we ask whether it is ready.

    The two may differ: a proxy may stand in front of the child.
    """

    own: str
    """its own address"""
    everywhere: bool
    """the child listens at all addresses of this machine"""
    asked: str
    """REPLICATOR_KUMA_URL"""

    def in_its_way(self) -> tuple[str, list[Listener]]:
        """Processes that take the child's port, or would answer for it; and the address.

        A process at the proxy's address counts only if it is a Kuma. Raises ValueError if one
        of the two is not an address.
        """
        own, asked = place_of(self.own), place_of(self.asked)
        if found := listeners(*own):
            return self.own, list(found)
        same_port = self.everywhere and asked[1] == own[1]
        return self.asked, [
            one
            for one in listeners(*asked)
            if same_port or (one.process is not None and one.process.serves_kuma)
        ]


def require_alone(instance: Instance, place: Address) -> None:
    """Raise KumaError if a Kuma that we start would be the second one, or would find no free port.

    Outside a container, a Kuma survives the kill of its supervisor. An ending Kuma gets ten
    seconds. Raises Interrupted.
    """
    end, said = time.monotonic() + PATIENCE, False
    while (error := _another(instance, place)) is not None:
        if time.monotonic() >= end:
            raise error
        if not said:
            log.warning(
                "%s; waiting %s for its end", error, lasting(PATIENCE), extra=as_event("other_kuma")
            )
        said = True
        instance.step("waiting for the end of another Uptime Kuma")
        time.sleep(0.2)


def _another(instance: Instance, place: Address) -> KumaError | None:
    try:
        url, at_port = place.in_its_way()
    except ValueError:
        return None  # the wait for an answer reports it
    holding = _holding(instance)
    kuma = next((holder for holder in holding if holder.serves_kuma), None)
    if not at_port:
        if kuma is None:
            return None
        said, first = f"{kuma} has Kuma's database open, and is another Uptime Kuma", kuma.pid
    else:
        process = at_port[0].process
        first = process.pid if process is not None else 0
        said = f"{at_port[0]} listens at {shown(url)}, where Uptime Kuma is to listen"
        if first in {holder.pid for holder in holding}:
            said += ", and has its database open"
            kuma = kuma or next(holder for holder in holding if holder.pid == first)
        elif process is not None and process.maybe_kuma:
            kuma = process
    return KumaError(
        f"{said}: it is not started a second time"
        if kuma is not None
        else f"{said}: it is not started",
        hint=_way_out(instance, place, first, kuma is not None),
    )


def taken_words(url: str) -> str:
    """Which process listens in place of a Kuma that has ended; in words, with what to do."""
    try:
        found = listeners(*place_of(url))
    except ValueError:
        found = ()
    who = str(found[0]) if found else "another program"
    first = found[0].process if found else None
    way = f"kill {first.pid}" if first is not None else "ss -ltnp shows it to root"
    return (
        f"{who} listens at {shown(url)}, where Uptime Kuma is to answer. Is it an earlier Kuma? "
        f"Then end it: {way}"
    )


def _holding(instance: Instance) -> tuple[Process, ...]:
    if not instance.store.shows_processes:
        return ()
    try:
        return instance.store.holders()
    except DatabaseError:
        return ()  # the cycle reports a fault of the database


def _way_out(instance: Instance, place: Address, pid: int, is_kuma: bool) -> str:
    elsewhere = "give Kuma another port: UPTIME_KUMA_PORT (and REPLICATOR_KUMA_URL, if that is set)"
    if not pid:
        return f"Find it, as root: ss -ltnp. End it, or {elsewhere}."
    if not is_kuma:
        return f"End it, if nobody needs it: kill {pid}. Or {elsewhere}."
    wait = ""
    if _migrates(instance, place):
        wait = "It changes its database: do not end it before it has finished. "
    return (
        f"{wait}A replicator run that was killed may have left it behind. End it, wait until it is "
        f"gone, and start again: kill {pid}"
    )


def _migrates(instance: Instance, place: Address) -> bool:
    try:
        with instance.store.read():
            return probe(place.asked) is Readiness.MIGRATING
    except DatabaseMigrating:
        return True
    except ReplicatorError:
        return False


def _words(found: tuple[Process, ...]) -> str:
    return ", ".join(map(str, found[:5]))
