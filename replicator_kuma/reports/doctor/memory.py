"""Checks of the state: noted damage, how drills and cycles ended, whether a supervisor runs."""

from __future__ import annotations

import shlex
from collections.abc import Callable

from replicator_kuma.adapters.repository.pair import SECOND
from replicator_kuma.base.errors import DrillFailed, RepositoryDamaged, StateError
from replicator_kuma.base.times import when
from replicator_kuma.daemon import heartbeat
from replicator_kuma.replication import mode_mismatch
from replicator_kuma.replication.apply import failed_attempts
from replicator_kuma.replication.second_repository import called
from replicator_kuma.replication.state.file import StateFile
from replicator_kuma.replication.state.state import State
from replicator_kuma.reports.doctor.findings import Check, Context, Found, ok, warn

_MEND = (
    "Nothing is removed there until it is whole. What mends it: docs/repository.md, «Damage»; "
    "then: replicator housekeeping"
)
_AGAIN = {"start": "replicator drill --kuma", "kill": "replicator drill --kill"}
"""By the failed step: the command that shows that it works again."""


def remembered(look: Callable[[Context, State], Found]) -> Check:
    """A check of the state; silent if `state directory` has reported that it cannot be read."""

    def check(context: Context) -> Found:
        try:
            state = StateFile(context.settings.state_dir).load()
        except StateError:
            return
        yield from look(context, state)

    return check


def promoted(context: Context, state: State) -> Found:
    """Whether the instance was promoted while its mode is still that of a replica."""
    if not context.leads and (found := mode_mismatch.promoted(state)):
        yield warn(found.sentence, mode_mismatch.TO_DO)


def damage(name: str, context: Context, state: State) -> Found:
    """The repository of this name, on a leader: only a leader checks again.

    Damage that housekeeping has noted stays until it finds the same part intact. Raises
    RepositoryDamaged.
    """
    two = bool(context.settings.second_environment)
    if not context.leads or (name == SECOND and not two):
        return
    words = called(name) if two else name
    for noted in state.upkeep.repositories:
        if noted.name == name and noted.damaged:
            raise RepositoryDamaged(
                f"{words}, as housekeeping found it {when(noted.at)}: {noted.damaged}", hint=_MEND
            )
    yield ok(f"none noted in {words}")


def last_drill(_context: Context, state: State) -> Found:
    """The last drill. Raises DrillFailed after a failed drill, until one goes well."""
    failed = state.upkeep.drill_failed
    if failed is not None:
        again = _AGAIN.get(failed.failed_at, "replicator drill")
        raise DrillFailed(failed.sentence, hint=f"Look at the cause, mend it, then: {again}")
    last = state.upkeep.drill
    yield ok(last.sentence if last is not None else "none yet")


def applies(context: Context, state: State) -> Found:
    """On a replica: raise the error that holds back a failed apply. (A leader's are by hand.)"""
    if context.leads:
        return
    if found := failed_attempts.blocked(state):
        raise failed_attempts.error_of(found)
    yield ok("none is held back")


def last_cycle(_context: Context, state: State) -> Found:
    """The last cycle's failure, as a warning: its cause may be gone."""
    last = state.outcome.last
    if last is None:
        yield ok("none yet")
    elif last.ok:
        yield ok(last.sentence)
    else:
        yield warn(f"failed: {last.sentence}", last.hint)


def supervisor(context: Context) -> Found:
    """Whether `replicator run` has a recent heartbeat, if it has ever run."""
    settings = context.settings
    beat = heartbeat.read(settings.state_dir)
    if beat is not None and heartbeat.lost(settings.state_dir):
        file = settings.state_dir / heartbeat.NAME
        yield warn(
            heartbeat.without_a_word(settings.state_dir) or "",
            "Was it killed? Look at the log of what starts it, and at: journalctl --dmesg. Start "
            f"it again. If cycles are cron's now: rm {shlex.quote(str(file))}",
        )
        return
    if beat is None or not heartbeat.alive(beat):
        yield ok("none here: cycles run by cron or by hand")
        return
    trouble = heartbeat.trouble(beat)
    if trouble:
        yield warn(trouble, "Look at its log.")
    else:
        yield ok(f"process {beat.pid}")
    if beat.change_watch not in ("", heartbeat.WORKS):
        yield warn(f"edits are found at the interval only: {beat.change_watch}")
