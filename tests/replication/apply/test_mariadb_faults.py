"""An external MariaDB that is away, dies, or is locked around a restore.

Each test has the one server of this module for itself: killed with SIGKILL, started again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest

from replicator_kuma.adapters.database.mariadb.connection import Link
from replicator_kuma.base.errors import (
    DatabaseLocked,
    DatabaseUnreachable,
    KumaError,
)
from replicator_kuma.replication.instance import Instance, Outcome
from tests.support.cycles import follow, lead, left_behind, positions, take_over
from tests.support.mariadb import PASSWORD, Server
from tests.support.mariadb_fleet import MariadbFleet, Rows, before_statement, kuma_log
from tests.support.memory import in_memory
from tests.support.waiting import wait_until

RESTART = ["stop", "start"]


@pytest.fixture(scope="module", params=["sqlite", "mariadb"], ids="a {} leader".format)
def either(request: pytest.FixtureRequest, own_mariadb: Server) -> Iterator[MariadbFleet]:
    """Both kinds of leader; their replicas get the same snapshot."""
    with in_memory() as folder:
        yield MariadbFleet(folder / "fleet", own_mariadb, request.param, name=f"a8_{request.param}")


@pytest.fixture
def each_fleet(either: MariadbFleet) -> MariadbFleet:
    return either.at_the_start()


def assert_old_until_the_next_cycle(fleet: MariadbFleet, replica: Instance) -> None:
    assert (fleet.rows(), fleet.logo()) == ("old", "old")
    assert Rows.of(fleet.database) == fleet.old
    assert follow(replica).outcome is Outcome.APPLIED
    fleet.assert_ended("new")


@contextmanager
def away(match: str | None = None) -> Iterator[None]:
    """The block ends with the error of a server that is away."""
    with pytest.raises(DatabaseUnreachable, match=match) as caught:
        yield
    assert (caught.value.exit_code, caught.value.retryable) == (4, True)
    assert "Check that MariaDB runs" in caught.value.hint


# --- a server that dies -------------------------------------------------------------------------


@pytest.mark.parametrize("statement", ["START", "DELETE", "INSERT INTO `monitor_tag`", "COMMIT"])
def test_a_server_killed_before_the_commit_has_the_old_rows(
    each_fleet: MariadbFleet, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    fleet, replica = each_fleet, each_fleet.replica()
    with monkeypatch.context() as patch:
        before_statement(patch, statement, lambda _: fleet.server.kill())
        with away():
            follow(replica)
    assert kuma_log(replica) == RESTART
    assert replica.kuma.running()
    with pytest.raises(DatabaseUnreachable):
        follow(replica)
    assert kuma_log(replica) == RESTART, "without its database it is not stopped"
    fleet.server.start()
    assert_old_until_the_next_cycle(fleet, replica)
    assert kuma_log(replica) == RESTART * 2


def test_a_server_killed_when_it_has_taken_the_commit_has_the_new_rows(
    each_fleet: MariadbFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody was told: the next cycle finds out, and puts the files in place."""
    fleet, replica = each_fleet, each_fleet.replica()

    def taken(link: Link) -> None:
        link.run("COMMIT")
        fleet.server.kill()  # the next COMMIT stands for the answer that is lost

    with monkeypatch.context() as patch:
        before_statement(patch, "COMMIT", taken)
        with away():
            follow(replica)
    assert kuma_log(replica) == RESTART
    fleet.server.start()
    assert (fleet.rows(), fleet.logo()) == ("new", "old")
    assert follow(replica).sentence == "1.2 is applied; nothing newer"
    fleet.assert_ended("new")
    assert kuma_log(replica) == RESTART * 2, "who knows what it read at its first start"


