"""The harness for a real Uptime Kuma does what the other tests trust it to do."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.kuma_server import KumaClient, KumaError, KumaServer
from tests.support.tools import kuma_disabled
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.kuma,
    pytest.mark.skipif(kuma_disabled(), reason="REPLICATOR_TEST_NO_KUMA=1"),
]

USER, PASSWORD = "admin", "harness-0-password"
PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ"
    "AAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def test_a_person_can_use_a_server_and_find_it_again(tmp_path: Path) -> None:
    server = KumaServer(tmp_path / "data")
    with server:
        first_pid = server.pid
        with KumaClient(server.url) as client:
            assert client.needs_setup()
            client.setup(USER, PASSWORD)
            assert not client.needs_setup()
            with pytest.raises(KumaError, match="login"):
                client.login(USER, "wrong-0-password")
            token = client.login(USER, PASSWORD)
            assert client.monitor_list() == {}

            monitor = client.add_monitor("self", f"{server.url}/")
            assert client.monitor_list()[monitor]["name"] == "self"
            wait_until(lambda: client.heartbeats(monitor), "a first heartbeat")

            client.edit_monitor(monitor, name="renamed", interval=30)
            client.pause_monitor(monitor)
            edited = client.monitor_list()[monitor]
            assert (edited["name"], edited["interval"]) == ("renamed", 30)
            assert not edited["active"]
            client.resume_monitor(monitor)

            tag = client.add_tag("site")
            client.tag_monitor(tag, monitor, "north")
            assert [entry["value"] for entry in client.get_monitor(monitor)["tags"]] == ["north"]

            notification = client.add_notification("hook")
            client.edit_monitor(monitor, notificationIDList={str(notification): True})
            assert client.get_monitor(monitor)["notificationIDList"] == {str(notification): True}

            client.add_status_page("Public", "public")
            client.save_status_page("public", {"Services": [monitor]}, logo=PIXEL, title="Ours")
            client.set_settings(keepDataPeriodDays=42)
            assert client.get_settings()["keepDataPeriodDays"] == 42

            with pytest.raises(KumaError, match="setup"):
                client.setup("second", PASSWORD)

        assert server.stop() == 0
        assert not server.running
        server.start()
        server.wait_ready()
        assert server.pid != first_pid
        with KumaClient(server.url) as client:
            client.login(USER, PASSWORD)
            wait_until(lambda: client.heartbeats(monitor), "the beats from before the restart")
            assert [row["name"] for row in client.monitor_list().values()] == ["renamed"]
            client.delete_monitor(monitor)
            assert client.monitor_list() == {}
        with KumaClient(server.url) as client:
            client.login_by_token(token)
        assert server.kill() == -9

    with closing(sqlite3.connect(server.database)) as database:
        assert database.execute("SELECT title FROM status_page").fetchall() == [("Ours",)]
    assert (server.data_dir / "upload" / "logo1.png").read_bytes().startswith(b"\x89PNG")


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "kuma.db").write_bytes(b"not a database" * 1000)
    server = KumaServer(data)
    with pytest.raises(KumaError, match="ended at its start"):
        server.__enter__()
