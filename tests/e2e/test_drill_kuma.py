"""Drills with a real Uptime Kuma: one that is thrown away, and the supervised one killed."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from replicator_kuma.adapters.database.sqlite.store import SqliteStore
from replicator_kuma.adapters.kuma.socketio import session_token
from replicator_kuma.adapters.kuma.throwaway import LOG, ThrowAway, Visit
from replicator_kuma.base.errors import KumaError
from tests.support import databases
from tests.support.kuma_server import kuma_command, kuma_environment
from tests.support.loopback import Loopback, Quiet
from tests.support.supervised import Side
from tests.support.tools import kuma_dir, restic_018
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.kuma, pytest.mark.restic]


class Listener(Loopback):
    """Notes who calls: a monitored page, and where alerts go."""

    def __init__(self) -> None:
        calls = self.calls = list[str]()

        class Handler(Quiet):
            def get(self) -> None:
                calls.append(self.path)
                self.say(500 if self.path == "/down" else 200)

            def post(self) -> None:
                self.get()

        super().__init__(Handler)


@pytest.fixture
def listener() -> Iterator[Listener]:
    with closing(Listener()) as made:
        yield made


def kumas(data_dir: Path) -> list[int]:
    """Processes that have this data directory in their environment."""
    mark = f"DATA_DIR={data_dir}/".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def test_a_throw_away_kuma_shows_all_and_calls_nobody(tmp_path: Path, listener: Listener) -> None:
    """One that is not quiet calls the page within a second, and alerts: it is down."""
    data = tmp_path / "drill" / "data"
    database = databases.build(data / "kuma.db", version="1.23", monitors=30, heartbeats=0)
    hook = json.dumps(
        {"type": "webhook", "webhookURL": f"{listener.url}/alert", "webhookContentType": "json"}
    )
    databases.edit(
        database,
        ("UPDATE monitor SET type = 'http', active = 1, url = ?", (f"{listener.url}/down",)),
        ("UPDATE notification SET active = 1, is_default = 1, config = ?", (hook,)),
        "INSERT OR IGNORE INTO monitor_notification (monitor_id, notification_id) "
        "SELECT m.id, n.id FROM monitor m, notification n",
    )
    names = dict(databases.query(database, "SELECT id, name FROM monitor"))
    store = SqliteStore(data)
    account = store.quieten()
    token = session_token(account.username, account.password, account.secret)
    kuma = ThrowAway(kuma_command(), kuma_dir(), kuma_environment(data, 1), 60)
    began = time.monotonic()
    found = kuma.monitors(Visit(data, token, store.in_use))
    assert found.seconds < time.monotonic() - began - 2, "Kuma takes four seconds to end"
    shown = found.monitors
    assert shown == names == account.monitors
    assert len(shown) == 30
    assert listener.calls == []
    assert kumas(data) == []
    assert databases.query(database, "SELECT count(*) FROM heartbeat") == [(0,)]
    assert (data.parent / LOG).stat().st_mode & 0o777 == 0o600


def test_a_kuma_that_ends_at_once_says_why(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    say = ["sh", "-c", "echo the port is taken by password=hunter2; exit 3"]
    kuma = ThrowAway(say, tmp_path, {"PATH": "/usr/bin:/bin"}, 20)
    with pytest.raises(KumaError, match=r"ended before.*It said last: the port is taken") as caught:
        kuma.monitors(Visit(tmp_path / "data", "", lambda: True))
    assert "hunter2" not in str(caught.value)


def killed_and_back(side: Side, pid: int) -> None:
    """The same supervisor has another Kuma, which monitors."""
    beats = "SELECT count(*) FROM heartbeat"
    wait_until(lambda: side.query(beats)[0][0], "the first heartbeat", 30)
    before = side.query(beats)[0][0]
    killed = side.json("drill", "--kill")
    assert side.process is not None
    assert side.process.poll() is None
    (another,) = kumas(side.data_dir)
    assert another != pid
    assert side.ready()
    assert side.query(beats)[0][0] > before
    assert 0 < killed["steps"]["ready"] <= killed["steps"]["beat"] == killed["seconds"]
    assert "ended by itself" not in side.log
    assert side.stop() == 0


def test_a_fleet_s_drill_beside_a_supervised_kuma(tmp_path: Path, listener: Listener) -> None:
    side = Side(tmp_path, "alpha", "BACKUP", restic_018(), UPTIME_KUMA_DB_TYPE="sqlite")
    side.environment |= {
        "REPLICATOR_KUMA_COMMAND": " ".join(kuma_command()),
        "REPLICATOR_KUMA_DIR": str(kuma_dir()),
    }
    try:
        side.set_up(**{name: f"{listener.url}/{name[:5]}" for name in ("First", "Second ✓")})
        wait_until(
            lambda: any(s["monitors"] == 2 for s in side.json("snapshots")), "both published", 60
        )
        (pid,) = kumas(side.data_dir)
        drilled = side.json("drill", "--kuma")
        assert (drilled["monitors"], drilled["kuma"]) == (2, True)
        assert list(drilled["steps"]) == ["fetch", "load", "check", "start"]
        assert drilled["seconds"] == pytest.approx(sum(drilled["steps"].values()), abs=0.01)
        assert kumas(side.data_dir) == [pid], "the real one goes on, the other one is gone"
        assert not (side.data_dir / "replicator" / "drill").exists()
        assert side.query("SELECT count(*) FROM monitor WHERE active = 1") == [(2,)]
        status = side.json("status")
        assert status["drill"]["ok"] is True
        assert "throw-away" in status["drill"]["sentence"]
        killed_and_back(side, pid)
    finally:
        side.kill()
