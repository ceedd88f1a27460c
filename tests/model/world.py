"""Processes on a few disks, handed on one effect at a time by a scheduler that a seed decides.

Leader, Replica, promote and StateFile are the real ones; only restic, Kuma and the tables are
stand-ins. A process is a thread that stops before each effect (a call of the repository, a write
of the state, a commit): others go on there, or it dies there, with all that it meant to do next.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

from replicator_kuma.adapters.notify import NullNotifier
from replicator_kuma.adapters.repository import Label, Position
from replicator_kuma.base import state_directory
from replicator_kuma.base.errors import Fenced, ReplicatorError
from replicator_kuma.replication import published_dump
from replicator_kuma.replication.apply import prepare
from replicator_kuma.replication.instance import CycleResult, Hint, Instance, Outcome, Run
from replicator_kuma.replication.leader import cycle as leader
from replicator_kuma.replication.leader import publish
from replicator_kuma.replication.leader.cycle import Leader
from replicator_kuma.replication.leader.promote import promote
from replicator_kuma.replication.replica import ahead, drift, take
from replicator_kuma.replication.replica.cycle import cycle as restore_cycle
from replicator_kuma.replication.state import codec, file
from replicator_kuma.replication.state.file import StateFile
from replicator_kuma.replication.state.state import State
from tests.model import store
from tests.model.store import Choose, Disk, Point, Shelf, ShelfRepository, Stored, TinyStore

LONG = 20.0
"""Seconds until a step that never ends fails the test."""
HOUR = 3600.0
FAR = Position(9, 9)
"""The position of hints that lie."""
JUMPS = (0.0, HOUR, -HOUR, 400 * 86_400.0, -400 * 86_400.0)


class Died(BaseException):
    """The end of a process: nothing that it does from now on counts."""


class Violation(AssertionError):
    """A promise that did not hold; its text is the schedule."""


class Choices:
    """Numbers that decide everything, drawn from a seed or played again; 0 where they end."""

    def __init__(self, seed: int | None = None, played: Sequence[int] = ()) -> None:
        self._random = None if seed is None else Random(seed)
        self._played = list(played)
        self.made: list[int] = []

    def __call__(self, number: int) -> int:
        if self._random is not None:
            choice = self._random.randrange(number)
        else:
            at = len(self.made)
            choice = self._played[at] % number if at < len(self._played) else 0
        self.made.append(choice)
        return choice


class TinyKuma:
    """Always there: what a restart can do is other tests' matter."""

    name = "tiny"
    manages = True
    owned = False
    pid = None

    def running(self) -> bool:
        return True

    def ended_with(self) -> int | None:
        """Nobody can tell."""
        return None

    def stop(self) -> None:
        return None

    def start(self) -> None:
        return None


class Compact:
    """In the place of the module ``json``: its encoder in C, which knows no indents."""

    loads = staticmethod(json.loads)

    @staticmethod
    def dumps(value: Any, indent: int | None = None) -> str:
        return json.dumps(value)


class WatchedState(StateFile):
    """The real file; each write of it is an effect, and the model sees what was written.

    A process parses it once, at its first look: nobody else writes it then (the lock).
    """

    _known: State | None = None

    def load(self) -> State:
        if self._known is None and self.path.exists():
            self._known = super().load()
        return self._known or super().load()

    def __init__(self, folder: Path, point: Point, watch: Callable[[State, State], None]) -> None:
        super().__init__(folder)
        self._point, self._watch = point, watch

    def save(self, after: State) -> None:
        self._point("note")
        before = self.load()
        super().save(after)
        self._known = after
        self._watch(before, after)


