"""What a row of failures leaves in the log."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable

import pytest

from replicator_kuma.base.errors import RepositoryLocked, RepositoryUnreachable, StoppedInVain
from replicator_kuma.daemon.failure_log import FailureLog
from tests.support.clock import Clock

Said = Callable[[], list[str]]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What the log says so far, line by line."""
    caplog.set_level(logging.INFO, "replicator_kuma")
    return lambda: [record.getMessage() for record in caplog.records]


def test_the_recovery_is_one_line_with_how_long_and_how_often(clock: Clock, said: Said) -> None:
    log = FailureLog(clock)
    for _ in range(24):
        log.failed(RepositoryUnreachable("no route"))
        clock.now += 312.5
    log.succeeded()
    log.succeeded()
    assert [line for line in said() if "again after" in line] == [
        "works again after 2 h 5 min, 24 failures"
    ]


def test_one_failure_is_told_with_its_recovery(clock: Clock, said: Said) -> None:
    log = FailureLog(clock)
    log.failed(RepositoryUnreachable("no route"))
    clock.now += 300
    log.succeeded()
    hint = RepositoryUnreachable.hint
    assert said() == [f"no route. {hint}", "works again after 5 min, 1 failure"]


def test_a_day_of_failures_is_a_few_lines_with_how_often_and_how_long(
    clock: Clock, said: Said
) -> None:
    log = FailureLog(clock)
    said_at = []
    for _ in range(24 * 60):
        before = len(said())
        log.failed(RepositoryUnreachable("no route"))
        if len(said()) > before:
            said_at.append(clock.now)
        clock.now += 60
    assert said_at[:5] == [0, 60, 180, 420, 900]
    gaps = [later - earlier for earlier, later in itertools.pairwise(said_at)]
    assert max(gaps) <= 3600
    assert len(said_at) < 24 + 11
    assert said()[3].startswith("no route (8 times in 7 min). ")


def test_kinds_that_take_turns_do_not_make_each_other_new(clock: Clock, said: Said) -> None:
    log = FailureLog(clock)
    for _ in range(64):
        log.failed(RepositoryUnreachable("no route"))
        log.failed(RepositoryLocked("locked"))
        clock.now += 10
    assert len(said()) == 2 * 7
    log.succeeded()
    assert said()[-1] == "works again after 10 min 40 s, 128 failures"


def test_after_a_recovery_a_failure_is_new(clock: Clock, said: Said) -> None:
    log = FailureLog(clock)
    for _ in range(3):
        log.failed(RepositoryUnreachable("no route"))
        log.failed(RepositoryUnreachable("no route"))
        log.failed(RepositoryUnreachable("no route"))
        log.succeeded()
    assert sum(line.startswith("no route. ") for line in said()) == 3


def test_a_bug_is_told_by_its_type_alone(clock: Clock, said: Said) -> None:
    FailureLog(clock).failed(ValueError("the password is x"))
    assert said() == ["ValueError: this is a bug in replicator-kuma"]


def test_what_lasts_until_somebody_acts_is_said_once_a_day(clock: Clock, said: Said) -> None:
    log = FailureLog(clock)
    for _ in range(1 + 25 * 60):
        log.failed(StoppedInVain("not again"))
        clock.now += 60
    assert len(said()) == 2
    log.succeeded()
    assert said()[-1].startswith("works again after")


def test_what_comes_next_stands_before_the_hint(clock: Clock, said: Said) -> None:
    FailureLog(clock).failed(RepositoryUnreachable("no route"), "next try in 12 s")
    assert said() == [f"no route; next try in 12 s. {RepositoryUnreachable.hint}"]
