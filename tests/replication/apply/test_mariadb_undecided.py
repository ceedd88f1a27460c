"""An external MariaDB of which nobody knows whether it has committed; a Kuma that is not ready.

Each test has the one server of this module for itself: killed with SIGKILL, started again.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from replicator_kuma.adapters.database.mariadb.connection import Link
from replicator_kuma.base.errors import (
    DatabaseLocked,
    DatabaseUnreachable,
    KumaError,
    SnapshotRefused,
)
from replicator_kuma.replication.apply.recovery import resolve_before_start
from replicator_kuma.replication.apply.revert import revert
from replicator_kuma.replication.apply.unconfirmed import confirm_started
from replicator_kuma.replication.instance import Instance, Outcome
from tests.support.cycles import follow
from tests.support.fleet import until_refused
from tests.support.mariadb_fleet import MariadbFleet, Rows, before_statement, file_kuma, kuma_log
from tests.support.waiting import wait_until

RESTART = ["stop", "start"]


# --- a server that is slow to commit -----------------------------------------------------------


@contextmanager
def commits_held(fleet: MariadbFleet) -> Iterator[None]:
    """Until the end of the block no commit ends: as with a disk that hangs, or here a standby."""
    with closing(fleet.server.connect()) as root, root.cursor() as cursor:
        cursor.execute("SET GLOBAL rpl_semi_sync_master_enabled = 1")
        yield
        cursor.execute("SET GLOBAL rpl_semi_sync_master_enabled = 0")


def commit_waits(fleet: MariadbFleet) -> bool:
    sql = "SELECT count(*) FROM information_schema.processlist WHERE state LIKE ?"
    return fleet.database.query(sql, ("Waiting for semi-sync ACK%",)) == [(1,)]


def test_a_commit_that_comes_after_its_process_is_waited_for(fleet: MariadbFleet) -> None:
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
    # table by table: a look while the server commits sees some rows of before, and some new ones
    new = fleet.new.replicated
    wait_until(lambda: Rows.of(fleet.database).replicated == new, "the server has committed")
    kuma_log(replica).clear()
    follow(replica)
    fleet.assert_ended("new")
    assert kuma_log(replica) == RESTART, "it had read the old rows"


def started_before_its_server(
    fleet: MariadbFleet, replica: Instance, monkeypatch: pytest.MonkeyPatch, side: str
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
    file_kuma(replica).up = False
    with replica.state.lock(), pytest.raises(DatabaseUnreachable):
        resolve_before_start(replica)
    replica.kuma.start()
    fleet.server.start()


@pytest.mark.parametrize("side", ["old", "new"])
def test_a_supervisor_confirms_no_rows_that_it_could_not_ask_for(
    fleet: MariadbFleet, monkeypatch: pytest.MonkeyPatch, side: str
) -> None:
    replica = fleet.replica()
    started_before_its_server(fleet, replica, monkeypatch, side)
    with replica.state.lock():
        confirm_started(replica)
    assert fleet.rows() == side
    follow(replica)
    fleet.assert_ended("new")


@pytest.mark.parametrize("side", ["old", "new"])
def test_a_kuma_that_could_not_start_without_its_server_gets_another_chance(
    fleet: MariadbFleet, monkeypatch: pytest.MonkeyPatch, side: str
) -> None:
    replica = fleet.replica()
    started_before_its_server(fleet, replica, monkeypatch, side)
    with replica.state.lock(), pytest.raises(KumaError, match="no database"):
        revert(replica, KumaError("Kuma ended by itself: no database"))
    assert fleet.rows() == side
    follow(replica)
    fleet.assert_ended("new")
    assert replica.state.load().applying.bad == ()


def test_a_kuma_that_hangs_since_its_server_was_away_is_restarted_before_it_is_judged(
    fleet: MariadbFleet, monkeypatch: pytest.MonkeyPatch
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
    assert replica.state.load().applying.bad == ()


# --- the way back -------------------------------------------------------------------------------


def test_a_kuma_that_is_not_ready_on_new_rows_gets_the_old_ones(fleet: MariadbFleet) -> None:
    replica = fleet.replica()
    fleet.look_at_each_start(replica)
    file_kuma(replica).refuses = lambda: fleet.on_new_rows()
    with pytest.raises(KumaError, match="it runs on the rows from before"):
        follow(replica)
    fleet.assert_ended("old")
    assert len(replica.state.load().applying.bad) == 1
    with pytest.raises(SnapshotRefused):
        follow(replica)
    assert kuma_log(replica) == RESTART * 2


def test_a_kuma_that_is_ready_on_no_rows_is_not_the_snapshots_fault(fleet: MariadbFleet) -> None:
    replica = fleet.replica()
    file_kuma(replica).refuses = lambda: True
    with pytest.raises(KumaError, match="neither on the snapshot's rows nor on those from before"):
        follow(replica)
    assert (fleet.rows(), fleet.logo()) == ("old", "old")
    assert replica.state.load().applying.bad == ()
    file_kuma(replica).refuses = lambda: False
    assert follow(replica).outcome is Outcome.APPLIED
    fleet.assert_ended("new")


def test_a_kuma_whose_server_died_is_not_the_snapshots_fault(fleet: MariadbFleet) -> None:
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
    assert replica.state.load().applying.bad == ()
    file_kuma(replica).refuses = lambda: False
    fleet.server.start()
    assert follow(replica).sentence == "1.2 is applied; nothing newer"
    fleet.assert_ended("new")


@pytest.mark.parametrize("taken", [False, True], ids=["before", "after"])
def test_a_server_killed_around_the_commit_of_the_way_back(
    fleet: MariadbFleet, monkeypatch: pytest.MonkeyPatch, taken: bool
) -> None:
    replica = fleet.replica()

    def refuses() -> bool:
        """The first time; later the server can be away."""
        file_kuma(replica).refuses = lambda: fleet.on_new_rows()
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
    until_refused(replica)
    fleet.assert_ended("old")
    assert len(replica.state.load().applying.bad) == 1
