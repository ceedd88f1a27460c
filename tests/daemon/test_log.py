"""The log's lines for a collector: each has a name that is documented, and each name is logged."""

from __future__ import annotations

import io
import json
import re

from replicator_kuma.base.events import EVENTS, as_event
from replicator_kuma.daemon import log
from tests.support.log_calls import log_calls
from tests.support.tools import ROOT

PAGE = (ROOT / "docs" / "logs.md").read_text()


def test_each_call_that_logs_names_an_event_that_is_known() -> None:
    calls = log_calls()
    assert len(calls) > 80
    assert [call for call in calls if call.event not in EVENTS] == []
    assert [call for call in calls if not call.levels] == []


def test_each_known_event_is_logged_somewhere() -> None:
    assert set(EVENTS) - {call.event for call in log_calls()} == set()
    assert list(EVENTS) == sorted(EVENTS)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", name) for name in EVENTS)


def test_a_line_has_the_members_that_the_page_names() -> None:
    to = io.StringIO()
    logger = log.configure("debug", "json", to, {"fleet": "default", "instance": "fra-1"})
    try:
        extra = as_event("cycle_failed", error="RepositoryUnreachable", exit_code=5)
        logger.getChild("daemon").error("no \x1b[31manswer\n\u2028", extra=extra)
        logger.debug("a look")
        try:
            raise RuntimeError("odd")
        except RuntimeError:
            logger.exception("a bug", extra=as_event("bug"))
    finally:
        logger.handlers[:] = []
    failed, detail, bug = map(json.loads, to.getvalue().splitlines())
    assert {k: v for k, v in failed.items() if k != "time"} == {
        "level": "error",
        "event": "cycle_failed",
        "message": failed["message"],
        "logger": "replicator_kuma.daemon",
        "fleet": "default",
        "instance": "fra-1",
        "error": "RepositoryUnreachable",
        "exit_code": 5,
    }
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", failed["time"])
    assert "answer" in failed["message"]
    assert (detail["level"], detail["event"]) == ("debug", log.DETAIL)
    assert "RuntimeError: odd" in bug["traceback"]
    named = set(re.findall(r"`(\w+)`", " ".join(re.findall(r"(?m)^\| (`[^|]+) \|", PAGE))))
    assert set(failed) | set(bug) <= named


def test_the_members_that_the_page_names_are_those_of_the_code() -> None:
    """`as_event` gives a line members of its own: each of them is in the page's table."""
    source = "".join(path.read_text() for path in (ROOT / "replicator_kuma").rglob("*.py"))
    given = set(re.findall(r"\b(\w+)=", " ".join(re.findall(r"as_event\(([^)]*)", source))))
    assert {"outcome", "position", "job"} <= given
    rows = re.findall(r"(?m)^\| (`[^|]+) \|", PAGE)
    named = set(re.findall(r"`(\w+)`", " ".join(rows)))
    assert given <= named
