"""RESTORE_MERGE_STRATEGY: what becomes of rows that differ, and that nothing loops over them."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from replicator_kuma.base.errors import DatabaseMissing, KumaRunning, RepositoryUnreachable
from replicator_kuma.config.settings import NOTIFICATIONS
from replicator_kuma.dump.catalog import TABLES, choose
from replicator_kuma.dump.transform.overrides import Overrides
from replicator_kuma.dump.transform.policy import Policy
from replicator_kuma.dump.transform.rules import Rule
from replicator_kuma.replication.instance import Instance, Outcome
from replicator_kuma.replication.observe import Observation, observe
from replicator_kuma.replication.replica import drift
from replicator_kuma.replication.replica.drift import AGAIN, Step, judge
from tests.support import cycles, databases
from tests.support.compare import config_differences, orphans
from tests.support.cycles import (
    UnmanagedKuma,
    db,
    follow,
    lead,
    left_behind,
    name_of,
    publish,
    rename,
    step,
)
from tests.support.folder_repository import FolderRepository
from tests.support.instances import RecordingKuma
from tests.support.openers import opened
from tests.support.states import drift_words, state_with, with_fields

RULE = Rule("monitor", changes=(("interval", 77),))
APPLIED = "1.1 is applied; nothing newer"
HEALED = ["stop", "start", "ready?"]


@pytest.fixture
def healing(replica: Instance) -> Instance:
    """A replica with the strategy NOTIFICATIONS_INSERT_MERGE."""
    replica.policy = lambda: Policy(heal=True)
    return replica


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How often rows were read to be compared."""
    read: list[object] = []

    def counted(instance: Instance) -> Observation:
        read.append(instance)
        return observe(instance)

    monkeypatch.setattr(drift, "observe", counted)
    return lambda: len(read)


def same_rows(one: Instance, other: Instance) -> bool:
    return config_differences(db(one), db(other)) == []


# --- SNAPSHOT ---------------------------------------------------------------------------------


def test_rows_that_differ_are_noted_once_and_left(
    replica: Instance,
    repository: FolderRepository,
    kuma: RecordingKuma,
    caplog: pytest.LogCaptureFixture,
) -> None:
    rename(db(replica), 3, "mine")
    with caplog.at_level(logging.WARNING):
        results = [follow(replica) for _ in range(3)]
    assert {(r.outcome, r.sentence) for r in results} == {
        (Outcome.NOTHING, f"{APPLIED}; rows here differ from it")
    }
    said = [record.message for record in caplog.records]
    assert len(said) == 1
    assert "no longer those of 1.1" in said[0]
    state = replica.state.load()
    assert state.drift is not None
    assert drift_words(state) == said[0]
    assert repository.calls == ["snapshots"] * 3
    assert kuma.log == []
    assert name_of(db(replica), 3) == "mine"
    assert left_behind(replica) == []


def test_drift_keeps_its_beginning_while_rows_change_on(replica: Instance) -> None:
    rename(db(replica), 3, "mine")
    follow(replica)
    first, digest = replica.state.load().drift, replica.state.load().following.drift_digest
    rename(db(replica), 3, "mine again")
    follow(replica)
    again = replica.state.load().drift
    assert first is not None
    assert again is not None
    assert again.since == first.since
    assert replica.state.load().following.drift_digest != digest


def test_drift_is_over_when_the_rows_are_equal_again(leader: Instance, replica: Instance) -> None:
    rename(db(replica), 3, "mine")
    follow(replica)
    rename(db(replica), 3, name_of(db(leader), 3))
    assert follow(replica).sentence == APPLIED
    state = replica.state.load()
    assert state.drift is None


def test_a_start_puts_rows_right(leader: Instance, replica: Instance, kuma: RecordingKuma) -> None:
    rename(db(replica), 3, "mine")
    follow(replica)
    result = follow(replica, reconcile=True)
    assert result.outcome is Outcome.APPLIED
    assert result.sentence.startswith("applied 1.1 of leader again: 1 monitor changed")
    assert same_rows(replica, leader)
    assert kuma.log == HEALED
    assert replica.state.load().drift is None
    assert follow(replica).sentence == APPLIED


