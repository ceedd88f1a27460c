"""What is pinged at each way in which a cycle can end: success exactly where this one is in sync.

Real cycles on real databases. What a ping says is compared with the rows: with the newest snapshot
in the repository, and not with what the state believes.
"""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from replicator_kuma.adapters.notify import CycleEnd
from replicator_kuma.adapters.repository import Label, Position
from replicator_kuma.base.errors import (
    AlreadyRunning,
    Interrupted,
    ReplicatorError,
    RepositoryUnreachable,
    StateError,
    WrongPassword,
)
from replicator_kuma.replication import runner
from replicator_kuma.replication.actions import (
    Backup,
    Cycle,
    Promote,
    Restore,
    Resume,
    Rollback,
    Undo,
)
from replicator_kuma.replication.instance import CycleResult, Instance, Outcome, Run
from replicator_kuma.replication.observe import observe
from replicator_kuma.replication.pings import verdict
from replicator_kuma.replication.restart_cooldown import Cooldown
from replicator_kuma.replication.state.file import StateFile
from replicator_kuma.replication.state.records import Hold
from replicator_kuma.replication.state.state import State
from tests.support import cycles
from tests.support.cycles import db, delete_monitor, publish, rename
from tests.support.folder_repository import FolderRepository
from tests.support.instances import RecordingKuma

SUCCESS, FAILURE, NEITHER, NOTHING = "success", "failure", "neither", "nothing"


@dataclass
class Noted:
    """Pings that are only kept."""

    begins: int = 0
    ends: list[CycleEnd] = field(default_factory=list)

    def begun(self) -> None:
        self.begins += 1

    def ended(self, end: CycleEnd) -> None:
        self.ends.append(end)

    def close(self, timeout: float = 2.0) -> None:
        """Nothing."""


@dataclass
class House:
    leader: Instance
    replica: Instance
    repository: FolderRepository
    kuma: RecordingKuma
    patch: pytest.MonkeyPatch

    def pinged(self, there: Instance, action: Cycle) -> tuple[str, Noted]:
        """Run an action, and return what was pinged at its end in one word, and all of it."""
        there.pings = noted = Noted()
        role = "BACKUP" if there is self.leader or action.makes_leader else "RESTORE"
        with suppress(ReplicatorError, RuntimeError):
            runner.run(there, role, action.run, there.run, own=action.own)
        assert len(noted.ends) <= 1
        if not noted.ends:
            return NOTHING, noted
        return {True: SUCCESS, False: FAILURE, None: NEITHER}[noted.ends[0].ok], noted

    def in_sync(self, there: Instance) -> bool:
        """Whether the live rows are those of the newest snapshot there is."""
        down, self.repository.down = self.repository.down, None
        try:
            newest = self.repository.snapshots("default")
            return bool(newest) and observe(there).manifest.digest == newest[-1].label.digest
        finally:
            self.repository.down = down


@pytest.fixture
def house(
    leader: Instance,
    replica: Instance,
    repository: FolderRepository,
    kuma: RecordingKuma,
    monkeypatch: pytest.MonkeyPatch,
) -> House:
    """A replica at 1.1."""
    return House(leader, replica, repository, kuma, monkeypatch)


def nothing(_house: House) -> None:
    """All is as it was."""


def newer(house: House) -> None:
    publish(house.leader, "newer")


def away(house: House) -> None:
    newer(house)
    house.repository.down = RepositoryUnreachable("no route")


def away_with_nothing_new(house: House) -> None:
    house.repository.down = RepositoryUnreachable("no route")


def password(house: House) -> None:
    house.repository.down = WrongPassword("another one")


def emptied(house: House) -> None:
    for path in house.repository.folder.glob("*.json"):
        path.unlink()


def another_fleet(house: House) -> None:
    house.replica.fleet = "new"
    house.replica.state = StateFile(house.replica.state.name.with_name("new"))


def gone(house: House) -> None:
    house.repository.folder.rename(house.repository.folder.with_name("elsewhere"))


def spoiled(house: House) -> None:
    newer(house)
    cycles.spoil_newest(house.repository)


