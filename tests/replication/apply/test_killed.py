"""A Kuma that a signal ends while it starts, as a real process: no judgement on the snapshot."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from replicator_kuma.adapters.kuma.child import ChildKuma
from replicator_kuma.adapters.kuma.readiness import NotReady, taken, wait_ready
from replicator_kuma.adapters.kuma.supervised import SupervisedKuma
from replicator_kuma.base.errors import KumaError, KumaKilled, SnapshotRefused, StoppedInVain
from replicator_kuma.config.settings import Settings
from replicator_kuma.daemon.jobs import Jobs
from replicator_kuma.daemon.startup import Budget, Startup
from replicator_kuma.replication.apply import failed_attempts
from replicator_kuma.replication.instance import Instance, Outcome, silent
from replicator_kuma.replication.undo import undo
from tests.support.compare import config_differences
from tests.support.cycles import copy_of, db, follow, lead, publish, rename
from tests.support.instances import sent_by
from tests.support.kuma_server import free_port
from tests.support.states import edit_state
from tests.support.supervised import FAKE_KUMA
from tests.support.waiting import wait_until

KILLED = r"killed by signal 9 \(out of memory\?\) while it started on 1\.2"
INSTANTS = ("at once", "once it runs", "once it listens")


class Fragile(ChildKuma):
    """A real process; each of its next starts ends as ``ends`` says: by SIGKILL at an instant,
    by itself with an exit code, or, with "", not at all."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.ends: list[str | int] = []
        self.starts = 0
        environment = {"DATA_DIR": str(folder), "PATH": os.environ["PATH"]}
        command = [sys.executable, "-S", str(FAKE_KUMA), str(folder), str(self.port)]
        super().__init__(command, folder, environment)

    def start(self, *arguments: object, **options: object) -> None:
        if self.running():
            return
        end = self.ends.pop(0) if self.ends else ""
        # one that is to be killed is never ready: it answers as in a migration
        behaviour: dict[str, int] = {"die_at_start": end} if isinstance(end, int) else {}
        (self.folder / "behaviour.json").write_text(
            json.dumps({"migrating": 60} if end in INSTANTS else behaviour)
        )
        notes = self.folder / "calls"
        before = notes.stat().st_size if notes.exists() else 0
        super().start()
        self.starts += 1
        if isinstance(end, str) and end:
            reached: dict[str, Callable[[], bool]] = {
                "at once": lambda: True,
                "once it runs": lambda: notes.exists() and notes.stat().st_size > before,
                "once it listens": lambda: taken(self.url),
            }
            assert self.pid is not None
            threading.Thread(target=_kill, args=(self.pid, reached[end]), daemon=True).start()


def _kill(pid: int, reached: Callable[[], bool]) -> None:
    wait_until(reached, "the instant of a kill", 20, every=0.005)
    os.kill(pid, signal.SIGKILL)


class House:
    """A replica with such a Kuma, and a leader that has published a change to follow."""

    def __init__(self, leader: Instance, replica: Instance) -> None:
        self.leader, self.replica, self.sent = leader, replica, sent_by(replica)
        self.child = Fragile(replica.data_dir)
        self.kuma = SupervisedKuma(self.child)
        replica.kuma, replica.supervised = self.kuma, True
        replica.wait_ready = lambda: wait_ready(
            self.child.url, self.kuma.running, 20, ended_with=self.kuma.ended_with, poll=0.02
        )
        self.kuma.start()
        replica.wait_ready()
        publish(leader, "two")
        self.before = copy_of(db(replica), "before.db")
        self.child.starts = 0

    def assert_old(self) -> None:
        """Kuma runs on the rows from before, and nothing of the snapshot is held against it."""
        assert config_differences(db(self.replica), self.before) == []
        assert self.kuma.running()
        state = self.replica.state.load()
        assert (state.applying.bad, state.applying.suspect, state.applying.pending) == (
            (),
            "",
            None,
        )

    def assert_followed(self) -> None:
        assert follow(self.replica).outcome is Outcome.APPLIED
        assert config_differences(db(self.replica), db(self.leader)) == []
        state = self.replica.state.load()
        assert (state.applying.bad, state.applying.suspect, state.applying.failed) == ((), "", None)
        assert self.kuma.running()

    def later(self, seconds: float) -> None:
        """As if what is remembered had been so much earlier."""
        known = self.replica.state.load().applying.failed
        assert known is not None
        edit_state(self.replica.state, failed=replace(known, at=known.at - seconds))


@pytest.fixture
def house(leader: Instance, replica: Instance) -> Iterator[House]:
    made = House(leader, replica)
    yield made
    made.child.ends = []
    made.child.stop(20)


