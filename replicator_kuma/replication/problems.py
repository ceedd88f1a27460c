"""Open problems: each is told once when it begins, and once when it ends.

The state keeps the list (`State.problems`), so that a restarted process tells nothing twice.
A message is noted before it is sent: a kill in between loses it, but never repeats it. If the
state cannot be written, this process remembers what it told.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from replicator_kuma.adapters.notify import Kind
from replicator_kuma.base.effects import effect
from replicator_kuma.base.errors import ReplicatorError, StateError, describe
from replicator_kuma.replication.instance import Instance
from replicator_kuma.replication.state import transitions
from replicator_kuma.replication.state.records import Problem
from replicator_kuma.replication.state.state import State

Change = Callable[[State], State]


def same(state: State) -> State:
    """Changes nothing: only the problem itself is noted."""
    return state


def raise_(
    instance: Instance,
    what: str,
    kind: str,
    words: str,
    tell: Callable[[], None],
    *,
    goes_by: bool = False,
    tells: bool = True,
    also: Change = same,
    now: float | None = None,
) -> None:
    """Note that ``what`` is a problem; call ``tell`` if this kind of it is new.

    ``goes_by``: the problem may end by itself. Then, soon after its last end, it has to occur twice
    in a row before it is told again. ``tells``: whether to tell anybody. ``also`` is noted in the
    same write. Raises StateError if the state cannot be written; the problem is then still told,
    once in this process.
    """
    at = time.time() if now is None else now
    known = False

    def noted(state: State) -> State:
        nonlocal known
        known = _told(state, what, kind)
        return transitions.raised(
            also(state), what, kind, words, now=at, goes_by=goes_by, tells=tells
        )

    try:
        after = instance.state.change(noted)
    except (StateError, OSError, MemoryError):
        # that it came twice in a row nobody could know: it is told, though it may go by
        if tells and not known:
            tell_once(instance, what, kind, tell)
        raise
    effect("problem noted")
    if not _told(after, what, kind):
        return
    here = instance.told.get(what) == kind
    if here:  # the ledger knows it from here on, and who ends the problem there ends it
        del instance.told[what]
    if not (known or here):
        tell()
        effect("problem told")


def tell_once(instance: Instance, what: str, kind: str, tell: Callable[[], None]) -> None:
    """Tell a kind of problem once in this process, without the state."""
    if instance.told.get(what) != kind:
        instance.told[what] = kind
        tell()


def clear(
    instance: Instance,
    what: str,
    tell: Callable[[Problem], None],
    *,
    also: Change = same,
    now: float | None = None,
) -> None:
    """Note that ``what`` is no longer a problem; ``tell`` its end if it was told.

    ``tell`` gets the problem as it was. Raises StateError if the end cannot be noted.
    """
    at = time.time() if now is None else now
    was: Problem | None = None
    here = instance.told.get(what, "")

    def noted(state: State) -> State:
        nonlocal was
        was = state.problem(what)
        return transitions.cleared(also(state), what, now=at, told=bool(here))

    instance.state.change(noted)
    instance.told.pop(what, None)
    if was is None and here:
        was = Problem(what, here, at, told=(here,))  # the state could not be written when it began
    if was is not None and (here or was.was_told):
        effect("recovery noted")
        tell(was)


def work_ended(
    instance: Instance,
    what: str,
    end: str | Exception,
    name: str,
    message: Kind,
    *,
    flaps: bool = False,
    also: Change = same,
    now: float | None = None,
) -> None:
    """Note the end of repeated work: ``end`` is its sentence, or its error.

    Tells of the ``message`` kind that ``name`` fails, or works again; raises as `raise_`.
    ``flaps``: it comes so often that an error that goes by itself may wait for the next one.
    """
    send = instance.notifier.send
    if isinstance(end, str):
        works = f"{name} works again"
        clear(instance, what, lambda _was: send(message, works, end), also=also, now=now)
        return
    goes_by = flaps and isinstance(end, ReplicatorError) and end.retryable
    kind, tell = type(end).__name__, partial(_send_failed, instance, end, name, message)
    raise_(instance, what, kind, describe(end), tell, goes_by=goes_by, also=also, now=now)


def tell_failed(instance: Instance, what: str, error: Exception, name: str, message: Kind) -> None:
    """Tell once in this process that work failed, where nobody can note it."""
    send = partial(_send_failed, instance, error, name, message)
    tell_once(instance, what, type(error).__name__, send)


def _send_failed(instance: Instance, error: Exception, name: str, message: Kind) -> None:
    instance.notifier.send(message, f"{name} fails", with_hint(error), urgent=True)


def with_hint(error: Exception) -> str:
    """The text of an error for a message: what happened, and what to do."""
    hint = error.hint if isinstance(error, ReplicatorError) else ""
    return f"{describe(error)}\n{hint}" if hint else describe(error)


def _told(state: State, what: str, kind: str) -> bool:
    known = state.problem(what)
    return known is not None and kind in known.told
