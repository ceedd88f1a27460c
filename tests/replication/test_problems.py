"""Each problem is told once, and its end once, over restarts and kills: eight places tell."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path

import pytest

from replicator_kuma.adapters.notify import Change, Kind
from replicator_kuma.base.errors import (
    DrillFailed,
    ReplicatorError,
    RepositoryMissing,
    RepositoryUnreachable,
)
from replicator_kuma.daemon.maintenance import run_now
from replicator_kuma.replication.instance import CycleResult, Instance, Outcome
from replicator_kuma.replication.problems import work_ended
from replicator_kuma.replication.runner import recorded
from replicator_kuma.replication.state.records import DRILL, KILL
from tests.support.cycles import follow, go_on, hold_at, lead, name_of, rename
from tests.support.effects import dies_at
from tests.support.forked import forked
from tests.support.instances import make_instance
from tests.support.two_repositories import Member, TwoRepositories


class Paper:
    """A notifier and a log on paper: what was told stays when the process dies."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def send(
        self,
        kind: Kind,
        title: str,
        message: str,
        *,
        urgent: bool = False,
        change: Change | None = None,
    ) -> None:
        self._write(f"{title}: {message}")

    def close(self, timeout: float = 2.0) -> None:
        """Nothing."""

    def _write(self, text: str) -> None:
        with self.path.open("a") as file:
            file.write(text.replace("\n", " ") + "\n")

    def log(self) -> None:
        """Write what is logged from now on, too."""
        handler = logging.Handler()
        handler.emit = lambda record: self._write(record.getMessage())  # type: ignore[method-assign]
        logging.getLogger("replicator_kuma").addHandler(handler)
        logging.getLogger("replicator_kuma").setLevel(logging.INFO)

    def count(self, words: str) -> int:
        return sum(words in line for line in self.path.read_text().splitlines())


@dataclass
class Place:
    """Where something is told once."""

    instance: Instance
    fails: Callable[[bool], None]
    """makes it fail from now on, or go well"""
    cycle: Callable[[], object]
    begins: str
    ends: str = ""
    """"": nobody tells that a hold has ended, for a person ended it"""


Make = Callable[[TwoRepositories], Place]
failing = False


def _by_flag(instance: Instance, cycle: Callable[[], object], begins: str, ends: str) -> Place:
    def fails(now: bool) -> None:
        global failing
        failing = now

    return Place(instance, fails, cycle, begins, ends)


def _alone(fleet: TwoRepositories) -> Instance:
    return make_instance(fleet.folder / "alone", fleet.side("alone").first)


def a_cycle(fleet: TwoRepositories) -> Place:
    instance = _alone(fleet)

    def once() -> CycleResult:
        if failing:
            raise RepositoryMissing("no repository there")
        return CycleResult(Outcome.NOTHING, "all well")

    return _by_flag(
        instance,
        lambda: recorded(instance, "BACKUP", once),
        "backup fails",
        "backup works again",
    )


def a_job(fleet: TwoRepositories) -> Place:
    instance = _alone(fleet)

    def steps() -> Generator[None, None, str]:
        yield
        if failing:
            raise RepositoryUnreachable("no route to host")
        return "all is kept"

    return _by_flag(
        instance,
        lambda: run_now(instance, "housekeeping", steps()),
        "housekeeping fails",
        "housekeeping works again",
    )


def _a_drill(fleet: TwoRepositories, what: str) -> Place:
    instance = _alone(fleet)

    def once() -> None:
        with instance.state.lock():
            end = DrillFailed("no") if failing else "it went well"
            work_ended(instance, what, end, "drill", Kind.DRILLS)

    return _by_flag(instance, once, "drill fails", "drill works again")


def a_drill(fleet: TwoRepositories) -> Place:
    return _a_drill(fleet, DRILL)


def a_drill_that_kills(fleet: TwoRepositories) -> Place:
    return _a_drill(fleet, KILL)


def one_that_lags_behind(fleet: TwoRepositories) -> Place:
    leader = fleet.begin()
    return Place(
        leader.instance,
        lambda down: leader.reaches(second=not down),
        lambda: lead(leader.instance, verify=True),
        "a repository lags behind",
        "both repositories are equal again",
    )


def _replica(fleet: TwoRepositories) -> tuple[Member, Member]:
    leader, replica = fleet.begin(), fleet.side("replica")
    follow(replica.instance)
    return leader, replica


def one_that_is_away(fleet: TwoRepositories) -> Place:
    _leader, replica = _replica(fleet)
    return Place(
        replica.instance,
        lambda down: replica.reaches(second=not down),
        lambda: follow(replica.instance),
        "only one of two repositories is read",
        "answers again",
    )


def rows_that_differ(fleet: TwoRepositories) -> Place:
    _leader, replica = _replica(fleet)
    first = name_of(replica.db, 3)
    return Place(
        replica.instance,
        lambda now: rename(replica.db, 3, "mine" if now else first),
        lambda: follow(replica.instance),
        "rows here are no longer those of 1.1",
        "the rows equal 1.1 again",
    )