@pytest.mark.parametrize("instant", INSTANTS)
def test_a_kill_on_new_rows_is_followed_by_the_next_cycle(house: House, instant: str) -> None:
    house.child.ends = [instant]
    with pytest.raises(KumaKilled, match=KILLED + "; it runs on the rows from before"):
        follow(house.replica)
    house.assert_old()
    assert "1.2; that is tried again at the next cycle" in failed_attempts.killed_sentence(
        house.replica.state.load()
    )
    house.assert_followed()
    assert failed_attempts.killed_sentence(house.replica.state.load()) == ""


@pytest.mark.parametrize("kills", [1, 2])
@pytest.mark.parametrize("instant", INSTANTS)
def test_a_kill_on_the_old_rows_too_keeps_it_up(house: House, instant: str, kills: int) -> None:
    house.child.ends = ["at once", *[instant] * kills]
    with pytest.raises(KumaKilled, match=KILLED):
        follow(house.replica)
    house.assert_old()
    assert house.child.starts == 2 + kills
    house.assert_followed()


def test_a_kill_again_and_again_on_the_old_rows_leaves_it_started(house: House) -> None:
    house.child.ends = ["at once"] * 4
    with pytest.raises(KumaError, match=r"neither on the snapshot's rows nor .*signal 9"):
        follow(house.replica)
    assert house.kuma.running()
    assert config_differences(db(house.replica), house.before) == []
    house.assert_followed()


def test_a_kill_after_the_way_back_was_cut_is_no_judgement_either(house: House) -> None:
    """Killed on new rows; then the replicator dies while it waits for Kuma on the old ones."""
    house.child.ends = ["at once", "once it listens"]
    wait, looks = house.replica.wait_ready, [0]

    def dies() -> None:
        looks[0] += 1
        if looks[0] == 2:
            raise KeyboardInterrupt
        wait()

    house.replica.wait_ready = dies
    with pytest.raises(KeyboardInterrupt):
        follow(house.replica)
    house.replica.wait_ready = wait
    wait_until(lambda: not house.kuma.running(), "the second kill")
    house.kuma.start()  # as the next supervisor does
    house.assert_followed()


def test_kills_without_end_are_a_bounded_row_of_outages(house: House) -> None:
    cycle = house.replica
    pauses = (60, 120, 240)
    for _ in range(failed_attempts.ALLOWED):
        house.child.ends = ["at once"]
        with pytest.raises(KumaKilled):
            follow(cycle)
    for pause in pauses:
        starts = house.child.starts
        house.later(pause - 30)
        with pytest.raises(StoppedInVain, match=r"1\.2 is not tried again before 20\d\d.*killed"):
            follow(cycle)
        assert house.child.starts == starts, "an outage for nothing"
        house.later(60)
        house.child.ends = ["at once"]
        with pytest.raises(KumaKilled):
            follow(cycle)
    house.assert_old()
    # by a person's word at once
    assert follow(cycle, reconcile=True).outcome is Outcome.APPLIED
    assert cycle.state.load().applying.failed is None


def test_a_new_snapshot_waits_for_no_pause(house: House) -> None:
    for _ in range(failed_attempts.ALLOWED):
        house.child.ends = ["at once"]
        with pytest.raises(KumaKilled):
            follow(house.replica)
    rename(db(house.leader), 3, "three")
    lead(house.leader)
    house.assert_followed()


@pytest.mark.parametrize("status", [134, 137, 143])
def test_a_shell_that_tells_of_a_signal_is_believed(house: House, status: int) -> None:
    house.child.ends = [status]
    with pytest.raises(KumaKilled, match=f"signal {status - 128}"):
        follow(house.replica)
    house.assert_old()
    house.assert_followed()


@pytest.mark.parametrize("status", [1, 127, 255])
def test_a_kuma_that_ends_by_itself_makes_the_snapshot_bad(house: House, status: int) -> None:
    house.child.ends = [status]
    with pytest.raises(KumaError, match=r"did not start on snapshot 1\.2") as caught:
        follow(house.replica)
    assert not isinstance(caught.value, KumaKilled)
    assert f"with exit code {status}" in str(caught.value.__cause__)
    assert len(house.replica.state.load().applying.bad) == 1
    with pytest.raises(SnapshotRefused, match="not tried again"):
        follow(house.replica)


def test_one_that_ends_by_itself_after_a_kill_is_bad_all_the_same(house: House) -> None:
    house.child.ends = ["at once"]
    with pytest.raises(KumaKilled):
        follow(house.replica)
    house.child.ends = [1]
    with pytest.raises(KumaError, match=r"did not start on snapshot"):
        follow(house.replica)
    assert len(house.replica.state.load().applying.bad) == 1


