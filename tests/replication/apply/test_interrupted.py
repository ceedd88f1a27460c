"""A restore, a way back, a publish and a promote: dead after every single step, then run again.

(Patroni's tests do this to its state machine; here each death is one of a real process.)
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from replicator_kuma.base.errors import KumaError, SnapshotRefused
from replicator_kuma.replication.apply.interrupted import resolve_before_start
from replicator_kuma.replication.instance import Instance, Outcome
from replicator_kuma.replication.observe import observe
from tests.support import cycles, databases
from tests.support.compare import (
    config_differences,
    damage,
    local_differences,
    orphans,
    staying_differences,
)
from tests.support.crashing import FileKuma, crash_at
from tests.support.cycles import db, follow, lead, left_behind, positions, rename, take_over
from tests.support.folder_repository import FolderRepository
from tests.support.forked import DIED
from tests.support.instances import make_instance
from tests.support.thorough import one_in

NEW_LOGO = b"another logo"
MOST = 400
"""No scenario has as many effects: a test that never ends is none."""
AS_IN_A_RESTORE = 25
"""A way back and a promote begin with as many effects of a restore, which has more."""


@dataclass
class World:
    """A leader, a replica and their repository, copied for one death."""

    folder: Path

    def __post_init__(self) -> None:
        self.repository = FolderRepository(self.folder / "repository")
        self.leader = self.instance("leader")
        self.replica = self.instance("replica")

    def instance(self, name: str) -> Instance:
        kuma = FileKuma(self.folder / name)
        made = make_instance(self.folder / name, self.repository, name=name)
        made.kuma, made.wait_ready = kuma, kuma.wait_ready
        return made

    @property
    def scratch(self) -> tuple[Path, ...]:
        """Where effects do not count: no later process looks there."""
        return self.leader.work, self.replica.work, self.repository.folder

    @property
    def kuma(self) -> FileKuma:
        assert isinstance(self.replica.kuma, FileKuma)
        return self.replica.kuma

    def reborn(self) -> World:
        """What a new process makes of the same files."""
        return World(self.folder)


@dataclass
class Template:
    folder: Path
    old: Path
    new: Path

    def worlds(self, scratch: Path, first: int = 1, step: int = 1) -> Iterator[tuple[int, World]]:
        """A world for the death at each effect, from the first of interest on."""
        for number in range(first, MOST, step):
            target = scratch / str(number)
            shutil.copytree(self.folder, target)
            yield number, World(target)
            shutil.rmtree(target)
        raise AssertionError(f"more than {MOST} effects")


@pytest.fixture
def scratch() -> Iterator[Path]:
    """In memory where there is such a place: only processes die here, no machine."""
    memory = Path("/dev/shm")
    place = memory if os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="replicator-", dir=place) as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Template:
    """A replica at 1.1, and 1.2 published: monitors changed, gone, new, another one; a logo."""
    folder = tmp_path_factory.mktemp("template") / "world"
    cycles.fill(folder / "leader", monitors=7)
    (folder / "leader" / "kuma-is-up").touch()
    world = World(folder)
    world.repository.init()
    lead(world.leader)
    ignored = shutil.ignore_patterns("replicator")
    shutil.copytree(folder / "leader", folder / "replica", ignore=ignored, dirs_exist_ok=True)
    follow(world.replica)
    old = cycles.copy_of(db(world.replica), "old.db")
    rename(db(world.leader), 3, "two")
    cycles.delete_monitor(db(world.leader), 4)
    databases.edit(db(world.leader), "UPDATE monitor SET created_date = '2031' WHERE id = 5")
    cycles.add_monitor(db(world.leader), 77)
    (folder / "leader" / "upload" / "logo2.png").write_bytes(NEW_LOGO)
    lead(world.leader)
    new = cycles.copy_of(db(world.leader), "new.db")
    return Template(folder, old, new)


def rows(world: World, template: Template) -> str:
    """Which of the two the replica's tables are, exactly."""
    if not config_differences(db(world.replica), template.new):
        return "new"
    assert config_differences(db(world.replica), template.old) == []
    return "old"


def on_new_rows(world: World) -> bool:
    return cycles.name_of(db(world.replica), 3) == "two"


def files(world: World) -> str:
    logo = (world.replica.data_dir / "upload" / "logo2.png").read_bytes()
    assert logo in (cycles.LOGO, NEW_LOGO)
    return "new" if logo == NEW_LOGO else "old"


def look_at_each_start(world: World, template: Template) -> None:
    """Kuma never starts on the rows of one snapshot with the files of another."""

    def look() -> None:
        assert rows(world, template) == files(world)

    world.kuma.looks = look


