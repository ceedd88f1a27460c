"""Verdicts under random partitions, clocks, restarts and stale answers, in each place's view.

A world of instances, each with a clock of its own, a Kuma whose monitors change, and an exchange
that works or not. After each step all judge, and the invariants are checked against the world
itself. REPLICATOR_TEST_INTERLEAVINGS sets how many worlds are played; a failure names its seed.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random

import pytest

from replicator_kuma.adapters.repository import Position
from replicator_kuma.base.times import Moment
from replicator_kuma.reports.fleet import missing, verdict, voters
from replicator_kuma.reports.fleet.documents import Fleet, Heard, Judged, Monitor, Monitors
from replicator_kuma.reports.fleet.verdict import judge
from tests.support.places import monitor
from tests.support.tiers import by_tier

COST = 20
"""interleavings of tests/model that take as long as a world here"""
WORLDS = int(os.environ.get("REPLICATOR_TEST_INTERLEAVINGS", COST * by_tier(24, 240))) // COST
FIRST_SEED = int(os.environ.get("REPLICATOR_TEST_SEED", "0"))
STEPS = 20
MONITORS = 7
NAMES = ("fra-1", "nyc-1", "sgp-1", "syd-1", "fra-2")
STATUSES = ("up", "up", "up", "down", "down", "pending", "maintenance", "paused", "none")


class Violation(AssertionError):
    pass


@dataclass
class Got:
    """What an instance has of a peer."""

    document: Monitors
    at: float
    """true time"""
    missed: int = 0


@dataclass
class Site:
    """An instance: its clock is off, and runs on true seconds."""

    key: int
    name: str
    fleet: str
    off: float
    role: str
    cells: dict[int, tuple[str, float]] = field(default_factory=dict)
    """of each monitor the status, and since when in true time"""
    fresh: bool = True
    """its Kuma beats"""
    isolated: bool = False
    got: dict[int, Got] = field(default_factory=dict)
    """by the peer's key"""
    before: Fleet | None = None

    def document(self, now: float) -> Monitors:
        """By its own clock alone."""

        def shown(number: int, status: str, since: float) -> Monitor:
            votes = self.fresh and status in ("up", "down", "pending")
            return monitor(number, status, since=Moment(since + self.off), votes=votes)

        return Monitors(
            instance=self.name,
            fleet=self.fleet,
            role=self.role,
            version="0.4.0",
            kuma=None,
            position=Position(1, 3),
            behind=0,
            state="equal",
            sentence=f"{self.name}: holds 1.3",
            beats_at=Moment(now + self.off),
            isolated=self.isolated,
            monitors=tuple(shown(k, *cell) for k, cell in sorted(self.cells.items())),
        )


