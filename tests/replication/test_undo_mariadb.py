"""An undo on MariaDB: the same promises on the other engine, a death in its middle included."""

from __future__ import annotations

import os

import pytest

from replicator_kuma.adapters.database.mariadb.connection import Link
from replicator_kuma.replication.apply import checkpoints
from replicator_kuma.replication.instance import Outcome
from tests.support.cycles import follow, go_back, go_on, left_behind
from tests.support.forked import DIED, forked
from tests.support.mariadb_fleet import MariadbFleet, before_statement


def test_the_rows_come_back_as_they_were(fleet: MariadbFleet) -> None:
    replica = fleet.replica()
    assert follow(replica).outcome is Outcome.APPLIED
    (one,) = checkpoints.readable(replica.state.folder)
    assert (str(one.was and one.was.position), str(one.to)) == ("1.1", "1.2")
    assert go_back(replica).position == one.was.position if one.was else None
    assert (fleet.rows(), fleet.logo()) == ("old", "old")
    assert "holding 1.1 since" in follow(replica, reconcile=True).sentence
    assert left_behind(replica) == []
    go_on(replica)
    assert (fleet.rows(), fleet.logo()) == ("new", "new")


def test_killed_before_the_commit_the_next_cycle_ends_it(
    fleet: MariadbFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    follow(fleet.replica())

    def dies() -> None:
        def die(_link: Link) -> None:
            os._exit(DIED)

        before_statement(monkeypatch, "COMMIT", die)
        go_back(fleet.replica())

    assert forked(dies) == DIED
    assert fleet.rows() == "new"
    replica = fleet.replica()
    follow(replica)
    follow(replica)
    assert (fleet.rows(), fleet.logo()) == ("old", "old")
    assert replica.kuma.running()
    hold = replica.state.load().following.hold
    assert hold is not None
    assert hold.kept == 0
