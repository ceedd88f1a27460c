"""An external MariaDB that is away, dies, or is locked around a restore; a Kuma that is not ready.

Each test has the one server of this module for itself: killed with SIGKILL, started again.
"""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest

from replicator_kuma import tasks
from replicator_kuma.cycle import Instance, Outcome
from replicator_kuma.database.mariadb_link import Link
from replicator_kuma.errors import (
    DatabaseError,
    DatabaseLocked,
    DatabaseUnreachable,
    KumaError,
    SnapshotRefused,
)
from tests.conftest import need_mariadb
from tests.support.cycles import follow, lead, left_behind, positions, take_over
from tests.support.mariadb import PASSWORD, Server, short_folder
from tests.support.mariadb_fleet import (
    Fleet,
    Rows,
    before_statement,
    file_kuma,
    memory,
)
from tests.support.waiting import wait_until

RESTART = ["stop", "start"]
_WITH_A_STANDBY = (
    "--log-bin=binlog",
    "--rpl-semi-sync-master-wait-point=AFTER_SYNC",
    "--rpl-semi-sync-master-timeout=60000",
)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    need_mariadb()
    folder = short_folder()
    try:
        with Server(folder, options=_WITH_A_STANDBY) as made:
            yield made
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module", params=["sqlite", "mariadb"], ids="a {} leader".format)
def either(request: pytest.FixtureRequest, server: Server) -> Iterator[Fleet]:
    """Both kinds of leader; their replicas get the same snapshot."""
    with memory() as folder:
        yield Fleet(folder / "fleet", server, request.param, name=f"a8_{request.param}")


@pytest.fixture(scope="module")
def only(server: Server) -> Iterator[Fleet]:
    """One kind of leader, where the leader makes no difference."""
    with memory() as folder:
        yield Fleet(folder / "fleet", server, "sqlite", name="a8_faults")


@pytest.fixture
def fleet(only: Fleet) -> Fleet:
    return at_the_start(only)


@pytest.fixture
def each_fleet(either: Fleet) -> Fleet:
    return at_the_start(either)


def at_the_start(fleet: Fleet) -> Fleet:
    if not fleet.server.running:  # the test before failed
        fleet.server.start()
    fleet.reset()
    return fleet


def kuma_log(replica: Instance) -> list[str]:
    return file_kuma(replica).log


def assert_old_until_the_next_cycle(fleet: Fleet, replica: Instance) -> None:
    assert (fleet.rows(), fleet.logo()) == ("old", "old")
    assert Rows.of(fleet.database) == fleet.old
    assert follow(replica).outcome is Outcome.APPLIED
    fleet.assert_ended("new")


def assert_away(caught: pytest.ExceptionInfo[DatabaseError]) -> None:
    error = caught.value
    assert (error.exit_code, error.retryable) == (4, True)
    assert "Check that MariaDB runs" in error.hint


# --- a server that dies -------------------------------------------------------------------------


