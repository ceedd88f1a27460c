"""The table of deadlines in docs/faults.md: its numbers are the program's, its tests are there."""

from __future__ import annotations

import re

import pytest

from replicator_kuma.daemon import heartbeat
from tests.faults.deadlines import DEADLINES, table
from tests.support.tools import ROOT

PAGE = (ROOT / "docs" / "faults.md").read_text()


def test_the_table_of_deadlines_is_the_program_s() -> None:
    found = re.search(r"<!-- deadlines[^>]*-->\n(.*?)\n<!-- end -->", PAGE, re.DOTALL)
    assert found
    assert found.group(1).strip() == table().strip()


@pytest.mark.parametrize("name", sorted({entry.test for entry in DEADLINES}))
def test_the_test_that_holds_a_deadline_is_there(name: str) -> None:
    path, _, test = name.partition("::")
    found = re.findall(rf"^def {test}", (ROOT / path).read_text(), re.MULTILINE)
    assert len(found) >= 1


def test_a_job_that_does_not_end_makes_the_container_unhealthy() -> None:
    """A file system that hangs takes the worker along: no call of ours could end that."""
    began = 1_000.0
    late = began + heartbeat.JOB_PATIENCE
    for now, said in ((late - 1, None), (late + 1, "the job 'cycle' does not end")):
        beat = heartbeat.Beat(1, monotonic=now, kuma="ready", job="cycle", job_since=began)
        assert heartbeat.trouble(beat, now) == said
