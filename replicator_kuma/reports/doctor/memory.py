"""What doctor tells from memory: noted damage, how drills and cycles ended, who runs here."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial

from replicator_kuma.adapters.repository.pair import SECOND
from replicator_kuma.base.errors import DrillFailed, RepositoryDamaged, StateError
from replicator_kuma.base.times import when
from replicator_kuma.config.settings import Mode, Settings
from replicator_kuma.daemon import heartbeat
from replicator_kuma.replication import mode_mismatch
from replicator_kuma.replication.apply import failed_attempts
from replicator_kuma.replication.second_repository import called
from replicator_kuma.replication.state.file import StateFile
from replicator_kuma.replication.state.state import State
from replicator_kuma.reports.doctor.findings import Found, Level

_MEND = (
    "Nothing is removed there until it is whole. What mends it: docs/repository.md, «Damage»; "
    "then: replicator housekeeping"
)
_AGAIN = {"start": "replicator drill --kuma", "kill": "replicator drill --kill"}
"""by the step that failed: what shows that it is mended"""


def checks(settings: Settings) -> Iterator[tuple[str, Callable[[], Found]]]:
    """Names and checks; silent where the state cannot be read."""
    state: State | None = None
    with suppress(StateError):  # `state directory` has said so
        state = StateFile(settings.state_dir).load()
    if state is not None:
        if settings.mode is not Mode.BACKUP and mode_mismatch.awaits_mode(state):
            yield "promoted", partial(_promoted, state)
        if settings.mode is Mode.BACKUP:  # who never checks cannot say that it is whole again
            for name in ("repository", SECOND) if settings.second_environment else ("repository",):
                words = called(name) if settings.second_environment else name
                yield "damage", partial(_damage, state, name, words)
        yield "last drill", partial(_drill, state)
        if settings.mode is not Mode.BACKUP:  # a leader applies what a person names only
            yield "applies", partial(_applies, state)
        yield "last cycle", partial(_last_cycle, state)
    yield "supervisor", partial(_supervisor, settings)


def _promoted(state: State) -> Found:
    yield Level.WARN, mode_mismatch.sentence(state), mode_mismatch.TO_DO


def _damage(state: State, name: str, words: str) -> Found:
    """What housekeeping has noted stands until it finds the same part whole."""
    for noted in state.upkeep:
        if noted.name == name and noted.damaged:
            raise RepositoryDamaged(
                f"{words}, as housekeeping found it {when(noted.at)}: {noted.damaged}", hint=_MEND
            )
    yield Level.OK, f"none noted in {words}", ""


def _drill(state: State) -> Found:
    failed = state.drill_failed
    if failed is not None:
        again = _AGAIN.get(failed.failed_at, "replicator drill")
        raise DrillFailed(failed.sentence, hint=f"Look at the cause, mend it, then: {again}")
    yield Level.OK, state.drill.sentence if state.drill is not None else "none yet", ""


def _applies(state: State) -> Found:
    if found := failed_attempts.blocked(state):
        raise failed_attempts.error_of(found)
    yield Level.OK, "none is held back", ""


def _last_cycle(state: State) -> Found:
    """A warning: it tells of the past, and the cause may be gone."""
    last = state.last
    if last is None:
        yield Level.OK, "none yet", ""
    elif last.ok:
        yield Level.OK, last.sentence, ""
    else:
        yield Level.WARN, f"failed: {last.sentence}", last.hint


def _supervisor(settings: Settings) -> Found:
    beat = heartbeat.read(settings.state_dir)
    if beat is not None and heartbeat.lost(settings.state_dir):
        seen = when(heartbeat.seen_at(settings.state_dir))
        file = settings.state_dir / heartbeat.NAME
        yield (
            Level.WARN,
            f"replicator run (process {beat.pid}) ended without a word; last sign of life {seen}",
            "Was it killed? Look at the log of what starts it, and at: journalctl --dmesg. Start "
            f"it again. If cycles are cron's now: rm {shlex.quote(str(file))}",
        )
        return
    if beat is None or not heartbeat.alive(beat):
        yield Level.OK, "none here: cycles run by cron or by hand", ""
        return
    trouble = heartbeat.trouble(beat)
    if trouble:
        yield Level.WARN, trouble, "Look at its log."
    else:
        yield Level.OK, f"process {beat.pid}", ""
