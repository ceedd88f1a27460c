"""An apply to a running Kuma, and when Kuma is restarted in its place.

The agent is a stand-in whose memory can be looked at; tests/live has the real one in real Kumas.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from replicator_kuma.adapters.kuma.agent.client import AgentHangs, Hello, Report
from replicator_kuma.base.errors import KumaError, KumaRunning
from replicator_kuma.replication.apply import after_live, checkpoints, live
from replicator_kuma.replication.apply.choose import NotLive, decide
from replicator_kuma.replication.instance import CycleResult, Outcome, Run, Way
from replicator_kuma.replication.replica.cycle import cycle
from replicator_kuma.replication.restart_cooldown import Cooldown
from replicator_kuma.replication.state.records import LiveOff
from tests.support import cycles, databases
from tests.support.cycles import go_back, lead
from tests.support.fleet import Fleet, assert_at_rest
from tests.support.memory_agent import VERSION

LIVE = "without a restart of Kuma"


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    """A replica at 1.1 whose Kuma runs and takes rows; 1.2 is published."""
    cycles.rename(cycles.fill(tmp_path / "leader", monitors=12), 3, "one")
    made = Fleet(tmp_path, mortal=True, live=True)
    for instance in (made.leader, made.replica):
        instance.kuma.start()
    made.begin()
    made.kuma.log.clear()
    edit(made, "two")
    return made


def edit(fleet: Fleet, name: str) -> None:
    cycles.rename(fleet.leader_db, 3, name)
    lead(fleet.leader)


def follow(fleet: Fleet, *, reconcile: bool = False, restart: bool = False) -> CycleResult:
    with fleet.replica.state.lock():
        return cycle(fleet.replica.under(Run(restart=restart)), reconcile=reconcile)


def name(fleet: Fleet) -> str:
    return cycles.name_of(fleet.replica_db, 3)


def refuse(fleet: Fleet, why: str = "a check did not end") -> None:
    fleet.memory_kuma.agent.refuses = lambda: why


# --- live ---------------------------------------------------------------------------------------


def test_a_running_kuma_takes_the_rows(fleet: Fleet) -> None:
    done = follow(fleet)
    assert done.sentence.endswith(LIVE)
    assert (name(fleet), fleet.kuma.log) == ("two", [])
    assert_at_rest(fleet.replica)
    state = fleet.replica.state.load()
    assert state.running.live_last is not None
    assert state.applying.restart is None, "no restart delays the next apply"
    assert LIVE in go_back(fleet.replica).sentence
    assert (name(fleet), fleet.kuma.log) != ("two", ["stop"])
    assert_at_rest(fleet.replica)


def test_the_time_between_restarts_delays_no_live_apply(fleet: Fleet) -> None:
    fleet.replica.cooldown = Cooldown(900)
    assert follow(fleet, restart=True).outcome is Outcome.APPLIED
    edit(fleet, "three")
    assert follow(fleet).sentence.endswith(LIVE)
    edit(fleet, "four")
    refused = fleet.memory_kuma.agent.alive
    fleet.memory_kuma.agent.alive = lambda: False
    assert follow(fleet).outcome is Outcome.WAITING
    fleet.memory_kuma.agent.alive = refused
    assert follow(fleet).sentence.endswith(LIVE)


def test_kuma_runs_and_nobody_can_stop_it(fleet: Fleet) -> None:
    """REPLICATOR_KUMA=none beside an agent: live only."""
    fleet.kuma.manages = False
    assert follow(fleet).sentence.endswith(LIVE)
    edit(fleet, "three")
    refuse(fleet)
    with pytest.raises(KumaRunning, match="Kuma has not read them yet"):
        follow(fleet)
    refuse(fleet, "")
    follow(fleet)
    assert name(fleet) == "three"
    assert_at_rest(fleet.replica)


def test_a_restart_can_be_forced_once(fleet: Fleet) -> None:
    assert LIVE not in follow(fleet, reconcile=True, restart=True).sentence
    assert fleet.kuma.log == ["stop", "start"]
    assert_at_rest(fleet.replica)


# --- a restart in its place -----------------------------------------------------------------------


def test_an_agent_that_fails_is_followed_by_a_restart(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    refuse(fleet)
    assert LIVE not in follow(fleet).sentence
    assert fleet.kuma.log == ["stop", "start"]
    assert "Kuma did not take the new rows over while it ran: a check did not end" in caplog.text
    assert_at_rest(fleet.replica)
    assert fleet.replica.state.load().applying.restart is not None


def test_memory_that_stays_different_is_followed_by_a_restart(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    agent = fleet.memory_kuma.agent

    def reconcile(*_given: object, **_named: object) -> Report:
        asked.append(1)
        return Report(True, 0, (), 0.1)

    monkeypatch.setattr(agent, "reconcile", reconcile)
    follow(fleet)
    assert (len(asked), fleet.kuma.log) == (2, ["stop", "start"])
    assert_at_rest(fleet.replica)


def test_a_plan_that_would_hold_the_database_is_followed_by_a_restart(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(live, "LOCK", 1e-6)
    with caplog.at_level(logging.INFO):
        assert LIVE not in follow(fleet).sentence
    assert "Kuma is restarted for this change: writing 1 rows would hold its database" in (
        caplog.text
    )


def test_a_long_history_that_would_be_set_aside_is_followed_by_a_restart(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    """The id of a monitor becomes another's: its 30,000 heartbeats would be moved in the lock."""
    many = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30000) "
    beat = "INSERT INTO heartbeat (monitor_id, status, time) SELECT 5, 1, i FROM n"
    databases.edit(fleet.replica_db, many + beat)
    cycles.delete_monitor(fleet.leader_db, 5)
    cycles.add_monitor(fleet.leader_db, 5)
    edit(fleet, "three")
    with caplog.at_level(logging.INFO):
        assert LIVE not in follow(fleet).sentence
    assert "rows and moving 30007 of history would hold its database for 0.8 s" in caplog.text
    assert_at_rest(fleet.replica)


