"""What a held replica, an undo that was killed and an apply under way say of themselves."""

from __future__ import annotations

import logging
import os

import pytest

from replicator_kuma.base.errors import KumaError
from replicator_kuma.config.settings import Settings
from replicator_kuma.replication.instance import Instance, Outcome, Run
from replicator_kuma.reports import terminal
from replicator_kuma.reports.status import status
from tests.support.cycles import UnmanagedKuma, db, follow, go_back, lead, name_of, rename, step
from tests.support.forked import DIED, forked
from tests.support.instances import RecordingKuma


@pytest.fixture
def ahead(leader: Instance, replica: Instance) -> Instance:
    """A replica at 1.3."""
    for name in ("two", "three"):
        step(leader, replica, name)
    return replica


def told(instance: Instance, name: str) -> str:
    """A line of `replicator status`."""
    settings = Settings.load({"DATA_DIR": str(instance.data_dir), "REPLICATOR_MODE": "RESTORE"})
    return dict(terminal.lines(status(settings))).get(name, "")


def die(replica: Instance, kuma: RecordingKuma, when: str) -> None:
    """An undo that is killed while Kuma stops, or starts."""

    def dies() -> None:
        setattr(kuma, f"on_{when}", lambda: os._exit(DIED))
        go_back(replica)

    assert forked(dies) == DIED


def test_an_undo_killed_before_its_rows_goes_on_and_says_one_thing(
    ahead: Instance, kuma: RecordingKuma, caplog: pytest.LogCaptureFixture
) -> None:
    die(ahead, kuma, "stop")
    assert told(ahead, "holding").startswith("1.2, to which an undo has yet to go, since")
    assert told(ahead, "unconfirmed").endswith("undo 2 puts back; they are not written yet")
    with caplog.at_level(logging.INFO):
        done = follow(ahead)
    assert "ended before its changes were written: the rows are as they were" in caplog.text
    assert "has yet to go" not in caplog.text + done.sentence
    assert "; holding 1.2 since" in done.sentence
    assert name_of(db(ahead), 3) == "two"
    assert (told(ahead, "holding")[:9], told(ahead, "unconfirmed")) == ("1.2 since", "")


def test_an_undo_killed_after_its_rows_waits_for_kuma_alone(
    ahead: Instance, kuma: RecordingKuma
) -> None:
    die(ahead, kuma, "start")
    assert told(ahead, "holding").startswith("1.2 since")
    assert told(ahead, "unconfirmed").endswith("undo 2 puts back; Kuma was not ready on them yet")
    kuma.up = False
    assert follow(ahead).sentence.startswith("holding 1.2 since")
    assert told(ahead, "unconfirmed") == ""


def test_an_undo_under_a_stopped_kuma_has_got_there(ahead: Instance, kuma: RecordingKuma) -> None:
    kuma.up = False
    go_back(ahead)
    waits = follow(ahead)
    assert waits.outcome is Outcome.WAITING
    assert waits.sentence.startswith("holding 1.2 since")
    assert waits.sentence.endswith("; its rows are written, waiting for Kuma to come up on them")
    hold = ahead.state.load().following.hold
    assert hold is not None
    assert hold.kept, "should Kuma not start on them, this is what was under way"


def test_an_apply_tells_each_step_and_for_whom_it_waits(
    leader: Instance, replica: Instance
) -> None:
    steps: list[str] = []
    replica.run = Run(steps.append)
    rename(db(leader), 3, "two")
    lead(leader)
    follow(replica)
    assert steps == [
        "asking the repository", "fetching 1.2", "comparing the rows",
        "trying the changes", "stopping Kuma",
        "writing the tables", "starting Kuma", "waiting until Kuma is ready",
    ]  # fmt: skip
    steps.clear()
    go_back(replica)
    assert steps[1:] == [
        "trying the changes", "stopping Kuma",
        "writing the tables", "starting Kuma", "waiting until Kuma is ready",
    ]  # fmt: skip


def test_the_way_back_of_an_apply_is_told_too(
    leader: Instance, replica: Instance, kuma: RecordingKuma
) -> None:
    steps: list[str] = []
    replica.run = Run(steps.append)
    rename(db(leader), 3, "two")
    lead(leader)
    kuma.refuses_to_be_ready = [True]
    with pytest.raises(KumaError):
        follow(replica)
    assert steps[-2:] == ["putting the rows from before in place", "starting Kuma on them"]


def test_an_apply_that_stops_nobody_tells_each_step_once(
    leader: Instance, replica: Instance
) -> None:
    steps: list[str] = []
    replica.kuma, replica.run = UnmanagedKuma(), Run(steps.append)
    rename(db(leader), 3, "two")
    lead(leader)
    follow(replica)
    assert steps[-2:] == ["keeping the rows from before", "writing the tables"]
