"""A busy leader: a replica keeps a least time between two restarts of its Kuma."""

from __future__ import annotations

import contextlib
import copy
from functools import partial

import pytest

from replicator_kuma.base.errors import DatabaseLocked, Interrupted, KumaError, StoppedInVain
from replicator_kuma.dump.transform.policy import Policy
from replicator_kuma.replication.instance import CycleResult, Instance, Outcome, Run
from replicator_kuma.replication.replica.cycle import cycle as restore_cycle
from replicator_kuma.replication.restart_cooldown import LONGEST
from replicator_kuma.replication.runner import recorded
from replicator_kuma.replication.state.file import StateFile
from replicator_kuma.replication.state.records import Restart
from tests.support import databases
from tests.support.clock import Clocks
from tests.support.cycles import (
    UnmanagedKuma,
    db,
    follow,
    go_back,
    go_on,
    hold_at,
    lead,
    name_of,
    rename,
    take_over,
)
from tests.support.effects import at_effect, raising
from tests.support.folder_repository import FolderRepository
from tests.support.instances import RecordingKuma, RecordingNotifier

INTERVAL = 60.0
ACTIVE = "SELECT id FROM monitor WHERE active = 1 AND type <> 'push' ORDER BY id"
AFTER_ZERO = "and REPLICATOR_RESTORE_INTERVAL is the least time between two restarts"


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
def replica(replica: Instance, clocks: Clocks) -> Instance:
    """It has a least time, and its first apply was long ago."""
    replica.cooldown = clocks.cooldown(INTERVAL)
    return replica


class Edits:
    """A person who edits on the leader, and its replica after it."""

    def __init__(self, leader: Instance, replica: Instance) -> None:
        self._leader, self._replica, self.made = leader, replica, 0

    def publish(self) -> None:
        self.made += 1
        rename(db(self._leader), 3, f"edit {self.made}")
        lead(self._leader)

    @property
    def arrived(self) -> int:
        name = name_of(db(self._replica), 3)
        return int(name.removeprefix("edit ")) if name.startswith("edit ") else 0

    def once(self) -> CycleResult:
        """An edit, and a cycle after it."""
        self.publish()
        return follow(self._replica)


@pytest.fixture
def edits(leader: Instance, replica: Instance) -> Edits:
    return Edits(leader, replica)


def beats(replica: Instance, clocks: Clocks, *, each: float, without: int = 0) -> None:
    """Kuma's first beats after a start now: one monitor after another, some of them never."""
    monitors = [row[0] for row in databases.query(db(replica), ACTIVE)]
    sql = (
        "INSERT INTO heartbeat (monitor_id, status, important, duration, time) "
        "VALUES (?, 1, 0, 0, ?)"
    )
    databases.edit(
        db(replica),
        *(
            (sql, (monitor, clocks.text(each * (1 + number))))
            for number, monitor in enumerate(monitors[: len(monitors) - without])
        ),
    )


def monitors(replica: Instance) -> int:
    return len(databases.query(db(replica), ACTIVE))


def _interrupted() -> None:
    raise Interrupted("a signal")


# --- when --------------------------------------------------------------------------------------


def test_the_first_change_goes_at_once_and_the_next_waits(
    edits: Edits, replica: Instance, clocks: Clocks, kuma: RecordingKuma
) -> None:
    assert edits.once().outcome is Outcome.APPLIED
    clocks.pass_by(40)
    result = edits.once()
    assert (result.outcome, str(result.position), edits.arrived) == (Outcome.WAITING, "1.3", 1)
    until = "2031-06-01T04:00:55Z"
    assert result.sentence == f"1.3 waits until {until}: Kuma restarted 40 s ago, {AFTER_ZERO}"
    assert result.as_dict()["waits_until"] == until
    assert replica.state.load().applying.waits_until == result.waits_until
    clocks.pass_by(16)
    assert follow(replica).outcome is Outcome.APPLIED
    assert edits.arrived == 2
    assert kuma.log.count("stop") == 2
    assert replica.state.load().applying.waits_until == 0.0


