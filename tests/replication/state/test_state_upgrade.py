"""State files of 0.2.0 and 0.3.0, and what these have to read: no version ends at another's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from replicator_kuma.adapters.repository import Position
from replicator_kuma.base.errors import StateError
from replicator_kuma.replication.state.codec import encode_state
from replicator_kuma.replication.state.compat import put_together
from replicator_kuma.replication.state.file import StateFile
from replicator_kuma.replication.state.records import Last, Pending, Problem, SnapshotRef
from replicator_kuma.replication.state.state import State
from replicator_kuma.replication.state.transitions import cleared, cycle_ended, raised
from tests.replication.state.test_state import FULL
from tests.support.old_state import FIELDS, RECORDED, ROWS_OF, as_0_2_0_writes_it, recorded_state

WRITTEN_BY_0_2_0 = """
{"version": 1, "state": {
  "writer": "19cfe1069c2cb5a8", "intent": null, "published": null, "burned": null, "fenced": null,
  "applied": {"position": "1.2", "digest": "9ff3", "schema": "27e89a40ad78d19b",
    "snapshot": "1568ff61", "writer": "1be9d8a225915322", "leader": "leader",
    "monitors": 12, "rows": 124},
  "applied_policy": "e7a8a7196cdd1ab3", "arrived": [],
  "pending": {
    "mark": {"position": "1.3", "digest": "3ea1", "schema": "27e89a40ad78d19b",
      "snapshot": "73221464", "writer": "1be9d8a225915322", "leader": "leader",
      "monitors": 12, "rows": 124},
    "base": "362d", "target": "4fa8", "files": [["upload/logo2.png", null]], "purge": false,
    "rollback": false, "writing": true, "drifted": false, "restart": true, "replaced": "9ff3",
    "digest": "3ea1", "policy": "e7a8a7196cdd1ab3", "arrived": [], "earlier": null,
    "unread": false},
  "stopped_by_me": true, "bad": ["0badf00d"], "suspect": "", "purge": false,
  "verified_at": 1795284849.3, "unchanged": "", "live_digest": "", "live_schema": "", "alike": "",
  "drift": 0.0, "drift_words": "", "drift_digest": "", "healed": "",
  "last": {"at": 1795284849.5, "ok": false, "sentence": "no network", "outcome": "",
    "error": "RepositoryUnreachable", "exit_code": 5},
  "last_ok_at": 0.0, "failing_since": 1795284849.5, "role": "RESTORE"}}