class Clock:
    """In the place of the module ``time``: the clock of the machine whose process runs."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.time = now
        self.monotonic = now


class Process:
    """One command on a disk, in a thread of its own that runs only when it is handed the turn."""

    def __init__(self, disk: Disk, what: str, choose: Choose) -> None:
        self.disk, self.what, self.choose = disk, what, choose
        self.at = "begin"
        self.dead = False
        self.ended = False
        self.result: CycleResult | None = None
        self.error: ReplicatorError | None = None
        self.bug: BaseException | None = None
        self._turn = threading.Semaphore(0)
        self._back = threading.Semaphore(0)

    def begin(self, work: Callable[[], CycleResult]) -> None:
        def run() -> None:
            self._turn.acquire()
            try:
                if not self.dead:
                    self.result = work()
            except Died:
                pass
            except ReplicatorError as error:
                self.error = error
            except BaseException as error:
                self.bug = error
            self.ended = True
            self._back.release()

        threading.Thread(target=run, daemon=True, name=self.what).start()

    def point(self, name: str) -> None:
        """Before an effect: the scheduler decides who goes on."""
        if self.dead:
            raise Died
        self.at = name
        self._back.release()
        self._turn.acquire()
        if self.dead:
            raise Died

    def step(self) -> None:
        """Let it do the effect that it stands before, and all up to the next one."""
        self._turn.release()
        if not self._back.acquire(timeout=LONG):
            raise Violation(f"{self.what} stands still at {self.at}")
        if self.bug is not None:
            raise Violation(f"{self.what} ended by a bug at {self.at}: {self.bug!r}") from self.bug

    def die(self) -> None:
        self.dead = True
        self.step()


@dataclass
class World:
    """Disks, what runs on them, and what was seen of all: invariants are checked as it goes."""

    folder: Path
    choose: Choices
    shelf: Shelf = field(default_factory=Shelf)
    disks: list[Disk] = field(default_factory=list)
    running: list[Process] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    confirmed: dict[Position, tuple[str, str]] = field(default_factory=dict)
    """position → (disk, writer and digest) of a publish that ended well"""
    begun: dict[tuple[str, int], dict[Position, str]] = field(default_factory=dict)
    """(disk, lineage) → position → digest of a publish that began there"""
    applied: dict[Position, tuple[str, str]] = field(default_factory=dict)
    images: list[tuple[Disk, Path | None, str | None]] = field(default_factory=list)
    edits: int = 0
    now: Disk | None = None

    def add(self, name: str, mode: str) -> Disk:
        folder = self.folder / f"disk-{len(self.disks)}"
        folder.mkdir()
        self.disks.append(Disk(name, folder, mode))
        return self.disks[-1]

    # --- what happens -----------------------------------------------------------------------

    def tell(self, disk: Disk, what: str) -> None:
        self.told.append(f"{disk.folder.name} ({disk.name}, {disk.mode}): {what}")

    def edit(self, disk: Disk) -> None:
        self.edits += 1
        disk.write(f"edit {self.edits}")
        self.tell(disk, f"edit {self.edits}")

    def start(self, disk: Disk, what: str) -> Process:
        """Begin a command; nothing of it has happened yet."""
        process = Process(disk, f"{what} on {disk.folder.name}", self.choose)
        instance = self._instance(disk, process)
        process.begin(lambda: self._work(instance, what))
        self.running.append(process)
        self.tell(disk, f"{what} begins")
        return process

    def _work(self, instance: Instance, what: str) -> CycleResult:
        with instance.state.lock():
            match what:
                case "backup":
                    return Leader(instance).cycle()
                case "backup --verify":
                    return Leader(instance).cycle(verify=True)
                case "restore":
                    return restore_cycle(instance)
                case "restore --now":
                    return restore_cycle(instance, reconcile=True)
                case "restore by a hint":
                    return restore_cycle(instance.under(Run(hint=self._hint())))
                case _:
                    return promote(instance.under(Run(force=what == "promote --force")))

    def _hint(self) -> Hint:
        """A true hint; or one that comes late, twice or too early, is a rival's, or a lie."""
        known = self.shelf.stored + self.shelf.begun
        kind = self.choose(6)
        if not known or kind == 5:
            return Hint(FAR, "f" * 12)
        named = max(known, key=lambda stored: stored.snapshot.position)
        if kind > 1:
            named = known[self.choose(len(known))]
        position = FAR if kind == 4 else named.snapshot.position
        self.told.append(f"a hint names {position}, which is {named.snapshot.position}")
        return Hint(position, named.snapshot.id)

    def _instance(self, disk: Disk, process: Process) -> Instance:
        repository = ShelfRepository(
            self.shelf,
            process.point,
            self.choose,
            lambda label: self._began(disk, label),
        )
        repository.may_be_stale = process.what.startswith("restore")
        made = Instance(
            name=disk.name,
            fleet="default",
            data_dir=disk.folder,
            tables=frozenset({"user"}),
            state=WatchedState(
                disk.folder / "replicator",
                process.point,
                lambda before, after: self._noted(disk, process, before, after),
            ),
            store=TinyStore(disk, process.point),
            repository=repository,
            kuma=TinyKuma(),
            wait_ready=lambda: None,
            notifier=NullNotifier(),
            supervised=True,
        )
        made.started = disk.clock
        return made

    def step(self, process: Process) -> None:
        self.now = process.disk
        process.disk.clock += 1.0
        at = process.at
        process.step()
        self.tell(process.disk, f"{process.what}: {at}")
        if process.ended:
            self.running.remove(process)
            self._ended(process)

    def finish(self, process: Process) -> Process:
        while not process.ended:
            self.step(process)
        return process

    def kill(self, process: Process) -> None:
        self.tell(process.disk, f"{process.what} is killed before: {process.at}")
        process.die()
        while not process.ended:
            process.step()
        self.running.remove(process)

    def busy(self, disk: Disk) -> bool:
        return any(process.disk is disk for process in self.running)

    def lose(self, disk: Disk, *, rows: bool) -> None:
        """A container made anew; or the whole disk, with an empty database in its place."""
        let_go(disk.folder)
        shutil.rmtree(disk.folder / "replicator", ignore_errors=True)
        disk.lineage += 1
        if rows:
            disk.write(None)
        self.tell(disk, "loses its state" + (" and its rows" if rows else ""))

    def copy(self, disk: Disk) -> None:
        """An image of a disk: its state and its rows."""
        kept: Path | None = self.folder / f"image-{len(self.images)}"
        if (disk.folder / "replicator").exists():
            shutil.copytree(disk.folder / "replicator", str(kept))
        else:
            kept = None
        self.images.append((disk, kept, disk.content))
        self.tell(disk, f"image {len(self.images) - 1} is made")

    def put_back(self, disk: Disk, number: int) -> None:
        """An image, of this disk or of another: an old one, or a clone."""
        source, kept, content = self.images[number]
        let_go(disk.folder)
        shutil.rmtree(disk.folder / "replicator", ignore_errors=True)
        if kept is not None:
            shutil.copytree(kept, disk.folder / "replicator")
        disk.name = source.name
        disk.lineage += 1
        disk.write(content)
        self.tell(disk, f"image {number} of {source.folder.name} is put back")

    # --- what must hold ---------------------------------------------------------------------

    def _began(self, disk: Disk, label: Label) -> None:
        begun = self.begun.setdefault((disk.folder.name, disk.lineage), {})
        if label.position in begun:
            self.fail(f"{disk.folder.name} publishes {label.position} once more")
        begun[label.position] = label.digest

    def _noted(self, disk: Disk, process: Process, before: State, after: State) -> None:
        was, mark = before.following.applied, after.following.applied
        if mark is None or mark == was:
            return
        if was is not None and mark.position < was.position:
            self.fail(f"{process.what} goes back to {mark.position} from {was.position}")
        name, digest = self.applied.setdefault(mark.position, (process.what, mark.digest))
        if digest != mark.digest:
            self.fail(f"{process.what} and {name} applied {mark.position} with two contents")

    def _ended(self, process: Process) -> None:
        result, disk = process.result, process.disk
        said = result.sentence if result else f"{type(process.error).__name__}: {process.error}"
        self.tell(disk, f"{process.what} ends: {said}")
        if result is None or result.outcome is not Outcome.PUBLISHED:
            return
        position, writer = result.position, StateFile(disk.folder / "replicator").load().writer
        assert position is not None
        name, what = self.confirmed.setdefault(
            position, (disk.folder.name, f"{writer} {result.digest}")
        )
        if what != f"{writer} {result.digest}":
            self.fail(f"{disk.folder.name} and {name} both published {position}, and neither knows")

    def fail(self, why: str) -> None:
        raise Violation(why)

    def end_all(self) -> None:
        """No process lives on: a failed schedule must not leave threads behind."""
        for process in list(self.running):
            process.dead = True
            while not process.ended:
                process.step()
        self.running.clear()


