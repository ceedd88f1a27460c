"""What a person sees: two real servers, edits through their own interface.

The tests stand in an order and share the two servers: each goes on from the one before.
"""

from __future__ import annotations

import json
import sqlite3
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.support.cycles import state_of
from tests.support.kuma_server import KumaClient
from tests.support.supervised import Running, Side
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.kuma, pytest.mark.restic, pytest.mark.slow]


def query(side: Side, sql: str) -> list[Any]:
    with sqlite3.connect(f"file:{side.database}?mode=ro", uri=True, timeout=10) as connection:
        rows = connection.execute(sql).fetchall()
    connection.close()
    return rows


def kuma_pid(side: Side) -> int:
    """The process id of the Kuma that a supervisor runs."""
    assert side.process is not None
    children = Path(f"/proc/{side.process.pid}/task")
    pids = [int(p) for task in children.iterdir() for p in (task / "children").read_text().split()]
    for pid in pids:
        line = Path(f"/proc/{pid}/cmdline").read_bytes()
        # a release of 2.x that is up calls itself uptime-kuma
        if b"server/server.js" in line or line.startswith(b"uptime-kuma"):
            return pid
    raise AssertionError(f"no Kuma below {side.name}: {side.log_tail()}")


def cycles(number: int, *sides: Side) -> None:
    """Wait until each side has done so many more cycles, all without an error."""

    def last(side: Side) -> tuple[float, bool]:
        found = state_of(side.data_dir).outcome.last
        return (found.at, found.ok) if found else (0.0, False)

    seen = {side: last(side)[0] for side in sides}
    left = dict.fromkeys(sides, number)

    def done() -> bool:
        for side, before in seen.items():
            at, ok = last(side)
            assert ok or at == before, side.log_tail()
            left[side] -= at != before
            seen[side] = at
        return all(n <= 0 for n in left.values())

    wait_until(done, f"{number} cycles of {' and '.join(side.name for side in sides)}", 30 * number)


def latest(fleet: Running) -> str:
    return fleet.positions()[-1]


def published_after(fleet: Running, before: str) -> str:
    return wait_until(
        lambda: (now := latest(fleet)) != before and now, f"a snapshot after {before}", 60
    )  # type: ignore[return-value]


def save_page_again(fleet: Running, client: KumaClient) -> None:
    """Press Save on the leader's status page as it is: links get new ids, the page a date."""
    with urllib.request.urlopen(f"{fleet.leader.url}/api/status-page/page") as answer:
        public = json.load(answer)["publicGroupList"]
    # modified_date counts seconds: await the next one, so that Save has something to write
    second = int(time.time())
    wait_until(lambda: int(time.time()) > second, "the next second")
    config = client._call("getStatusPage", "page")["config"]
    client._call(
        "saveStatusPage", "page", {"logo": config["icon"]} | config, config["icon"], public
    )


def test_an_empty_replica_gets_the_leader_s_user(fleet: Running) -> None:
    fleet.wait_applied(deadline=120)
    fleet.replica.wait_ready()
    client = fleet.replica.page()
    assert [m["name"] for m in client.monitor_list().values()] == ["First"]
    assert not client.needs_setup()
    client.close()


def test_an_edit_arrives_and_heartbeats_stay(fleet: Running, web: str) -> None:
    count = "SELECT count(*) FROM heartbeat WHERE monitor_id = 1"
    wait_until(lambda: query(fleet.replica, count)[0][0] > 0, "a heartbeat on the replica", 60)
    before = query(fleet.replica, "SELECT id, monitor_id, time, status, msg FROM heartbeat")
    position = latest(fleet)
    client = fleet.leader.page()
    client.add_monitor("null", web, description="  spaces at both ends;\n")
    client.edit_monitor(1, name="First, renamed 🚀")
    position = published_after(fleet, position)
    wait_until(lambda: latest(fleet), "a snapshot")
    cycles(2, fleet.leader)
    fleet.wait_applied()
    fleet.replica.wait_ready()
    page = fleet.replica.page()
    shown = {m["name"]: m["description"] for m in page.monitor_list().values()}
    assert shown == {"First, renamed 🚀": None, "null": "  spaces at both ends;\n"}
    page.close()
    client.close()
    after = query(fleet.replica, "SELECT id, monitor_id, time, status, msg FROM heartbeat")
    assert set(before) <= set(after)