def test_the_state_knows_when_the_cycle_began_and_when_kuma_was_started(
    edits: Edits, replica: Instance, clocks: Clocks, kuma: RecordingKuma
) -> None:
    """The interval counts from the one, the monitors' first beats from the other."""
    began = clocks.wall
    kuma.on_stop = lambda: clocks.pass_by(4)
    replica.wait_ready = lambda: clocks.pass_by(10)
    edits.once()
    assert replica.state.load().applying.restart == Restart(began + 4, began)
    beats(replica, clocks, each=0.5)
    assert edits.once().waits_until == pytest.approx(began + 55)


def test_what_waits_is_not_fetched_and_holds_no_lock(
    edits: Edits, replica: Instance, repository: FolderRepository
) -> None:
    edits.once()
    edits.publish()
    repository.calls.clear()
    assert follow(replica).outcome is Outcome.WAITING
    assert repository.calls == ["snapshots"]
    assert not replica.work.exists()
    with StateFile(replica.state.name).lock():
        pass


def test_of_several_only_the_newest_is_applied(
    edits: Edits, replica: Instance, clocks: Clocks, kuma: RecordingKuma
) -> None:
    edits.once()
    for _ in range(4):
        clocks.pass_by(9)
        assert edits.once().outcome is Outcome.WAITING
    clocks.pass_by(20)
    assert str(follow(replica).position) == "1.6"
    assert edits.arrived == 5
    assert kuma.log.count("stop") == 2


def test_an_instance_without_a_least_time_never_waits(edits: Edits, replica: Instance) -> None:
    replica.cooldown.every = 0.0
    assert [edits.once().outcome for _ in range(3)] == [Outcome.APPLIED] * 3


def test_three_starts_count_where_they_are_longer(
    edits: Edits, replica: Instance, clocks: Clocks
) -> None:
    edits.once()
    beats(replica, clocks, each=3.0)
    start = 3.0 * monitors(replica)
    assert 3 * start > INTERVAL, "else this proves nothing"
    clocks.pass_by(INTERVAL)
    result = edits.once()
    assert result.waits_until - clocks.wall == pytest.approx(3 * start - INTERVAL, abs=0.01)
    assert "and needs its monitors to beat first" in result.sentence
    clocks.pass_by(3 * start - INTERVAL + 0.1)
    assert follow(replica).outcome is Outcome.APPLIED


def test_while_monitors_are_still_to_come_the_start_is_estimated(
    edits: Edits, replica: Instance, clocks: Clocks
) -> None:
    edits.once()
    missing = monitors(replica) // 2
    beats(replica, clocks, each=3.0, without=missing)
    clocks.pass_by(INTERVAL)
    result = edits.once()
    wanted = 3 * 3.0 * monitors(replica) - INTERVAL
    assert result.waits_until - clocks.wall == pytest.approx(wanted, abs=0.01)


def test_a_monitor_that_never_beats_holds_nothing_up(
    edits: Edits, replica: Instance, clocks: Clocks
) -> None:
    edits.once()
    beats(replica, clocks, each=1.0, without=1)
    clocks.pass_by(INTERVAL)
    assert edits.once().outcome is Outcome.APPLIED


def test_it_never_waits_longer_than_15_minutes(
    edits: Edits, replica: Instance, clocks: Clocks
) -> None:
    replica.cooldown.every = 86_400.0
    edits.once()
    beats(replica, clocks, each=100.0)
    clocks.pass_by(LONGEST - 1)
    assert edits.once().waits_until == pytest.approx(clocks.wall + 1)
    clocks.pass_by(1)
    assert follow(replica).outcome is Outcome.APPLIED


def test_what_cannot_be_measured_counts_by_the_interval_alone(
    edits: Edits, replica: Instance, clocks: Clocks
) -> None:
    edits.once()
    beats(replica, clocks, each=30.0)
    databases.edit(db(replica), "ALTER TABLE heartbeat RENAME COLUMN time TO moment")
    clocks.pass_by(INTERVAL / 2)
    assert edits.once().outcome is Outcome.WAITING
    clocks.pass_by(INTERVAL / 2)
    assert follow(replica).outcome is Outcome.APPLIED


# --- who ---------------------------------------------------------------------------------------


def test_a_person_never_waits(edits: Edits, replica: Instance) -> None:
    edits.once()
    edits.publish()
    assert follow(replica, reconcile=True).outcome is Outcome.APPLIED
    assert hold_at(replica, "1.2").outcome is Outcome.APPLIED
    assert go_on(replica).outcome is Outcome.APPLIED
    assert go_back(replica, hold=False).outcome is Outcome.APPLIED
    edits.publish()
    assert "with the rows of 1.4" in take_over(replica).sentence