_rmtree = shutil.rmtree


def _remove(path: str | Path, ignore_errors: bool = False, **options: Any) -> None:
    """Most of what is removed is not there: that is seen at once."""
    if os.path.lexists(path):
        _rmtree(path, ignore_errors=ignore_errors, **options)


class _Work(Future[Any]):
    """In the place of a thread: work that is done at once, or when its end is waited for.

    Whatever such threads do is one call or one read: side by side is one of the two orders.
    """

    def __init__(self, world: World, work: Callable[[], Any]) -> None:
        super().__init__()
        self._work: Callable[[], Any] | None = work
        if world.choose(2) == 0:
            self._do()

    def _do(self) -> None:
        work, self._work = self._work, None
        if work is not None:
            try:
                self.set_result(work())
            except Exception as error:
                self.set_exception(error)
            except BaseException as death:  # it ends the process, and this thread with it
                self.set_exception(death)
                raise

    def result(self, timeout: float | None = None) -> Any:
        self._do()
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        self._do()
        return super().exception(timeout)


@contextlib.contextmanager
def stand_ins(world: World) -> Iterator[None]:
    """The clocks are those of the world's machines, and dumps are what store.py makes of them.

    What costs time and decides nothing about positions is left out.
    """
    clock = Clock(lambda: world.now.clock if world.now is not None else 0.0)
    with contextlib.ExitStack() as stack:
        for module in (leader, publish, take, drift):
            stack.enter_context(mock.patch.object(module, "time", clock))
        stack.enter_context(mock.patch.object(file, "json", Compact))
        cached = functools.cache(codec.encode)
        stack.enter_context(mock.patch.object(codec, "encode", cached))
        stack.enter_context(mock.patch.object(shutil, "rmtree", _remove))
        for module in (take, leader):
            stack.enter_context(
                mock.patch.object(
                    module, "beside", lambda work: contextlib.nullcontext(_Work(world, work))
                )
            )
        stack.enter_context(
            mock.patch.object(ahead, "started", lambda _name, work: _Work(world, work))
        )
        stack.enter_context(mock.patch.object(ahead, "Dump", store.FetchedDump))
        for name in ("observe", "observed_dump", "fingerprint"):
            for module in (leader, publish, prepare, drift):
                if hasattr(module, name):
                    stack.enter_context(mock.patch.object(module, name, getattr(store, name)))
        stack.enter_context(mock.patch.object(take, "fetched", store.fetched))
        stack.enter_context(mock.patch.object(prepare, "prepare", store.prepare))
        stack.enter_context(mock.patch.object(take, "apply", store.apply))
        stack.enter_context(mock.patch.object(publish.Since, "plan", None))
        stack.enter_context(mock.patch.object(published_dump, "keep"))
        stack.enter_context(mock.patch.object(publish, "as_replicas_do"))  # it has no folder
        yield


