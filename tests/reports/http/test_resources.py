"""Each resource: what it tells, that it fits its schema, its headers; over real sockets."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator

from replicator_kuma.adapters.database import beats
from replicator_kuma.adapters.repository import Label, Listing, Position, Snapshot
from replicator_kuma.base.errors import DatabaseUnreachable, MachineError
from replicator_kuma.base.times import moment_of, when
from replicator_kuma.cli.commands.status import command
from replicator_kuma.config.settings import Settings
from replicator_kuma.daemon import heartbeat
from replicator_kuma.daemon.heartbeat import Beat
from replicator_kuma.replication.change_log import ChangeLog
from replicator_kuma.replication.change_sets import Entry
from replicator_kuma.replication.state.file import StateFile
from replicator_kuma.replication.state.records import Drill, Last, SnapshotRef
from replicator_kuma.reports.fleet.documents import Fleet, Monitors, MonitorStatus
from replicator_kuma.reports.http.app import HEADERS
from replicator_kuma.reports.http.here import Here
from replicator_kuma.reports.http.kept import Kept
from replicator_kuma.reports.http.summary import summarize
from replicator_kuma.reports.http.web import Web
from replicator_kuma.reports.status import status
from scripts import status_schema
from tests.reports.http.conftest import BEARER, TOKEN, Client, Serve
from tests.reports.http.stand_in import NOW, StandIn, exchange
from tests.support.states import edit_state
from tests.support.status_schema import closed
from tests.support.waiting import wait_until

DOCUMENTS = ("status", "snapshots", "log", "monitors", "fleet", "summary")
LABEL = Label("default", Position(1, 6), "d" * 64, "5" * 16, "w", "beta", 99, 20)
OLDER = Snapshot("6" * 64, LABEL, "2031-05-01T10:00:00Z")
NEWER = Snapshot("7" * 64, replace(LABEL, position=Position(1, 7)), "2031-05-02T10:00:00Z")


@pytest.fixture
def settings(environ: dict[str, str]) -> Settings:
    """An instance that holds the older of two snapshots that a cycle has listed."""
    made = Settings.load(environ)
    edit_state(StateFile(made.state_dir), applied=SnapshotRef.of(OLDER))
    seen = ChangeLog(made.state_dir)
    seen.listed(Listing([OLDER, NEWER]))
    seen.changed(Entry(OLDER, notes=("the oldest",)))
    seen.changed(Entry(NEWER, Position(1, 6), notes=("another writer",)))
    return made


def faults(name: str, document: Any) -> list[str]:
    """What a document has that its served schema does not allow, or lacks."""
    schema = json.loads((status_schema.SERVED / f"{name}.json").read_text())
    validator = Draft202012Validator(closed(schema))
    return [f"{fault.json_path}: {fault.message}" for fault in validator.iter_errors(document)]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_documents_are_what_their_schemas_say(
    guarded: Client, settings: Settings, name: str
) -> None:
    answer = guarded.get(f"/api/v1/{name}", BEARER)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json
    assert faults(name, answer.json) == []


def test_the_schemas_that_are_served_are_those_of_the_types(guarded: Client) -> None:
    written = status_schema.served()
    assert {path.stem for path in status_schema.SERVED.iterdir()} == set(written)
    for name, text in written.items():
        answer = guarded.get(f"/schema/{name}.json", BEARER)
        assert answer.body.decode() == text, "python -m scripts.status_schema --write"
        assert answer.headers["content-type"] == "application/schema+json"
        Draft202012Validator.check_schema(answer.json)
    assert guarded.get("/schema/other.json", BEARER).status == 404


def test_every_error_is_a_document(guarded: Client, open_here: Client) -> None:
    for answer in (
        guarded.get("/api/v1/status"),
        guarded.get("/nowhere", BEARER),
        guarded.get("/api/v1/log?limit=0", BEARER),
        guarded.get("/api/v1/log?since=new", BEARER),
        guarded.ask("PUT", "/api/v1/status", BEARER),
        open_here.get("/api/v1/status", {"Host": "evil.example"}),
    ):
        assert answer.status >= 400
        assert faults("error", answer.json) == []


def test_the_status_goes_by_the_last_listing_of_a_cycle(
    guarded: Client, settings: Settings
) -> None:
    found = guarded.get("/api/v1/status", BEARER).json
    assert (found["newest"], found["behind"]) == ("1.7", 1)
    assert found["newest_unknown"] is None
    assert time.time() - 60 < moment_of(found["newest_seen_at"]) <= time.time()


def test_without_a_listing_the_status_says_so(guarded: Client) -> None:
    found = guarded.get("/api/v1/status", BEARER).json
    assert (found["newest"], found["behind"], found["newest_seen_at"]) == (None, None, None)
    assert "no cycle has asked" in found["newest_unknown"]


def test_snapshots_and_log_are_what_cycles_saw(guarded: Client, settings: Settings) -> None:
    listed = guarded.get("/api/v1/snapshots", BEARER).json
    assert [(one["position"], one["held"]) for one in listed] == [("1.6", True), ("1.7", False)]
    for query, wanted in (
        ("", ["1.7", "1.6"]),
        ("?limit=1", ["1.7"]),
        ("?limit=999", ["1.7", "1.6"]),
        ("?since=1.6", ["1.7"]),
        ("?since=1.7&limit=5", []),
    ):
        found = guarded.get(f"/api/v1/log{query}", BEARER).json
        assert [entry["snapshot"]["position"] for entry in found] == wanted, query


def test_messages_are_for_those_with_the_token(
    guarded: Client, open_here: Client, fleet: StandIn
) -> None:
    message = "connect ECONNREFUSED"
    assert guarded.get("/api/v1/monitors", BEARER).json["monitors"][0]["msg"] == message
    assert message not in guarded.get("/api/v1/fleet", BEARER).body.decode()
    told = open_here.get("/api/v1/monitors")
    assert told.status == 200
    assert message not in told.body.decode()
    assert told.json["monitors"][0]["msg"] is None


def test_a_document_is_the_newest_one(serve: Serve) -> None:
    told = exchange()
    client = serve(told)
    assert client.get("/api/v1/monitors").json["behind"] == 0
    told.monitors = replace(told.monitors, behind=3)
    told.judged = replace(told.judged, sentence="other")
    assert client.get("/api/v1/monitors").json["behind"] == 3
    assert client.get("/api/v1/fleet").json["sentence"] == "other"


class Unread(StandIn):
    """An exchange that has read nothing yet."""

    def own(self) -> Monitors:
        raise DatabaseUnreachable("10.0.0.7:3306 does not answer")

    fleet = own  # type: ignore[assignment]


def test_what_is_not_known_is_said_without_details(serve: Serve) -> None:
    known = exchange()
    for peers in (None, Unread(known.monitors, known.judged)):
        client = serve(peers)
        for path in ("monitors", "fleet", "beats/1"):
            answer = client.get(f"/api/v1/{path}")
            assert (answer.status, answer.json["error"]) == (503, "unavailable")
            assert b"10.0.0.7" not in answer.body
        assert client.get("/api/v1/summary").json["monitors"] is None
        assert client.get("/metrics").status == 200


def test_a_bug_is_told_without_its_words(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def breaks(_self: Here) -> None:
        raise RuntimeError("s3cret")

    monkeypatch.setattr(Here, "snapshots", breaks)
    client = serve()
    for _ in range(3):
        answer = client.get("/api/v1/snapshots")
        assert (answer.status, answer.json["error"]) == (500, "failed")
        assert b"s3cret" not in answer.body
    said = [record for record in caplog.records if record.levelname == "ERROR"]
    assert [record.getMessage() for record in said] == [
        "/api/v1/snapshots: RuntimeError: this is a bug in replicator-kuma"
    ]


def test_a_state_that_cannot_be_read_is_no_bug(guarded: Client, environ: dict[str, str]) -> None:
    path = StateFile(Settings.load(environ).state_dir).path
    path.write_text("{")
    answer = guarded.get("/api/v1/status", BEARER)
    assert (answer.status, answer.json["error"]) == (503, "unavailable")
    assert str(path).encode() not in answer.body
    assert guarded.get("/healthz").status == 503


def test_every_answer_has_the_headers(guarded: Client, settings: Settings) -> None:
    for path in ("/api/v1/status", "/healthz", "/metrics", "/nowhere", "/schema/log.json"):
        answer = guarded.get(path, BEARER)
        for name, value in HEADERS.items():
            if (path, name) != ("/healthz", "Cross-Origin-Resource-Policy"):
                assert answer.headers[name.lower()] == value, (path, name)
        assert answer.headers["server"] == "replicator-kuma"
        assert "location" not in answer.headers
    badge = guarded.get("/badge/state.svg")
    assert badge.headers["cross-origin-resource-policy"] == "cross-origin"
    assert badge.headers["content-type"] == "image/svg+xml; charset=utf-8"


def test_nothing_is_sent_again_that_has_not_changed(guarded: Client, fleet: StandIn) -> None:
    first = guarded.get("/api/v1/fleet", BEARER)
    tag = {**BEARER, "If-None-Match": first.headers["etag"]}
    again = guarded.get("/api/v1/fleet", tag)
    assert (again.status, again.body) == (304, b"")
    fleet.judged = replace(fleet.judged, sentence="other")
    assert guarded.get("/api/v1/fleet", tag).status == 200


def test_head_gives_what_get_gives_without_its_body(guarded: Client, settings: Settings) -> None:
    for path in ("/api/v1/snapshots", "/healthz", "/schema/log.json"):
        got, head = guarded.get(path, BEARER), guarded.ask("HEAD", path, BEARER)
        assert (head.status, head.body) == (got.status, b"")
        assert head.headers["content-length"] == got.headers["content-length"]


def test_a_path_of_a_proxy_needs_no_setting(guarded: Client) -> None:
    """No answer names its own path, so that none has to be rewritten."""
    for path in ("/api/v1/status/", "/healthz/", "//", "/api//v1/status"):
        answer = guarded.get(path, BEARER)
        assert answer.status in (200, 400, 404), path
        assert "location" not in answer.headers


def test_heartbeats_of_the_last_hour(environ: dict[str, str]) -> None:
    asked: list[tuple[int, float]] = []

    class States:
        def recent(self, monitor: int, since: float) -> list[beats.Beat]:
            asked.append((monitor, since))
            return [beats.Beat(NOW, "down", "connect ECONNREFUSED")]

        def changes(self) -> dict[int, tuple[tuple[float, MonitorStatus], ...]]:
            return {}

    for token, message in ((TOKEN, "connect ECONNREFUSED"), ("", None)):
        web = Web(Settings.load({**environ, "REPLICATOR_HTTP_TOKEN": token}), exchange(), States())
        web.start()
        try:
            client = Client(web.address.port)
            answer = client.get("/api/v1/beats/1", BEARER)
            assert faults("beats", answer.json) == []
            (beat,) = answer.json["beats"]
            assert (beat["at"], beat["status"], beat["msg"]) == (when(NOW), "down", message)
            assert client.get("/api/v1/beats/999999", BEARER).status == 404
            assert client.get("/api/v1/beats/-1", BEARER).status == 404
        finally:
            web.stop()
    assert asked[0][0] == 1
    assert 3590 < time.time() - asked[0][1] < 3660


# --- health, readiness, summary, badge ----------------------------------------------------------


def test_health_is_that_of_status(
    guarded: Client, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    folder = Settings.load(environ).state_dir
    file = StateFile(folder)
    for prepare in (
        lambda: None,
        lambda: edit_state(file, last=Last(time.time(), False, "broken", error="StateError")),
        lambda: heartbeat.write(folder, Beat(1, time.monotonic(), "ready")),
        lambda: heartbeat.write(folder, Beat(1, time.monotonic() - 100, "ready")),
        lambda: heartbeat.write(folder, Beat(1, time.monotonic(), "other", time.monotonic() - 999)),
    ):
        prepare()
        printed = CliRunner().invoke(command, ["--health"], obj=None)
        answer = guarded.get("/healthz", BEARER)
        assert (answer.status == 200) == (printed.exit_code == 0)
        assert answer.body.decode() == printed.output


@pytest.mark.parametrize(
    ("kuma", "cycle", "status"),
    [
        ("ready", True, 200),
        ("setup", True, 200),
        ("ready", False, 503),
        ("starting", True, 503),
        ("migrating", True, 503),
        ("stopped", True, 503),
        ("", True, 503),
    ],
)
def test_it_is_ready_once_kuma_is_and_a_cycle_has_ended(
    guarded: Client, environ: dict[str, str], kuma: str, cycle: bool, status: int
) -> None:
    folder = Settings.load(environ).state_dir
    if not cycle:
        edit_state(StateFile(folder), last=None)
    heartbeat.write(folder, Beat(1, time.monotonic(), kuma))
    assert guarded.get("/readyz", BEARER).status == status


def test_it_is_not_ready_without_a_supervisor(guarded: Client) -> None:
    assert guarded.get("/readyz", BEARER).status == 503


@pytest.mark.parametrize(
    ("beat", "restarts", "alive"),
    [
        (Beat(1, 0.0, "ready"), "child", True),
        (Beat(1, -100.0, "ready"), "child", False),
        (Beat(1, 0.0, "migrating", job="start", job_since=-9999.0), "child", True),
        (Beat(1, 0.0, "other", kuma_bad_since=-999.0), "child", False),
        # whoever starts that Kuma restarts it: to restart the replicator beside it helps nobody
        (Beat(1, 0.0, "other", kuma_bad_since=-999.0), "none", True),
    ],
)
def test_it_is_alive_unless_a_restart_would_help(
    environ: dict[str, str], beat: Beat, restarts: str, alive: bool
) -> None:
    """A drill that failed makes it unhealthy: no restart mends that. Times count from now."""
    settings = Settings.load({**environ, "REPLICATOR_KUMA": restarts})
    failed = Drill(time.time(), False, "the drill failed", failed_at="load")
    edit_state(StateFile(settings.state_dir), drill=failed, drill_failed=failed)
    now = time.monotonic()
    moved = {
        name: getattr(beat, name) + now
        for name in ("monotonic", "kuma_bad_since", "job_since")
        if name == "monotonic" or getattr(beat, name)
    }
    heartbeat.write(settings.state_dir, replace(beat, **moved))
    here = Here(settings, None)
    assert (here.stuck() is None) == alive
    assert here.trouble() is not None


def test_it_is_alive_on_a_full_disk(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings.load(environ)
    heartbeat.write(settings.state_dir, Beat(1, time.monotonic() - 100, "ready"))
    assert Here(settings, None).stuck()
    monkeypatch.setattr("shutil.disk_usage", lambda _path: SimpleNamespace(free=0))
    assert Here(settings, None).stuck() is None


@pytest.fixture
def summaries(settings: Settings) -> Any:
    known = exchange()
    known.judged = replace(known.judged, monitors=())
    plain = replace(status(settings), behind=0)
    return lambda fleet=known.judged, trouble=None, **members: summarize(
        replace(plain, **members), fleet, trouble
    )


def test_the_state_in_one_word(summaries: Any, fleet: StandIn) -> None:
    assert summaries().state == "ok"
    places = fleet.judged.instances
    up, down = replace(fleet.judged.monitors[1]), fleet.judged.monitors[0]
    calm = replace(fleet.judged, monitors=(up,))

    def with_state(state: Any) -> Fleet:
        return replace(calm, instances=(places[0], replace(places[1], state=state)))

    assert summaries(calm).state == "ok"
    assert summaries(None).state == "ok"
    for worse in (
        with_state("silent"),
        with_state("behind"),
        replace(calm, monitors=(replace(up, verdict="partial"),)),
    ):
        assert summaries(worse).state == "warn"
    assert summaries(behind=1).state == "warn"
    for worst in (with_state("fenced"), with_state("misfit"), replace(calm, monitors=(down,))):
        assert summaries(worst).state == "fail"
    assert summaries(calm, "the supervisor gives no sign of life").state == "fail"
    for member in ("fenced", "refused", "shrink_refused", "drill_failed"):
        assert summaries(calm, **{member: "because"}).state == "fail"


def test_the_summary_counts(guarded: Client, settings: Settings) -> None:
    found = guarded.get("/api/v1/summary", BEARER).json
    assert found["sentence"] == "«Shop checkout 1» is down everywhere."
    assert (found["monitors"], found["monitors_down"]) == (3, 1)
    assert (found["instances"], found["instances_silent"]) == (3, 0)
    assert (found["position"], found["behind"], found["state"]) == ("1.6", 1, "fail")


def test_the_badge_shows_the_state_and_nothing_else(guarded: Client) -> None:
    text = guarded.get("/badge/state.svg").body.decode()
    assert "fleet: fail" in text
    assert "Shop" not in text


# --- what is kept for a moment ------------------------------------------------------------------


def test_a_value_that_hangs_holds_nobody_for_long() -> None:
    go_on, made = threading.Event(), iter(range(10))

    def make() -> int:
        number = next(made)
        if number:
            go_on.wait(30)
        return number

    now = [0.0]
    value = Kept("thing", make, fresh=1.0, wait=0.05, stale=30.0, clock=lambda: now[0])
    assert value.get() == 0
    now[0] = 2.0
    assert value.get() == 0, "the one before it, which is not old"
    now[0] = 40.0
    with pytest.raises(MachineError, match="takes longer"):
        value.get()
    go_on.set()
    wait_until(lambda: value.get() > 0, "the value that was made meanwhile")


def test_a_value_is_made_once_for_all_who_ask() -> None:
    made = iter(range(10))
    value = Kept("thing", lambda: next(made), clock=lambda: 0.0)
    assert [value.get() for _ in range(5)] == [0] * 5


def test_an_error_is_not_kept() -> None:
    answers: list[Any] = [ValueError("x"), 7]

    def make() -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    value = Kept("thing", make)
    with pytest.raises(ValueError, match="x"):
        value.get()
    assert value.get() == 7


# --- size ---------------------------------------------------------------------------------------


def test_a_large_fleet_is_told_in_time(serve: Serve, tmp_path: Path) -> None:
    """0.1 s of a processor at 1,000 monitors and 5 peers; here it may be four times as much.

    The least of some tries, each by a server that has made no answer yet.
    """
    took: dict[str, float] = {}
    for _ in range(3):
        client = serve(exchange(1000, 5), REPLICATOR_HTTP_TOKEN=TOKEN)
        for path in ("monitors", "fleet", "summary", "status"):
            began = time.process_time()
            assert client.get(f"/api/v1/{path}", BEARER).status == 200
            took[path] = min(took.get(path, 9.0), time.process_time() - began)
    assert max(took.values()) < 0.4, took