def test_a_trigger_that_has_all_rows_read_in_the_lock_counts(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "_PER_HASHED", live.LOCK)
    assert follow(fleet).sentence.endswith(LIVE)
    edit(fleet, "three")
    databases.edit(
        fleet.replica_db, "CREATE TRIGGER harmless AFTER DELETE ON proxy BEGIN SELECT 1; END"
    )
    assert LIVE not in follow(fleet).sentence


def test_why_not_is_said_once(fleet: Fleet, caplog: pytest.LogCaptureFixture) -> None:
    fleet.memory_kuma.agent.alive = lambda: False
    with caplog.at_level(logging.INFO):
        follow(fleet)
        edit(fleet, "three")
        follow(fleet)
        assert caplog.text.count("Kuma is restarted for changes: the agent") == 1
        fleet.memory_kuma.agent.alive = lambda: True
        edit(fleet, "four")
        assert follow(fleet).sentence.endswith(LIVE)
        fleet.memory_kuma.agent.alive = lambda: False
        edit(fleet, "five")
        follow(fleet)
    assert caplog.text.count("Kuma is restarted for changes: the agent") == 2


def test_live_alone_never_restarts(fleet: Fleet) -> None:
    fleet.replica.way = Way.LIVE
    fleet.memory_kuma.agent.alive = lambda: False
    with pytest.raises(NotLive, match="nothing was changed"):
        follow(fleet)
    assert (name(fleet), fleet.kuma.log) == ("one", [])
    fleet.memory_kuma.agent.alive = lambda: True
    refuse(fleet)
    with pytest.raises(NotLive, match="the new rows are in place"):
        follow(fleet)
    assert (name(fleet), fleet.kuma.log) == ("two", [])
    with pytest.raises(NotLive):
        follow(fleet)
    refuse(fleet, "")
    follow(fleet)
    assert_at_rest(fleet.replica)
    assert fleet.kuma.log == []


@pytest.mark.parametrize("way", [Way.AUTO, Way.LIVE])
def test_an_agent_that_hangs_is_ended_and_left_out(fleet: Fleet, way: Way) -> None:
    """Also where nothing is to restart Kuma: it was killed, and has to run again."""
    ended = []

    def end() -> None:
        ended.append(1)
        fleet.kuma.up = False

    def hang(*_given: object, **_named: object) -> Report:
        raise AgentHangs("no answer")

    fleet.replica.way, fleet.replica.end_hung = way, end
    fleet.memory_kuma.agent.reconcile = hang  # type: ignore[method-assign]
    follow(fleet)
    assert (ended, fleet.kuma.log) == ([1], ["start"])
    assert fleet.replica.state.load().running.agent_hung == "a" * 64
    assert_at_rest(fleet.replica)


# --- Kuma ends right after it --------------------------------------------------------------------