"""


UNREAD = {"live_schema"}
"""What they wrote and never read: a file without it is the same to them."""


def marked(position: Position, digest: str, snapshot: str) -> SnapshotRef:
    schema, writer = "27e89a40ad78d19b", "1be9d8a225915322"
    return SnapshotRef(position, digest, schema, snapshot, writer, "leader", 12, 124)


def test_a_file_of_the_version_before_is_understood(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text(WRITTEN_BY_0_2_0)
    state = StateFile(tmp_path).load()
    assert state.following.applied == marked(Position(1, 2), "9ff3", "1568ff61")
    assert state.applying.pending == Pending(
        marked(Position(1, 3), "3ea1", "73221464"),
        "362d",
        "4fa8",
        (("upload/logo2.png", None),),
        writing=True,
        restart=True,
        replaced="9ff3",
        digest="3ea1",
        policy="e7a8a7196cdd1ab3",
    )
    assert (state.applying.stopped_by_me, state.applying.bad, state.outcome.role) == (
        True,
        ("0badf00d",),
        "RESTORE",
    )
    assert state.outcome.last is not None
    assert (state.outcome.last.exit_code, state.outcome.last.hint) == (5, "")


def test_what_it_wrote_is_what_the_list_of_its_fields_says() -> None:
    raw = json.loads(WRITTEN_BY_0_2_0)["state"]
    assert set(raw) == FIELDS["state"]
    assert set(raw["applied"]) == set(raw["pending"]["mark"]) == FIELDS["mark"]
    assert (set(raw["pending"]), set(raw["last"])) == (FIELDS["pending"], FIELDS["last"])


def test_the_version_before_reads_a_full_state(tmp_path: Path) -> None:
    """It passes over what it does not know of the state, and fails at it anywhere deeper."""
    file = StateFile(tmp_path)
    file.save(FULL)
    raw = json.loads(file.path.read_text())["state"]
    assert set(raw) >= FIELDS["state"] - UNREAD
    marks = [raw[name] for name in ("intent", "published", "applied")]
    pending, earlier = raw["pending"], raw["pending"]["earlier"]
    for mark in (*marks, pending["mark"], earlier["mark"]):
        assert set(mark) == FIELDS["mark"]
    assert set(pending) == set(earlier) == FIELDS["pending"]
    assert set(raw["last"]) == FIELDS["last"]
    assert file.load() == FULL


def test_a_state_that_the_version_before_has_written_since_is_one(tmp_path: Path) -> None:
    file = StateFile(tmp_path)
    file.save(FULL)
    as_0_2_0_writes_it(file.path)
    state = file.load()
    assert state.leading.published is not None
    assert FULL.leading.published is not None
    assert (state.writer, state.leading.published.shrunk) == (FULL.writer, None)
    assert state.leading.published.position == FULL.leading.published.position
    assert (state.following.hold, state.upkeep.jobs, state.leading.rollback_applied) == (
        None,
        (),
        None,
    )


def test_an_empty_state_has_nothing_set_apart(tmp_path: Path) -> None:
    file = StateFile(tmp_path)
    file.save(State(writer="w"))
    assert "since_0_2_0" not in file.path.read_text()


@pytest.mark.parametrize("apart", ["1", '"x"', "[1]", '{"pending": {"odd": 1}, "last": 7}'])
def test_what_was_set_apart_and_cannot_be_understood_is_an_error(
    tmp_path: Path, apart: str
) -> None:
    file = StateFile(tmp_path)
    file.path.write_text(f'{{"version": 1, "state": {{"writer": "w", "since_0_2_0": {apart}}}}}')
    with pytest.raises(StateError, match="cannot understand"):
        file.load()


# --- 0.3.0 --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ROWS_OF)
def test_nothing_that_0_3_0_wrote_is_lost(tmp_path: Path, name: str) -> None:
    file = StateFile(tmp_path)
    was = recorded_state(name)
    file.path.write_text(json.dumps({"version": 1, "state": was}))
    file.save(file.load())
    raw = json.loads(file.path.read_text())
    assert raw["version"] == 1
    assert _within(was, put_together(raw["state"]))


def test_nothing_that_the_commit_before_the_sections_wrote_is_lost(tmp_path: Path) -> None:
    written = RECORDED.parent / "before-sections" / "full.json"
    was = put_together(json.loads(written.read_text())["state"])
    file = StateFile(tmp_path)
    file.path.write_text(written.read_text())
    state = file.load()
    raw = put_together(encode_state(state))
    assert _within({name: item for name, item in was.items() if name not in UNREAD}, raw)
    assert [one.what for one in state.problems] == [
        "away: repository 2",
        "cycle",
        "drift",
        "hold",
        "housekeeping",
        "lagging repository",
    ]
    assert state.problem("cycle") == Problem(
        "cycle", "X", 4.5, "no network", ("Fenced",), recovered_at=13.5
    )


def test_0_3_0_tells_the_end_of_a_failure_after_which_a_cycle_waited(tmp_path: Path) -> None:
    """It goes by how the last cycle ended: after one that went well there is no end to tell."""
    file = StateFile(tmp_path)
    file.change(raised, "cycle", "KumaError", "did not start", now=1.0)
    waits = Last(2.0, True, "1.3 waits", "waiting")
    state = file.change(cycle_ended, waits, "RESTORE", (0.0, ""), waits_until=9.0)
    assert (file.load(), state.outcome.last) == (state, waits)
    raw = json.loads(file.path.read_text())["state"]
    assert (raw["last"]["ok"], raw["told"], raw["failing_since"]) == (False, ["KumaError"], 1.0)
    file.change(cleared, "cycle", now=3.0)
    assert json.loads(file.path.read_text())["state"]["last"]["ok"]


@pytest.mark.parametrize("later", [-1.0, 1.0])
def test_a_drill_that_was_mended_by_hand_is_no_problem_after_0_3_0(
    tmp_path: Path, later: float
) -> None:
    """Its end was told; the note of the scheduled one says that it failed until the next."""
    raw = recorded_state("leader")
    at = raw["drill"]["at"] - later
    raw["chores"] = [
        {**raw["chores"][0], "name": "drill", "at": at, "ok": False, "error": "DrillFailed"}
    ]
    (tmp_path / "state.json").write_text(json.dumps({"version": 1, "state": raw}))
    open_now = [one.what for one in StateFile(tmp_path).load().problems if one.since]
    assert open_now == ([] if later > 0 else ["drill"])


def _within(was: Any, now: Any) -> bool:
    """Whether every member is there with its value; a later version may have more of them."""
    if isinstance(was, dict) and isinstance(now, dict):
        return all(_within(was[name], now.get(name)) for name in was)
    if isinstance(was, list) and isinstance(now, list):
        return len(was) == len(now) and all(map(_within, was, now))
    return bool(was == now) or (not was and now is None)


def test_0_3_0_reads_a_full_state(tmp_path: Path) -> None:
    """It ends at a member of these parts that it does not know. Elsewhere it passes over them."""
    file = StateFile(tmp_path)
    file.save(FULL)
    raw = json.loads(file.path.read_text())["state"]
    written = [recorded_state(name) for name in ROWS_OF]
    assert raw.keys() >= written[0].keys() - UNREAD
    for part in ("pending", "hold", "last", "drill", "chores", "upkeep"):
        known = {name for state in written for one in _parts(state, part) for name in one}
        assert known, part
        for one in _parts(raw, part):
            assert one.keys() <= known, part


def _parts(state: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """The parts of a name in a state, as a list; what lies in them is of the same kind."""
    found = state.get(name)
    parts = found if isinstance(found, list) else [found] if found else []
    if name == "drill":
        parts = [*parts, *_parts(state, "drill_failed")]
    return [*parts, *(one["earlier"] for one in parts if one.get("earlier"))]