def test_a_server_killed_right_after_the_commit_stops_no_restart(
    each_fleet: MariadbFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the history of monitors that went waits for it."""
    fleet, replica = each_fleet, each_fleet.replica()
    start = replica.kuma.start

    def and_start() -> None:
        fleet.server.kill()
        start()

    monkeypatch.setattr(replica.kuma, "start", and_start)
    with away():
        follow(replica)
    assert kuma_log(replica) == RESTART
    state = replica.state.load()
    assert state.following.applied is not None
    assert (
        str(state.following.applied.position),
        state.applying.pending,
        state.applying.purge,
    ) == ("1.2", None, True)
    monkeypatch.undo()
    fleet.server.start()
    assert (fleet.rows(), fleet.logo()) == ("new", "new")
    assert follow(replica).outcome is Outcome.NOTHING
    fleet.assert_ended("new")
    assert kuma_log(replica) == RESTART


# --- a server that is away ----------------------------------------------------------------------


def test_without_its_server_a_replica_leaves_kuma_alone(fleet: MariadbFleet) -> None:
    replica = fleet.replica()
    fleet.server.kill()
    for reconcile in (False, True):
        with away("Connection refused"):
            follow(replica, reconcile=reconcile)
    assert kuma_log(replica) == []
    assert left_behind(replica) == []
    fleet.server.start()
    assert_old_until_the_next_cycle(fleet, replica)


def test_without_its_server_a_leader_publishes_nothing(fleet: MariadbFleet) -> None:
    leader = fleet.replica()
    assert follow(leader).outcome is Outcome.APPLIED
    take_over(leader)
    published = positions(fleet.fleet().repository)
    fleet.database.edit("UPDATE monitor SET name = 'edited' WHERE id = 3")
    fleet.server.kill()
    for verify in (False, True):
        with away():
            lead(leader, verify=verify)
    assert positions(fleet.fleet().repository) == published
    assert left_behind(leader) == []
    fleet.server.start()
    assert lead(leader).outcome is Outcome.PUBLISHED
    assert len(positions(fleet.fleet().repository)) == len(published) + 1


def test_a_server_that_dies_while_kuma_stops(
    fleet: MariadbFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = fleet.replica()
    stop = replica.kuma.stop

    def and_stop() -> None:
        fleet.server.kill()
        stop()

    monkeypatch.setattr(replica.kuma, "stop", and_stop)
    with away():
        follow(replica)
    assert kuma_log(replica) == RESTART
    assert replica.state.load().applying.pending is None
    assert left_behind(replica) == []
    monkeypatch.undo()
    fleet.server.start()
    assert_old_until_the_next_cycle(fleet, replica)


# --- locks --------------------------------------------------------------------------------------


@contextmanager
def locked_by_another(fleet: MariadbFleet, *statements: str) -> Iterator[Any]:
    """A session of another login, which ours does not see, in a transaction; its cursor."""
    with closing(fleet.server.connect(autocommit=False)) as other, other.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
        yield cursor
        other.rollback()


def table(fleet: MariadbFleet, name: str) -> str:
    return f'"{fleet.name}"."{name}"'


def assert_locked_and_kuma_back(replica: Instance, code: int) -> None:
    began = time.monotonic()
    with pytest.raises(DatabaseLocked, match=f"error {code}") as caught:
        follow(replica)
    assert time.monotonic() - began < 20
    assert (caught.value.exit_code, caught.value.retryable) == (4, True)
    assert "Close it" in caught.value.hint
    assert kuma_log(replica) == RESTART
    assert replica.state.load().applying.pending is None
    assert left_behind(replica) == []


@pytest.mark.usefixtures("impatient")
def test_rows_that_another_session_holds_are_a_lock(fleet: MariadbFleet) -> None:
    replica = fleet.replica()
    with locked_by_another(fleet, f"SELECT id FROM {table(fleet, 'monitor')} FOR UPDATE"):
        assert_locked_and_kuma_back(replica, 1205)
    assert_old_until_the_next_cycle(fleet, replica)


def test_a_deadlock_is_a_lock(fleet: MariadbFleet) -> None:
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


@pytest.mark.usefixtures("impatient")
def test_who_else_is_connected_keeps_kuma_running(fleet: MariadbFleet) -> None:
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