def test_the_next_snapshot_puts_rows_right(leader: Instance, replica: Instance) -> None:
    rename(db(replica), 3, "mine")
    follow(replica)
    publish(leader, "newer", 4)
    assert follow(replica).sentence.startswith("applied 1.2 of leader: 2 monitors changed")
    assert same_rows(replica, leader)
    assert replica.state.load().drift is None


def test_what_kuma_writes_by_itself_is_no_drift(replica: Instance) -> None:
    databases.edit(
        db(replica),
        "UPDATE monitor SET dns_last_result = '192.0.2.7'",
        "INSERT INTO heartbeat (monitor_id, status, time) VALUES (3, 1, '2031-01-01 00:00:00')",
        "UPDATE setting SET value = '\"mine\"' WHERE key = 'jwtSecret'",
        "UPDATE monitor_tag SET id = id + 1000",
    )
    assert follow(replica).sentence == APPLIED
    assert replica.state.load().drift is None


def test_a_database_that_is_gone_is_told_though_the_snapshot_is_applied(
    replica: Instance,
) -> None:
    db(replica).unlink()
    with pytest.raises(DatabaseMissing):
        follow(replica)
    replica.supervised = True
    assert "Kuma has made no database here yet" in follow(replica).sentence


def test_a_kuma_that_migrates_is_waited_for(replica: Instance) -> None:
    databases.edit(db(replica), "UPDATE knex_migrations_lock SET is_locked = 1")
    result = follow(replica)
    assert result.outcome is Outcome.WAITING
    assert "migrating" in result.sentence


# --- what heals -------------------------------------------------------------------------------


def test_rows_are_put_right_at_the_next_cycle(
    leader: Instance, healing: Instance, repository: FolderRepository, kuma: RecordingKuma
) -> None:
    rename(db(healing), 3, "mine")
    cycles.delete_monitor(db(healing), 5)
    cycles.add_monitor(db(healing), 700)
    result = follow(healing)
    assert result.outcome is Outcome.APPLIED
    assert "1.1 of leader again: 1 monitor added, 1 changed, 1 deleted" in result.sentence
    assert same_rows(healing, leader)
    assert kuma.log == HEALED
    assert orphans(db(healing)) == []
    repository.calls.clear()
    assert [follow(healing).sentence for _ in range(2)] == [APPLIED] * 2
    assert repository.calls == ["snapshots"] * 2
    assert kuma.log == HEALED
    assert healing.state.load().drift is None


def test_rows_that_nobody_can_have_changed_are_not_read_again(
    healing: Instance, unread: Callable[[], int]
) -> None:
    prints = ["a"]
    healing.store.fingerprint = lambda: prints[0]  # type: ignore[method-assign]
    for _ in range(3):
        assert follow(healing).sentence == APPLIED
    assert unread() == 1
    prints[0] = "b"  # a heartbeat
    for _ in range(3):
        assert follow(healing).sentence == APPLIED
    assert unread() == 2
    prints[0] = ""  # cannot tell
    for _ in range(3):
        follow(healing)
    assert unread() == 5
    assert follow(healing, reconcile=True).sentence == APPLIED
    assert unread() == 6


