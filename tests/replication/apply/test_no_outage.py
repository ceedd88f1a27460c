"""What keeps an apply from ever succeeding costs no outage, or two, and never one a cycle."""

from __future__ import annotations

import dataclasses
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from replicator_kuma.adapters.database.holders import holders
from replicator_kuma.base.errors import (
    DatabaseError,
    DatabaseLocked,
    KumaError,
    ReplicatorError,
    StoppedInVain,
)
from replicator_kuma.dump.catalog import TABLES
from replicator_kuma.replication.instance import Instance, Outcome
from tests.support import cycles, databases
from tests.support.compare import config_differences
from tests.support.cycles import db, follow, lead, publish, rename
from tests.support.instances import RecordingKuma
from tests.support.openers import opened
from tests.support.states import edit_state

RESTART = ["stop", "start", "ready?"]
IN_VAIN = ["stop", "start"]


def _trigger(when: str, does: str) -> str:
    return f"CREATE TRIGGER odd {when} BEGIN {does}; END"


def _without_key(table: str) -> str:
    """The table as a script makes it anew: CREATE TABLE … AS keeps rows and no key."""
    return (
        f"CREATE TABLE made AS SELECT * FROM {table}; DROP TABLE {table}; "
        f"ALTER TABLE made RENAME TO {table}"
    )


COMPILED = {
    "insert into a missing table": _trigger(
        "AFTER INSERT ON monitor", "INSERT INTO gone VALUES(1)"
    ),
    "update of a missing table": _trigger("AFTER UPDATE ON monitor", "UPDATE gone SET a = 1"),
    "delete from a missing table": _trigger("BEFORE DELETE ON monitor", "DELETE FROM gone"),
    "a missing column": _trigger("AFTER UPDATE ON monitor", "SELECT NEW.gone"),
    "a function that nobody has": _trigger("AFTER INSERT ON monitor", "SELECT gone(NEW.id)"),
    "monitors without their key": _without_key("monitor"),
    "tags without their key": _without_key("tag"),
}
BY_ROWS = {
    "a trigger that refuses": _trigger("AFTER UPDATE ON monitor", "SELECT RAISE(ABORT, 'no')"),
    "a trigger that rolls back": _trigger("AFTER INSERT ON monitor", "SELECT RAISE(ROLLBACK, '')"),
    "a trigger that ignores": _trigger("BEFORE INSERT ON monitor", "SELECT RAISE(IGNORE)"),
    "a trigger that keeps rows": _trigger("BEFORE DELETE ON monitor", "SELECT RAISE(IGNORE)"),
    "a trigger that writes back": _trigger(
        "AFTER UPDATE OF name ON monitor", "UPDATE monitor SET interval = 7 WHERE id = NEW.id"
    ),
    "a trigger that writes to another table": _trigger(
        "AFTER INSERT ON monitor", "UPDATE tag SET name = 'odd'"
    ),
    "a trigger by what another table holds": (
        "CREATE TABLE quota (most INT); INSERT INTO quota VALUES (12); "
        + _trigger(
            "BEFORE INSERT ON monitor WHEN NEW.id > (SELECT most FROM quota)",
            "SELECT RAISE(FAIL, 'too many')",
        )
    ),
    "a unique name": "CREATE UNIQUE INDEX odd ON monitor(user_id) WHERE id IN (3, 77)",
}


@pytest.fixture
def behind(leader: Instance, replica: Instance) -> Instance:
    """A replica whose leader has published monitors that are new, changed and gone."""
    rename(db(leader), 3, "two")
    cycles.add_monitor(db(leader), 77)
    cycles.delete_monitor(db(leader), 5)
    databases.edit(db(leader), "INSERT INTO tag (name, color) VALUES ('new', '#fff')")
    lead(leader)
    return replica


def _script(database: Path, sql: str) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript(sql)


@pytest.mark.parametrize("name", COMPILED | BY_ROWS)
def test_what_its_tables_refuse_is_met_before_kuma_stops(
    behind: Instance, kuma: RecordingKuma, name: str
) -> None:
    sound = cycles.copy_of(db(behind), "sound.db")
    _script(db(behind), (COMPILED | BY_ROWS)[name])
    before = cycles.copy_of(db(behind))
    for _ in range(3):
        with pytest.raises(ReplicatorError):
            follow(behind)
    assert kuma.log == []
    assert config_differences(db(behind), before) == []
    sound.replace(db(behind))
    assert follow(behind).outcome is Outcome.APPLIED, "it goes on by itself"
    assert kuma.log == RESTART


