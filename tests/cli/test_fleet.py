"""replicator fleet: over the control socket and by HTTP, for people and programs, once and on."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from replicator_kuma.adapters.repository import Position
from replicator_kuma.base.text import plain_json
from replicator_kuma.base.times import Moment
from replicator_kuma.cli.main import main
from replicator_kuma.daemon.control import ControlServer
from replicator_kuma.reports.document import as_json
from replicator_kuma.reports.fleet import terminal
from replicator_kuma.reports.fleet.documents import Fleet, Judged, Place
from replicator_kuma.reports.fleet.reading import read
from tests.cli.harness import Run
from tests.support.loopback import Loopback, Quiet
from tests.support.tools import ROOT
from tests.support.waiting import wait_until

TOKEN = "secret-of-the-fleet"
NOW = Moment(int(time.time()))


def place(name: str, **members: object) -> Place:
    made = Place(
        name=name,
        url=f"https://{name}.example.com",
        role="replica",
        version="0.4.0",
        kuma="2.5.3",
        position=Position(1, 7),
        behind=0,
        contact_at=Moment(NOW - 9),
        state="equal",
        sentence="Holds 1.7.",
    )
    return replace(made, **members)  # type: ignore[arg-type]


FINE = Fleet(
    fleet="home",
    quorum="majority",
    sentence="Everything is equal: 2 instances hold snapshot 1.7.",
    instances=(
        place("fra-1", url=None, here=True, role="leader"),
        place("nyc-1", state="behind", behind=1),
    ),
    monitors=(
        Judged(3, "Wiki", "up", (), ("fra-1", "nyc-1"), None, {"fra-1": "up", "nyc-1": "up"}),
        Judged(4, "Old", "unknown", (), (), None, {"fra-1": "paused", "nyc-1": "paused"}),
    ),
)
BAD = replace(
    FINE,
    sentence="«Shop checkout» is down everywhere (2 of 2).",
    instances=(
        place("sgp-1", state="silent", contact_at=Moment(NOW - 360), sentence="no connection"),
        *FINE.instances,
    ),
    monitors=(
        Judged(
            *(1, "Shop checkout", "down", ("fra-1", "nyc-1"), ("fra-1", "nyc-1")),
            Moment(NOW - 240),
            {"fra-1": "down", "nyc-1": "down", "sgp-1": "silent"},
        ),
        Judged(
            *(2, "北京 \x1b[2J", "partial", ("fra-1",), ("fra-1", "nyc-1")),
            None,
            {"fra-1": "down", "nyc-1": "pending", "sgp-1": "silent"},
        ),
        *FINE.monitors,
    ),
)


def raw(fleet: Fleet) -> dict[str, object]:
    found: dict[str, object] = as_json(fleet)
    return found


class Told:
    """An instance that answers GET /api/v1/fleet to who has the token."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.body: bytes | None = None
        self.asked = 0
        owner = self

        class Handler(Quiet):
            def get(self) -> None:
                owner.asked += 1
                if self.headers["Authorization"] != f"Bearer {TOKEN}":
                    self.say(401)
                elif self.path != "/kuma/api/v1/fleet":
                    self.say(404)
                else:
                    self.say(200, owner.body or plain_json(raw(owner.fleet)).encode())

        self._server = Loopback(Handler)
        self.url = f"{self._server.url}/kuma"
        self.close = self._server.close


