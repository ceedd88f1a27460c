"""Which hints cost a look at the repository, and when: by a clock, without a thread."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

import pytest

from replicator_kuma.adapters.repository import Position
from replicator_kuma.daemon.hint_gate import FALSE, LEAST, MOST, SPREAD, HintGate
from replicator_kuma.daemon.schedule import steady_part
from replicator_kuma.replication.instance import CycleResult, Hint, Outcome
from tests.support.clock import Clock


def hint(sequence: int, epoch: int = 1, snapshot: str = "a" * 64) -> Hint:
    return Hint(Position(epoch, sequence), snapshot)


class Replica:
    """A replica whose cycles take ``takes`` seconds; the repository's newest is ``newest``."""

    def __init__(self, *, name: str = "replica", takes: float = 1.0) -> None:
        self.clock = Clock(1000.0)
        self.newest, self.applied = 1, 1
        self.fails = False
        self.looks: list[tuple[float, Hint | None]] = []
        self._takes = takes
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()
        delay = SPREAD * steady_part(f"default {name}")
        held = lambda: Position(1, self.applied)  # noqa: E731
        self.gate = HintGate(self.look, held, delay, self.clock, self._after)

    def _after(self, seconds: float, work: Callable[[], None]) -> None:
        heapq.heappush(self._due, (self.clock.now + seconds, next(self._count), work))

    def look(self, of: Hint | None = None) -> None:
        """A cycle begins: for a hint, or at the interval."""
        self.looks.append((self.clock.now, of))
        self._after(self._takes, lambda: self._end(of))

    def _end(self, of: Hint | None) -> None:
        if self.fails:
            self.gate.looked(of, None)
            return
        self.applied = self.newest
        result = CycleResult(Outcome.NOTHING, "", Position(1, self.newest))
        self.gate.looked(of, result)

    def until(self, now: float) -> None:
        """Let the clock reach ``now``; what was due is done in order."""
        while self._due and self._due[0][0] <= now:
            at, _, work = heapq.heappop(self._due)
            self.clock.now = max(self.clock.now, at)
            work()
        self.clock.now = now

    def passes(self, seconds: float) -> None:
        self.until(self.clock.now + seconds)


def test_a_hint_is_looked_for_within_its_share_of_a_second() -> None:
    for number in range(20):
        replica = Replica(name=f"kuma-{number}")
        replica.newest = 2
        replica.gate.heard(hint(2))
        replica.passes(SPREAD)
        assert [of for _, of in replica.looks] == [hint(2)]


def test_a_fleet_of_twenty_spreads_its_looks() -> None:
    firsts = []
    for number in range(20):
        replica = Replica(name=f"kuma-{number}")
        replica.gate.heard(hint(2))
        replica.passes(SPREAD)
        firsts.append(replica.looks[0][0])
    tenths = [sum(1 for at in firsts if int((at - 1000) * 10) == tenth) for tenth in range(10)]
    assert max(tenths) <= 5, tenths
    assert sum(1 for count in tenths if count) >= 7, tenths


def test_what_is_held_or_was_just_looked_for_costs_nothing() -> None:
    replica = Replica(takes=30.0)
    replica.applied = replica.newest = 7
    for sequence in (1, 7):
        replica.gate.heard(hint(sequence))
    replica.passes(100)
    assert replica.looks == [], "it is held"
    replica.newest = 8
    for _ in range(40):
        replica.gate.heard(hint(8))
        replica.passes(1)
    assert len(replica.looks) == 1, "while its cycle goes on, and after it"


def test_edits_of_a_busy_leader_are_all_looked_for_in_time() -> None:
    replica = Replica(takes=0.8)
    for sequence in range(2, 302):
        replica.newest = sequence
        replica.gate.heard(hint(sequence))
        replica.passes(3.0)
        assert replica.applied == sequence
    assert len(replica.looks) == 300
    assert replica.gate.reliable


def test_a_burst_is_few_looks_and_the_last_is_found() -> None:
    replica = Replica(takes=0.5)
    for sequence in range(2, 202):
        replica.newest = sequence
        replica.gate.heard(hint(sequence))
        replica.passes(0.01)
    replica.passes(LEAST + SPREAD + 1)
    assert replica.applied == 201
    assert len(replica.looks) <= 3


@pytest.mark.parametrize("kind", ["the same", "growing", "other ids", "a newer epoch"])
def test_a_thousand_forged_hints_a_second(kind: str) -> None:
    replica = Replica(takes=0.5)
    kinds: dict[str, Callable[[int], Hint]] = {
        "the same": lambda number: hint(999),
        "growing": lambda number: hint(1000 + number),
        "other ids": lambda number: hint(999, snapshot=f"{number:064x}"),
        "a newer epoch": lambda number: hint(1 + number % 7, epoch=9),
    }
    forged, seconds = kinds[kind], 200
    for number in range(1000 * seconds):
        replica.gate.heard(forged(number))
        if number % 10 == 0:
            replica.passes(0.01)
    gaps = [later - earlier for (earlier, _), (later, _) in itertools.pairwise(replica.looks)]
    assert min(gaps) >= FALSE
    assert len(replica.looks) <= seconds / MOST + 5
    assert len(replica._due) <= 2, "nothing gathers"
    assert not replica.gate.reliable, "polls go on at the interval"


def test_a_true_hint_among_forged_ones_is_found() -> None:
    replica = Replica(takes=0.5)
    for number in range(3000):
        replica.gate.heard(hint(10_000 + number))
        if number == 1500:
            replica.newest = 2
            replica.gate.heard(hint(2))
        replica.passes(0.1)
    found = next(at for at, _ in replica.looks if at >= 1000 + 150)
    assert replica.applied == 2
    assert found <= 1000 + 150 + MOST + SPREAD
    replica.passes(2 * MOST)
    replica.newest = 3
    replica.gate.heard(hint(3))
    replica.passes(SPREAD + 1)
    assert replica.applied == 3, "and once they end, a true one is looked for at once"
    assert replica.gate.reliable


def test_a_repository_that_is_away_is_not_asked_at_the_pace_of_hints() -> None:
    replica = Replica(takes=0.5)
    replica.fails = True
    for sequence in range(2, 602):
        replica.gate.heard(hint(sequence))
        replica.passes(1.0)
    assert len(replica.looks) <= 600 / MOST + 6
    replica.fails, replica.newest = False, 601
    replica.look()
    replica.passes(1.0)
    assert replica.applied == 601
    assert replica.gate.reliable, "the next poll finds what hints have told"


def test_a_poll_that_finds_what_nobody_told_shortens_the_polls() -> None:
    replica, reliable = Replica(), []
    for newest in (1, 2):
        replica.newest = newest
        replica.look()
        replica.passes(2)
        reliable.append(replica.gate.reliable)
    replica.gate.heard(hint(2))  # it was only late
    reliable.append(replica.gate.reliable)
    replica.newest = 3
    replica.look()
    replica.passes(2)
    reliable.append(replica.gate.reliable)
    replica.newest = 4
    replica.gate.heard(hint(4))
    replica.passes(3)
    assert [*reliable, replica.gate.reliable] == [True, False, True, False, True]