@pytest.mark.parametrize("name", COMPILED)
def test_doctor_compiles_what_an_apply_would_run(replica: Instance, name: str) -> None:
    assert replica.store.obstacles(sorted(TABLES)) == []
    _script(db(replica), COMPILED[name])
    assert replica.store.obstacles(sorted(TABLES)) != []


def test_what_acts_on_rows_that_stay_is_no_obstacle(behind: Instance, kuma: RecordingKuma) -> None:
    _script(db(behind), _trigger("AFTER INSERT ON proxy", "INSERT INTO gone VALUES (1)"))
    _script(db(behind), "CREATE TABLE log (a); CREATE VIEW odd AS SELECT * FROM gone")
    _script(
        db(behind),
        "CREATE TRIGGER harmless AFTER UPDATE ON monitor BEGIN INSERT INTO log VALUES (1); END",
    )
    assert follow(behind).outcome is Outcome.APPLIED
    assert kuma.log == RESTART


def test_who_keeps_the_write_lock_is_named_and_kuma_not_stopped(
    behind: Instance, kuma: RecordingKuma
) -> None:
    with (
        opened(db(behind), "BEGIN IMMEDIATE") as pid,
        pytest.raises(DatabaseLocked, match=f"process {pid} "),
    ):
        follow(behind)
    assert kuma.log == []
    assert follow(behind).outcome is Outcome.APPLIED


def _port(instance: Instance, kuma: RecordingKuma) -> None:
    """Kuma listens at its address for as long as it runs."""
    instance.listens = lambda: kuma.up


def test_a_reader_that_stays_is_no_kuma(
    behind: Instance, leader: Instance, kuma: RecordingKuma, caplog: pytest.LogCaptureFixture
) -> None:
    _port(behind, kuma)
    caplog.set_level("INFO")
    with opened(db(behind)) as pid:
        found = holders(db(behind))
        assert [(h.pid, h.command, h.maybe_kuma) for h in found] == [(pid, "litestream", False)]
        assert follow(behind).outcome is Outcome.APPLIED
        assert kuma.log == RESTART
        publish(leader, "another")
        assert follow(behind).outcome is Outcome.APPLIED
    named = [r for r in caplog.records if f"process {pid} (litestream)" in r.getMessage()]
    assert len(named) == 1, "it is named once, not at each apply"
    assert holders(db(behind)) == ()


