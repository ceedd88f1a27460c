"""When cycles are due: fifty replicas at once, and clocks that jump."""

from __future__ import annotations

import itertools
import random
from datetime import datetime, timedelta

import schedule

from replicator_kuma.daemon.schedule import JITTER, Timetable, steady_part
from tests.support.clock import Clock

INTERVAL = 360.0


def polls(name: str, hours: float, chance: random.Random, start: float = 0.0) -> list[float]:
    """The instants of an instance's cycles, from its start on."""
    clock = Clock(start)
    table = Timetable(INTERVAL, name, clock, chance.random)
    found = []
    while table.due < start + hours * 3600:
        clock.now = table.due
        found.append(clock.now)
        table.advance()
    return found


def test_fifty_replicas_that_start_at_once_do_not_poll_at_once() -> None:
    chance = random.Random(4)
    every = [polls(f"default kuma-{number}", 24, chance) for number in range(50)]
    instants = sorted(itertools.chain.from_iterable(every))
    busiest = max(
        sum(1 for later in instants[index : index + 50] if later < instant + 10)
        for index, instant in enumerate(instants)
    )
    # a fiftieth of an interval each would be 1.4 in ten seconds; all at once would be 50
    assert busiest <= 9
    for first in range(6):
        slot = [i for i in instants if 720 + 60 * first <= i < 780 + 60 * first]
        assert 3 <= len(slot) <= 16, "a minute of six gets about a sixth of the fifty"


def test_an_instance_keeps_its_place_over_restarts() -> None:
    firsts = [polls("default kuma-7", 1, random.Random(seed))[0] for seed in range(20)]
    assert max(firsts) - min(firsts) <= 2 * JITTER * INTERVAL
    others = {round(polls(f"default kuma-{n}", 1, random.Random(1))[0]) for n in range(20)}
    assert len(others) > 15


def test_the_first_cycle_is_neither_at_once_nor_late() -> None:
    for number in range(500):
        first = polls(f"i{number}", 1, random.Random(number))[0]
        assert 0.45 * INTERVAL <= first <= 1.55 * INTERVAL


def test_jitter_does_not_add_up() -> None:
    found = polls("here", 24 * 7, random.Random(5))
    start = INTERVAL * (0.5 + steady_part("here"))
    off = [instant - start - INTERVAL * n for n, instant in enumerate(found)]
    assert max(map(abs, off)) <= JITTER * INTERVAL
    assert len({round(o, 3) for o in off}) > 100


def test_cycles_that_were_slept_over_are_not_made_up_for() -> None:
    clock = Clock()
    table = Timetable(INTERVAL, "here", clock, lambda: 0.5)
    clock.now = table.due + 10.5 * INTERVAL
    table.advance()
    assert clock.now < table.due <= clock.now + INTERVAL
    clock.now = table.due
    table.advance()
    assert table.due == clock.now + INTERVAL


def test_another_interval_and_back_gathers_nobody() -> None:
    """Twenty replicas whose stream comes and goes for all at the same time."""
    clock, chance = Clock(), random.Random(8)
    tables = [Timetable(INTERVAL, f"default kuma-{n}", clock, chance.random) for n in range(20)]
    ran: list[list[float]] = [[] for _ in tables]
    up = [(0, False), (7200, True), (7230, False), (7260, True), (14_400, False), (21_600, True)]
    while clock.now < 28_800:
        slow = [state for since, state in up if since <= clock.now][-1]
        for table, cycles in zip(tables, ran, strict=True):
            table.every(900.0 if slow else INTERVAL)
            if table.left == 0:
                cycles.append(clock.now)
                table.advance()
        clock.now += 1
    for cycles in ran:
        gaps = [(at, later - at) for at, later in itertools.pairwise(cycles)]
        assert max(gap for _, gap in gaps) <= 900 * (1 + 2 * JITTER) + 1
        slow_ones = [gap for at, gap in gaps if 7300 < at < 13_000]
        assert min(slow_ones) >= 900 * (1 - 2 * JITTER) - 1
        fast = [gap for at, gap in gaps if 14_400 < at < 21_000]
        assert max(fast) <= INTERVAL * (1 + 2 * JITTER) + 1
    for change in (14_400, 21_600):
        firsts = sorted(next(at for at in cycles if at >= change) for cycles in ran)
        assert max(sum(1 for at in firsts if a <= at < a + 10) for a in firsts) <= 5


def test_the_wall_clock_moves_no_cycle() -> None:
    """Hours forth and back, at any time: cycles come by the monotonic clock alone."""
    clock, ran = Clock(), []
    chance = random.Random(6)
    table = Timetable(INTERVAL, "here", clock, chance.random)
    scheduler = schedule.Scheduler()

    def cycle() -> None:
        ran.append(clock.now)
        table.advance()

    job = scheduler.every().second.do(cycle)
    jump = 0.0
    while clock.now < 12 * 3600:
        if chance.random() < 0.02:
            jump = chance.uniform(-6, 6) * 3600
        # `schedule` itself reads the wall clock: it is told one that has jumped
        now = datetime.now() + timedelta(seconds=jump)
        table.hold(job, now)
        assert job.next_run is not None
        if job.next_run <= now:
            job.run()
        clock.now += 10
    gaps = [later - earlier for earlier, later in itertools.pairwise(ran)]
    assert len(ran) in (119, 120, 121)
    assert max(gaps) <= INTERVAL * (1 + 2 * JITTER) + 10
    assert min(gaps) >= INTERVAL * (1 - 2 * JITTER) - 10