# --- schedules --------------------------------------------------------------------------------


def play(world: World, steps: int) -> None:
    """Chaos for so many steps, then quiet: what must hold then is checked too."""
    with stand_ins(world):
        try:
            _people(world)
            for _ in range(steps):
                _something(world)
            _quiet(world)
        except Violation as error:
            schedule = "\n  ".join(world.told)
            raise Violation(f"{error}\n  {schedule}") from error
        finally:
            world.end_all()


def _people(world: World) -> None:
    """A leader, a replica, and a third: a replica, a second leader, one of the first's name.

    In most worlds they have published and followed once; one disk may be the first one's, copied.
    """
    third, begun = world.choose(4), world.choose(4) != 3
    first = world.add("alpha", "BACKUP")
    world.add("beta", "RESTORE")
    world.add("alpha" if third == 2 else "gamma", "BACKUP" if third in (1, 2) else "RESTORE")
    if begun:
        _first_snapshot(world)
    if third == 3:
        world.copy(first)
        world.put_back(world.disks[2], 0)
        world.disks[2].mode = "BACKUP"


@dataclass
class First:
    """What a leader's first cycle, and a replica's, leave: made once, copied into each world."""

    stored: Stored
    position: Position
    confirmed: tuple[str, str]
    states: dict[str, bytes]


