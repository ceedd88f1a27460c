"""Chores of `replicator run`: each in its window, once, and never in the way."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from random import Random

import pytest

from replicator_kuma.base.errors import KumaError, RepositoryUnreachable, StateError
from replicator_kuma.base.windows import Window
from replicator_kuma.daemon import maintenance as module
from replicator_kuma.daemon.maintenance import (
    due,
    following,
)
from replicator_kuma.daemon.worker import Job
from replicator_kuma.replication.instance import Instance, Run, Steps
from replicator_kuma.replication.state.records import JobRecord
from tests.support.folder_repository import FolderRepository
from tests.support.instances import make_instance, sent_by
from tests.support.scheduled import NOON, Scheduled
from tests.support.waiting import wait_until

NIGHTLY = Window.parse("01:00-05:00")


class House(Scheduled):
    """An instance with one chore."""

    def __init__(self, folder: Path, work: Callable[[Instance], Steps], window: str) -> None:
        instance = make_instance(folder, FolderRepository(folder / "repository"))
        super().__init__(instance, "tidy", work, window)
        self.sent = sent_by(instance)

    def idle(self) -> None:
        """Ticks until it has looked, and nothing came of it."""
        seen = [0]

        def looked() -> bool:
            seen[0] += self.jobs._look_at > before
            return bool(seen[0]) and self.worker.idle

        before = self.jobs._look_at
        self.until(looked, "it has looked")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_EVERY", 0.01)
    monkeypatch.setattr(module, "AGAIN_AFTER", 0.01)


class Counter:
    """Work that counts, in two steps; ``fail`` is raised by the second."""

    def __init__(self) -> None:
        self.began = self.ended = 0
        self.fail: Exception | None = None

    def __call__(self, _instance: Instance) -> Steps:
        self.began += 1
        yield
        if self.fail:
            raise self.fail
        self.ended += 1
        return f"tidied {self.ended} times"


def test_a_chore_runs_once_in_each_window(tmp_path: Path) -> None:
    work = Counter()
    house = House(tmp_path, work, "01:00-05:00")
    house.idle()
    assert work.began == 0
    first = house.noted.due
    house.once()
    assert work.ended == 1
    assert house.noted.ok
    assert house.noted.sentence == "tidied 1 times"
    second = house.noted.due
    assert datetime.fromtimestamp(second).date() - datetime.fromtimestamp(
        first
    ).date() == timedelta(days=1)
    house.idle()
    assert work.began == 1


def test_the_minute_that_was_drawn_outlives_a_restart_within_its_window(tmp_path: Path) -> None:
    work = Counter()
    house = House(tmp_path, work, "01:00-05:00")
    house.idle()
    drawn = house.noted.due
    house.go_to(drawn - 60)
    house.start()
    house.idle()
    assert (house.noted.due, work.began) == (drawn, 0)
    house.once()
    assert work.ended == 1


def test_a_window_that_was_missed_runs_at_the_next_start_and_once(tmp_path: Path) -> None:
    work = Counter()
    house = House(tmp_path, work, "01:00-05:00")
    house.idle()
    house.now += timedelta(days=9)
    house.start()
    house.until(lambda: work.ended, "it was made up for")
    house.start()
    house.idle()
    assert work.ended == 1
    assert datetime.fromtimestamp(house.noted.due) > house.now


def test_clocks_that_jump_neither_repeat_a_window_nor_put_it_off(tmp_path: Path) -> None:
    work = Counter()
    house = House(tmp_path, work, "01:00-05:00")
    house.once()
    house.now -= timedelta(hours=6)  # before the window again
    house.idle()
    assert work.ended == 1
    house.now += timedelta(days=20_000)
    house.until(lambda: work.ended == 2, "it ran in a far year")
    house.now -= timedelta(days=20_000)
    soon = house.now.timestamp() + 3 * 86400
    house.until(lambda: house.noted.due < soon, "it is near again")
    assert work.ended == 2


def test_another_window_is_another_minute(tmp_path: Path) -> None:
    house = House(tmp_path, Counter(), "01:00-05:00")
    house.idle()
    house.window = Window.parse("fri 06:30")
    house.start()
    house.until(lambda: house.noted.window == "fri 06:30", "it is planned anew")
    assert datetime.fromtimestamp(house.noted.due).strftime("%a %H:%M") == "Fri 06:30"
    house.window = Window.parse("off")
    house.start()
    house.until(lambda: house.noted.due == 0, "it is off")


def test_a_failure_is_noted_told_once_and_its_end_too(tmp_path: Path) -> None:
    work = Counter()
    house = House(tmp_path, work, "01:00-05:00")
    work.fail = RepositoryUnreachable("no network")
    house.once()
    house.once()
    noted = house.noted
    assert (noted.ok, noted.error, noted.exit_code) == (False, "RepositoryUnreachable", 5)
    assert house.sent == [f"tidy fails: no network\n{RepositoryUnreachable.hint}"]
    house.start()  # not told again by the next process
    house.once()
    assert len(house.sent) == 1
    work.fail = ValueError("a bug")
    house.once()
    assert house.sent[1].startswith("tidy fails: ValueError: this is a bug")
    work.fail = None
    house.once()
    assert house.sent[2:] == ["tidy works again: tidied 1 times"]
    house.once()
    assert len(house.sent) == 3


def test_what_ends_its_process_twice_waits_for_the_next_window(tmp_path: Path) -> None:
    began: list[int] = []

    def work(_instance: Instance) -> Steps:
        began.append(1)
        while True:
            yield

    house = House(tmp_path, work, "01:00-05:00")
    house.idle()
    house.go_to(house.noted.due)
    for expected in (1, 2):
        house.until(lambda: house.noted.tries == expected, "it has begun")  # noqa: B023
        wait_until(lambda: house.worker.idle, "it is between two steps")
        house.start()  # the process ended there
    house.until(lambda: not house.noted.ok, "it is given up")
    assert len(began) == 2
    assert "did not come to its end" in house.noted.sentence
    assert datetime.fromtimestamp(house.noted.due) > house.now


def test_a_state_that_cannot_be_written_is_told_once_and_nothing_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Counter()
    house = House(tmp_path, work, "01:00-05:00")
    house.idle()
    house.go_to(house.noted.due)
    tried: list[int] = []

    def full(*_changes: object, **_more: object) -> None:
        tried.append(1)
        raise StateError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(house.instance.state, "change", full)
        house.until(lambda: len(tried) > 3, "it was tried again")
    assert work.began == 0
    assert [line for line in house.sent if "no space" in line] == house.sent[:1]
    house.until(lambda: work.ended, "it runs once there is space")


def test_whatever_a_person_asks_for_goes_before_the_next_step(tmp_path: Path) -> None:
    order: list[str] = []
    inside, go = threading.Event(), threading.Event()

    def work(_instance: Instance) -> Steps:
        order.append("first")
        inside.set()
        go.wait(60)
        yield
        order.append("second")
        return "done"

    house = House(tmp_path, work, "01:00-05:00")
    house.idle()
    house.go_to(house.noted.due)
    house.until(inside.is_set, "it is in its first step")
    asked = threading.Thread(
        target=lambda: house.worker.call(Job("backup", lambda _tell: order.append("asked")), 0)
    )
    asked.start()
    wait_until(lambda: len(house.worker._pending) == 2, "it is in the queue")
    assert house.worker.submit(Job("cycle", lambda _tell: None), only_if_idle=True) is False
    house.jobs.tick()
    go.set()
    asked.join(10)
    house.until(lambda: len(order) == 3, "the second step")
    assert order == ["first", "asked", "second"]


def test_a_cycle_that_is_due_does_not_wait_for_another_interval(tmp_path: Path) -> None:
    inside, go = threading.Event(), threading.Event()

    def work(_instance: Instance) -> Steps:
        inside.set()
        go.wait(60)
        yield
        return "done"

    house = House(tmp_path, work, "01:00-05:00")
    house.idle()
    house.go_to(house.noted.due)
    house.until(inside.is_set, "it is in its first step")
    ran = threading.Event()
    cycle = Job("cycle", lambda _tell: ran.set(), scheduled=True)
    assert house.worker.submit(cycle, only_if_idle=True)
    go.set()
    assert ran.wait(60)


def test_an_interrupted_chore_is_begun_again_and_nobody_is_told(tmp_path: Path) -> None:
    work = Counter()
    house = House(tmp_path, work, "01:00-05:00")
    house.idle()
    asked = [True]
    house.instance.run = Run(interrupted=lambda: asked[0])
    house.go_to(house.noted.due)
    house.until(lambda: house.noted.tries, "it was begun")
    asked[0] = False
    house.start()
    house.until(lambda: work.ended, "it ran")
    assert house.sent == []


def test_what_is_noted_stays_unless_it_cannot_be_meant() -> None:
    now, random = NOON, Random(3)
    fresh = due(JobRecord("tidy", ""), NIGHTLY, now, random)
    assert fresh > now.timestamp()
    noted = JobRecord("tidy", str(NIGHTLY), due=fresh)
    assert due(noted, NIGHTLY, now, random) == fresh
    assert due(replace(noted, due=1.0), NIGHTLY, now, random) == 1.0  # missed
    late = replace(noted, due=fresh + 10 * 86400)
    assert due(late, NIGHTLY, now, random) < late.due
    after = following(noted, NIGHTLY, now, random)
    assert datetime.fromtimestamp(after).date() > datetime.fromtimestamp(fresh).date()


def test_the_error_of_a_chore_is_one_line_and_no_secret(tmp_path: Path) -> None:
    work = Counter()
    house = House(tmp_path, work, "03:30")
    work.fail = KeyError("hunter2")
    house.once()
    assert "hunter2" not in house.noted.sentence + "".join(house.sent)
    work.fail = KumaError("did not come back")
    house.once()
    assert house.noted.exit_code == KumaError.exit_code
