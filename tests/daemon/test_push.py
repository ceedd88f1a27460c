"""`replicator run` with REPLICATOR_SIGNAL_URL, and a server that speaks as ntfy does."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from replicator_kuma.adapters.repository import Position
from replicator_kuma.daemon import control, heartbeat
from replicator_kuma.daemon.push import SAFETY
from replicator_kuma.daemon.schedule import JITTER
from replicator_kuma.replication.instance import Hint
from replicator_kuma.replication.push import as_text
from tests.cli.harness import Run
from tests.support import databases, weak_repository
from tests.support.cycles import name_of, state_of
from tests.support.mariadb import short_folder
from tests.support.ntfy import TOPIC, Topic
from tests.support.supervised import Running, Side
from tests.support.tools import ROOT, restic_018
from tests.support.waiting import wait_until

CYCLE = "restore False None"


@pytest.fixture
def topic() -> Iterator[Topic]:
    with contextlib.closing(Topic(token="tk_17")) as made:
        yield made


def hint(sequence: int, fleet: str = "default") -> str:
    return as_text(Hint(Position(1, sequence), "a" * 64), fleet)


def replica(folder: Path, topic: Topic, interval: str = "1h") -> Run:
    """A replica with scripted cycles, whose position is 1.1."""
    run = Run(folder / "r", "RESTORE", REPLICATOR_RESTORE_INTERVAL=interval)
    run.environment["REPLICATOR_SIGNAL_URL"] = topic.topic_url
    run.script("restore", position=True)
    return run


def beat(run: Run) -> heartbeat.Beat:
    found = heartbeat.read(run.data_dir / "replicator")
    assert found is not None
    return found


def left(run: Run) -> float:
    """Seconds until the next cycle by its plan."""
    return beat(run).next_cycle - time.time()


def test_a_hint_of_its_own_fleet_starts_a_cycle(tmp_path: Path, topic: Topic) -> None:
    with replica(tmp_path, topic) as run:
        run.until("confirm")
        wait_until(lambda: topic.open == 1, "the stream")
        for text in ("hello", hint(2, "another"), hint(1), "{}"):
            topic.publish(text)
        topic.publish(hint(2))
        run.until(CYCLE)
        run.end()
    assert run.calls.count(CYCLE) == 1
    assert TOPIC not in run.log
    assert "tk_17" not in run.log


def test_a_flood_of_forged_hints_is_one_cycle_and_no_flood_of_lines(
    tmp_path: Path, topic: Topic
) -> None:
    with replica(tmp_path, topic) as run:
        run.until("confirm")
        wait_until(lambda: topic.open == 1, "the stream")
        lines = len(run.log.splitlines())
        for number in range(3000):
            topic.publish(hint(2 + number))
        run.until(CYCLE)
        topic.drop()
        wait_until(lambda: len(topic.asked) == 2, "it has read them all")
        assert topic.asked[1] == topic.messages[-1]["id"]
        run.end()
    assert run.calls.count(CYCLE) <= 2
    assert len(run.log.splitlines()) - lines < 60


def test_polls_are_rare_while_the_stream_is_up(tmp_path: Path, topic: Topic) -> None:
    """And come at the interval without it, which is said once, and so is its return."""
    interval = 60.0
    rare = SAFETY * (1 - JITTER) - 2 * interval
    with replica(tmp_path, topic, "60s") as run:
        run.until("confirm")
        wait_until(lambda: beat(run).next_cycle and beat(run).hints == "up", "the stream")
        wait_until(lambda: left(run) > rare, "a poll after a quarter of an hour")
        port = int(topic.address.rpartition(":")[2])
        topic.close()
        wait_until(lambda: left(run) < 2 * interval, "a poll at the interval")
        run.logged("looked for at the interval")
        status = json.loads(run.command("status", "--json").stdout)["push"]
        assert (status["stream"], status["why"]) == ("down", "no connection")
        with contextlib.closing(Topic(port, token="tk_17")):
            run.logged("sends hints again")
            wait_until(lambda: left(run) > rare, "a poll after a quarter of an hour again")
            status = json.loads(run.command("status", "--json").stdout)["push"]
            assert (status["stream"], status["why"]) == ("up", None)
            run.end()
    assert run.log.count("at the interval") == 1
    assert run.log.count("sends hints again") == 1


def test_a_flood_of_clients_is_one_cycle_for_all(tmp_path: Path, topic: Topic) -> None:
    with replica(tmp_path, topic) as run:
        run.until("confirm")
        run.script("restore", position=True, hold=2.0)
        asked = {"reconcile": False, "snapshot": None, "at": None, "resume": False}
        asked["allow_shrink"] = False
        answers: list[dict[str, object] | None] = []
        folder = run.data_dir / "replicator"

        def ask() -> None:
            answers.append(control.ask(folder, "restore", asked, lambda _step: None))

        first = threading.Thread(target=ask)
        first.start()
        run.until(CYCLE)
        others = [threading.Thread(target=ask) for _ in range(20)]
        for each in others:
            each.start()
        for each in (first, *others):
            each.join(30)
        run.end()
    assert [answer and answer["position"] for answer in answers] == ["1.1"] * 21
    assert run.calls.count(CYCLE) == 2


def test_an_edit_is_live_on_a_replica_that_looks_once_an_hour(topic: Topic) -> None:
    """Real restic, and stand-ins for both Kumas; the leader notices by its own interval."""
    signal = {"REPLICATOR_SIGNAL_URL": topic.topic_url, "REPLICATOR_RESTORE_INTERVAL": "1h"}
    with short_folder() as folder:
        weak_repository.make(folder / "repository")
        sides = []
        for name, mode in (("leader", "BACKUP"), ("replica", "RESTORE")):
            notes = folder / f"{name}-notes"
            side = Side(folder, name, mode, restic_018(), notes=notes)
            side.environment |= signal | {"PYTHONPATH": str(ROOT)}
            (notes / "behaviour.json").write_text('{"agent": true}')
            databases.build(side.database, monitors=2, wal=True)
            sides.append(side)
        with Running(folder, *sides) as fleet:
            _edits_arrive(fleet, topic)
    assert [message["priority"] for message in topic.messages] == [1, 1, 1]
    assert not any(message.get("tags") for message in topic.messages)


def _edits_arrive(fleet: Running, topic: Topic) -> None:
    leader, follower = fleet.leader, fleet.replica
    leader.run()
    leader.wait_ready()
    wait_until(lambda: fleet.positions() == ["1.1"], "the first snapshot", 60)
    follower.run()
    follower.wait_ready()
    fleet.wait_applied("1.1")
    wait_until(lambda: topic.open == 1, "the stream")
    for number in (2, 3):
        databases.edit(leader.database, f"UPDATE monitor SET name = 'edit {number}' WHERE id = 1")
        fleet.wait_applied(f"1.{number}")
        assert name_of(follower.database, 1) == f"edit {number}"
    assert state_of(follower.data_dir).running.live_last is not None, "Kuma went on"
    assert not any(fleet.stop())