@pytest.fixture
def told() -> Iterator[Told]:
    server = Told(FINE)
    yield server
    server.close()


Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Call:
    """`replicator fleet` in this process, with a state directory of its own."""
    for name in [name for name in os.environ if name.startswith(("REPLICATOR_", "DATA_DIR"))]:
        monkeypatch.delenv(name)
    (tmp_path / "state").mkdir(0o700)
    monkeypatch.setenv("REPLICATOR_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("REPLICATOR_HTTP_TOKEN", TOKEN)

    def fleet(*arguments: str) -> tuple[int, str, str]:
        code = main(["fleet", *arguments])
        return code, *capsys.readouterr()

    return fleet


def test_the_running_supervisor_is_asked_beside_a_job(tmp_path: Path) -> None:
    """A real `replicator run` in another process, while a cycle of it goes on for long."""
    run = Run(tmp_path / "r", "BACKUP", REPLICATOR_HTTP_TOKEN="")
    (run.folder / "fleet.json").write_text(json.dumps(raw(FINE)))
    run.script("backup", hold=120, interruptible=True)
    with run:
        run.until("backup False True")
        began = time.monotonic()
        done = run.command("fleet")
        assert time.monotonic() - began < 60
        assert done.returncode == 0
        assert done.stdout.startswith("Everything is equal: 2 instances hold snapshot 1.7.\n")
        assert read(Fleet, json.loads(run.command("fleet", "--json").stdout)) == FINE


def test_a_fleet_that_is_well(call: Call, told: Told) -> None:
    code, out, _ = call("--url", told.url)
    assert code == 0
    assert out.splitlines() == [
        "Everything is equal: 2 instances hold snapshot 1.7.",
        "",
        "INSTANCES",
        "   name   role     snapshot  state     Kuma   heard",
        "●  fra-1  leader   1.7       equal     2.5.3  (here)",
        *[one for one in out.splitlines() if one.startswith("◐  nyc-1  replica  1.7       1 beh")],
        "",
        "MONITORS   1 paused · 1 up   (all: --all)",
    ]


def test_what_needs_a_look(call: Call, told: Told) -> None:
    told.fleet = BAD
    code, out, _ = call("--url", told.url)
    assert code == 1
    lines = out.splitlines()
    assert lines[0] == "«Shop checkout» is down everywhere (2 of 2)."
    assert lines[4].startswith("?  sgp-1  replica  was 1.7   silent    was 2.5.3  silent ")
    assert lines[4].endswith("no connection")
    assert "MONITORS   1 down · 1 where places disagree · 1 paused · 1 up   (all: --all)" in lines
    rows = [line for line in lines if "fra-1 " in line][1:]
    assert rows[0].startswith("✕  Shop checkout")
    # the documents are made once: how long it is ago goes on while other tests run
    assert re.search(r"sgp-1 \?  fra-1 ✕  nyc-1 ✕  DOWN in 2 of 2, \d+ (min|h)", rows[0])
    assert rows[1].startswith("◐  北京 \\x1b[2J")
    assert rows[1].endswith("sgp-1 ?  fra-1 ✕  nyc-1 ◐  only fra-1")
    assert lines[-1] == "✕ down   ◐ pending   ? silent"
    assert "\x1b" not in out


def test_a_monitor_that_an_instance_lacks_needs_a_look(call: Call, told: Told) -> None:
    wiki, old = FINE.monitors
    states = {"fra-1": "up", "nyc-1": "absent"}
    gone = {"missing_in": ("nyc-1",), "missing_since": Moment(NOW - 3 * 86400)}
    shop = replace(BAD.monitors[0], **gone)  # type: ignore[arg-type]
    wiki = replace(wiki, states=states, **gone)  # type: ignore[arg-type]
    told.fleet = replace(FINE, sentence="«Wiki» is missing in nyc-1.", monitors=(wiki, old))
    code, out, _ = call("--url", told.url)
    assert code == 1
    assert "◐  nyc-1  replica  1.7       1 behind, lacks 1 monitor  2.5.3" in out
    assert "MONITORS   1 missing somewhere · 1 paused   (all: --all)" in out
    assert re.search(r"^◐  Wiki  fra-1 ●  nyc-1 -  missing in nyc-1, 3 d", out, re.MULTILINE)
    assert out.splitlines()[-1] == "● up   - no such monitor there"
    told.fleet = replace(FINE, monitors=(shop, old))
    out = call("--url", told.url)[1]
    assert "MONITORS   1 down · 1 paused   (all: --all)" in out
    assert re.search(r"DOWN in 2 of 2, \d+ (min|h).*; missing in nyc-1, 3 d", out)
    found = terminal.changes(replace(FINE, monitors=(wiki, shop)), terminal.UNICODE)
    assert found["monitor 3"] == "◐ Wiki: missing in nyc-1"
    assert found["monitor 1"] == "✕ Shop checkout: DOWN in 2 of 2; missing in nyc-1"


def test_all_monitors(call: Call, told: Told) -> None:
    code, out, _ = call("--all", "--url", told.url)
    assert code == 0
    assert "●  Wiki  fra-1 ●  nyc-1 ●  up" in out
    assert "‖  Old   fra-1 ‖  nyc-1 ‖  paused" in out
    assert "--all" not in out


def test_json_is_the_document(call: Call, told: Told) -> None:
    told.fleet = BAD
    code, out, _ = call("--json", "--url", told.url)
    assert code == 1
    assert "\x1b" not in out
    found = json.loads(out)
    assert found["sentence"] == BAD.sentence
    assert found["monitors"][0]["states"] == BAD.monitors[0].states
    assert found["instances"] == json.loads(json.dumps(raw(BAD)["instances"]))


@pytest.mark.parametrize(
    ("state", "code"),
    [("equal", 0), ("behind", 0), ("drift", 0), ("fenced", 1), ("silent", 1), ("misfit", 1)],
)
def test_states_that_need_a_look(call: Call, told: Told, state: str, code: int) -> None:
    told.fleet = replace(FINE, instances=(place("nyc-1", state=state),))
    assert call("--url", told.url)[0] == code


def test_an_instance_whose_kuma_cannot_be_read_needs_a_look(call: Call, told: Told) -> None:
    blind = place("nyc-1", unreadable=True, sentence="its Kuma's database cannot be read")
    told.fleet = replace(FINE, instances=(blind,))
    code, out, _ = call("--url", told.url)
    assert code == 1
    (row,) = (line for line in out.splitlines() if "nyc-1  replica" in line)
    assert row.startswith("?  nyc-1  replica  1.7       Kuma not readable  2.5.3")
    assert row.endswith("its Kuma's database cannot be read")


def test_an_isolated_instance_needs_a_look_whatever_it_holds(call: Call, told: Told) -> None:
    told.fleet = replace(FINE, instances=(place("nyc-1", isolated=True, sentence="line lost"),))
    code, out, _ = call("--url", told.url)
    assert code == 1
    (row,) = (line for line in out.splitlines() if "nyc-1  replica" in line)
    assert row.startswith("?  nyc-1  replica  1.7       isolated  2.5.3")
    assert row.endswith("line lost")


def test_a_fleet_may_have_a_token_of_its_own(
    call: Call, told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPLICATOR_HTTP_TOKEN", "the-token-of-another-fleet")
    file = tmp_path / "token"
    file.write_text(f"\ufeff{TOKEN} \n")
    asked = ("--url", f"home={told.url}", "--token-file", f"home={file}")
    assert call(*asked)[0] == 0
    code, _, err = call("--url", told.url)
    assert (code, "HTTP 401" in err) == (30, True)


@pytest.mark.parametrize(
    ("given", "content", "said"),
    [
        ("home={}", None, "home: expected a readable file (No such file or directory)"),
        ("home={}", b"too short", "home: expected a file with 16 or more visible ASCII characters"),
        ("home={}", b"\xff" * 20, "home: expected a readable file (not UTF-8 text)"),
        ("{}", b"", "expected NAME=FILE, with the NAME of a --url"),
        ("shop={}", TOKEN.encode(), "there is no --url shop="),
    ],
)
def test_a_token_file_that_is_none(
    call: Call, told: Told, tmp_path: Path, given: str, content: bytes | None, said: str
) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    code, out, err = call("--url", f"home={told.url}", "--token-file", given.format(file))
    assert (code, out) == (2, "")
    assert said in " ".join(err.split())
    assert "too short" not in err
    assert told.asked == 0


def test_nobody_runs_here(call: Call) -> None:
    code, out, err = call()
    assert (code, out) == (30, "")
    assert "no `replicator run` runs here" in err
    assert "--url" in err


def test_the_peers_are_asked_where_nobody_runs_here(
    call: Call, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPLICATOR_PEERS", f"gone=http://127.0.0.1:1,nyc-1={told.url}")
    assert call()[0] == 0
    monkeypatch.setenv("REPLICATOR_HTTP_TOKEN", "another-secret-of-a-fleet")
    code, _, err = call()
    assert code == 30
    assert "gone: no connection; nyc-1: HTTP 401, it does not accept our token" in err
    assert "another-secret-of-a-fleet" not in err


def test_the_one_here_is_asked_first(call: Call, tmp_path: Path, told: Told) -> None:
    server = ControlServer(tmp_path / "state", lambda *_request: dict(raw(BAD)))
    server.start()
    try:
        assert call()[0] == 1
        assert call("--url", told.url)[0] == 0
        assert told.asked == 1
    finally:
        server.close()


@pytest.mark.parametrize("body", [b"<html>", b"{}", b"[" * 100_000, b'{"fleet": 7}'])
def test_an_answer_that_is_no_fleet(call: Call, told: Told, body: bytes) -> None:
    told.body = body
    code, out, err = call("--url", told.url, "--json")
    assert code == 30
    assert json.loads(out)["error"]["kind"] == "InstanceUnreachable"
    assert "tells no fleet that is understood here" in err


def test_an_address_that_is_none(call: Call) -> None:
    code, _, err = call("--url", "http://fra-1.example.com")
    assert code == 2
    assert "https://" in err


# --- on and on ------------------------------------------------------------------------------


def environment(tmp_path: Path, **more: str) -> Mapping[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "PYTHONIOENCODING": "utf-8",
        "DATA_DIR": str(tmp_path),
        "REPLICATOR_HTTP_TOKEN": TOKEN,
        **more,
    }


SOON = (
    "import sys; from replicator_kuma.cli.commands import fleet; fleet.EVERY = 0.1;"
    "from replicator_kuma.cli.main import main; sys.exit(main(sys.argv[1:]))"
)


def test_without_a_terminal_a_watch_prints_what_changes(tmp_path: Path, told: Told) -> None:
    path = tmp_path / "out"
    with path.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", SOON, "fleet", "--watch", "--url", told.url],
            env=environment(tmp_path),
            stdout=out,
        )

    def lines() -> list[str]:
        return [line[22:] for line in path.read_text().splitlines()]

    try:
        wait_until(lambda: len(lines()) == 3, "the first look")
        asked = told.asked
        wait_until(lambda: told.asked > asked + 3, "more looks")
        assert lines() == [FINE.sentence, "● fra-1: equal", "◐ nyc-1: 1 behind"]
        told.fleet = BAD
        wait_until(lambda: len(lines()) == 7, "what has changed")
        assert lines()[3:] == [
            BAD.sentence,
            "? sgp-1: silent",
            "✕ Shop checkout: DOWN in 2 of 2",
            "◐ 北京 \\x1b[2J: only fra-1",
        ]
        told.body = b"no fleet"
        wait_until(lambda: "tells no fleet" in lines()[-1], "that it is away")
        told.body, told.fleet = None, FINE
        wait_until(lambda: FINE.sentence in lines()[8:], "that it is there again")
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()


def test_a_watch_for_programs_is_a_document_a_line(tmp_path: Path, told: Told) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SOON, "fleet", "--watch", "--json", "--url", told.url],
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        try:
            assert read(Fleet, json.loads(process.stdout.readline())) == FINE
            told.fleet = BAD
            assert json.loads(process.stdout.readline())["sentence"] == BAD.sentence
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 1
        finally:
            process.kill()


@pytest.mark.parametrize("mark", ["x", "\u0301", "界"])
def test_a_long_name_of_another_is_cut_at_little_cost(
    monkeypatch: pytest.MonkeyPatch, mark: str
) -> None:
    looked_at, real = 0, terminal._width

    def counted(text: str) -> int:
        nonlocal looked_at
        looked_at += len(text)
        return real(text)

    monkeypatch.setattr(terminal, "_width", counted)
    cut = terminal._short("n" + mark * 1999, terminal.UNICODE)
    assert cut.endswith("…")
    assert real(cut) <= terminal.LONGEST_NAME
    assert looked_at < 20_000


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_at_a_terminal_a_watch_draws_anew(tmp_path: Path, told: Told, encoding: str) -> None:
    """What the terminal has no shape for is shown by ASCII signs."""
    told.fleet = BAD
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", SOON, "fleet", "--watch", "--url", told.url],
        env=environment(tmp_path, PYTHONIOENCODING=encoding),
        stdin=slave,
        stdout=slave,
        start_new_session=True,
    )
    os.close(slave)
    seen = b""
    try:
        while seen.count(b"\x1b[H\x1b[J") < 3:
            seen += os.read(master, 65536)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 1
    finally:
        process.kill()
        process.wait()
        os.close(master)
    screen = seen.split(b"\x1b[H\x1b[J")[1]
    # click writes UTF-8 where Python is told of ASCII
    drawn = screen.decode("utf-8" if encoding == "ascii" else encoding)
    if encoding == "utf-8":
        assert drawn.startswith("«Shop checkout» is down everywhere (2 of 2).")
        assert "✕  Shop checkout" in drawn
    else:
        assert drawn.startswith('"Shop checkout" is down everywhere (2 of 2).')
        assert "X  Shop checkout" in drawn
        assert "X down   o pending   ? silent" in drawn
