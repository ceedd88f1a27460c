"""A leader, a replica and their repository in one folder, and what becomes of them in a death."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from replicator_kuma.base.errors import KumaError, SnapshotRefused
from replicator_kuma.replication.apply.recovery import resolve_before_start
from replicator_kuma.replication.instance import CycleResult, Instance, Outcome, Way
from tests.support import cycles, databases
from tests.support.compare import assert_sound, config_differences
from tests.support.crashing import crash_at
from tests.support.cycles import LOGO, db, follow, lead, left_behind
from tests.support.engines import Engine
from tests.support.folder_repository import FolderRepository
from tests.support.forked import DIED
from tests.support.instances import FileKuma, HastyStore, RecordingKuma, make_instance
from tests.support.memory_agent import MemoryKuma
from tests.support.states import edit_state

NEW_LOGO = b"another logo"
_MOST = 400
"""No work has as many effects: a test that never ends is none."""


class Fleet:
    """All there is of it lies in ``folder``: another one on it is what a new process finds.

    Each instance has SQLite in a folder of its name, or an engine where that one lies. With
    ``mortal`` its Kuma is a `FileKuma`, else a `RecordingKuma` that is up. With ``live`` it is a
    `MemoryKuma`, which takes rows while it runs.
    """

    def __init__(
        self,
        folder: Path,
        *,
        mortal: bool = False,
        live: bool = False,
        leader: Engine | None = None,
        replica: Engine | None = None,
    ) -> None:
        self.folder, self._mortal, self._live = folder, mortal, live
        self.repository = FolderRepository(folder / "repository")
        self.repository.folder.mkdir(parents=True, exist_ok=True)
        self.leader = self._instance("leader", leader)
        self.replica = self._instance("replica", replica)

    def _instance(self, name: str, engine: Engine | None) -> Instance:
        folder = engine.data_dir if engine else self.folder / name
        kuma = FileKuma(folder) if self._mortal else None
        if self._live:
            kuma = MemoryKuma(folder)
        made = make_instance(
            folder,
            self.repository,
            name=name,
            kuma=kuma,
            store=engine.store() if engine else HastyStore(folder),
        )
        if isinstance(kuma, MemoryKuma):
            made.way, made.agent = Way.AUTO, kuma.agent
        return made

    @property
    def kuma(self) -> RecordingKuma:
        """The replica's."""
        assert isinstance(self.replica.kuma, RecordingKuma)
        return self.replica.kuma

    @property
    def file_kuma(self) -> FileKuma:
        """The replica's, of a fleet that is mortal."""
        assert isinstance(self.replica.kuma, FileKuma)
        return self.replica.kuma

    @property
    def memory_kuma(self) -> MemoryKuma:
        """The replica's, of a fleet that is live."""
        assert isinstance(self.replica.kuma, MemoryKuma)
        return self.replica.kuma

    @property
    def leader_db(self) -> Path:
        return db(self.leader)

    @property
    def replica_db(self) -> Path:
        return db(self.replica)

    @property
    def scratch(self) -> tuple[Path, ...]:
        """Where effects do not count: no later process looks there."""
        return self.leader.work, self.replica.work, self.repository.folder

    def publish(self, *, allow_shrink: bool = True) -> CycleResult:
        return lead(self.leader, allow_shrink=allow_shrink, verify=True)

    def follow(self, *, reconcile: bool = True) -> CycleResult:
        return follow(self.replica, reconcile=reconcile)

    def replicate(self) -> CycleResult:
        """What the leader has now, on the replica."""
        self.publish()
        return self.follow()

    def begin(self) -> None:
        """The leader publishes what it has; the replica, a copy of it, has applied that."""
        lead(self.leader)
        ignored = shutil.ignore_patterns("replicator")
        shutil.copytree(
            self.leader.data_dir, self.replica.data_dir, ignore=ignored, dirs_exist_ok=True
        )
        follow(self.replica)

    def assert_replicated(self, before: Path) -> None:
        """The replica's rows and files are the leader's; ``before`` is the replica as it was."""
        assert config_differences(self.replica_db, self.leader_db) == []
        self.assert_sound(before)
        assert uploads(self.replica) == uploads(self.leader)

    def assert_sound(self, before: Path) -> None:
        """What is the replica's own is as in ``before``, and nothing is damaged."""
        assert_sound(self.replica_db, before)

    def assert_quiet(self) -> None:
        """A second plan is empty, whatever the state remembers; nothing stops."""
        asked = len(self.kuma.log)
        with self.replica.state.lock():
            edit_state(self.replica.state, applied=None, digest="")
        result = self.follow()
        assert result.outcome is Outcome.NOTHING, result.sentence
        assert [word for word in self.kuma.log[asked:] if word != "ready?"] == []
        assert self.publish().outcome is Outcome.NOTHING


def uploads(instance: Instance) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (instance.data_dir / "upload").glob("*")}


