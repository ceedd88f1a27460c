"""deploy/fluent-bit: of what `run` logs, each failure and each recovery is told to Gotify.

Fluent Bit itself is in no package. Where REPLICATOR_TEST_FLUENT_BIT names one, the pipeline is run
by it. In any case our own lines go through the pipeline's expressions and its Lua script, which
runs in the LuaJIT that Fluent Bit has too.
"""

from __future__ import annotations

import io
import json
import logging
import os
import re
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from lupa.luajit21 import LuaRuntime

from replicator_kuma.base.errors import RepositoryUnreachable
from replicator_kuma.base.events import EVENTS, as_event
from replicator_kuma.daemon import log
from replicator_kuma.daemon.failure_log import FailureLog
from tests.support.log_calls import log_calls
from tests.support.targets import APP_TOKEN, GotifyServer
from tests.support.tools import ROOT
from tests.support.waiting import wait_until

FOLDER = ROOT / "deploy" / "fluent-bit"
TRIAL = FOLDER / "trial.jsonl"
PAGE = (ROOT / "docs" / "logs.md").read_text()
KUMA = "2031-05-01T10:00:00Z [MONITOR] WARN: Monitor #1 'x': Failing: «level»: error {\"level\": 1"
ODD = 'no answer: "quoted" \\ back\x1b[31m\nsecond line, ünï 🚀'


def sections() -> list[tuple[str, dict[str, list[str]]]]:
    """The pipeline's sections in order: kind, and the values of each key."""
    found: list[tuple[str, dict[str, list[str]]]] = []
    for line in (FOLDER / "fluent-bit.conf").read_text().splitlines():
        if heading := re.fullmatch(r"\[(\w+)\]", line):
            found.append((heading[1], {}))
        elif line.strip() and not line.lstrip().startswith("#"):
            key, value = line.split(None, 1)
            found[-1][1].setdefault(key, []).append(value)
    return found


def named(kind: str, name: str) -> list[dict[str, list[str]]]:
    return [keys for k, keys in sections() if k == kind and keys.get("name") == [name]]


def section(kind: str, name: str) -> dict[str, list[str]]:
    [one] = named(kind, name)
    return one


def kept() -> Callable[[dict[str, Any]], bool]:
    """The filters `grep`: whether a record goes on."""
    ours, failures = named("FILTER", "grep")
    assert failures["logical_op"] == ["or"]
    [(key, us)] = [rule.split(None, 1) for rule in ours["regex"]]
    wanted = [rule.split(None, 1) for rule in failures["regex"]]

    def goes_on(record: dict[str, Any]) -> bool:
        of_us = re.search(us, str(record.get(key, "")))
        return bool(of_us) and any(re.search(r, str(record.get(k, ""))) for k, r in wanted)

    return goes_on


def scripted() -> Callable[[dict[str, Any]], dict[str, Any]]:
    """The filter `lua`: the record that it makes of one."""
    keys = section("FILTER", "lua")
    lua = LuaRuntime(unpack_returned_tuples=True)
    lua.execute((FOLDER / keys["script"][0]).read_text())
    called = lua.globals()[keys["call"][0]]

    def run(record: dict[str, Any]) -> dict[str, Any]:
        code, _time, made = called("replicator", 0, lua.table_from(record))
        assert code == 1
        return {"body": made["body"], "headers": dict(made["headers"])}

    return run


@pytest.fixture
def lines() -> list[str]:
    """What `run` writes while the repository is away, and Kuma's lines beside it."""
    to = io.StringIO()
    logger = log.configure("debug", "json", to, {"fleet": "default", "instance": "fra-1"})
    failures = FailureLog()
    logger.info("Uptime Kuma is ready", extra=as_event("kuma_ready"))
    to.write(f"{KUMA}\n")
    failures.failed(RepositoryUnreachable(ODD), "monitoring goes on")
    logging.getLogger(f"{log.NAME}.x").warning("of no matter", extra=as_event("held"))
    logger.error("Uptime Kuma was killed", extra=as_event("kuma_ended"))
    failures.succeeded()
    logger.handlers[:] = []
    return to.getvalue().splitlines()


def test_our_failures_and_recoveries_become_messages_and_nothing_else(lines: list[str]) -> None:
    goes_on, made = kept(), scripted()
    told = []
    for line in [*lines, '{"level": "error", "logger": "traefik", "message": "of others"}']:
        try:
            record = json.loads(line)
        except ValueError:
            record = {"log": line}
        if goes_on(record):
            told.append(made(record))
    assert [one["headers"] for one in told] == [{"Content-Type": "application/json"}] * 3
    failed, ended, works = (json.loads(one["body"]) for one in told)
    assert failed["title"] == "fra-1: cycle_failed"
    assert failed["message"].startswith('no answer: "quoted" \\ back')
    assert "ünï 🚀" in failed["message"]
    assert (failed["priority"], ended["priority"], works["priority"]) == (8, 8, 4)
    assert works["title"] == "fra-1: cycle_works"


def test_any_text_becomes_json() -> None:
    made = scripted()
    for text in (ODD, "".join(map(chr, range(0x20))) + "\x7f", "\\", '"', ""):
        record = {"level": "error", "event": "bug", "instance": text, "message": text}
        body = json.loads(made(record)["body"])
        assert (body["message"], body["title"]) == (text, f"{text}: bug")