def assert_ended(world: World, template: Template, side: str) -> None:
    replica = world.replica
    assert (rows(world, template), files(world)) == (side, side)
    assert staying_differences(db(replica), template.old) == []
    assert local_differences(db(replica), template.old) == []
    assert [*orphans(db(replica)), *damage(db(replica))] == []
    beats = {m: cycles.count(db(replica), "heartbeat", f"monitor_id = {m}") for m in (4, 5, -5)}
    assert beats == ({4: 0, 5: 0, -5: 0} if side == "new" else {4: 2, 5: 2, -5: 0})
    state = replica.state.load()
    assert (state.pending, state.purge, state.stopped_by_me) == (None, False, False)
    assert left_behind(replica) == []
    assert world.kuma.running()


def assert_kuma_comes_first(world: World, template: Template) -> None:
    """After a death the next command starts a Kuma that was stopped, before anything else."""
    state = world.replica.state.load()
    if not state.stopped_by_me:
        return
    world.repository.before["snapshots"] = lambda: world.kuma.log.append("asked")
    world.kuma.log.clear()
    with contextlib.suppress(KumaError, SnapshotRefused):
        follow(world.replica)
    assert world.kuma.log[0] == "start"


@pytest.mark.slow
def test_a_restore(template: Template, scratch: Path) -> None:
    """After every other death a one-shot command comes next, after the others a supervisor."""
    died, ends = 0, set()
    for number, world in template.worlds(scratch):
        code = crash_at(number, lambda w=world: follow(w.replica), *world.scratch)  # type: ignore[misc]
        after = world.reborn()
        look_at_each_start(after, template)
        if code == 0:
            assert_ended(after, template, "new")
            break
        assert code == DIED
        died += 1
        ends.add(rows(after, template))
        if number % 2:
            assert_kuma_comes_first(after, template)
        else:
            after.kuma.up.unlink(missing_ok=True)  # a container ends as a whole
            with after.replica.state.lock():
                resolve_before_start(after.replica)
            assert rows(after, template) == files(after)
            after.kuma.start()
        follow(after.replica, reconcile=True)
        assert_ended(after, template, "new")
        assert follow(after.replica).sentence == "1.2 is applied; nothing newer"
    assert died > AS_IN_A_RESTORE
    assert ends == {"old", "new"}


@pytest.mark.slow
def test_the_way_back(template: Template, scratch: Path) -> None:
    """Kuma is never ready on the new rows: wherever it dies, it ends on the old ones."""
    died = 0

    def one(world: World) -> None:
        world.kuma.refuses = lambda: on_new_rows(world)
        with pytest.raises(KumaError):
            follow(world.replica)

    for number, world in template.worlds(scratch, AS_IN_A_RESTORE, one_in(3)):
        code = crash_at(number, lambda w=world: one(w), *world.scratch)  # type: ignore[misc]
        after = world.reborn()
        after.kuma.refuses = lambda w=after: on_new_rows(w)  # type: ignore[misc]
        look_at_each_start(after, template)
        rows(after, template)
        if code:
            assert code == DIED
            assert_kuma_comes_first(after, template)
            until_refused(after)
        assert_ended(after, template, "old")
        assert len(set(after.replica.state.load().bad)) == 1
        if code == 0:
            break
        died += 1
    assert died > AS_IN_A_RESTORE // one_in(3)


def until_refused(world: World) -> None:
    """Cycles by schedule, until the snapshot is known as bad."""
    for _ in range(3):
        try:
            follow(world.replica)
        except KumaError:
            continue
        except SnapshotRefused:
            return
    raise AssertionError("the snapshot is never called bad")


@pytest.mark.slow
@pytest.mark.parametrize("what", ["publish", "promote"])
def test_a_publish(template: Template, scratch: Path, what: str) -> None:
    """No position is used twice, and what is newest at the end is whole and equals the rows."""

    def one(world: World) -> object:
        return lead(world.leader) if what == "publish" else take_over(world.replica)

    died = 0
    first = 1 if what == "publish" else AS_IN_A_RESTORE
    for number, world in template.worlds(scratch, first):
        rename(db(world.leader), 6, "three")
        code = crash_at(number, lambda w=world: one(w), *world.scratch)  # type: ignore[misc]
        after = world.reborn()
        writer = after.leader if what == "publish" else after.replica
        if code:
            assert code == DIED
            one(after)
        found = positions(after.repository)
        assert len(found) == len(set(found))
        newest = after.repository.snapshots("default")[-1]
        assert newest.label.digest == observe(writer).manifest.digest
        assert lead(writer, verify=True).outcome is Outcome.NOTHING
        assert left_behind(writer) == []
        if code == 0:
            break
        died += 1
    assert died > 5