class World:
    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.now = 1_796_000_000.0
        self.sites: list[Site] = []
        self.cut: set[frozenset[int]] = set()
        self.calls_only: set[tuple[int, int]] = set()
        """(who hears, whom): only the peer calls"""
        self.next_key = 0
        for _ in range(self.random.randrange(1, 5)):
            self.join()

    def join(self) -> None:
        random = self.random
        taken = {site.name for site in self.sites}
        free = [name for name in NAMES if name not in taken]
        # rarely a name that is taken, or an instance of another fleet
        name = random.choice(sorted(taken)) if taken and random.random() < 0.1 else None
        site = Site(
            key=self.next_key,
            name=name or (random.choice(free) if free else NAMES[0]),
            fleet="home" if random.random() < 0.95 else "office",
            off=random.choice((0.0, 0.0, 3.0, -90_000.0, 86_400.0)),
            role="replica" if self.sites else "leader",
        )
        for number in range(1, MONITORS + 1):
            if random.random() < 0.95:
                site.cells[number] = random.choice(STATUSES), self.now - random.randrange(500)
        self.next_key += 1
        for other in self.sites:
            if random.random() < 0.2:
                self.calls_only.add((site.key, other.key))
        self.sites.append(site)

    def step(self) -> None:
        random = self.random
        for _ in range(random.randrange(1, 4)):
            site = random.choice(self.sites)
            match random.randrange(12):
                case 0 | 1 | 2 | 3:
                    number = random.randrange(1, MONITORS + 1)
                    if number in site.cells:
                        site.cells[number] = random.choice(STATUSES), self.now
                case 4:  # an outage that all see
                    number = random.randrange(1, MONITORS + 1)
                    for each in self.sites:
                        if number in each.cells:
                            each.cells[number] = "down", self.now - random.random()
                case 5:
                    pair = frozenset((site.key, random.choice(self.sites).key))
                    self.cut ^= {pair} if len(pair) == 2 else set()
                case 6:
                    self.cut = {pair for pair in self.cut if site.key not in pair}
                case 7:
                    site.isolated = not site.isolated
                case 8:  # the replicator restarts: it knows nothing of its peers
                    site.got, site.before = {}, None
                case 9 if len(self.sites) < 5:
                    self.join()
                case 10 if len(self.sites) > 1 and random.random() < 0.3:
                    self.sites.remove(site)
                case 11:
                    site.fresh = not site.fresh
                    if random.random() < 0.2:
                        site.off += random.choice((-3600.0, 60.0))  # its clock is set
        self.now += random.choice((1.0, 5.0, 5.0, 12.0, 40.0))
        for site in self.sites:
            for other in self.sites:
                if other is not site:
                    self.exchange(site, other)

    def exchange(self, site: Site, other: Site) -> None:
        if frozenset((site.key, other.key)) not in self.cut:
            document = other.document(self.now)
            got = site.got.get(other.key)
            if got is not None and self.random.random() < 0.15:
                document = got.document  # a stale answer: it was made before
            site.got[other.key] = Got(document, self.now)
        elif (got := site.got.get(other.key)) and (site.key, other.key) not in self.calls_only:
            got.missed += 1

    def heard(self, site: Site) -> list[Heard]:
        found = []
        keys = {other.key for other in self.sites} | set(site.got)
        for key in sorted(keys - {site.key}):
            got = site.got.get(key)
            name = got.document.instance if got else self.named(key)
            calls = (site.key, key) in self.calls_only
            found.append(
                Heard(
                    name=name,
                    url=None if calls else f"https://{key}.example",
                    document=got.document if got else None,
                    age=self.now - got.at if got else None,
                    contact_at=Moment(got.at + site.off) if got else None,
                    missed=0 if calls or not got else got.missed,
                )
            )
        return found

    def named(self, key: int) -> str:
        return next(site.name for site in self.sites if site.key == key)

    def check(self) -> None:
        views = [(site, self.heard(site)) for site in self.sites]
        for site, heard in views:
            fleet = self.judged(site, heard)
            self.check_view(site, heard, fleet)
            site.before = fleet
        self.check_agreement(views)

    def judged(self, site: Site, heard: list[Heard]) -> Fleet:
        own, now = site.document(self.now), Moment(self.now + site.off)
        fleet = judge(own, heard, now, site.before)
        shuffled = self.random.sample(heard, len(heard))
        require(judge(own, shuffled, now, site.before) == fleet, "the order of answers matters")
        self.check_clocks(own, heard, now, site.before, fleet)
        return fleet

    def check_clocks(
        self, own: Monitors, heard: list[Heard], now: Moment, before: Fleet | None, fleet: Fleet
    ) -> None:
        """Set the clocks of all others, and nothing changes."""
        other = [
            dataclasses.replace(
                one, document=_shifted(one.document, self.random.uniform(-1e6, 1e6))
            )
            if one.document
            else one
            for one in heard
        ]
        again = judge(own, other, now, before)
        for a, b in zip(fleet.monitors, again.monitors, strict=True):
            require(
                dataclasses.replace(a, since=None) == dataclasses.replace(b, since=None),
                f"monitor {a.id} depends on another's clock",
            )
            near = a.since == b.since or (a.since and b.since and abs(a.since - b.since) < 0.01)
            require(bool(near), f"since of {a.id} depends on another's clock: {a.since} {b.since}")
        require(fleet.instances == again.instances, "a place depends on another's clock")

    def check_view(self, site: Site, heard: list[Heard], fleet: Fleet) -> None:
        """What must hold of one view, by the world's own reckoning."""
        names = [one.name for one in heard] + [site.name]
        answers = {site.name: site.document(self.now)}
        for one in heard:
            if one.document is None or one.age is None or names.count(one.name) > 1:
                continue
            gone = one.missed >= 3 or one.age > (20 if one.url is None else 30)
            if not gone and one.document.fleet == site.fleet:
                answers[one.name] = one.document
        require(len(fleet.instances) == len(names), "a place is missing")
        known = {m.id for document in answers.values() for m in document.monitors}
        require({one.id for one in fleet.monitors} == known, "a monitor is missing")
        before = {one.id: one for one in site.before.monitors} if site.before else {}
        for seen in fleet.monitors:
            cells = {
                name: next((m for m in document.monitors if m.id == seen.id), None)
                for name, document in answers.items()
            }
            voters = {
                name
                for name, cell in cells.items()
                if cell
                and cell.votes
                and not answers[name].isolated
                and cell.status in ("up", "down", "pending")
            }
            down = {name for name in voters if (c := cells[name]) and c.status == "down"}
            require(set(seen.voters) == voters, f"{seen.id}: {seen.voters}, not {voters}")
            require(set(seen.down_in) == down, f"{seen.id} down in {seen.down_in}, not {down}")
            most = 2 * len(down) > len(voters)
            expected = "unknown"
            if voters:
                most = most if len(voters) > 2 else down == voters
                expected = ("down" if most else "partial") if down else "up"
            require(seen.verdict == expected, f"{seen.id} is {seen.verdict}, not {expected}")
            for name in set(names) - set(answers):
                require(
                    seen.states[name] == "silent", f"{name} is gone, and says {seen.states[name]}"
                )
            self.check_missing(site, seen, cells, answers)
            now = Moment(self.now + site.off)
            require(seen.since is None or seen.since <= now, f"{seen.id} since the future")
            last = before.get(seen.id)
            if last is not None and last.verdict == seen.verdict and last.since is not None:
                require(seen.since == min(last.since, now), f"{seen.id}: since was not carried on")

    def check_missing(
        self,
        site: Site,
        seen: Judged,
        cells: Mapping[str, Monitor | None],
        answers: Mapping[str, Monitors],
    ) -> None:
        """All hold one snapshot: what the leader has, or most have, is missing elsewhere."""
        having = {name for name, cell in cells.items() if cell}
        leads = {name for name in having if answers[name].role == "leader"}
        expected = bool(leads) or 2 * len(having) > len(cells)
        lacking = tuple(sorted(set(cells) - having)) if expected else ()
        last = (
            next((m for m in site.before.monitors if m.id == seen.id), None)
            if site.before
            else None
        )
        began = last.missing_since if last and last.missing_since is not None else None
        now = self.now + site.off
        long = began is not None and now - min(began, now) >= 60
        require(seen.missing_in == (lacking if long else ()), f"{seen.id}: {seen.missing_in}")
        require((seen.missing_since is not None) == bool(lacking), f"{seen.id}: since when")

    def check_agreement(self, views: list[tuple[Site, list[Heard]]]) -> None:
        """What all of a connected part with fresh answers see down is down in each one's view."""
        if {site.fleet for site in self.sites} != {"home"}:
            return
        if len({site.name for site in self.sites}) < len(self.sites):
            return
        current = all(
            got.document == other.document(self.now) and got.at == self.now
            for site in self.sites
            for other in self.sites
            if other is not site and (got := site.got.get(other.key)) is not None
        )
        everyone = {site.key for site in self.sites}
        if (
            self.cut
            or not current
            or any(set(site.got) != everyone - {site.key} for site in self.sites)
        ):
            return
        for number in range(1, MONITORS + 1):
            verdicts = set()
            for site, _ in views:
                assert site.before is not None
                verdicts |= {
                    (one.verdict, one.down_in, one.voters)
                    for one in site.before.monitors
                    if one.id == number
                }
            require(len(verdicts) <= 1, f"monitor {number}: views of one whole fleet differ")
            voting = [
                site.cells[number][0]
                for site in self.sites
                if number in site.cells
                and site.fresh
                and not site.isolated
                and site.cells[number][0] in ("up", "down", "pending")
            ]
            if voting and set(voting) == {"down"}:
                require({one[0] for one in verdicts} == {"down"}, f"monitor {number} is down")