def test_the_pipeline_tells_of_events_that_there_are() -> None:
    [rule] = [r for r in named("FILTER", "grep")[1]["regex"] if r.startswith("event ")]
    names = set(re.findall(r"[a-z_]+", rule.split(None, 1)[1]))
    assert names <= set(EVENTS)
    levels = {call.event: call.levels for call in log_calls()}
    assert all(levels[name] == ("info",) for name in names)


def test_the_time_is_read_as_we_write_it(lines: list[str]) -> None:
    text = (FOLDER / "parsers.conf").read_text()
    assert re.search(r"time_format +%Y-%m-%dT%H:%M:%S\.%LZ\n", text)
    at = json.loads(lines[0])["time"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", at)


# ------------------------------------------------------------------ the trial of docs/logs.md


def test_the_trial_s_lines_are_like_those_of_run(lines: list[str]) -> None:
    ours = [json.loads(line) for line in lines if line.startswith("{")]
    written = {one["event"]: one.keys() for one in ours}
    trial = [json.loads(line) for line in TRIAL.read_text().splitlines()]
    assert [one["event"] for one in trial] == ["cycle_failed", "cycle", "cycle_works"]
    for one in trial:
        assert one["logger"].startswith(f"{log.NAME}.")
        assert one.keys() == written.get(one["event"], one.keys())
        assert {"time", "level", "message", "fleet", "instance"} <= one.keys()


def test_the_trial_becomes_the_messages_that_the_page_promises() -> None:
    goes_on, made = kept(), scripted()
    records = [json.loads(line) for line in TRIAL.read_text().splitlines()]
    bodies = [json.loads(made(record)["body"]) for record in records if goes_on(record)]
    shown = re.search(r"(?ms)^<!-- trial -->\n\|.*?\n\|-.*?\n(.*?)\n<!-- end -->$", PAGE)
    assert shown
    rows = [
        [cell.strip(" `") for cell in row.strip("|").split("|")] for row in shown[1].split("\n")
    ]
    assert [[one["title"], one["message"], str(one["priority"])] for one in bodies] == rows


WRITTEN = {"/proc/1/fd/2": "stderr", "/var/log/replicator-kuma.log": "log"}
"""Where the page's commands write to, and the files that stand for it here."""


def test_what_the_page_types_writes_the_trial_s_lines(tmp_path: Path) -> None:
    """What docker and kubectl run in a container runs here; tests/containers does it in one."""
    commands = re.findall(r"(?m)^\$ (.*trial\.jsonl.*)$", PAGE)
    assert len(commands) == 3
    for number, command in enumerate(commands):
        folder = tmp_path / str(number)
        folder.mkdir()
        inside = re.sub(r"^(?:docker compose .* exec -T kuma|kubectl .* --) ", "", command)
        for path, name in WRITTEN.items():
            inside = inside.replace(path, str(folder / name))
        subprocess.run(["sh", "-c", inside], cwd=ROOT, capture_output=True, check=True, timeout=60)
        assert [file.read_text() for file in folder.iterdir()] == [TRIAL.read_text()], command


FLUENT_BIT = os.environ.get("REPLICATOR_TEST_FLUENT_BIT", "")
FORMS: dict[str, Callable[[str], str]] = {
    "docker": lambda line: json.dumps(
        {"log": f"{line}\n", "stream": "stderr", "time": "2031-05-01T10:00:00.123456789Z"}
    ),
    "cri": lambda line: f"2031-05-01T10:00:00.123456789+00:00 stderr F {line}",
    "plain": lambda line: line,
}


@pytest.mark.skipif(not FLUENT_BIT, reason="REPLICATOR_TEST_FLUENT_BIT names no Fluent Bit")
@pytest.mark.parametrize("form", FORMS)
def test_fluent_bit_itself_tells_gotify(form: str, lines: list[str], tmp_path: Path) -> None:
    file = tmp_path / "run.log"
    file.touch()
    with closing(GotifyServer()) as gotify:
        host, port = gotify.address.split(":")
        gotify.statuses = [503]
        process = subprocess.Popen(
            [FLUENT_BIT, "-c", FOLDER / "fluent-bit.conf"],
            cwd=FOLDER,
            env={
                "REPLICATOR_LOGS": str(file),
                **{"GOTIFY_HOST": host, "GOTIFY_PORT": port},
                **{"GOTIFY_TLS": "Off", "GOTIFY_TOKEN": APP_TOKEN},
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        try:

            def reads() -> bool:
                there = Path(f"/proc/{process.pid}/fd").iterdir()
                assert process.poll() is None
                return any(fd.exists() and fd.resolve() == file for fd in there)

            wait_until(reads, "Fluent Bit reads the log", 60)
            with file.open("a") as to:
                to.writelines(f"{FORMS[form](line)}\n" for line in lines)
            wait_until(lambda: len(set(gotify.messages)) == 3, "Gotify is told", 120)
            assert any(text.startswith('no answer: "quoted" \\ back') for text in gotify.messages)
            assert any(text.startswith("works again after") for text in gotify.messages)
            assert not any("MONITOR" in text for text in gotify.messages)
        finally:
            process.terminate()
            process.wait(30)
