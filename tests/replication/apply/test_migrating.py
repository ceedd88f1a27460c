"""A process that died around its commit, and a Kuma that migrates when the next one looks."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from replicator_kuma.adapters.database.mariadb.connection import Link
from replicator_kuma.adapters.database.sqlite.store import SqliteStore
from replicator_kuma.adapters.database.sqlite.writer import SqliteWriter
from replicator_kuma.base.errors import DatabaseMissing
from replicator_kuma.replication.apply.recovery import resolve_before_start
from replicator_kuma.replication.apply.unconfirmed import confirm_started
from replicator_kuma.replication.instance import Instance, Outcome
from tests.support import databases
from tests.support.cycles import LOGO, follow, lead, rename
from tests.support.fleet import NEW_LOGO
from tests.support.forked import DIED, forked
from tests.support.instances import RecordingKuma
from tests.support.mariadb_fleet import MariadbFleet, before_statement


class Dying:
    """A replica that has died around the commit of 1.2, its monitor 3 renamed to `two`."""

    def __init__(self, replica: Instance, edit: Callable[[str], object]) -> None:
        self.replica = replica
        self._edit = edit

    def locked(self, yes: bool) -> None:
        """Kuma's migrations are under way, or have ended."""
        self._edit(f"UPDATE knex_migrations_lock SET is_locked = {int(yes)}")

    def migrates_until_ready(self) -> None:
        self.locked(True)
        ready = self.replica.wait_ready

        def wait() -> None:
            self.locked(False)
            ready()

        self.replica.wait_ready = wait

    def logo(self) -> bytes:
        return (self.replica.data_dir / "upload" / "logo2.png").read_bytes()


@pytest.fixture(params=["old", "new"])
def side(request: pytest.FixtureRequest) -> str:
    """What the commit came to."""
    return str(request.param)


@pytest.fixture
def sqlite(leader: Instance, replica: Instance, side: str) -> Dying:
    rename(leader.data_dir / "kuma.db", 3, "two")
    (leader.data_dir / "upload" / "logo2.png").write_bytes(NEW_LOGO)
    lead(leader)

    @contextmanager
    def dying(store: SqliteStore, *given: Any) -> Iterator[SqliteWriter]:
        with write(store, *given) as writer:
            yield writer
            if side == "old":
                os._exit(DIED)
        os._exit(DIED)

    write = SqliteStore.write

    def work() -> None:
        SqliteStore.write = dying  # type: ignore[method-assign, assignment]
        follow(replica)

    assert forked(work) == DIED
    assert isinstance(replica.kuma, RecordingKuma)
    replica.kuma.up = False
    path = replica.data_dir / "kuma.db"
    return Dying(replica, lambda sql: databases.edit(path, sql))


@pytest.fixture
def mariadb(fleet: MariadbFleet, side: str) -> Dying:
    def die(link: Link) -> None:
        if side == "new":
            link.run("COMMIT")
        os._exit(DIED)

    def work() -> None:
        before_statement(pytest.MonkeyPatch(), "COMMIT", die)
        follow(fleet.replica())

    assert forked(work) == DIED
    return Dying(fleet.replica(), fleet.database.edit)


@pytest.fixture(params=["sqlite", "mariadb"])
def dead(request: pytest.FixtureRequest, side: str) -> Dying:
    found = request.getfixturevalue(request.param)  # of that side
    assert isinstance(found, Dying)
    pending = found.replica.state.load().applying.pending
    assert pending is not None
    assert pending.writing
    return found


def name_of_three(dead: Dying) -> str:
    from replicator_kuma.dump.select import select

    with dead.replica.store.read() as reader:
        chosen = select(reader.schema, "monitor")
        (row,) = reader.rows(chosen, [3])
        return str(row[chosen.columns.index("name")])


def assert_followed(dead: Dying) -> None:
    assert (name_of_three(dead), dead.logo()) == ("two", NEW_LOGO)
    state = dead.replica.state.load()
    assert state.applying.pending is None
    assert state.following.applied is not None
    assert str(state.following.applied.position) == "1.2"
    assert follow(dead.replica).sentence == "1.2 is applied; nothing newer"


def test_a_cycle_confirms_only_what_it_has_asked_for(dead: Dying, side: str) -> None:
    dead.migrates_until_ready()
    result = follow(dead.replica)
    assert result.outcome is (Outcome.APPLIED if side == "old" else Outcome.NOTHING)
    assert_followed(dead)


def test_a_start_confirms_only_what_it_has_asked_for(dead: Dying, side: str) -> None:
    replica = dead.replica
    dead.locked(True)
    with replica.state.lock():
        resolve_before_start(replica)
    assert dead.logo() == LOGO
    replica.kuma.start()
    dead.locked(False)
    with replica.state.lock():
        confirm_started(replica)
    state = replica.state.load()
    assert state.applying.pending is None
    assert state.following.applied is not None
    assert str(state.following.applied.position) == ("1.2" if side == "new" else "1.1")
    assert (name_of_three(dead) == "two", dead.logo() == NEW_LOGO) == (side == "new",) * 2
    follow(replica)
    assert_followed(dead)


@pytest.mark.parametrize("side", ["old"], indirect=True)
def test_while_it_goes_on_nothing_is_confirmed(dead: Dying) -> None:
    """(Ready, and migrating: another Kuma answers, or nobody is to wait for.)"""
    dead.locked(True)
    result = follow(dead.replica)
    assert result.outcome is Outcome.WAITING
    assert "migrating" in result.sentence
    assert dead.replica.state.load().applying.pending is not None
    dead.locked(False)
    follow(dead.replica)
    assert_followed(dead)


def test_rows_that_are_gone_confirm_nothing(sqlite: Dying, tmp_path: Path) -> None:
    """A database of nobody's is no reason to wait for ever, and none to call 1.2 applied."""
    replica = sqlite.replica
    shutil.move(replica.data_dir / "kuma.db", tmp_path / "away.db")
    with pytest.raises(DatabaseMissing):
        follow(replica)
    state = replica.state.load()
    assert state.applying.pending is None
    assert state.following.applied is not None
    assert str(state.following.applied.position) == "1.1"
    shutil.move(tmp_path / "away.db", replica.data_dir / "kuma.db")
    follow(replica)
    assert_followed(sqlite)