def _shifted(document: Monitors, seconds: float) -> Monitors:
    def later(at: Moment | None) -> Moment | None:
        return None if at is None else Moment(at + seconds)

    return dataclasses.replace(
        document,
        beats_at=later(document.beats_at),
        monitors=tuple(
            dataclasses.replace(one, since=later(one.since), beat_at=later(one.beat_at))
            for one in document.monitors
        ),
    )


def require(holds: bool, said: str) -> None:
    if not holds:
        raise Violation(said)


def played(seed: int) -> str:
    """What went wrong in the world of this seed; empty when nothing did."""
    world = World(seed)
    for step in range(STEPS):
        try:
            world.step()
            world.check()
        except Violation as found:
            return f"seed {seed}, step {step}: {found}"
    return ""


@pytest.mark.parametrize("part", range(4))
def test_verdicts_hold_in_every_world(part: int) -> None:
    failed = [
        found
        for seed in range(FIRST_SEED + part, FIRST_SEED + WORLDS, 4)
        if (found := played(seed))
    ]
    assert failed == []


@pytest.mark.parametrize(
    ("where", "name", "mutant"),
    [
        (verdict, "quorum", lambda n: 1),
        (verdict, "quorum", lambda n: n // 2 + 1 if n != 2 else 1),
        (verdict, "silent", lambda heard: heard.document is None),
        (verdict, "troubles", lambda own, heard: [""] * len(heard)),
        (verdict, "votes", lambda document, one: one.votes),
        (verdict, "votes", lambda document, one: one.active and not document.isolated),
        (verdict._Source, "since", lambda self, one, now: one.since),
        (voters, "MISSED", 4),
        (voters, "FRESH", 60.0),
        (voters, "CALLS", 30.0),
        (verdict, "AFTER", 20.0),
        (verdict, "_missing_since", lambda now, before: now),
        (missing.Alike, "_expected", lambda self, number: self.leader is not None),
    ],
)
def test_a_wrong_rule_is_noticed(
    monkeypatch: pytest.MonkeyPatch, where: object, name: str, mutant: object
) -> None:
    monkeypatch.setattr(where, name, mutant)
    assert any(played(seed) for seed in range(150))
