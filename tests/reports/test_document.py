"""The document of an instance and its published schema."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from replicator_kuma.adapters.repository import Label, Listing, Position, Snapshot
from replicator_kuma.base.errors import RepositoryUnreachable
from replicator_kuma.config.settings import Settings
from replicator_kuma.daemon import heartbeat
from replicator_kuma.daemon.heartbeat import Beat
from replicator_kuma.replication.state.file import StateFile
from replicator_kuma.replication.state.records import (
    CYCLE,
    DRIFT,
    LAGGING,
    Drill,
    FailedAttempt,
    Hold,
    JobRecord,
    Last,
    Pending,
    Problem,
    RepositoryUpkeep,
    SnapshotRef,
)
from replicator_kuma.reports.document import as_json
from replicator_kuma.reports.status import Answer, status
from scripts.status_schema import PATH, schema
from tests.support import old_state
from tests.support.states import edit_state
from tests.support.status_schema import faults

LABEL = Label("default", Position(2, 1), "d" * 64, "5" * 16, "w", "beta")


@pytest.fixture
def full(tmp_path: Path) -> dict[str, Any]:
    """The document of a replica of which there is something to say in every part."""
    mine = SnapshotRef.of(Snapshot("a" * 64, LABEL, "2031-05-01T10:00:00Z"))
    newest = Snapshot("b" * 64, replace(LABEL, position=Position(2, 2)), "2031-05-02T10:00:00Z")
    now = time.time()
    file = StateFile(tmp_path / "replicator")
    edit_state(
        file,
        published=mine,
        applied=mine,
        shrink="too many monitors would go",
        waits_until=now + 60,
        pending=Pending(mine, "b", "t"),
        bad=("c" * 64,),
        failed=FailedAttempt("a:b", "2.2", 1, now, "killed", signal=9),
        hold=Hold(now, mine),
        drift_digest="e" * 64,
        last=Last(now, False, "no network", error="RepositoryUnreachable", exit_code=5),
        last_ok_at=now,
        fresh_at=now,
        refused="too many monitors would go",
        drill=Drill(now, True, "went well", "2.1", (("fetch", 0.5),), kuma=True),
        drill_failed=Drill(now, False, "killed", failed_at="kill"),
        problems=(
            Problem(CYCLE, "RepositoryUnreachable", now, "no network", ("RepositoryUnreachable",)),
            Problem(DRIFT, "rows differ", now, "rows differ", ("rows differ",)),
            Problem(LAGGING, LAGGING, now, "repository 2 lags behind", (LAGGING,)),
        ),
        jobs=(JobRecord("drill", "daily 01:00-05:00", now, 1, now, 1.5, True, "went well"),),
        repositories=(
            RepositoryUpkeep("repository", now, 3, 18833, 1, 30, now, "a pack is missing"),
        ),
    )
    beat = Beat(os.getpid(), time.monotonic(), "ready", 0.0, "cycle", time.monotonic(), now, "x")
    beat = replace(beat, hints="down", hints_since=time.monotonic(), hints_why="no connection")
    beat = replace(beat, history="behind", history_sent_at=now, history_why="no connection")
    beat = replace(beat, history_restarts=2)
    heartbeat.write(file.folder, beat)
    environ = {"DATA_DIR": str(tmp_path), "REPLICATOR_MODE": "RESTORE"}
    environ["REPLICATOR_SIGNAL_URL"] = "https://ntfy.example/hints"
    environ["REPLICATOR_LITESTREAM_URL"] = "s3://bucket/kuma"
    away = {"repository 2": RepositoryUnreachable("no route")}
    answer = Answer(Listing([newest], away=away))
    made: dict[str, Any] = as_json(status(Settings.load(environ), lambda: answer))
    return made


def test_the_schema_is_what_the_types_say() -> None:
    assert PATH.read_text() == schema(), "python -m scripts.status_schema --write"


def test_a_document_with_all_parts_is_as_the_schema_says(full: dict[str, Any]) -> None:
    assert faults(full) == []
    empty = {name for name, value in full.items() if value in (None, [])}
    assert empty == {"promoted", "fenced", "not_noted", "newest_unknown"}
    assert full["push"]["server"] == "ntfy.example"
    assert full["behind_since"] == "2031-05-02T10:00:00Z"


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"fleet": None}, ("type", "$.fleet")),
        ({"newest": "2"}, ("pattern", "$.newest")),
        ({"last_ok_at": "2031-05-01 10:00"}, ("pattern", "$.last_ok_at")),
        ({"away": None}, ("type", "$.away")),
        ({"behind": 1.5}, ("type", "$.behind")),
        ({"drift": {"since": "2031-05-01T10:00:00Z"}}, ("anyOf", "$.drift")),
        ({"other": 1}, ("additionalProperties", "$")),
    ],
)
def test_another_document_is_not(
    full: dict[str, Any], change: dict[str, Any], fault: tuple[str, str]
) -> None:
    assert faults(full | change) == [fault]


@pytest.mark.parametrize("name", old_state.ROWS_OF)
def test_what_0_3_0_printed_only_lacks_what_is_new(name: str) -> None:
    _code, said = old_state.recorded_status(name)
    assert set(faults(said)) == {("required", "$")}