def let_go(folder: Path) -> None:
    """Close what the program holds of state directories below: it means to keep one for good.

    Thousands of instances in one process would leave no descriptors.
    """
    for name in [name for name in state_directory._anchors if Path(name).is_relative_to(folder)]:
        os.close(state_directory._anchors.pop(name))


@functools.cache
def _first() -> First:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), Choices())
        leading, following = world.add("alpha", "BACKUP"), world.add("beta", "RESTORE")
        world.finish(world.start(leading, "backup"))
        world.finish(world.start(following, "restore"))
        states = {
            disk.mode: (disk.folder / "replicator" / "state.json").read_bytes()
            for disk in world.disks
        }
        position, confirmed = world.confirmed.popitem()
        return First(world.shelf.stored[0], position, confirmed, states)


def _first_snapshot(world: World) -> None:
    """The first disk has led for one cycle, and each replica has followed."""
    first = _first()
    world.shelf.stored.append(first.stored)
    world.shelf.number = 1
    world.confirmed[first.position] = first.confirmed
    world.applied[first.position] = ("restore", first.stored.snapshot.label.digest)
    for disk in world.disks:
        if disk.mode == "RESTORE" or disk is world.disks[0]:
            (disk.folder / "replicator").mkdir()
            (disk.folder / "replicator" / "state.json").write_bytes(first.states[disk.mode])


def _something(world: World) -> None:
    choose = world.choose
    kind = choose(40)
    if kind < 24:
        if world.running:
            process = world.running[choose(len(world.running))]
            for _ in range(1 + choose(3)):
                if not process.ended:
                    world.step(process)
        else:
            _begin(world, world.disks[choose(len(world.disks))])
    elif kind < 31:
        _begin(world, world.disks[choose(len(world.disks))])
    elif kind < 34:
        world.edit(world.disks[choose(len(world.disks))])
    elif kind < 36:
        if world.running:
            world.kill(world.running[choose(len(world.running))])
    elif kind == 36:
        _restic_ends(world)
    else:
        _mishap(world, world.disks[choose(len(world.disks))], choose(8))


def _begin(world: World, disk: Disk) -> None:
    if world.busy(disk):
        return
    if disk.mode == "BACKUP":
        if world.choose(3) != 0:
            world.edit(disk)
        rivals = [d for d in world.disks if d.mode == "BACKUP" and d is not disk]
        if rivals and not world.busy(rivals[0]) and world.choose(2):
            world.edit(rivals[0])
            world.start(rivals[0], "backup")
    whats = {
        "BACKUP": ("backup", "backup --verify", "backup", "backup", "promote", "promote --force"),
        "RESTORE": (
            "restore",
            "restore --now",
            "restore by a hint",
            "restore by a hint",
            "promote",
            "promote --force",
        ),
    }[disk.mode]
    world.start(disk, whats[world.choose(len(whats))])


def _restic_ends(world: World) -> None:
    """One that outlived the process that began it; with or without a snapshot."""
    waited = {id(p) for p in world.running if p.at == "backup ends"}
    left = world.shelf.begun[: len(world.shelf.begun) - len(waited)] if waited else None
    candidates = left if left is not None else world.shelf.begun
    if candidates:
        restic = candidates[world.choose(len(candidates))]
        world.shelf.end(restic, saved=world.choose(4) != 3)
        world.told.append(f"a forgotten restic ends at {restic.snapshot.position}")