def test_a_persons_restart_counts_for_those_that_nobody_asked_for(
    edits: Edits, replica: Instance
) -> None:
    edits.publish()
    assert follow(replica, reconcile=True).outcome is Outcome.APPLIED
    assert edits.once().outcome is Outcome.WAITING


def test_a_start_of_the_supervisor_reconciles_and_waits_all_the_same(
    edits: Edits, replica: Instance
) -> None:
    """Its Kuma may be another's child and run on."""
    edits.once()
    edits.publish()
    replica.run = Run(at_start=True)
    assert follow(replica, reconcile=True).outcome is Outcome.WAITING


@pytest.mark.parametrize("running", [False, True])
def test_a_kuma_that_is_not_stopped_for_it_is_no_reason_to_wait(
    edits: Edits, replica: Instance, running: bool
) -> None:
    edits.once()
    if running:
        replica.kuma = UnmanagedKuma()
        replica.run = Run(force=True)
    else:
        replica.kuma.stop()
    assert edits.once().outcome is Outcome.APPLIED


def test_rows_that_are_put_right_wait_too(
    edits: Edits, replica: Instance, clocks: Clocks, kuma: RecordingKuma
) -> None:
    replica.policy = lambda: Policy(heal=True)
    assert edits.once().outcome is Outcome.APPLIED
    assert follow(replica).outcome is Outcome.NOTHING
    rename(db(replica), 4, "of a person")
    result = follow(replica)
    assert result.sentence.startswith("1.2 waits until 2031-06-01T04:00:55Z: ")
    assert replica.state.load().drift is not None
    clocks.pass_by(INTERVAL)
    assert "applied 1.2 of leader again" in follow(replica).sentence
    assert kuma.log.count("stop") == 2


def test_a_way_back_never_waits_and_counts_as_a_restart(
    edits: Edits, replica: Instance, clocks: Clocks, kuma: RecordingKuma
) -> None:
    edits.publish()
    kuma.refuses_to_be_ready = [True, False]
    with pytest.raises(KumaError, match="runs on the rows from before"):
        follow(replica)
    assert kuma.log.count("start") == 2
    assert edits.arrived == 0
    assert edits.once().outcome is Outcome.WAITING
    clocks.pass_by(INTERVAL)
    assert follow(replica).outcome is Outcome.APPLIED


def test_an_apply_that_failed_after_the_stop_counts_and_is_still_in_vain(
    edits: Edits,
    replica: Instance,
    clocks: Clocks,
    kuma: RecordingKuma,
) -> None:
    edits.publish()
    with at_effect("opening the transaction", raising(OSError("scripted"))):
        with pytest.raises(OSError, match="scripted"):
            follow(replica)
        clocks.pass_by(INTERVAL / 2)
        assert follow(replica).outcome is Outcome.WAITING
        clocks.pass_by(INTERVAL / 2)
        with pytest.raises(OSError, match="scripted"):
            follow(replica)
    clocks.pass_by(INTERVAL)
    with pytest.raises(StoppedInVain):
        follow(replica)
    assert kuma.log.count("stop") == 2


def test_a_cycle_that_waits_its_turn_tells_no_recovery(
    edits: Edits, replica: Instance, clocks: Clocks
) -> None:
    """What failed has not been tried since: the next try may fail again."""
    notifier = replica.notifier
    assert isinstance(notifier, RecordingNotifier)

    def cycle() -> Outcome | None:
        with contextlib.suppress(DatabaseLocked), replica.state.lock():
            return recorded(replica, "RESTORE", partial(restore_cycle, replica)).outcome
        return None

    def titles() -> list[str]:
        return [text.partition(":")[0] for text in notifier.sent]

    edits.once()
    clocks.pass_by(LONGEST)
    edits.publish()
    told = len(titles())
    with at_effect("opening the transaction", raising(DatabaseLocked("a tool holds it"))):
        assert cycle() is None
        assert titles()[told:] == ["restore fails"]
        clocks.pass_by(10)
        for _ in range(2):
            assert cycle() is Outcome.WAITING
        failing_since = replica.state.load().failing_since
        assert failing_since
        clocks.pass_by(INTERVAL)
        assert cycle() is None
    assert titles()[told:] == ["restore fails"]
    assert replica.state.load().failing_since == failing_since
    clocks.pass_by(10)
    edits.publish()  # the other one is in vain by now
    assert cycle() is Outcome.WAITING
    clocks.pass_by(LONGEST)
    assert cycle() is Outcome.APPLIED
    assert titles()[told:] == ["restore fails", "restore", "restore works again"]
    assert not replica.state.load().failing_since