def held(house: House) -> None:
    cycles.hold_at(house.replica, "1.1")
    newer(house)


def held_at_the_newest(house: House) -> None:
    cycles.hold_at(house.replica, "1.1")


def held_and_away(house: House) -> None:
    held(house)
    away_with_nothing_new(house)


def shrinks(house: House) -> None:
    for ids in (range(1, 6), range(6, 9)):  # neither is half of what the leader had before
        for number in ids:
            delete_monitor(db(house.leader), number)
        cycles.lead(house.leader)


def shrunk(house: House) -> None:
    for number in range(1, 9):
        delete_monitor(db(house.leader), number)


def other_schema(house: House) -> None:
    newer(house)
    with closing(sqlite3.connect(db(house.replica))) as connection, connection:
        connection.execute("ALTER TABLE monitor ADD COLUMN of_tomorrow TEXT DEFAULT 'x'")


def just_restarted(house: House) -> None:
    house.replica.cooldown = Cooldown(3600.0)
    newer(house)
    cycles.follow(house.replica)
    publish(house.leader, "newer still")


def drifted(house: House) -> None:
    rename(db(house.replica), 3, "edited here")


def not_ready(house: House) -> None:
    newer(house)
    house.kuma.refuses_to_be_ready = [True]


def not_ready_before(house: House) -> None:
    not_ready(house)
    with suppress(ReplicatorError):
        cycles.follow(house.replica)


def rival(house: House) -> None:
    """Another writer publishes what this leader would go on to."""
    other = cycles.another(house.leader.data_dir.with_name("rival"), house.leader, house.repository)
    rename(db(other), 3, "of a rival")
    newest = house.repository.snapshots("default")[-1]
    source = house.repository.folder / newest.id
    label = dataclasses.replace(newest.label, writer="f" * 64, position=Position(1, 2))
    assert isinstance(label, Label)
    house.repository.add(source, label)


def edited(house: House) -> None:
    rename(db(house.leader), 3, "edited")


def edited_and_away(house: House) -> None:
    edited(house)
    away_with_nothing_new(house)


def publish_fails(house: House) -> None:
    edited(house)
    house.repository.fail["publish"] = RepositoryUnreachable("no route")


def bug(house: House) -> None:
    def raises(_fleet: str) -> None:
        raise RuntimeError("a bug")

    house.patch.setattr(house.repository, "snapshots", raises)


def full(house: House) -> None:
    def raises(*_arguments: object, **_changes: object) -> None:
        raise StateError("cannot write state.json: No space left on device")

    house.patch.setattr(StateFile, "save", raises)


def interrupted(house: House) -> None:
    house.replica.run = Run(interrupted=lambda: True)


def no_database(house: House) -> None:
    db(house.replica).unlink()


def undone_before(house: House) -> None:
    newer(house)
    cycles.follow(house.replica)


def published_twice(house: House) -> None:
    newer(house)


Make = Callable[[House], None]
WAYS: tuple[tuple[str, Make, Cycle, str], ...] = (
    ("replica", nothing, Restore(), SUCCESS),
    ("replica", nothing, Restore(reconcile=True), SUCCESS),
    ("replica", newer, Restore(), SUCCESS),
    ("replica", held, Resume(), SUCCESS),
    ("replica", away, Restore(), FAILURE),
    ("replica", away_with_nothing_new, Restore(), FAILURE),
    ("replica", password, Restore(), FAILURE),
    ("replica", emptied, Restore(), FAILURE),
    ("replica", gone, Restore(), FAILURE),
    ("replica", spoiled, Restore(), FAILURE),
    ("replica", shrinks, Restore(), FAILURE),
    ("replica", shrinks, Restore(allow_shrink=True), SUCCESS),
    ("replica", other_schema, Restore(), FAILURE),
    ("replica", not_ready, Restore(), FAILURE),
    ("replica", not_ready_before, Restore(), FAILURE),
    ("replica", no_database, Restore(), FAILURE),
    ("replica", bug, Restore(), FAILURE),
    ("replica", full, Restore(), FAILURE),
    ("replica", held, Restore(), FAILURE),
    ("replica", held_at_the_newest, Restore(), FAILURE),
    ("replica", held_and_away, Restore(), FAILURE),
    ("replica", newer, Restore(snapshot="1.1"), FAILURE),
    ("replica", undone_before, Undo(), FAILURE),
    ("replica", another_fleet, Restore(), NEITHER),
    ("replica", just_restarted, Restore(), NEITHER),
    ("replica", interrupted, Restore(), NOTHING),
    ("replica", nothing, Restore(snapshot="9.9"), NOTHING),
    ("replica", nothing, Promote(), SUCCESS),
    ("leader", nothing, Backup(), SUCCESS),
    ("leader", nothing, Backup(reconcile=True), SUCCESS),
    ("leader", edited, Backup(), SUCCESS),
    ("leader", published_twice, Rollback("1.1"), SUCCESS),
    ("leader", shrunk, Backup(), FAILURE),
    ("leader", shrunk, Backup(allow_shrink=True), SUCCESS),
    ("leader", rival, Backup(reconcile=True), FAILURE),
    ("leader", edited_and_away, Backup(), FAILURE),
    ("leader", publish_fails, Backup(), FAILURE),
)