def one_that_is_held(fleet: TwoRepositories) -> Place:
    leader, replica = _replica(fleet)
    hold_at(replica.instance, "1.1")
    follow(replica.instance)  # tells of the position that is the newest now
    names = iter(("newer", "newer still"))

    def fails(now: bool) -> None:
        if now:
            leader.publish(next(names))

    return Place(replica.instance, fails, lambda: follow(replica.instance), "holding 1.1")


PLACES = pytest.mark.parametrize(
    "make",
    [
        a_cycle,
        a_job,
        a_drill,
        a_drill_that_kills,
        one_that_lags_behind,
        one_that_is_away,
        rows_that_differ,
        one_that_is_held,
    ],
)


@pytest.fixture
def paper(tmp_path: Path) -> Paper:
    return Paper(tmp_path / "told")


@pytest.fixture
def fleet(tmp_path: Path, filled: Path) -> TwoRepositories:
    return TwoRepositories(tmp_path, filled)


def _work(place: Place, paper: Paper) -> Callable[[], None]:
    def work() -> None:
        paper.log()
        with contextlib.suppress(ReplicatorError):
            place.cycle()

    return work


def _in_new_processes(place: Place, paper: Paper, times: int = 2) -> None:
    for _ in range(times):
        assert forked(_work(place, paper)) == 0


def _warned(caplog: pytest.LogCaptureFixture, words: str) -> int:
    return sum(words in line for line in caplog.messages)


def test_rows_that_were_put_right_are_told_when_they_differ_again(
    fleet: TwoRepositories, caplog: pytest.LogCaptureFixture
) -> None:
    _leader, replica = _replica(fleet)
    for times in (1, 2):
        rename(replica.db, 3, f"mine {times}")
        follow(replica.instance)
        follow(replica.instance)
        assert _warned(caplog, "rows here are no longer those of 1.1") == times
        follow(replica.instance, reconcile=True)


def test_one_that_is_held_again_tells_of_the_same_newer_position_again(
    fleet: TwoRepositories, caplog: pytest.LogCaptureFixture
) -> None:
    leader, replica = _replica(fleet)
    leader.publish("newer")
    for times in (1, 2):
        hold_at(replica.instance, "1.1")
        follow(replica.instance)
        follow(replica.instance)
        assert _warned(caplog, "newest is 1.2") == times
        go_on(replica.instance)


def test_a_hold_that_a_failed_restore_leaves_as_it_was_is_told_once(
    fleet: TwoRepositories, caplog: pytest.LogCaptureFixture
) -> None:
    leader, replica = _replica(fleet)
    leader.publish("newer")
    hold_at(replica.instance, "1.1")
    follow(replica.instance)
    for repository in (replica.first, replica.second):
        for call in ("fetch", "read"):
            repository.fail[call] = RepositoryMissing("no repository there")
    with pytest.raises(RepositoryMissing):
        hold_at(replica.instance, "1.2")
    follow(replica.instance)
    assert _warned(caplog, "holding 1.1") == 1


def test_a_job_that_fails_once_after_its_recovery_is_told(
    fleet: TwoRepositories, paper: Paper
) -> None:
    """A job is days apart: nobody waits for the next one to learn that it fails."""
    place = a_job(fleet)
    place.instance.notifier = paper
    for times in (1, 2):
        place.fails(True)
        with pytest.raises(RepositoryUnreachable):
            place.cycle()
        assert paper.count(place.begins) == times
        place.fails(False)
        place.cycle()


def _made(make: Make, fleet: TwoRepositories, paper: Paper) -> Place:
    place = make(fleet)
    place.instance.notifier = paper
    place.fails(False)
    _in_new_processes(place, paper)
    assert paper.count(place.begins) == 0
    place.fails(True)
    return place


@PLACES
def test_each_is_told_once_and_again_only_after_its_end(
    make: Make, fleet: TwoRepositories, paper: Paper
) -> None:
    place = _made(make, fleet, paper)
    for times in (1, 2):
        if times == 2:
            place.fails(True)
        _in_new_processes(place, paper, 3)
        assert paper.count(place.begins) == times
        place.fails(False)
        _in_new_processes(place, paper)
        if place.ends:
            assert paper.count(place.ends) == times


@PLACES
@pytest.mark.parametrize("step", ["problem noted", "problem told"])
def test_a_kill_between_noting_and_telling_repeats_nothing(
    make: Make, fleet: TwoRepositories, paper: Paper, step: str
) -> None:
    place = _made(make, fleet, paper)
    dies_at(step, _work(place, paper))
    _in_new_processes(place, paper)
    # noted first: a kill in the instant between loses the message
    assert paper.count(place.begins) == (step == "problem told")
    place.fails(False)
    _in_new_processes(place, paper)
    if place.ends:
        assert paper.count(place.ends) == 1


@PLACES
def test_a_kill_before_the_end_is_told_repeats_nothing(
    make: Make, fleet: TwoRepositories, paper: Paper
) -> None:
    place = _made(make, fleet, paper)
    if not place.ends:
        return
    _in_new_processes(place, paper)
    place.fails(False)
    dies_at("recovery noted", _work(place, paper))
    _in_new_processes(place, paper)
    assert (paper.count(place.begins), paper.count(place.ends)) == (1, 0)