def test_beside_one_that_nobody_sees_it_writes_only_where_kuma_had_a_port(
    behind: Instance, kuma: RecordingKuma, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container's process is not in /proc of another container."""
    monkeypatch.setattr(type(behind.store), "holders", lambda _store: ())
    with opened(db(behind)):
        behind.listens = lambda: False
        with pytest.raises(KumaError, match="cannot be seen from here"):
            follow(behind)
        _port(behind, kuma)
        assert follow(behind).outcome is Outcome.APPLIED


def test_a_port_that_stays_open_is_a_kuma_that_was_not_stopped(
    behind: Instance, kuma: RecordingKuma
) -> None:
    behind.listens = lambda: True
    with opened(db(behind)), pytest.raises(KumaError, match=r"process \d+ \(litestream\)"):
        follow(behind)
    assert kuma.log == IN_VAIN


def test_under_a_node_that_stays_nothing_is_written_and_kuma_stops_twice_at_most(
    behind: Instance, leader: Instance, kuma: RecordingKuma
) -> None:
    _port(behind, kuma)
    with opened(db(behind), name="node") as pid:
        for _ in range(2):
            with pytest.raises(KumaError, match=rf"process {pid} \(node\)"):
                follow(behind)
        for _ in range(3):
            with pytest.raises(
                StoppedInVain, match=r"failed 2 times after Kuma had stopped.* open "
            ) as held:
                follow(behind)
        assert kuma.log == IN_VAIN * 2
        assert held.value.exit_code == KumaError.exit_code
        with pytest.raises(KumaError, match="still has"):
            follow(behind, reconcile=True)  # a person's word
        assert kuma.log == IN_VAIN * 3
    edit_state(behind.state, failed=_older(behind))
    assert follow(behind).outcome is Outcome.APPLIED, "its end is seen without an outage"
    assert behind.state.load().applying.failed is None


def _older(instance: Instance) -> object:
    vain = instance.state.load().applying.failed
    assert vain is not None
    return dataclasses.replace(vain, at=vain.at - 3600)


def test_two_that_may_be_kuma_are_met_before_the_stop(
    behind: Instance, kuma: RecordingKuma
) -> None:
    with (
        opened(db(behind), name="node"),
        opened(db(behind), name="node"),
        pytest.raises(KumaError, match="each may be a Kuma"),
    ):
        follow(behind)
    assert kuma.log == []


def test_one_that_is_not_our_own_child_is_met_before_the_stop(
    behind: Instance, kuma: RecordingKuma
) -> None:
    """As `run` has it: the child is known by its process id (`KumaService.pid`)."""
    kuma.pid = 1 << 30
    with (
        opened(db(behind), name="node") as pid,
        pytest.raises(KumaError, match=rf"process {pid} \(node\).*may be another Kuma"),
    ):
        follow(behind)
    assert kuma.log == []


def test_what_fails_after_two_stops_waits_for_another_cause_or_snapshot(
    behind: Instance, leader: Instance, kuma: RecordingKuma
) -> None:
    def refuses() -> None:
        raise KumaError("the stop command ended with exit code 7")

    kuma.on_stop = refuses
    for _ in range(2):
        with pytest.raises(KumaError, match="exit code 7"):
            follow(behind)
    log = list(kuma.log)
    for _ in range(2):
        with pytest.raises(StoppedInVain, match=r"1\.2: .*exit code 7"):
            follow(behind)
    assert kuma.log == log
    publish(leader, "three")
    with pytest.raises(KumaError, match="exit code 7"):
        follow(behind)
    assert len(kuma.log) > len(log), "another snapshot is tried"
    with pytest.raises(KumaError, match="exit code 7"):
        follow(behind)
    kuma.on_stop = None
    with pytest.raises(StoppedInVain):
        follow(behind)
    behind.setup = "another stop command"
    assert follow(behind).outcome is Outcome.APPLIED


def test_who_promotes_waits_for_nothing_though_cycles_here_have_given_up(
    behind: Instance, kuma: RecordingKuma
) -> None:
    """One process, as under `run`: what its cycles may not do is no rule for a person."""

    def refuses() -> None:
        raise KumaError("the stop command ended with exit code 7")

    kuma.on_stop = refuses
    for _ in range(2):
        with pytest.raises(KumaError, match="exit code 7"):
            follow(behind)
    kuma.on_stop = None
    with pytest.raises(StoppedInVain):
        follow(behind)
    assert "with the rows of 1.2" in cycles.take_over(behind).sentence


def test_where_kuma_does_not_run_an_apply_costs_nothing_and_is_tried(
    behind: Instance, kuma: RecordingKuma
) -> None:
    with opened(db(behind), name="node"):
        for _ in range(2):
            with pytest.raises(KumaError):
                follow(behind)
    edit_state(behind.state, failed=_held_back(behind))
    kuma.up = False
    assert follow(behind).outcome is Outcome.APPLIED


def _held_back(instance: Instance) -> object:
    vain = instance.state.load().applying.failed
    assert vain is not None
    return dataclasses.replace(vain, holders=())


def test_a_kuma_that_would_not_be_seen_to_come_back_is_not_stopped(
    behind: Instance, kuma: RecordingKuma
) -> None:
    def elsewhere() -> None:
        raise KumaError("it answers at another port")

    behind.answers = elsewhere
    with pytest.raises(KumaError, match="another port"):
        follow(behind)
    assert kuma.log == []
    assert follow(behind, reconcile=True).outcome is Outcome.APPLIED, "by a person's word"


def test_a_trigger_that_refuses_is_no_fault_of_the_snapshot(behind: Instance) -> None:
    _script(db(behind), BY_ROWS["a trigger that refuses"])
    with pytest.raises(DatabaseError, match="a trigger of Kuma's database refuses rows of monitor"):
        follow(behind)
    assert behind.state.load().applying.bad == ()
