"""Two repositories: one that lags behind is noted, told once, and brought up to date."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from functools import partial

from replicator_kuma.adapters.notify import Kind
from replicator_kuma.adapters.repository import Snapshot
from replicator_kuma.adapters.repository.pair import SECOND
from replicator_kuma.base.errors import (
    Interrupted,
    ReplicatorError,
    RepositoryDamaged,
    RepositoryMissing,
    RepositoryUnreachable,
    SnapshotRefused,
)
from replicator_kuma.base.events import as_event
from replicator_kuma.base.times import lasting
from replicator_kuma.dump.format import accepts
from replicator_kuma.replication import problems
from replicator_kuma.replication.instance import Instance
from replicator_kuma.replication.snapshots import fetched
from replicator_kuma.replication.state.records import AWAY, LAGGING, Problem

_GONE = (
    "Is its disk or share mounted? If it is really gone, it is made anew on the leader: replicator "
    "init"
)

log = logging.getLogger(__name__)


def called(name: str) -> str:
    """The name of one of two repositories, as sentences use it."""
    return name if name == SECOND else f"the first {name}"


def require_both(instance: Instance) -> None:
    """Raise RepositoryUnreachable if one of two did not answer the last listing.

    It may hold a newer snapshot, which a leader that goes on without it could lose.
    """
    pair = instance.pair
    if pair is not None and pair.away:
        why = "; ".join(map(str, pair.away.values()))
        raise RepositoryUnreachable(
            f"a new leader has to ask both repositories: {why}",
            hint="What it holds beyond the other would be lost. To lead all the same: "
            "replicator promote --force",
        )


def look_who_is_away(instance: Instance) -> None:
    """Note which of two did not answer a replica's listing; log its begin and end once each."""
    errors = instance.pair.away if instance.pair is not None else {}
    if _cut_short(errors):
        return
    for name, error in errors.items():
        why = why_away(name, error)
        to_do = _GONE if isinstance(error, RepositoryMissing) else error.hint
        words = f"{called(name)} is away: {why}. {to_do}"
        tell = partial(log.warning, "only one of two repositories is read: %s", words)
        problems.raise_(instance, AWAY + name, AWAY, why, tell)
    for each in instance.state.load().away:
        if each.name not in errors:
            problems.clear(instance, AWAY + each.name, partial(_tell_back, instance))


def _tell_back(instance: Instance, was: Problem) -> None:
    if instance.pair is not None:  # None: the second one was removed
        name = called(was.what.removeprefix(AWAY))
        log.info(
            "%s answers again, after %s",
            name,
            lasting(time.time() - was.since),
            extra=as_event("repository_back"),
        )


def why_away(name: str, error: ReplicatorError) -> str:
    """Why one of two does not answer, without its name."""
    return str(error).removeprefix(f"{name}: ")


def published(instance: Instance) -> tuple[str, ...]:
    """After a publish: warnings about a repository that did not get it."""
    return _note(instance)[0]


def catch_up(instance: Instance, newest: Snapshot | None) -> tuple[str, ...]:
    """Copy the newest snapshot to a repository that lags behind; warnings if that is new.

    Call after a listing, in a leader's cycle. A failure here does not fail the cycle.
    """
    pair = instance.pair
    if pair is None:
        _note(instance)
    if pair is None or newest is None:
        return ()
    pair.failed = {}
    if behind := pair.behind(newest.label):
        instance.step(f"{', '.join(place.name for place in behind)} catches up")
        try:
            dump = fetched(instance, newest, "catch-up")
            pair.complete(dump.folder, newest.label)
        except Interrupted:
            raise
        except ReplicatorError as error:
            pair.failed = {place.name: error for place in behind}
        for place in behind:
            if place.name not in pair.failed:
                log.info(
                    "%s has caught up with %s",
                    place.name,
                    newest.position,
                    extra=as_event("repository_level"),
                )
    elif instance.state.load().lagging and not pair.away:
        instance.step("reading both copies")
        pair.verify(newest, instance.work / "copies", accepts)
    warnings, news = _note(instance)
    return warnings if news else ()


def _note(instance: Instance) -> tuple[tuple[str, ...], bool]:
    """Note which one lags behind, tell its begin and end once; the warnings, whether it is new."""
    pair = instance.pair
    errors = {**pair.away, **pair.failed} if pair is not None else {}
    if _cut_short(errors):
        return (), False
    names = [place.name for place in pair.repositories] if pair is not None else []
    warnings = tuple(_lags(name, error, names) for name, error in errors.items())
    before, now = instance.state.load().lagging, "; ".join(warnings)
    if now:
        tell = partial(instance.notifier.send, Kind.FAILURES, "a repository lags behind", now)
        passes = all(error.retryable for error in errors.values())
        problems.raise_(instance, LAGGING, LAGGING, now, tell, goes_by=passes)
    elif before:
        problems.clear(instance, LAGGING, lambda _was: _tell_equal(instance))
    if pair is None:
        return (), False
    return warnings, bool(now) != bool(before)


def _tell_equal(instance: Instance) -> None:
    if instance.pair is not None:  # None: the lagging one was removed
        said = "what lagged behind has the newest snapshot"
        instance.notifier.send(Kind.FAILURES, "both repositories are equal again", said)


def _cut_short(errors: Mapping[str, ReplicatorError]) -> bool:
    """Whether a signal ended a call: then one repository's answer is unknown."""
    return any(isinstance(error, Interrupted) for error in errors.values())


def _lags(name: str, error: ReplicatorError, names: Iterable[str]) -> str:
    """Which one lags behind, why, and what to do. ``names``: the names of the two."""
    # the fault may be in the other one, which cannot be read
    failed = next((each for each in names if str(error).startswith(f"{each}: ")), name)
    variable = "REPLICATOR_REPOSITORY_2" if failed == SECOND else "RESTIC_REPOSITORY"
    if isinstance(error, RepositoryMissing):
        to_do = f"If {variable} is right, make it: replicator init"
    elif isinstance(error, SnapshotRefused):
        to_do = "It has no whole copy: the next change that is published brings one."
    elif isinstance(error, RepositoryDamaged):
        to_do = (
            f"Look for what is damaged in {variable}: restic check --read-data. Once it is "
            "mended (docs/repository.md, «Damage») the next change that is published brings a "
            "whole copy."
        )
    else:
        to_do = f"{error.hint.rstrip('.')}. It catches up by itself once it can be written to."
    why = str(error).removeprefix(f"{failed}: ")
    of_other = f"{called(failed)}: " if failed != name else ""
    return f"{called(name)} lags behind: {of_other}{why}. {to_do}"
