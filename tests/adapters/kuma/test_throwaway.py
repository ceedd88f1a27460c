"""A throw-away Kuma stays on its scratch, sees no secret, and is gone afterwards."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from replicator_kuma.adapters.kuma import throwaway
from replicator_kuma.adapters.kuma.throwaway import ThrowAway, Visit, end_left, scratch_environment
from replicator_kuma.base.errors import Interrupted, KumaError, SettingsError
from tests.adapters.kuma.programs import python
from tests.support.waiting import wait_until

# Answers as a Kuma that is ready; with «stubborn» in its folder it ends for nobody.
SERVER = """
import http.server, os, pathlib, signal
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"type": "entryPage", "entryPage": null}')
    def log_message(self, *a):
        pass
if pathlib.Path("stubborn").exists():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path("environment").write_text(repr(dict(os.environ)))
pathlib.Path("pid").write_text(str(os.getpid()))
address = (os.environ["UPTIME_KUMA_HOST"], int(os.environ["UPTIME_KUMA_PORT"]))
http.server.HTTPServer(address, Handler).serve_forever()
"""
REAL = {
    "PATH": "/usr/bin:/bin",
    "NODE_EXTRA_CA_CERTS": "/etc/ca.pem",
    "DATA_DIR": "/app/data/",
    "UPTIME_KUMA_DB_TYPE": "mariadb",
    "UPTIME_KUMA_DB_PASSWORD": "s3cret",
    "UPTIME_KUMA_PORT": "3001",
    "UPTIME_KUMA_HOST": "0.0.0.0",
    "UPTIME_KUMA_CLOUDFLARED_TOKEN": "s3cret",
    "UPTIME_KUMA_IS_CONTAINER": "1",
    "HTTPS_PROXY": "http://s3cret@proxy",
    "MY_TOKEN": "s3cret",
}


def visit(folder: Path, *, used: bool = True) -> Visit:
    (folder / "data").mkdir(exist_ok=True)
    return Visit(folder / "data", "token", lambda: used)


def kuma(folder: Path, timeout: float = 20.0) -> ThrowAway:
    return ThrowAway(python(SERVER), folder, REAL, timeout)


def gone(folder: Path) -> bool:
    return not Path("/proc", (folder / "pid").read_text()).exists()


def test_it_sees_nothing_of_the_real_one() -> None:
    assert scratch_environment(REAL, Path("/scratch/data"), 4321) == {
        "PATH": "/usr/bin:/bin",
        "NODE_EXTRA_CA_CERTS": "/etc/ca.pem",
        "DATA_DIR": "/scratch/data/",
        "UPTIME_KUMA_HOST": "127.0.0.1",
        "UPTIME_KUMA_PORT": "4321",
    }


@pytest.mark.parametrize(
    "command",
    [
        ["node", "server/server.js", "--port=3001"],
        ["sh", "-c", "exec node server/server.js --data-dir=/app/data/"],
        ["node", "server/server.js", "--cloudflared-token=x"],
        ["env", "DATA_DIR=/app/data/", "node", "server/server.js"],
        ["sh", "-c", "UPTIME_KUMA_PORT=3001 node server/server.js"],
    ],
)
def test_a_command_that_would_not_stay_on_the_scratch_is_refused(
    command: list[str], tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match="would not stay on its scratch"):
        ThrowAway(command, tmp_path, {}, 1).monitors(visit(tmp_path))


def test_a_kuma_on_other_data_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(KumaError, match="on another data directory"):
        kuma(tmp_path).monitors(visit(tmp_path, used=False))
    assert gone(tmp_path)


def test_one_that_never_answers_is_given_up(tmp_path: Path) -> None:
    silent = ThrowAway(python("import time; time.sleep(60)"), tmp_path, REAL, 0.5)
    with pytest.raises(KumaError, match="does not answer"):
        silent.monitors(visit(tmp_path))


def test_one_without_socket_io_is_a_failure_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(KumaError, match=r"over Socket\.IO otherwise than expected"):
        kuma(tmp_path).monitors(visit(tmp_path))
    assert gone(tmp_path)


@pytest.mark.parametrize("program", ["/no/such/node", "./start", "no-such-node"])
def test_a_program_that_is_not_there_is_a_setting_and_no_failed_drill(
    program: str, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match="no Uptime Kuma here to boot") as caught:
        ThrowAway([program, "server.js"], tmp_path, REAL, 1).check()
    assert "REPLICATOR_KUMA_COMMAND" in caught.value.hint
    with pytest.raises(SettingsError, match="no Uptime Kuma here to boot"):
        ThrowAway(["sh"], tmp_path / "app", REAL, 1).check()
    ThrowAway(["sh"], tmp_path, REAL, 1).check()
    (tmp_path / "start").touch()
    ThrowAway(["./start"], tmp_path, REAL, 1).check()


def test_a_program_that_cannot_be_run_is_named(tmp_path: Path) -> None:
    (tmp_path / "start").touch()
    with pytest.raises(KumaError, match="could not be started"):
        ThrowAway(["./start"], tmp_path, REAL, 1).monitors(visit(tmp_path))


def test_one_that_does_not_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throwaway, "END", 0.2)
    (tmp_path / "stubborn").touch()
    with pytest.raises(KumaError):
        kuma(tmp_path).monitors(visit(tmp_path, used=False))
    assert gone(tmp_path)


def test_a_signal_ends_it_too(tmp_path: Path) -> None:
    asked = [False, True]
    stopped = ThrowAway(
        python("import time; time.sleep(60)"),
        tmp_path,
        REAL,
        20,
        lambda: asked.pop(0) if asked else True,
    )
    with pytest.raises(Interrupted):
        stopped.monitors(visit(tmp_path))


def test_what_a_killed_drill_left_running_is_ended_and_nothing_else(tmp_path: Path) -> None:
    ours, other = tmp_path / "drill" / "data", tmp_path / "drill" / "data2"
    sleeper = python("import time; time.sleep(60)")
    with (
        subprocess.Popen(sleeper, env={"DATA_DIR": f"{ours}/"}) as left,
        subprocess.Popen(sleeper, env={"DATA_DIR": f"{other}/"}) as stays,
    ):
        mark = b"DATA_DIR"
        for process in (left, stays):
            environ = Path(f"/proc/{process.pid}/environ")
            wait_until(lambda path=environ: mark in path.read_bytes(), "it runs")  # type: ignore[misc]
        end_left(ours)
        assert left.wait(10) == -9
        assert stays.poll() is None
        stays.kill()