@pytest.mark.parametrize("statement", ["START", "DELETE", "INSERT INTO `monitor_tag`", "COMMIT"])
def test_a_server_killed_before_the_commit_has_the_old_rows(
    each_fleet: Fleet, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    fleet, replica = each_fleet, each_fleet.replica()
    with monkeypatch.context() as patch:
        before_statement(patch, statement, lambda _: fleet.server.kill())
        with pytest.raises(DatabaseUnreachable) as caught:
            follow(replica)
    assert_away(caught)
    assert kuma_log(replica) == RESTART
    assert replica.kuma.running()
    with pytest.raises(DatabaseUnreachable):
        follow(replica)
    assert kuma_log(replica) == RESTART, "without its database it is not stopped"
    fleet.server.start()
    assert_old_until_the_next_cycle(fleet, replica)
    assert kuma_log(replica) == RESTART * 2


def test_a_server_killed_when_it_has_taken_the_commit_has_the_new_rows(
    each_fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody was told: the next cycle finds out, and puts the files in place."""
    fleet, replica = each_fleet, each_fleet.replica()

    def taken(link: Link) -> None:
        link.run("COMMIT")
        fleet.server.kill()  # the next COMMIT stands for the answer that is lost

    with monkeypatch.context() as patch:
        before_statement(patch, "COMMIT", taken)
        with pytest.raises(DatabaseUnreachable) as caught:
            follow(replica)
    assert_away(caught)
    assert kuma_log(replica) == RESTART
    fleet.server.start()
    assert (fleet.rows(), fleet.logo()) == ("new", "old")
    assert follow(replica).sentence == "1.2 is applied; nothing newer"
    fleet.assert_ended("new")
    assert kuma_log(replica) == RESTART * 2, "who knows what it read at its first start"


def test_a_server_killed_right_after_the_commit_stops_no_restart(
    each_fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the history of monitors that went waits for it."""
    fleet, replica = each_fleet, each_fleet.replica()
    start = replica.kuma.start

    def and_start() -> None:
        fleet.server.kill()
        start()

    monkeypatch.setattr(replica.kuma, "start", and_start)
    with pytest.raises(DatabaseUnreachable) as caught:
        follow(replica)
    assert_away(caught)
    assert kuma_log(replica) == RESTART
    state = replica.state.load()
    assert state.applied is not None
    assert (str(state.applied.position), state.pending, state.purge) == ("1.2", None, True)
    monkeypatch.undo()
    fleet.server.start()
    assert (fleet.rows(), fleet.logo()) == ("new", "new")
    assert follow(replica).outcome is Outcome.NOTHING
    fleet.assert_ended("new")
    assert kuma_log(replica) == RESTART


# --- a server that is away ----------------------------------------------------------------------


def test_without_its_server_a_replica_leaves_kuma_alone(fleet: Fleet) -> None:
    replica = fleet.replica()
    fleet.server.kill()
    for reconcile in (False, True):
        with pytest.raises(DatabaseUnreachable, match="Connection refused") as caught:
            follow(replica, reconcile=reconcile)
        assert_away(caught)
    assert kuma_log(replica) == []
    assert left_behind(replica) == []
    fleet.server.start()
    assert_old_until_the_next_cycle(fleet, replica)


def test_without_its_server_a_leader_publishes_nothing(fleet: Fleet) -> None:
    leader = fleet.replica()
    assert follow(leader).outcome is Outcome.APPLIED
    take_over(leader)
    published = positions(fleet.repository)
    fleet.database.edit("UPDATE monitor SET name = 'edited' WHERE id = 3")
    fleet.server.kill()
    for verify in (False, True):
        with pytest.raises(DatabaseUnreachable) as caught:
            lead(leader, verify=verify)
        assert_away(caught)
    assert positions(fleet.repository) == published
    assert left_behind(leader) == []
    fleet.server.start()
    assert lead(leader).outcome is Outcome.PUBLISHED
    assert len(positions(fleet.repository)) == len(published) + 1


def test_a_server_that_dies_while_kuma_stops(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    replica = fleet.replica()
    stop = replica.kuma.stop

    def and_stop() -> None:
        fleet.server.kill()
        stop()

    monkeypatch.setattr(replica.kuma, "stop", and_stop)
    with pytest.raises(DatabaseUnreachable) as caught:
        follow(replica)
    assert_away(caught)
    assert kuma_log(replica) == RESTART
    assert replica.state.load().pending is None
    assert left_behind(replica) == []
    monkeypatch.undo()
    fleet.server.start()
    assert_old_until_the_next_cycle(fleet, replica)


# --- a server that is slow to commit -----------------------------------------------------------


@contextmanager
def commits_held(fleet: Fleet) -> Iterator[None]:
    """Until the end of the block no commit ends: as with a disk that hangs, or here a standby."""
    with closing(fleet.server.connect()) as root, root.cursor() as cursor:
        cursor.execute("SET GLOBAL rpl_semi_sync_master_enabled = 1")
        yield
        cursor.execute("SET GLOBAL rpl_semi_sync_master_enabled = 0")


def commit_waits(fleet: Fleet) -> bool:
    sql = "SELECT count(*) FROM information_schema.processlist WHERE state LIKE ?"
    return fleet.database.query(sql, ("Waiting for semi-sync ACK%",)) == [(1,)]


def test_a_commit_that_comes_after_its_process_is_waited_for(fleet: Fleet) -> None:
    """What is still under way is no proof of old rows, and Kuma must not stay on what it read."""
    with commits_held(fleet):
        pid = os.fork()
        if pid == 0:
            try:
                follow(fleet.replica())
            finally:
                os._exit(99)
        wait_until(lambda: commit_waits(fleet), "the server is about to commit")
        os.kill(pid, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
        assert commit_waits(fleet)
        replica = fleet.replica()
        with pytest.raises(DatabaseLocked):
            follow(replica)
        assert kuma_log(replica) == ["start"]
        assert (fleet.rows(), fleet.logo()) == ("old", "old")
    wait_until(lambda: fleet.rows() == "new", "the server has committed")
    kuma_log(replica).clear()
    follow(replica)
    fleet.assert_ended("new")
    assert kuma_log(replica) == RESTART, "it had read the old rows"


def started_before_its_server(
    fleet: Fleet, replica: Instance, monkeypatch: pytest.MonkeyPatch, side: str
) -> None:
    """The whole machine went amid an apply; MariaDB is up later than the supervisor."""

    def kill(link: Link) -> None:
        if side == "new":
            link.run("COMMIT")
        fleet.server.kill()

    with monkeypatch.context() as patch:
        before_statement(patch, "COMMIT", kill)
        with pytest.raises(DatabaseUnreachable):
            follow(replica)
    file_kuma(replica).up.unlink()
    with replica.state.lock(), pytest.raises(DatabaseUnreachable):
        tasks.before_start(replica)
    replica.kuma.start()
    fleet.server.start()


@pytest.mark.parametrize("side", ["old", "new"])
def test_a_supervisor_confirms_no_rows_that_it_could_not_ask_for(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, side: str
) -> None:
    replica = fleet.replica()
    started_before_its_server(fleet, replica, monkeypatch, side)
    with replica.state.lock():
        tasks.confirm(replica)
    assert fleet.rows() == side
    follow(replica)
    fleet.assert_ended("new")


@pytest.mark.parametrize("side", ["old", "new"])
def test_a_kuma_that_could_not_start_without_its_server_gets_another_chance(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, side: str
) -> None:
    replica = fleet.replica()
    started_before_its_server(fleet, replica, monkeypatch, side)
    with replica.state.lock(), pytest.raises(KumaError, match="no database"):
        tasks.roll_back(replica, KumaError("Kuma ended by itself: no database"))
    assert fleet.rows() == side
    follow(replica)
    fleet.assert_ended("new")
    assert replica.state.load().bad == ()


def test_a_kuma_that_hangs_since_its_server_was_away_is_restarted_before_it_is_judged(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = fleet.replica()
    started_before_its_server(fleet, replica, monkeypatch, "new")
    hangs = True
    start = replica.kuma.start

    def and_start() -> None:
        nonlocal hangs
        if not replica.kuma.running():
            hangs = False
        start()

    monkeypatch.setattr(replica.kuma, "start", and_start)
    file_kuma(replica).refuses = lambda: hangs
    follow(replica)
    fleet.assert_ended("new")
    assert replica.state.load().bad == ()


# --- locks --------------------------------------------------------------------------------------


@contextmanager
def locked_by_another(fleet: Fleet, *statements: str) -> Iterator[Any]:
    """A session of another login, which ours does not see, in a transaction; its cursor."""
    with closing(fleet.server.connect(autocommit=False)) as other, other.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
        yield cursor
        other.rollback()


def table(fleet: Fleet, name: str) -> str:
    return f'"{fleet.name}"."{name}"'


def assert_locked_and_kuma_back(replica: Instance, code: int) -> None:
    began = time.monotonic()
    with pytest.raises(DatabaseLocked, match=f"error {code}") as caught:
        follow(replica)
    assert time.monotonic() - began < 20
    assert (caught.value.exit_code, caught.value.retryable) == (4, True)
    assert "Close it" in caught.value.hint
    assert kuma_log(replica) == RESTART
    assert replica.state.load().pending is None
    assert left_behind(replica) == []


def test_rows_that_another_session_holds_are_a_lock(fleet: Fleet) -> None:
    replica = fleet.replica()
    with locked_by_another(fleet, f"SELECT id FROM {table(fleet, 'monitor')} FOR UPDATE"):
        assert_locked_and_kuma_back(replica, 1205)
    assert_old_until_the_next_cycle(fleet, replica)


def test_a_deadlock_is_a_lock(fleet: Fleet) -> None:
    """The server ends the transaction that has changed less: ours, as it has just begun."""
    replica = fleet.replica()
    waits = "SELECT 1 FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'"
    rarely = 0.2  # the server renews that table only when nobody has asked for 0.1 s
    heartbeats = f"UPDATE {table(fleet, 'heartbeat')} SET msg = 'held'"
    tags = f"UPDATE {table(fleet, 'tag')} SET color = 'held'"
    with locked_by_another(fleet, heartbeats, tags) as other:

        def cross() -> None:
            wait_until(lambda: fleet.database.query(waits), "it waits for the tags", every=rarely)
            other.execute(f"UPDATE {table(fleet, 'monitor')} SET description = 'held' WHERE id = 3")

        crossing = threading.Thread(target=cross)
        crossing.start()
        try:
            assert_locked_and_kuma_back(replica, 1213)
        finally:
            crossing.join(30)
    assert_old_until_the_next_cycle(fleet, replica)


def test_who_else_is_connected_keeps_kuma_running(fleet: Fleet) -> None:
    """A second Kuma, or a person with Kuma's login: nothing is written beside it."""
    replica = fleet.replica()
    login = {"host": "127.0.0.1", "port": fleet.server.port, "unix_socket": None}
    with closing(fleet.database.connect(user=fleet.name, password=PASSWORD, **login)):
        with pytest.raises(KumaError, match="still has Kuma's database open") as caught:
            follow(replica)
        assert "close" in caught.value.hint
        assert kuma_log(replica) == RESTART
        assert left_behind(replica) == []
    assert_old_until_the_next_cycle(fleet, replica)


# --- the way back -------------------------------------------------------------------------------


def on_new_rows(fleet: Fleet) -> bool:
    return fleet.database.query("SELECT name FROM monitor WHERE id = 3") == [("two",)]


def test_a_kuma_that_is_not_ready_on_new_rows_gets_the_old_ones(fleet: Fleet) -> None:
    replica = fleet.replica()
    fleet.look_at_each_start(replica)
    file_kuma(replica).refuses = lambda: on_new_rows(fleet)
    with pytest.raises(KumaError, match="it runs on the rows from before"):
        follow(replica)
    fleet.assert_ended("old")
    assert len(replica.state.load().bad) == 1
    with pytest.raises(SnapshotRefused):
        follow(replica)
    assert kuma_log(replica) == RESTART * 2


def test_a_kuma_that_is_ready_on_no_rows_is_not_the_snapshots_fault(fleet: Fleet) -> None:
    replica = fleet.replica()
    file_kuma(replica).refuses = lambda: True
    with pytest.raises(KumaError, match="neither on the snapshot's rows nor on those from before"):
        follow(replica)
    assert (fleet.rows(), fleet.logo()) == ("old", "old")
    assert replica.state.load().bad == ()
    file_kuma(replica).refuses = lambda: False
    assert follow(replica).outcome is Outcome.APPLIED
    fleet.assert_ended("new")


def test_a_kuma_whose_server_died_is_not_the_snapshots_fault(fleet: Fleet) -> None:
    """It cannot be ready, and nobody can say why: the rows that were committed stay."""
    replica = fleet.replica()

    def refuses() -> bool:
        fleet.server.kill()
        return True

    file_kuma(replica).refuses = refuses
    with pytest.raises(KumaError, match="the rows from before could not be written") as caught:
        follow(replica)
    assert "restore --now" in caught.value.hint
    assert kuma_log(replica) == RESTART * 2
    assert replica.state.load().bad == ()
    file_kuma(replica).refuses = lambda: False
    fleet.server.start()
    assert follow(replica).sentence == "1.2 is applied; nothing newer"
    fleet.assert_ended("new")


@pytest.mark.parametrize("taken", [False, True], ids=["before", "after"])
def test_a_server_killed_around_the_commit_of_the_way_back(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, taken: bool
) -> None:
    replica = fleet.replica()

    def refuses() -> bool:
        """The first time; later the server can be away."""
        file_kuma(replica).refuses = lambda: on_new_rows(fleet)
        before_statement(monkeypatch, "COMMIT", kill)
        return True

    def kill(link: Link) -> None:
        if taken:
            link.run("COMMIT")
        fleet.server.kill()

    file_kuma(replica).refuses = refuses
    with pytest.raises(KumaError, match="the rows from before could not be written"):
        follow(replica)
    assert kuma_log(replica) == RESTART * 2
    assert replica.kuma.running()
    monkeypatch.undo()
    fleet.server.start()
    assert fleet.rows() == ("old" if taken else "new")
    for _ in range(3):
        try:
            follow(replica)
        except KumaError:
            continue
        except SnapshotRefused:
            break
    fleet.assert_ended("old")
    assert len(replica.state.load().bad) == 1