def _mishap(world: World, disk: Disk, what: int) -> None:
    if what == 0 or what == 1:
        disk.clock += JUMPS[world.choose(len(JUMPS))]
        world.tell(disk, "its clock jumps")
    elif world.busy(disk):
        return
    elif what == 2:
        world.lose(disk, rows=False)
    elif what == 3:
        world.lose(disk, rows=True)
    elif what == 4:
        world.copy(disk)
    elif what == 5 and world.images:
        world.put_back(disk, world.choose(len(world.images)))
    else:
        disk.mode = "RESTORE" if disk.mode == "BACKUP" else "BACKUP"
        world.tell(disk, "its mode is set")


def _quiet(world: World) -> None:
    """Everything ends; then every leader goes on for some rounds, and at most one can."""
    for process in list(world.running):
        world.finish(process)
    for restic in list(world.shelf.begun):
        world.shelf.end(restic, saved=world.choose(2) == 1)
    world.told.append("quiet")
    fair = world.choose
    world.choose = lambda number: 0  # type: ignore[assignment]
    leaders = [disk for disk in world.disks if disk.mode == "BACKUP"]
    ends = [(disk, _lead(world, disk)) for disk in leaders]
    if len([end for _disk, end in ends if end.error is None]) > 1:
        # the first may not have known of the second yet: now it does
        ends = [(disk, _lead(world, disk)) for disk in leaders]
    _at_most_one(world, ends)
    if fair(8) == 0:
        _promoted(world, world.disks[fair(len(world.disks))])


def _lead(world: World, disk: Disk) -> Process:
    world.edit(disk)
    return world.finish(world.start(disk, "backup --verify"))


def _at_most_one(world: World, ends: list[tuple[Disk, Process]]) -> None:
    leading = [disk.folder.name for disk, end in ends if end.error is None]
    if len(leading) > 1:
        world.fail(f"{' and '.join(leading)} both lead")
    for disk, end in ends:
        if end.error is not None and not isinstance(end.error, Fenced):
            world.fail(f"{disk.folder.name} does not lead, and is not fenced: {end.error!r}")
        if (
            end.error is not None
            and not StateFile(disk.folder / "replicator").load().leading.fenced
        ):
            world.fail(f"{disk.folder.name} is fenced, and its state does not say so")


def _remembers(disk: Disk) -> bool:
    """Whether its state knows of any snapshot; else its name is all that it is."""
    state = StateFile(disk.folder / "replicator").load()
    return any(
        (
            state.leading.published,
            state.leading.publishing,
            state.leading.burned,
            state.following.applied,
            state.leading.fenced,
        )
    )


def _promoted(world: World, chosen: Disk) -> None:
    """A person's way out of everything: one promote, after which all agree."""
    end = world.finish(world.start(chosen, "promote"))
    if end.error is not None:
        world.edit(chosen)  # it may have no rows at all
        end = world.finish(world.start(chosen, "promote --force"))
    if end.error is not None:
        world.fail(f"{chosen.folder.name} cannot be promoted: {end.error!r}")
    chosen.mode = "BACKUP"
    for disk in world.disks:
        if disk is not chosen and disk.mode == "BACKUP":
            if not _remembers(disk) and disk.name == chosen.name:
                return  # the limit that the README names: it takes itself for the one it is not
            end = _lead(world, disk)
            if not isinstance(end.error, Fenced):
                world.fail(f"{disk.folder.name} is not fenced by the one that was promoted")
            disk.mode = "RESTORE"
    end = _lead(world, chosen)
    if end.error is not None:
        world.fail(f"{chosen.folder.name} was promoted and does not lead: {end.error!r}")
    for disk in world.disks:
        if disk is not chosen:
            world.finish(world.start(disk, "restore"))
            if disk.content != chosen.content:
                world.fail(f"{disk.folder.name} does not follow the one that was promoted")
