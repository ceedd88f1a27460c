"""Who else has Kuma's database open, and whether that one may be a Kuma.

Under a Kuma nothing is written. Beside any other program SQLite's own locks suffice: one that
reads for ever (Litestream, a browser of databases) is no reason never to write. docs/kuma.md,
«Who has the database open», has the rule.
"""

from __future__ import annotations

import logging
import time

from replicator_kuma.cycle import Instance
from replicator_kuma.database.holders import Holder
from replicator_kuma.errors import KumaError

_READER = 2.0
_HINT = "Is it a second Kuma? End it. Or close what else is connected to Kuma's database."

log = logging.getLogger(__name__)
_told = set[str]()
"""a side-car stays for months: what is no Kuma is named once"""


def seen_up(instance: Instance) -> bool:
    """Whether somebody listens at Kuma's address: only then does its silence tell anything."""
    return instance.listens is not None and instance.listens()


def by_kuma(instance: Instance, *, was_up: bool = False) -> str:
    """Who has the database open and may be a Kuma, in words; empty where none may.

    A reader that looks (`diff`), and a Kuma that is ending, soon end. ``was_up``: somebody
    listened at Kuma's address before Kuma was stopped.
    """
    end = time.monotonic() + _READER
    while instance.store.in_use():
        found = instance.store.holders()
        over = time.monotonic() >= end
        if (found or over) and _ruled_out(instance, found, was_up=was_up):
            who = _words(found) or "a process that cannot be seen from here"
            level = logging.DEBUG if who in _told else logging.INFO
            log.log(level, "%s has Kuma's database open, and is no Kuma: writing beside it", who)
            _told.add(who)
            return ""
        if over:
            return _words(found) or "something that cannot be seen from here"
        time.sleep(0.05)
    return ""


def _ruled_out(instance: Instance, found: tuple[Holder, ...], *, was_up: bool) -> bool:
    """Whether none of them can be a Kuma: one that cannot be seen still has to have a port."""
    if instance.store.engine != "sqlite" or instance.listens is None:
        return False
    if any(holder.maybe_kuma for holder in found):
        return False
    return (bool(found) or was_up) and not instance.listens()


def require_one_kuma(instance: Instance) -> None:
    """Before a stop: raise KumaError where a second process may be a Kuma, and would stay."""
    if instance.store.engine != "sqlite":
        return
    found = [holder for holder in instance.store.holders() if holder.maybe_kuma]
    child = getattr(instance.kuma, "pid", None) if instance.kuma.name == "child" else None
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


def _words(found: tuple[Holder, ...]) -> str:
    return ", ".join(map(str, found[:5]))