def test_rows_that_are_as_they_were_again_leave_nothing_waiting(
    edits: Edits, replica: Instance
) -> None:
    def cycle() -> Outcome:
        with replica.state.lock():
            return recorded(replica, "RESTORE", partial(restore_cycle, replica)).outcome

    replica.policy = lambda: Policy(heal=True)
    edits.once()
    assert cycle() is Outcome.NOTHING
    rename(db(replica), 3, "of a person")
    assert cycle() is Outcome.WAITING
    assert replica.state.load().applying.waits_until
    rename(db(replica), 3, "edit 1")
    assert cycle() is Outcome.NOTHING
    assert replica.state.load().applying.waits_until == 0.0


def test_an_apply_that_was_cut_is_ended_at_once(
    edits: Edits, replica: Instance, clocks: Clocks, kuma: RecordingKuma
) -> None:
    """Its rows are in place already: Kuma has but to confirm them."""
    edits.once()
    edits.publish()
    replica.wait_ready = _interrupted
    with pytest.raises(Interrupted):
        follow(replica, reconcile=True)
    assert replica.state.load().applying.pending is not None
    replica.wait_ready = kuma.wait_ready
    clocks.pass_by(5)
    assert follow(replica).sentence == "1.3 is applied; nothing newer"
    assert replica.state.load().applying.pending is None
    assert edits.once().outcome is Outcome.WAITING


# --- clocks and processes ------------------------------------------------------------------------


def test_another_process_knows_it_from_the_state(
    edits: Edits, replica: Instance, clocks: Clocks
) -> None:
    """cron's next cycle, or a replicator that was started again."""
    edits.once()
    clocks.pass_by(20)
    other = copy.copy(replica)
    other.state, other.cooldown = StateFile(replica.state.name), clocks.cooldown(INTERVAL)
    edits.publish()
    assert follow(other).outcome is Outcome.WAITING
    clocks.pass_by(INTERVAL)
    assert follow(other).outcome is Outcome.APPLIED


@pytest.mark.parametrize("back", [86_400.0, 2.0])
def test_a_clock_that_is_set_back_changes_no_wait_of_this_process(
    edits: Edits, replica: Instance, clocks: Clocks, back: float
) -> None:
    edits.once()
    clocks.pass_by(20)
    clocks.wall -= back
    assert edits.once().waits_until == pytest.approx(clocks.wall + 35)
    clocks.pass_by(36)
    assert follow(replica).outcome is Outcome.APPLIED


def test_a_clock_that_was_set_back_makes_no_wait_longer_for_another_process(
    edits: Edits, replica: Instance, clocks: Clocks
) -> None:
    edits.once()
    replica.cooldown = clocks.cooldown(INTERVAL)
    clocks.wall -= 86_400
    assert edits.once().waits_until == pytest.approx(clocks.wall + 55)
    clocks.pass_by(30)
    assert follow(replica).waits_until == pytest.approx(clocks.wall + 25), "it goes on counting"
    clocks.pass_by(26)
    assert follow(replica).outcome is Outcome.APPLIED


def test_a_clock_that_was_set_forward_ends_the_wait_of_another_process(
    edits: Edits, replica: Instance, clocks: Clocks
) -> None:
    edits.once()
    replica.cooldown = clocks.cooldown(INTERVAL)
    clocks.wall += 86_400
    assert edits.once().outcome is Outcome.APPLIED


def test_rows_that_turn_out_to_be_equal_leave_nothing_waiting(
    leader: Instance, edits: Edits, replica: Instance, clocks: Clocks
) -> None:
    edits.once()
    assert edits.once().outcome is Outcome.WAITING
    rename(db(replica), 3, f"edit {edits.made}")
    clocks.pass_by(INTERVAL)
    assert follow(replica).sentence == "the rows equal 1.3; nothing to do"
    assert replica.state.load().applying.waits_until == 0.0