def test_an_end_by_a_signal_judges_nothing(fleet: Fleet) -> None:
    follow(fleet)
    after_live.kuma_ended(fleet.replica, 128 + 9)
    state = fleet.replica.state.load()
    assert (state.running.live_off, state.running.live_doubted) == (None, False)


def test_another_end_long_after_it_judges_nothing(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    follow(fleet)
    monkeypatch.setattr(after_live, "SOON", 0.0)
    after_live.kuma_ended(fleet.replica, 1)
    assert fleet.replica.state.load().running.live_off is None


def test_an_end_of_a_kuma_that_was_started_since_judges_nothing(fleet: Fleet) -> None:
    follow(fleet)
    fleet.replica.start_kuma()
    after_live.kuma_ended(fleet.replica, 1)
    assert fleet.replica.state.load().running.live_off is None


def test_an_end_right_after_it_is_tried_again_by_a_start(fleet: Fleet) -> None:
    follow(fleet)
    (kept,) = checkpoints.readable(fleet.replica.state.folder)
    _end_by_itself(fleet)
    state = fleet.replica.state.load()
    assert state.applying.pending is not None
    assert state.running.live_off == LiveOff(VERSION, "a" * 64, "1.2, exit code 1")
    fleet.kuma.start()
    follow(fleet)
    assert_at_rest(fleet.replica)
    (again,) = checkpoints.readable(fleet.replica.state.folder)
    assert replace(again, folder=kept.folder, at=kept.at) == kept
    edit(fleet, "three")
    assert LIVE not in follow(fleet).sentence, "live is off"


def test_rows_on_which_kuma_does_not_start_either_are_put_back(fleet: Fleet) -> None:
    follow(fleet)
    _end_by_itself(fleet)
    fleet.file_kuma.refuses = lambda: name(fleet) == "two"
    fleet.kuma.start()
    with pytest.raises(KumaError, match="runs on the rows from before"):
        follow(fleet)
    assert name(fleet) == "one"
    assert_at_rest(fleet.replica)
    assert len(fleet.replica.state.load().applying.bad) == 1


def _end_by_itself(fleet: Fleet) -> None:
    after_live.kuma_ended(fleet.replica, 1)
    fleet.kuma.up = False
    after_live.try_again_by_start(fleet.replica)
    after_live.try_again_by_start(fleet.replica)


# --- the choice -----------------------------------------------------------------------------------

HELLO = Hello(1, "a" * 64, VERSION, 7, 1.0, "ready", 3, 3, (), needs_setup=False, database="d")


@pytest.mark.parametrize(
    ("hello", "why"),
    [
        (HELLO, ""),
        (replace(HELLO, phase="starting"), ""),
        (replace(HELLO, database=""), ""),
        (replace(HELLO, agent=2), "protocol 2"),
        (replace(HELLO, missing=("timers",)), "needs: timers"),
        (replace(HELLO, database="e"), "another database"),
        (replace(HELLO, needs_setup=True), "without a user"),
        (replace(HELLO, version="2.6.0"), "not proved on Kuma 2.6.0"),
        (replace(HELLO, sha="b" * 64), "ended by itself"),
        (replace(HELLO, phase="migrating"), "has not read its rows yet (migrating)"),
    ],
)
def test_what_bars_a_live_apply(hello: Hello, why: str) -> None:
    off = LiveOff(VERSION, "b" * 64, "1.1, exit code 1")
    choice = decide(Way.AUTO, hello, off, "d", session=True)
    assert (choice.hello is not None) == (not why)
    assert why in choice.why_not


def test_live_is_tried_on_versions_that_were_not_proved() -> None:
    hello = replace(HELLO, version="2.6.0")
    assert decide(Way.LIVE, hello, None, "d", session=True).hello == hello
    assert "not the Kuma" in decide(Way.LIVE, hello, None, "d", session=False).why_not


def test_an_agent_of_another_kuma_is_not_asked(fleet: Fleet) -> None:
    fleet.kuma.pid = 1_000_000
    assert LIVE not in follow(fleet).sentence


def test_an_interrupted_take_over_is_gone_on_with(fleet: Fleet) -> None:
    """A death right after the commit: the next cycle asks the agent, and stops nothing."""
    refuse(fleet)
    fleet.replica.way = Way.LIVE
    with pytest.raises(NotLive):
        follow(fleet)
    fleet.replica.way = Way.AUTO
    refuse(fleet, "")
    assert follow(fleet).outcome is Outcome.NOTHING
    assert fleet.kuma.log == []
    assert_at_rest(fleet.replica)
