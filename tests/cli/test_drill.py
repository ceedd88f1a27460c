"""`replicator drill` as it is typed: what it prints, how it ends, what it leaves."""

from __future__ import annotations

import pytest

from replicator_kuma.base.errors import RepositoryDamaged
from replicator_kuma.cli.main import main
from replicator_kuma.replication.state.file import StateFile
from replicator_kuma.replication.state.records import JobRecord
from tests.cli.conftest import World
from tests.support.states import edit_state


def test_it_says_how_long_a_recovery_takes(published: World) -> None:
    done = published.on_leader("drill")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("snapshot 1.1 of alpha can be recovered in ")
    found = published.on_replica("drill", "--json").json
    assert set(found) == {
        "sentence", "position", "digest", "monitors", "rows", "seconds", "steps", "kuma",
        "warnings",
    }  # fmt: skip
    assert (found["position"], found["monitors"], found["kuma"]) == ("1.1", 12, False)
    assert published.on_leader("drill", "--quiet").out == ""
    shown = published.on_leader("status", "--offline")
    assert "last drill:    ok, 0 s ago: snapshot 1.1 of alpha can be recovered" in shown.out


def test_a_failure_has_its_own_exit_code_and_is_unhealthy_until_mended(published: World) -> None:
    published.repository.fail["fetch"] = RepositoryDamaged("a pack is missing")
    done = published.on_leader("drill", "--json")
    assert done.code == 25
    assert done.json["error"]["kind"] == "DrillFailed"
    assert "failed to fetch: a pack is missing" in done.err
    assert RepositoryDamaged.hint in done.err
    status = published.on_leader("status", "--offline", "--json").json
    assert status["drill_failed"] == done.json["error"]["message"]
    assert status["drill"]["failed_at"] == "fetch"
    assert published.on_leader("drill").code == 0
    status = published.on_leader("status", "--offline", "--json").json
    assert (status["drill_failed"], status["drill"]["ok"]) == (None, True)


def test_a_schedule_that_is_off_is_no_line_of_the_status(published: World) -> None:
    state = StateFile(published.leader / "replicator")
    on = JobRecord("housekeeping", "daily 01:00-05:00", due=1.0)
    edit_state(state, jobs=(JobRecord("drill", "off"), on))
    shown = published.on_leader("status", "--offline").out
    assert "drill job" not in shown
    assert "housekeeping job: has not run yet" in shown


def test_a_kill_needs_a_supervisor(published: World) -> None:
    done = published.on_leader("drill", "--kill")
    assert done.code == 3
    assert "none is running here" in done.err


@pytest.mark.parametrize("other", [("--kuma",), ("--snapshot", "1.1")])
def test_a_kill_goes_alone(published: World, other: tuple[str, ...]) -> None:
    assert main(["drill", "--kill", *other]) == 2
