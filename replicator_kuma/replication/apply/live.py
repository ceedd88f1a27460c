"""An apply to a running Kuma: note it, write, and the agent makes Kuma's memory equal to the rows.

Where that is not possible, Kuma is restarted (restart.py). A death between the commit and the end
leaves an apply that is `Pending.unread`: the next cycle goes on here (`read_rows`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from dataclasses import replace

from replicator_kuma.adapters.database.history import rows_of
from replicator_kuma.adapters.kuma.agent.client import AgentError, AgentHangs, Hello
from replicator_kuma.base.counters import COUNTED, LIVE_APPLIES
from replicator_kuma.base.effects import effect
from replicator_kuma.base.errors import DatabaseError, KumaRunning
from replicator_kuma.base.events import as_event
from replicator_kuma.base.times import lasting
from replicator_kuma.dump.plan import Plan
from replicator_kuma.replication.apply import begin, failed_attempts, restart
from replicator_kuma.replication.apply.choose import Choice, choose, not_live, restart_due
from replicator_kuma.replication.apply.confirm import confirm
from replicator_kuma.replication.apply.prepare import Planned
from replicator_kuma.replication.apply.transaction import (
    READ_BACK_ROWS,
    carry_out,
    changed_since,
    monitors,
)
from replicator_kuma.replication.instance import Instance, Way
from replicator_kuma.replication.state import transitions
from replicator_kuma.replication.state.records import LiveApply, SnapshotRef

CALLS = 2
"""how often the agent is asked until memory equals the rows; then Kuma is restarted"""
LOCK = 0.5
"""the most seconds for which Kuma's requests may wait for our transaction"""
_PER_ROW = 250e-6
"""seconds in the transaction for each changed row: compared, written, read back"""
_PER_REFERENCE = 1e-6
"""seconds for each row whose references are looked up"""
_PER_HASHED = 30e-6
"""seconds for each row if all are hashed, since a trigger could change any"""
_PER_BEAT = 25e-6
"""seconds for each row of history that is set aside, since another monitor gets its id"""
_HINTS = 200
"""monitors that are named to the agent to be done first"""

log = logging.getLogger(__name__)


def apply(instance: Instance, planned: Planned, mark: SnapshotRef) -> bool:
    """Turn the instance into ``planned.wanted``; True: Kuma went on, False: it was restarted.

    Call with the lock held and a plan that is not empty. Raises NotLive before anything is touched,
    or with the new rows in place if Kuma does not take them; and what `restart.apply` raises.
    """
    choice = choose(instance)
    restarts = instance.way is Way.AUTO and instance.kuma.manages
    if choice.hello is not None and restarts and (why := _too_long(instance, planned)):
        log.info("Kuma is restarted for this change: %s", why, extra=as_event("restart_needed"))
        choice = Choice(why_not=why)
    if choice.hello is None:
        if instance.way is Way.LIVE and choice.why_not and not instance.run.restart:
            raise not_live(choice)
        _around_a_restart(instance, planned, mark, choice)
        return False
    failed_attempts.require_new(
        instance,
        failed_attempts.aim(instance, mark, planned.standing(mark, instance.tables).policy),
    )
    instance.step("writing the tables while Kuma runs")
    again = instance.kuma.manages
    first = begin.first_pending(instance, planned.plan, mark, restart=again, unread=True)

    def note(fitting: Planned) -> None:
        begin.note(instance, fitting, first, stops=False)

    try:
        note(planned)
        planned = carry_out(instance, planned, note)
    except BaseException:
        begin.drop_unwritten(instance)
        raise
    went_on = _take_over(instance, choice.hello, planned.plan)
    COUNTED.add(LIVE_APPLIES, result="live" if went_on else "restarted")
    _look_again(instance, planned)
    return went_on


def _around_a_restart(
    instance: Instance, planned: Planned, mark: SnapshotRef, choice: Choice
) -> None:
    """`restart.apply`; where nobody can restart Kuma, its error says why it cannot be live."""
    try:
        restart.apply(instance, planned, mark)
    except KumaRunning as error:
        if not choice.why_not:
            raise
        hint = " ".join(filter(None, (choice.hint, error.hint)))
        raise KumaRunning(f"{error}; not while it runs: {choice.why_not}", hint=hint) from error


def read_rows(instance: Instance) -> bool:
    """Let a running Kuma read rows that were written since it started, and confirm them.

    True: it took them live; False: it was restarted. Raises KumaRunning if neither is possible,
    and what `apply` raises.
    """
    choice = choose(instance)
    if choice.hello is not None:
        return _take_over(instance, choice.hello, None)
    _restart(instance, choice)
    return False