def test_saving_without_a_change_stops_nothing(fleet: Running) -> None:
    position = latest(fleet)
    client = fleet.leader.page()
    client.add_status_page("Page", "page")
    client.save_status_page("page", {"Group": [1, 2]}, domainNameList=["status.example.test"])
    # What the first Save of a monitor may normalise is a real change; the second one is none.
    client.edit_monitor(1)
    published_after(fleet, position)
    cycles(3, fleet.leader)
    position = latest(fleet)
    fleet.wait_applied(position)
    fleet.replica.wait_ready()
    pid, links = kuma_pid(fleet.replica), query(fleet.leader, "SELECT id FROM monitor_group")
    client.edit_monitor(1)
    save_page_again(fleet, client)
    assert query(fleet.leader, "SELECT id FROM monitor_group") != links, "Save wrote nothing anew"
    cycles(5, fleet.leader, fleet.replica)
    assert latest(fleet) == position
    assert kuma_pid(fleet.replica) == pid
    client.close()


def test_restore_now_takes_back_what_was_edited_on_the_replica(fleet: Running, web: str) -> None:
    page = fleet.replica.page()
    page.add_monitor("made on the replica", web)
    page.close()
    cycles(2, fleet.replica)
    diff = fleet.replica.command("diff").stdout
    assert "made on the replica" in diff
    assert "deleted" in diff
    done = fleet.replica.json("restore", "--now")
    assert done["outcome"] == "applied"
    assert done["changes"]["tables"]["monitor"]["deleted"] == 1
    fleet.replica.wait_ready()
    names = query(fleet.replica, "SELECT name FROM monitor")
    assert ("made on the replica",) not in names
    orphans = "SELECT count(*) FROM heartbeat WHERE monitor_id NOT IN (SELECT id FROM monitor)"
    assert query(fleet.replica, orphans) == [(0,)]
    again = fleet.replica.json("restore", "--now")
    assert again["outcome"] == "nothing"


def test_a_replica_is_promoted_and_the_old_leader_is_fenced(fleet: Running, web: str) -> None:
    said = fleet.replica.command("promote").stdout
    assert "REPLICATOR_MODE=BACKUP" in said
    # The old leader hears of it at its next change.
    client = fleet.leader.page()
    client.add_monitor("too late", web)
    client.close()
    wait_until(
        lambda: "does not publish" in fleet.leader.log.read_text(), "the old leader is fenced", 30
    )
    assert fleet.leader.command("backup", check=False).returncode == 17
    assert latest(fleet) == "2.1"
    # Roles change: what the old leader had for itself goes.
    assert fleet.stop() == [0, 0]
    fleet.leader.environment["REPLICATOR_MODE"] = "RESTORE"
    fleet.replica.environment["REPLICATOR_MODE"] = "BACKUP"
    fleet.replica.run()
    fleet.leader.run()
    fleet.replica.wait_ready()
    fleet.leader.wait_ready()
    page = fleet.replica.page()
    page.add_monitor("on the new leader", web)
    page.close()
    names = "SELECT name FROM monitor ORDER BY name"
    wait_until(
        lambda: ("on the new leader",) in query(fleet.leader, names), "the way round", 60, 0.3
    )
    assert query(fleet.leader, names) == query(fleet.replica, names)
    assert ("too late",) not in query(fleet.leader, names)


def test_sigterm_ends_both_within_kuma_s_own_time(fleet: Running) -> None:
    sides = (fleet.leader, fleet.replica)
    for side in sides:
        side.wait_ready()
    cycles(1, *sides)
    began = time.monotonic()
    assert fleet.stop() == [0, 0]
    # Kuma's own end takes 4.0 to 4.1 s (KUMA.md); on a loaded machine somewhat more
    assert time.monotonic() - began < 7
    for side in sides:
        assert not (side.data_dir / "replicator" / "work").exists()
