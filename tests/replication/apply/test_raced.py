"""Another program writes between the comparison of an apply and its lock, or right after it.

Rule 1 on both ways, with a Kuma that runs and around a restart: what the other one wrote is
compared before anything is written over it, and no mix remains.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from replicator_kuma.adapters.database.sqlite import store
from replicator_kuma.base.errors import DatabaseLocked
from replicator_kuma.replication.apply import transaction
from replicator_kuma.replication.instance import CycleResult, Outcome, Run
from replicator_kuma.replication.replica.cycle import cycle
from tests.support import cycles, databases
from tests.support.compare import config_differences
from tests.support.cycles import lead
from tests.support.effects import at_effect
from tests.support.fleet import Fleet, assert_at_rest

LEADERS = (
    "UPDATE monitor SET name = 'two' WHERE id = 3",
    "UPDATE status_page SET slug = 'fresh' WHERE id = 2",
    "INSERT INTO tag (id, name, color) VALUES (50, 'new', '#fff')",
    "INSERT INTO notification (id, name, user_id) VALUES (60, 'new', 1)",
    "INSERT INTO monitor_notification (monitor_id, notification_id) VALUES (4, 3), (4, 60)",
    "DELETE FROM proxy WHERE id = 2",
)
RACES = {
    "a row of the plan": "UPDATE monitor SET name = 'theirs' WHERE id = 3",
    "a row of the plan goes": "DELETE FROM monitor WHERE id = 3",
    "an id of the plan is taken": "INSERT INTO tag (id, name, color) VALUES (50, 'theirs', 'x')",
    "another row of its table": "UPDATE monitor SET interval = 77 WHERE id = 7",
    "a row of another table": "UPDATE docker_host SET name = 'theirs'",
    "a row that the plan refers to": "UPDATE notification SET name = 'theirs' WHERE id = 3",
    "a parent goes": "DELETE FROM notification WHERE id = 3",
    "a child comes": "UPDATE monitor SET proxy_id = 2 WHERE id = 5",
    "a unique value of the plan": "INSERT INTO status_page (slug, title, icon, theme) "
    "VALUES ('fresh', 'theirs', '', 'auto')",
    "a setting": "UPDATE setting SET value = '1' WHERE key = 'keepDataPeriodDays'",
}
BEAT = "INSERT INTO heartbeat (monitor_id, status, msg, time) VALUES (1, 1, 'ok', '2025-01-01')"


@pytest.fixture(params=["live", "restart"])
def fleet(tmp_path: Path, request: pytest.FixtureRequest) -> Fleet:
    """A replica at 1.1 in WAL mode whose Kuma runs; 1.2 is published."""
    cycles.fill(tmp_path / "leader", monitors=12)
    made = Fleet(tmp_path, mortal=True, live=request.param == "live")
    for instance in (made.leader, made.replica):
        instance.kuma.start()
    made.begin()
    databases.edit(made.leader_db, *LEADERS)
    lead(made.leader)
    elsewhere(made, "PRAGMA journal_mode = WAL")
    return made


def elsewhere(fleet: Fleet, statement: str) -> None:
    """What another program does, with foreign keys as Kuma has them."""
    with closing(sqlite3.connect(fleet.replica_db, isolation_level=None)) as link:
        link.execute("PRAGMA foreign_keys = ON")
        link.execute(statement)


def follow(fleet: Fleet) -> CycleResult:
    with fleet.replica.state.lock():
        return cycle(fleet.replica.under(Run()))


def assert_as_the_leader(fleet: Fleet) -> None:
    assert config_differences(fleet.replica_db, fleet.leader_db) == []
    assert databases.query(fleet.replica_db, "PRAGMA integrity_check") == [("ok",)]
    assert_at_rest(fleet.replica)


@pytest.mark.parametrize(
    ("race", "by_log"),
    [*((race, True) for race in RACES), *((race, False) for race in list(RACES)[:3])],
)
def test_what_another_writes_before_the_lock_is_compared_first(
    fleet: Fleet, race: str, by_log: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not by_log:
        monkeypatch.setattr(store, "pages_of", lambda *_given: None)
    locks = list[str]()

    def write() -> None:
        locks.append(race)
        if len(locks) == 1:
            elsewhere(fleet, RACES[race])

    with at_effect("taking the lock", write):
        assert follow(fleet).outcome is Outcome.APPLIED
    assert len(locks) == 2, "it was planned anew"
    assert_as_the_leader(fleet)


def test_heartbeats_meanwhile_cost_no_second_comparison(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared = list[frozenset[str]]()
    same = transaction._same

    def counted(planned: object, reader: object, tables: object) -> bool:
        compared.append(frozenset(tables))  # type: ignore[call-overload]
        return same(planned, reader, tables)  # type: ignore[arg-type]

    monkeypatch.setattr(transaction, "_same", counted)
    with at_effect("taking the lock", lambda: elsewhere(fleet, BEAT)):
        assert follow(fleet).outcome is Outcome.APPLIED
    *before, in_the_lock = compared
    assert in_the_lock == frozenset()
    assert all(before)
    assert_as_the_leader(fleet)


@pytest.mark.parametrize("race", ["a row of the plan", "a row of the plan goes",
                                  "an id of the plan is taken"])  # fmt: skip
def test_a_row_of_the_plan_is_compared_in_the_lock_whatever_the_log_says(
    fleet: Fleet, race: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "pages_since", lambda *_given: set())
    with at_effect("taking the lock", lambda: elsewhere(fleet, RACES[race]), times=1):
        assert follow(fleet).outcome is Outcome.APPLIED
    assert_as_the_leader(fleet)


def test_one_who_writes_all_the_time_gets_an_error_and_loses_nothing(fleet: Fleet) -> None:
    edit = "UPDATE monitor SET name = 'theirs ' || random() WHERE id = 3"
    with (
        at_effect("taking the lock", lambda: elsewhere(fleet, edit)),
        pytest.raises(DatabaseLocked),
    ):
        follow(fleet)
    assert cycles.name_of(fleet.replica_db, 3).startswith("theirs")
    assert databases.query(fleet.replica_db, "SELECT 1 FROM tag WHERE id = 50") == []
    assert follow(fleet).outcome is Outcome.APPLIED
    assert_as_the_leader(fleet)


@pytest.mark.parametrize("fleet", ["live"], indirect=True)
def test_what_another_writes_right_after_it_is_said_and_kept(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    with at_effect(
        "committed", lambda: elsewhere(fleet, RACES["another row of its table"]), times=1
    ):
        assert follow(fleet).outcome is Outcome.APPLIED
    assert "another program changed rows of monitor beside this apply" in caplog.text
    theirs = "SELECT interval FROM monitor WHERE id = 7"
    assert databases.query(fleet.replica_db, theirs) == [(77,)]
    follow(fleet)
    assert "rows here are no longer those of 1.2" in caplog.text
    assert databases.query(fleet.replica_db, theirs) == [(77,)]
