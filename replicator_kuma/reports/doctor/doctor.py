"""Runs the checks in the order of `CHECKS`; each has a name, and yields OK, WARN or FAIL.

`replicator doctor` runs all of them; the supervisor runs the cheap ones at its start.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial

from replicator_kuma.adapters.repository.pair import SECOND
from replicator_kuma.base.errors import ReplicatorError
from replicator_kuma.base.events import as_event
from replicator_kuma.base.os_errors import refusal
from replicator_kuma.config.settings import Settings
from replicator_kuma.replication.hints import advise
from replicator_kuma.replication.state.file import StateFile
from replicator_kuma.reports.doctor import (
    agent,
    database,
    files,
    history,
    memory,
    peers,
    repository,
    setup,
)
from replicator_kuma.reports.doctor.database import reading
from replicator_kuma.reports.doctor.findings import Check, Context, Finding, Level, beyond_doctor
from replicator_kuma.reports.doctor.memory import damage, remembered

log = logging.getLogger(__name__)

CHEAP: tuple[tuple[str, Check], ...] = (
    ("settings", setup.settings),
    ("data directory", setup.data_directory),
    ("state directory", setup.state_directory),
    ("restic", setup.restic),
    ("notifications", setup.notifications),
)
"""The cheap checks: they do not wait for the network or read the tables."""

CHECKS: tuple[tuple[str, Check], ...] = (
    *CHEAP,
    ("notification targets", setup.notification_targets),
    ("hints", setup.hints),
    ("page and API", peers.page),
    ("peers", peers.peers),
    ("repository", repository.access),
    ("newest snapshot", repository.newest),
    ("clock", repository.clock),
    ("database", database.database),
    ("writing", database.writing),
    ("schema", reading(database.schema)),
    ("unknown tables", reading(database.unknown_tables)),
    ("unknown settings", reading(database.unknown_settings)),
    ("references", reading(database.references)),
    ("rows", reading(database.rows)),
    ("files", reading(files.named)),
    ("folders of files", files.folders),
    ("MariaDB replicas", reading(database.misfits)),
    ("overrides", database.overrides),
    ("Uptime Kuma", setup.kuma),
    ("changes", agent.changes),
    ("history", history.history),
    ("promoted", remembered(memory.promoted)),
    ("damage", remembered(partial(damage, "repository"))),
    ("damage", remembered(partial(damage, SECOND))),
    ("last drill", remembered(memory.last_drill)),
    ("applies", remembered(memory.applies)),
    ("last cycle", remembered(memory.last_cycle)),
    ("supervisor", memory.supervisor),
)
"""All checks in order. A check that needs another's result (`Context`) comes after it."""


def examine(
    settings: Settings,
    interrupted: Callable[[], bool],
    checks: tuple[tuple[str, Check], ...] = CHECKS,
) -> Iterator[Finding]:
    """Yield the findings of the checks in one instance, each when its check ends.

    A check that raises a ReplicatorError has failed; the next check still runs.
    """
    context = Context(settings, interrupted)
    for name, check in checks:
        yield from _one(name, check, context)


def _one(name: str, check: Check, context: Context) -> Iterator[Finding]:
    try:
        for level, message, hint in check(context):
            code = 1 if level is Level.FAIL else 0
            yield Finding(name, level, message, beyond_doctor(hint), code)
    except ReplicatorError as error:
        with suppress(ReplicatorError):
            state = StateFile(context.settings.state_dir).load()
            advise(error, context.settings.leads, state)
        yield Finding.of_error(name, error)
    except OSError as error:
        if (refused := refusal(error)) is None:
            raise
        yield Finding.of_error(name, refused)


def log_problems(settings: Settings, interrupted: Callable[[], bool]) -> None:
    """Log the problems that the cheap checks find; `run` calls this once Kuma is up."""
    for finding in examine(settings, interrupted, CHEAP):
        if finding.level is not Level.OK:
            level = logging.WARNING if finding.level is Level.WARN else logging.ERROR
            log.log(
                level,
                "%s: %s. %s",
                finding.check,
                finding.message,
                finding.hint,
                extra=as_event("check"),
            )