def _take_over(instance: Instance, hello: Hello, todo: Plan | None) -> bool:
    """Make Kuma's memory equal to the rows; else restart Kuma. Raises Interrupted, NotLive."""
    pending = instance.state.load().applying.pending
    assert pending is not None
    now, mark = time.time(), pending.mark.position
    begun = LiveApply(now, mark, hello.begun, hello.version, hello.sha)
    try:
        # noted first: this Kuma may end in the middle
        instance.state.change(transitions.live_begun, begun)
        effect("asking the agent")
        _reconcile(instance, *_hints(todo))
        effect("memory equals the rows")
    except AgentError as error:
        log.warning(
            "Kuma did not take the new rows over while it ran: %s",
            error,
            extra=as_event("live_failed"),
        )
        if isinstance(error, AgentHangs) and not instance.up() and _end_hung(instance, hello):
            # it has ended: also where REPLICATOR_APPLY=live, Kuma has to run again
            restart.restart_on_new_rows(instance, stop=False)
            return False
        if instance.run.by_itself and instance.kuma.manages and instance.kuma.running():
            instance.answers()  # after a stop we could not see that it is back
        _restart(instance, Choice(why_not=str(error), hint=error.hint))
        return False
    confirm(instance, live=True)
    if hello.needs_setup:
        log.warning(
            "Kuma has its rows, and needs one restart: %s",
            restart_due(hello, hello.sha),
            extra=as_event("restart_needed"),
        )
    return True


def _end_hung(instance: Instance, hello: Hello) -> bool:
    """End a Kuma that hangs in the agent; False if it is not our child. Raises StateError.

    Its process handles no signal: only SIGKILL ends it.
    """
    instance.state.change(transitions.agent_hung, hello.sha)
    if instance.end_hung is None:
        log.error(
            "Kuma hangs in the replicator's agent: restart it without REPLICATOR_AGENT_SOCKET",
            extra=as_event("agent_hangs"),
        )
        return False
    log.error(
        "Kuma hangs in the replicator's agent: it is ended, and started without it",
        extra=as_event("agent_hangs"),
    )
    instance.state.change(transitions.kuma_stopped)
    instance.end_hung()
    pending = instance.state.load().applying.pending
    if pending is not None:
        instance.state.change(transitions.pending_is, replace(pending, unread=False))
    return True


def _reconcile(instance: Instance, ids: Collection[int], replaced: Collection[int]) -> None:
    """Ask the agent until memory equals the rows; raises AgentError if it does not."""
    agent, why = instance.agent, "it did not become equal"
    assert agent is not None
    for _ in range(CALLS):
        report = agent.reconcile(
            ids, replaced, interrupted=instance.run.interrupted, progress=instance.run.progress
        )
        if report.equal and not report.errors:
            if not (differs := agent.differ()):
                return
            why = f"it still differs: {', '.join(differs)}"
        elif report.errors:
            why = "; ".join(report.errors)
    raise AgentError(f"the agent could not make Kuma's memory equal to the rows: {why}")


def _restart(instance: Instance, choice: Choice) -> None:
    """Restart a Kuma that has not read the new rows; raises NotLive, KumaRunning if it may not."""
    written = "the new rows are in place, and Kuma has not read them"
    if instance.way is Way.LIVE and choice.why_not and not instance.run.restart:
        raise not_live(choice, written)
    if not instance.kuma.manages:
        why = f": {choice.why_not}" if choice.why_not else ""
        raise KumaRunning(
            "the rows are new, Kuma has not read them yet, and nobody said how to restart it" + why,
            hint="Restart Kuma once: the next cycle then goes on. If it has no agent, say that you "
            "did: replicator restore --now --force. Or tell how to restart it: REPLICATOR_KUMA="
            "docker, systemd or command.",
        )
    log.warning(
        "Kuma has not read its rows since they were written: restarting it",
        extra=as_event("restart_needed"),
    )
    restart.restart_on_new_rows(instance, stop=True)


def _look_again(instance: Instance, planned: Planned) -> None:
    """Say what another program has changed beside an apply. Never raises."""
    try:
        raced = changed_since(instance, planned)
    except DatabaseError as error:
        log.debug("the rows cannot be compared after the apply: %s", error)
        return
    if raced:
        log.warning(
            "another program changed rows of %s beside this apply: the next cycle compares them",
            ", ".join(raced),
            extra=as_event("rows_raced"),
        )


def _too_long(instance: Instance, planned: Planned) -> str:
    """Why a plan would hold Kuma's database for too long, in words; "" if it would not.

    Raises DatabaseErrors.
    """
    todo = planned.plan
    rows = sum(entry.rows for entry in planned.live.manifest.tables.values())
    with instance.store.read() as reader:
        beats = rows_of(reader, monitors(todo, "*"))
        hashed = rows if reader.triggers() or todo.size > READ_BACK_ROWS else 0
    seconds = (
        todo.size * _PER_ROW + rows * _PER_REFERENCE + hashed * _PER_HASHED + beats * _PER_BEAT
    )
    if seconds <= LOCK:
        return ""
    what = f"{todo.size} rows" + (f" and moving {beats} of history" if beats else "")
    return f"writing {what} would hold its database for {lasting(seconds)}"


def _hints(todo: Plan | None) -> tuple[list[int], list[int]]:
    """Some monitors that a plan changes, and some whose id becomes another monitor's."""
    if todo is None:
        return [], []
    return monitors(todo, "~")[:_HINTS], monitors(todo, "*")[:_HINTS]