def test_an_undo_that_a_kill_cut_is_gone_on_with(house: House) -> None:
    house.assert_followed()
    house.child.ends = ["once it runs"]
    with pytest.raises(KumaKilled):
        undo(house.replica)
    assert config_differences(db(house.replica), db(house.leader)) == []
    assert house.kuma.running()
    follow(house.replica)
    assert config_differences(db(house.replica), house.before) == []
    hold = house.replica.state.load().following.hold
    assert hold is not None
    assert not hold.kept


def test_an_end_of_which_nothing_is_known_counts_once(leader: Instance, replica: Instance) -> None:
    """REPLICATOR_KUMA=command can tell only that Kuma is gone: it may have been killed."""
    publish(leader, "two")
    gone = [True, False, True, False]

    def wait() -> None:
        if gone.pop(0):
            raise NotReady("Uptime Kuma's process ended before it was ready")

    replica.wait_ready = wait
    with pytest.raises(KumaError, match=r"did not start on snapshot 1\.2") as caught:
        follow(replica)
    assert caught.value.hint.endswith("The next cycle tries it once more.")
    assert replica.state.load().applying.bad == ()
    with pytest.raises(KumaError, match="did not start") as caught:
        follow(replica)
    assert "not tried again by itself" in caught.value.hint
    assert len(replica.state.load().applying.bad) == 1


def test_a_kill_tells_of_itself_once_and_of_the_way_on(house: House) -> None:
    from replicator_kuma.replication.replica.cycle import cycle as restore_cycle
    from replicator_kuma.replication.runner import recorded

    def cycle() -> None:
        recorded(house.replica, "RESTORE", partial(restore_cycle, house.replica))

    house.child.ends = ["at once"]
    with pytest.raises(KumaKilled):
        cycle()
    assert len(house.sent) == 1
    assert house.sent[0].startswith("restore fails: Uptime Kuma was killed by signal 9 (out of")
    last = house.replica.state.load().outcome.last
    assert last is not None
    assert (last.error, last.exit_code) == ("KumaKilled", 14)
    assert time.time() - last.at < 60
    cycle()
    assert [title.partition(":")[0] for title in house.sent[1:]] == [
        "restore",
        "restore works again",
    ]


def supervised(house: House, folder: Path) -> Startup:
    """What a supervisor's worker does at its start, in this process."""
    settings = Settings.load(
        {
            "DATA_DIR": str(house.replica.data_dir),
            "REPLICATOR_STATE_DIR": str(house.replica.state.folder),
            "REPLICATOR_MODE": "RESTORE",
            "REPLICATOR_INSTANCE": "beta",
            "UPTIME_KUMA_PORT": str(house.child.port),
            "RESTIC_REPOSITORY": str(folder),
        }
    )
    house.kuma.in_hand, house.kuma.started = True, False
    budget = Budget(lambda: False)
    jobs = Jobs(settings, house.replica, house.kuma)
    return Startup(settings, house.replica, house.kuma, jobs, budget)


def unconfirmed(house: House) -> None:
    """The rows of 1.2 are in place; replicator and Kuma died before it was ready on them."""

    def dies() -> None:
        raise KeyboardInterrupt

    wait, house.replica.wait_ready = house.replica.wait_ready, dies
    with pytest.raises(KeyboardInterrupt):
        follow(house.replica)
    house.replica.wait_ready = wait
    assert house.child.pid is not None
    os.kill(house.child.pid, signal.SIGKILL)
    wait_until(lambda: not house.kuma.running(), "Kuma's end")


@pytest.mark.parametrize("kills", [1, 2])
def test_a_kill_at_a_supervisors_start(house: House, tmp_path: Path, kills: int) -> None:
    unconfirmed(house)
    house.child.ends = ["once it runs"] * kills
    supervised(house, tmp_path).bring_up(silent)
    house.assert_old()
    assert [text.partition(":")[0] for text in house.sent] == ["Uptime Kuma was killed"]
    house.assert_followed()


def test_a_kill_at_the_next_start_too_tries_no_snapshot_by_force(
    house: House, tmp_path: Path
) -> None:
    """A start puts drifted rows right; that must not try again what is put off."""
    for _ in range(failed_attempts.ALLOWED):
        house.child.ends = ["at once"]
        with pytest.raises(KumaKilled):
            follow(house.replica)
    house.kuma.stop()
    house.child.starts = 0
    supervised(house, tmp_path).bring_up(silent)
    assert house.child.starts == 1
    house.assert_old()
