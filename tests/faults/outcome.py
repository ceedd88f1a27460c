"""One fault at one phase: the cycle that meets it, what must hold then, and the way out."""

from __future__ import annotations

import contextlib
import signal
from dataclasses import dataclass

from replicator_kuma.base.errors import KumaError, ReplicatorError, SnapshotRefused
from replicator_kuma.dump.format import Dump
from replicator_kuma.replication.apply.recovery import PARTIAL
from replicator_kuma.replication.instance import Outcome
from replicator_kuma.replication.observe import observe
from tests.faults.injections import NotMet, Point
from tests.faults.world import LEADER, REPLICA, World
from tests.support import cycles, databases
from tests.support.compare import assert_sound, config_differences
from tests.support.fleet import NEW_LOGO, Start, assert_at_rest
from tests.support.forked import forked

KILLED = "killed"
ENDED_WELL = "0"
SAME, BY_HAND = "same cycle", "restore --now"
_STARVED = "too many open files"
_NO_START = (_STARVED, "out of memory", "Kuma: start fails")
_CYCLES = {1: "next cycle", 2: "second cycle", 3: "third cycle"}


@dataclass(frozen=True)
class Seen:
    """``end``: an exit code, 0, or killed. ``rows``: old or new, of the replica; of a leader,
    whether its change is published. ``recovery``: when all was as without the fault."""

    end: str
    rows: str
    recovery: str

    def __str__(self) -> str:
        return f"{self.end} · {self.rows} · {self.recovery}"


class Injector:
    """Begins the fault when its phase begins, and ends it when the cycle has ended."""

    def __init__(self, point: Point, world: World) -> None:
        self._point, self._world = point, world
        self._stack = contextlib.ExitStack()
        self.met = False

    def begins(self, phase: str) -> None:
        if phase == self._point.phase and not self.met:
            self.met = True
            self._stack.enter_context(self._point.fault.inject(self._world))

    def mend(self, *, must: bool) -> None:
        """``must``: the fault was to be met, not only to be there."""
        with contextlib.nullcontext() if must else contextlib.suppress(NotMet):
            self._stack.close()


def experience(point: Point, start: Start, world: World) -> Seen:
    """What comes of the fault; asserts all that holds whatever happens."""
    end = meet(point, world)
    if point.fault.kills:
        world = world.reborn()
    assert_nothing_half_done(start, world, end, point.fault.name)
    rows = _rows(start, world)
    return Seen(end, rows, recover(start, world, end))


def meet(point: Point, world: World, *, must: bool = True) -> str:
    """One cycle with the fault; how it ended. ``must``: its phase has to come."""
    if point.fault.kills:
        return _killed(point, world, must)
    injector = Injector(point, world)
    world.begins = injector.begins
    try:
        world.cycle()
        end = ENDED_WELL
    except ReplicatorError as error:
        end = str(error.exit_code)
    finally:
        world.begins = lambda _phase: None
        injector.mend(must=must)
    assert injector.met or not must, "the phase never came"
    return end


def _killed(point: Point, world: World, must: bool) -> str:
    def work() -> None:
        world.begins = Injector(point, world).begins
        with contextlib.suppress(ReplicatorError):
            world.cycle()

    code = forked(work)
    assert code == -signal.SIGKILL or (code == 0 and not must), f"the phase never came: {code}"
    return KILLED


def suffer(row: list[Point], start: Start, world: World) -> None:
    """A fault a cycle; what holds after each, and the way out of all together."""
    ended = ""
    for point in row:
        ended = meet(point, world, must=False)
        if point.fault.kills:
            world = world.reborn()
        assert_nothing_half_done(start, world, ended, point.fault.name, loose=True)
    seen = Seen(ended, "", recover(start, world, ended))
    if seen.recovery == BY_HAND:
        assert world.role == REPLICA, "a leader never needs a person for such a thing"
    assert_settled(start, world)


# --- what holds ---------------------------------------------------------------------------------


def assert_nothing_half_done(
    start: Start, world: World, end: str, fault: str, *, loose: bool = False
) -> None:
    """Right after the faulty cycle, before anybody has mended anything but the fault.

    ``loose``: the fault may have hit any call, also Kuma's start and the emptying of a folder.
    """
    # then nothing can be started: the state knows that somebody has to
    unstartable = end == KILLED or fault in _NO_START or loose
    state = world.instance.state.load()
    if world.role == LEADER:
        assert world.kuma.running()
        assert world.kuma.log == []
    else:
        assert_rows(start, world)
        assert world.kuma.running() or (unstartable and state.applying.stopped_by_me), (
            "Kuma is down"
        )
    assert_published_whole(world)
    # without a descriptor no folder can be emptied: the next cycle does it
    if end != KILLED and fault != _STARVED and not loose:
        assert not world.instance.work.exists(), "secrets are left in the scratch folder"
        left = [p.name for p in world.state.iterdir() if p.name.startswith((".state", PARTIAL))]
        assert left in ([], [PARTIAL]), "a partial state is left"
        assert (state.applying.pending is not None) >= (PARTIAL in left)


def assert_rows(start: Start, world: World) -> None:
    """Old or new, never a part, with the files that belong to them once Kuma is up."""
    assert databases.query(world.database, "PRAGMA integrity_check") == [("ok",)]
    edited = cycles.name_of(world.database, 2) == "in the last moment"
    kind = _rows(start, world)
    expected = start.new if kind == "new" else start.old
    differences = config_differences(world.database, expected)
    if edited:
        differences = [line for line in differences if "'https://host2.example" not in line]
    assert differences == []


def assert_published_whole(world: World) -> None:
    """What is listed is whole, or at a position that nobody uses; no position twice."""
    listed = world.repository.published()
    used = [label.position for label, _folder in listed]
    assert len(used) == len(set(used))
    for label, folder in listed:
        dump = Dump.open(folder)
        dump.verify()
        assert dump.manifest.digest == label.digest


def _rows(start: Start, world: World) -> str:
    if world.role == LEADER:
        return "published" if len(world.repository.published()) > 2 else "unpublished"
    return "new" if cycles.name_of(world.database, 3) == "two" else "old"


# --- the way out --------------------------------------------------------------------------------


def recover(start: Start, world: World, end: str) -> str:
    """How many cycles without a fault it takes until all is as if there had been none."""
    if end == ENDED_WELL and _settled(start, world):
        return SAME
    for number, words in _CYCLES.items():
        with contextlib.suppress(ReplicatorError):
            world.cycle()
        if _settled(start, world):
            return words
        if number == 2 and end == KILLED:
            world = world.reborn()
    with contextlib.suppress(KumaError, SnapshotRefused):
        world.cycle(now=True)
    assert_settled(start, world)
    return BY_HAND


def _settled(start: Start, world: World) -> bool:
    try:
        assert_settled(start, world)
    except AssertionError:
        return False
    return True


def assert_settled(start: Start, world: World) -> None:
    """As an uninterrupted cycle ends."""
    state = world.instance.state.load()
    assert state.outcome.last is not None
    assert state.outcome.last.ok
    assert_at_rest(world.instance)
    assert_published_whole(world)
    if world.role == LEADER:
        newest, _folder = world.repository.published()[-1]
        assert newest.digest == observe(world.instance).manifest.digest
        assert world.cycle(now=True).outcome is Outcome.NOTHING
        return
    assert config_differences(world.database, start.new) == []
    assert (world.data / "upload" / "logo2.png").read_bytes() == NEW_LOGO
    assert_sound(world.database, start.old)