@pytest.mark.parametrize(
    ("side", "make", "action", "says"),
    WAYS,
    ids=[f"{way[0]}-{number}-{way[1].__name__}" for number, way in enumerate(WAYS)],
)
def test_success_is_pinged_where_the_instance_is_in_sync(
    house: House, side: str, make: Callable[[House], None], action: Cycle, says: str
) -> None:
    make(house)
    there = house.leader if side == "leader" else house.replica
    said, noted = house.pinged(there, action)
    assert said == says, noted.ends
    assert noted.begins == action.own
    house.patch.undo()
    if says == SUCCESS:
        assert house.in_sync(there)
    if noted.ends:
        assert noted.ends[0].words
        assert (noted.ends[0].exit_code == 0) or says == FAILURE


def test_drift_that_the_strategy_leaves_is_named_in_a_success(house: House) -> None:
    """The fleet's newest snapshot is in place; `status --fresh` says the same."""
    drifted(house)
    said, noted = house.pinged(house.replica, Restore())
    assert said == SUCCESS
    assert "rows here differ from it" in noted.ends[0].words


def test_a_failure_has_its_words_and_its_exit_code(house: House) -> None:
    away(house)
    _, noted = house.pinged(house.replica, Restore())
    (end,) = noted.ends
    assert (end.words, end.exit_code) == ("no route", 5)
    assert end.seconds > 0


def test_a_lock_that_another_one_holds_is_no_cycle(house: House, tmp_path: Path) -> None:
    def held_by_another(_wait: float = 0.0) -> None:
        raise AlreadyRunning("another cycle holds the lock")

    house.patch.setattr(house.replica.state, "lock", held_by_another)
    assert house.pinged(house.replica, Restore()) == (NOTHING, Noted())


def _all(kind: type[ReplicatorError]) -> Iterator[type[ReplicatorError]]:
    for each in kind.__subclasses__():
        yield each
        yield from _all(each)


@pytest.mark.parametrize("kind", list(dict.fromkeys(_all(ReplicatorError))))
def test_no_error_is_ever_a_success(kind: type[ReplicatorError]) -> None:
    error = kind("what happened")
    end = verdict(State("w"), False, error)
    if issubclass(kind, Interrupted | AlreadyRunning) or kind.refusal:
        assert end is None
    else:
        assert end is not None
        assert (end.ok, end.exit_code) == (False, kind.exit_code)
    error.refusal = True
    assert verdict(State("w"), False, error) is None


@pytest.mark.parametrize("outcome", list(Outcome))
def test_what_needs_a_person_goes_before_how_the_cycle_ended(outcome: Outcome) -> None:
    state = dataclasses.replace(
        State("w"), following=dataclasses.replace(State("w").following, hold=Hold(1.0))
    )
    end = verdict(state, False, CycleResult(outcome, "fine"))
    assert end is not None
    assert end.ok is False
    assert end.words.startswith("held: ")