def test_a_change_while_rows_are_compared_is_not_lost(
    leader: Instance, healing: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What makes a check cheap is read before the rows are, never after."""
    prints = ["a"]
    healing.store.fingerprint = lambda: prints[0]  # type: ignore[method-assign]

    def looked(instance: Instance) -> Observation:
        seen = observe(instance)
        if prints[0] == "a":
            rename(db(instance), 3, "changed meanwhile")
            prints[0] = "b"
        return seen

    monkeypatch.setattr(drift, "observe", looked)
    assert follow(healing).outcome is Outcome.NOTHING
    assert follow(healing).outcome is Outcome.APPLIED
    assert same_rows(healing, leader)


@pytest.mark.usefixtures("impatient")
def test_a_heal_that_failed_is_tried_again_and_shows_as_drift(
    tmp_path: Path, leader: Instance, healing: Instance, repository: FolderRepository
) -> None:
    rename(db(healing), 3, "mine")
    repository.fail["fetch"] = RepositoryUnreachable("no network")
    with pytest.raises(RepositoryUnreachable):
        follow(healing)
    state = healing.state.load()
    assert state.drift is not None
    assert "to be put right" in drift_words(state)
    unmanaged = cycles.instance(healing.data_dir, repository, name="replica", kuma=UnmanagedKuma())
    unmanaged.policy = healing.policy
    with opened(db(healing)):
        for _ in range(2):
            with pytest.raises(KumaRunning):
                follow(unmanaged)
    assert follow(healing).outcome is Outcome.APPLIED
    assert same_rows(healing, leader)
    assert healing.state.load().drift is None


@pytest.mark.parametrize("heal", [True, False])
def test_another_choice_is_compared_anew(
    replica: Instance, repository: FolderRepository, heal: bool
) -> None:
    replica.policy = lambda: Policy(heal=heal, truncate=True)
    assert follow(replica).sentence == "the rows equal 1.1; nothing to do"
    assert repository.calls == ["snapshots", "fetch"]
    assert follow(replica).sentence == APPLIED
    assert repository.calls == ["snapshots", "fetch", "snapshots"]


# --- rows that come back by themselves --------------------------------------------------------


def kuma_writes_at_its_start(replica: Instance, kuma: RecordingKuma) -> None:
    """As Kuma does with maintenance rows whose cron is empty."""
    kuma.on_start = lambda: databases.edit(
        db(replica), "UPDATE maintenance SET duration = 0 WHERE id = 1"
    )


def test_rows_that_come_back_are_put_right_once(
    leader: Instance, healing: Instance, kuma: RecordingKuma, caplog: pytest.LogCaptureFixture
) -> None:
    kuma_writes_at_its_start(healing, kuma)
    publish(leader, "newer", 4)
    assert follow(healing).outcome is Outcome.APPLIED
    assert follow(healing).outcome is Outcome.APPLIED, "the first look cannot know it"
    assert kuma.log == HEALED * 2
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert follow(healing).sentence == (
                "1.2 is applied; nothing newer; rows here differ from it"
            )
    assert kuma.log == HEALED * 2
    assert ["differ again since Kuma's start" in r.message for r in caplog.records] == [True]
    state = healing.state.load()
    assert state.drift is not None
    assert "differ again since Kuma's start" in drift_words(state)


def test_rows_that_come_back_do_not_keep_others_from_being_put_right(
    leader: Instance, healing: Instance, kuma: RecordingKuma
) -> None:
    kuma_writes_at_its_start(healing, kuma)
    rename(db(healing), 4, "mine")
    assert follow(healing).outcome is Outcome.APPLIED
    assert follow(healing).outcome is Outcome.APPLIED
    assert follow(healing).outcome is Outcome.NOTHING
    rename(db(healing), 3, "mine")
    assert follow(healing).outcome is Outcome.APPLIED
    assert name_of(db(healing), 3) == name_of(db(leader), 3)
    publish(leader, "newer", 5)
    assert follow(healing).sentence.startswith("applied 1.2 of leader:")
    assert name_of(db(healing), 5) == "newer"


def test_rows_of_the_snapshot_before_are_no_rows_that_came_back(
    leader: Instance, healing: Instance
) -> None:
    before = name_of(db(leader), 3)
    step(leader, healing, "newer")
    rename(db(healing), 3, before)
    assert follow(healing).outcome is Outcome.APPLIED
    assert name_of(db(healing), 3) == "newer"


def test_what_was_equal_to_the_snapshot_before_proves_nothing_of_this_one(
    leader: Instance, healing: Instance
) -> None:
    """An engine's fingerprint may be the same again once rows are."""
    prints, before = ["one"], name_of(db(leader), 3)
    healing.store.fingerprint = lambda: prints[0]  # type: ignore[method-assign]
    assert follow(healing).sentence == APPLIED
    publish(leader, "newer")
    prints[0] = "two"
    assert follow(healing).outcome is Outcome.APPLIED
    rename(db(healing), 3, before)
    prints[0] = "one"
    assert follow(healing).outcome is Outcome.APPLIED


def test_a_person_may_try_rows_that_come_back_again(healing: Instance, kuma: RecordingKuma) -> None:
    kuma_writes_at_its_start(healing, kuma)
    rename(db(healing), 4, "mine")
    while follow(healing).outcome is Outcome.APPLIED:
        pass
    kuma.log.clear()
    assert follow(healing, reconcile=True).outcome is Outcome.APPLIED
    assert kuma.log == HEALED
    assert follow(healing).outcome is Outcome.NOTHING
    assert kuma.log == HEALED


# --- DEFAULT ----------------------------------------------------------------------------------


@pytest.fixture
def default(replica: Instance) -> Instance:
    """A replica with the strategy DEFAULT."""
    replica.policy = lambda: Policy(heal=True)
    replica.tables = choose(None, NOTIFICATIONS)
    follow(replica)
    return replica


def alerts(database: Path) -> list[list[tuple[object, ...]]]:
    return [
        databases.query(database, f"SELECT * FROM {table} ORDER BY id")
        for table in ("notification", "monitor_notification")
    ]


def test_notifications_neither_come_nor_are_put_right(
    leader: Instance, default: Instance, kuma: RecordingKuma
) -> None:
    kuma.log.clear()
    databases.edit(
        db(default),
        "UPDATE notification SET name = 'mine' WHERE id = 1",
        "DELETE FROM monitor_notification WHERE monitor_id = 3",
    )
    mine = alerts(db(default))
    assert follow(default).sentence == APPLIED
    databases.edit(
        db(leader),
        "UPDATE notification SET name = 'theirs' WHERE id = 1",
        "UPDATE monitor SET name = 'newer' WHERE id = 3",
    )
    lead(leader)
    assert follow(default).sentence.startswith("applied 1.2 of leader: 1 monitor changed")
    assert alerts(db(default)) == mine
    assert name_of(db(default), 3) == "newer"
    assert follow(default).outcome is Outcome.NOTHING
    assert kuma.log == HEALED


def test_a_monitor_that_goes_takes_its_alerts_along_also_where_they_do_not_come(
    leader: Instance, default: Instance
) -> None:
    assert cycles.count(db(default), "monitor_notification", "monitor_id = 3")
    cycles.delete_monitor(db(leader), 3)
    lead(leader)
    assert follow(default).outcome is Outcome.APPLIED
    assert cycles.count(db(default), "monitor_notification", "monitor_id = 3") == 0
    assert orphans(db(default)) == []
    assert cycles.count(db(default), "notification") == cycles.count(db(leader), "notification")


def test_who_promotes_a_replica_with_ways_of_its_own_is_told_that_they_become_the_fleet_s(
    default: Instance, repository: FolderRepository
) -> None:
    default.policy = lambda: Policy(heal=True, local=frozenset({"proxy"}))
    result = cycles.take_over(default)
    assert result.outcome is Outcome.PUBLISHED
    assert result.warnings[0] == (
        "this replica had proxy of its own; no notification, monitor_notification from its "
        "leader: its rows are the fleet's from now on"
    )


def test_rules_of_a_replica_do_not_reach_the_fleet_when_it_leads(
    replica: Instance, leader: Instance
) -> None:
    rules = Overrides((Rule("monitor", (("id", (3,)),), skip=True), RULE))
    replica.policy = lambda: Policy(overrides=rules)
    cycles.follow(replica)
    assert cycles.count(db(replica), "monitor", "id = 3 OR interval <> 77") == 0
    result = cycles.take_over(replica)
    assert result.warnings == ()
    assert cycles.count(db(replica), "monitor") == cycles.count(db(leader), "monitor")
    assert cycles.count(db(replica), "monitor", "interval = 77") == 0
    assert config_differences(db(replica), db(leader)) == []
    for reconcile in (False, True):  # until its mode is set, it waits for that
        assert cycles.follow(replica, reconcile=reconcile).outcome is Outcome.WAITING
    assert config_differences(db(replica), db(leader)) == []
    assert cycles.lead(replica, verify=True).outcome is Outcome.NOTHING


def test_what_a_strategy_leaves_out_comes_when_it_leads(
    default: Instance, leader: Instance
) -> None:
    default.leading = frozenset(TABLES)
    assert cycles.take_over(default).warnings == ()
    for table in ("notification", "monitor_notification"):
        assert cycles.count(db(default), table) == cycles.count(db(leader), table) > 0


def test_who_promotes_an_ordinary_replica_is_told_nothing(replica: Instance) -> None:
    assert cycles.take_over(replica).warnings == ()


# --- what is known after an end in the middle -------------------------------------------------


def test_what_a_person_s_start_of_kuma_confirms_is_remembered_as_applied(
    leader: Instance, healing: Instance, repository: FolderRepository, kuma: RecordingKuma
) -> None:
    """Nothing that an apply means is known only to the process that carried it out."""
    kuma.up = False
    step(leader, healing, "newer")
    assert healing.state.load().applying.pending is not None
    kuma.up = True
    repository.calls.clear()
    again = cycles.instance(healing.data_dir, repository, name="replica", kuma=kuma)
    again.policy = healing.policy
    assert follow(again).sentence == "1.2 is applied; nothing newer"
    assert repository.calls == ["snapshots"]


def test_a_state_of_the_version_before_is_compared_anew_and_does_no_harm(
    replica: Instance, repository: FolderRepository, kuma: RecordingKuma
) -> None:
    raw = json.loads(replica.state.path.read_text())
    new = {"arrived", "keeps_own", "alike", "drift", "drift_words", "drift_digest", "healed"}
    for name in (*new, "applied_policy"):
        del raw["state"][name]
    raw["state"]["applied_tables"] = sorted(replica.tables)
    replica.state.path.write_text(json.dumps(raw))
    assert follow(replica).sentence == "the rows equal 1.1; nothing to do"
    assert follow(replica).sentence == APPLIED
    assert repository.calls == ["snapshots", "fetch", "snapshots"]
    assert kuma.log == []


# --- the decision -----------------------------------------------------------------------------

KNOWN = state_with("w", digest="applied", healed="healed", drift_digest="seen")


@pytest.mark.parametrize(
    ("digest", "heal", "reconcile", "own", "step"),
    [
        ("applied", False, False, False, Step.EQUAL),
        ("applied", True, True, False, Step.EQUAL),
        ("other", False, False, False, Step.LEAVE),
        ("other", False, True, True, Step.HEAL),
        ("other", True, False, True, Step.HEAL),
        ("healed", True, False, True, Step.CAME_BACK),
        ("healed", False, False, False, Step.CAME_BACK),
        ("healed", True, True, False, Step.HEAL),
        ("other", False, False, True, Step.ASK),
        ("seen", False, False, True, Step.LEAVE),
        ("seen", True, False, True, Step.HEAL),
    ],
)
def test_what_is_done_about_rows(
    digest: str, heal: bool, reconcile: bool, own: bool, step: Step
) -> None:
    state = with_fields(KNOWN, keeps_own=own)
    assert judge(state, digest, heal=heal, reconcile=reconcile) is step


@pytest.mark.parametrize(
    ("digest", "heal", "reconcile", "now", "step"),
    [
        ("healed", True, False, 1000.0, Step.CAME_BACK),
        ("healed", True, False, 999.0, Step.HEAL),
        ("healed", True, False, 999.0 + AGAIN, Step.CAME_BACK),
        ("healed", True, False, 1000.0 + AGAIN, Step.HEAL),
        ("healed", True, True, 1000.0, Step.HEAL),
        ("healed", False, False, 1000.0, Step.LEAVE),
        ("other", True, False, 1000.0, Step.HEAL),
        ("applied", True, False, 1000.0, Step.EQUAL),
    ],
)
def test_what_is_done_about_rows_that_were_equal_since_their_heal(
    digest: str, heal: bool, reconcile: bool, now: float, step: Step
) -> None:
    state = with_fields(KNOWN, healed_at=1000.0)
    assert judge(state, digest, heal=heal, reconcile=reconcile, now=now) is step