def assert_at_rest(instance: Instance) -> None:
    """As an uninterrupted cycle ends: Kuma runs, nothing is open and nothing left behind."""
    nothing_open(instance)
    assert instance.kuma.running()
    if instance.agent is not None and isinstance(instance.kuma, MemoryKuma):
        assert instance.kuma.agent.differ() == (), "Kuma's memory is not what its rows say"


def nothing_open(instance: Instance) -> None:
    """No apply is under way by the state, and none has left files."""
    found = instance.state.load().applying
    assert (found.pending, found.purge, found.stopped_by_me) == (None, False, False)
    assert left_behind(instance) == []


# --- deaths ---------------------------------------------------------------------------------


def change(data_dir: Path) -> None:
    """Monitors changed, gone, new, another one with the same id; a logo."""
    database = data_dir / "kuma.db"
    cycles.rename(database, 3, "two")
    cycles.delete_monitor(database, 4)
    databases.edit(database, "UPDATE monitor SET created_date = '2031' WHERE id = 5")
    cycles.add_monitor(database, 77)
    (data_dir / "upload" / "logo2.png").write_bytes(NEW_LOGO)


@dataclass(frozen=True)
class Start:
    """A fleet's folder to copy, and the replica's database on its old and its new rows."""

    folder: Path
    old: Path
    new: Path
    live: bool = False
    """whether its instances take rows while their Kuma runs"""

    def rows(self, database: Path) -> str:
        """Which of the two a database's rows are, exactly."""
        if not config_differences(database, self.new):
            return "new"
        assert config_differences(database, self.old) == []
        return "old"

    def copied(self, scratch: Path) -> Path:
        """A copy in a new folder of its own below ``scratch``."""
        return shutil.copytree(self.folder, Path(tempfile.mkdtemp(dir=scratch)) / "fleet")

    def fleet(self, folder: Path) -> Fleet:
        """The fleet of a copy's folder, as a new process finds it."""
        return Fleet(folder, mortal=True, live=self.live)

    def deaths(
        self, scratch: Path, work: Callable[[Fleet], object], *, first: int = 1, step: int = 1
    ) -> Iterator[tuple[int, Fleet, bool]]:
        """Copies whose process died before its n-th effect of ``work``, as the next finds them.

        Each with its number, and whether it died: the last one got through.
        """
        for number in range(first, _MOST, step):
            folder = self.copied(scratch)
            fleet = self.fleet(folder)
            code = crash_at(number, lambda fleet=fleet: work(fleet), *fleet.scratch)  # type: ignore[misc]
            assert code in (0, DIED)
            yield number, self.fleet(folder), code == DIED
            shutil.rmtree(folder.parent)
            if code == 0:
                return
        raise AssertionError(f"more than {_MOST} effects")


def start(folder: Path, *, live: bool = False) -> Start:
    """A replica at 1.1, 1.2 published with each kind of change; the leader has one more."""
    cycles.fill(folder / "leader", monitors=7)
    fleet = Fleet(folder, mortal=True, live=live)
    for instance in (fleet.leader, fleet.replica):
        instance.kuma.start()
    fleet.begin()
    old = cycles.copy_of(fleet.replica_db, "old.db")
    change(fleet.leader.data_dir)
    lead(fleet.leader)
    new = cycles.copy_of(fleet.leader_db, "new.db")
    cycles.rename(fleet.leader_db, 6, "three")
    return Start(folder, old, new, live)


def logo(data_dir: Path) -> str:
    """Which of the two the logo is."""
    found = (data_dir / "upload" / "logo2.png").read_bytes()
    assert found in (LOGO, NEW_LOGO)
    return "new" if found == NEW_LOGO else "old"


def a_supervisor_starts(replica: Instance) -> None:
    """A container ended as a whole: the next supervisor looks at what is open, then starts Kuma."""
    assert isinstance(replica.kuma, RecordingKuma)
    replica.kuma.up = False
    with replica.state.lock():
        resolve_before_start(replica)
    replica.kuma.start()


def assert_kuma_comes_first(replica: Instance) -> None:
    """The next command starts a Kuma that the dead one had stopped, before anything else."""
    if not replica.state.load().applying.stopped_by_me:
        return
    assert isinstance(replica.kuma, RecordingKuma)
    assert isinstance(replica.repository, FolderRepository)
    log = replica.kuma.log
    log.clear()
    replica.repository.before["snapshots"] = lambda: log.append("asked")
    with contextlib.suppress(KumaError, SnapshotRefused):
        follow(replica)
    assert log[0] == "start"


def until_refused(replica: Instance) -> None:
    """Cycles by schedule, until the snapshot is known as bad."""
    for _ in range(3):
        try:
            follow(replica)
        except KumaError:
            continue
        except SnapshotRefused:
            return
    raise AssertionError("the snapshot is never called bad")
