"""What a person sees of two real servers, whatever their engines: edits through their interface.

The tests stand in an order and share the two servers: each goes on from the one before.
"""

from __future__ import annotations

import json
import time
import urllib.request
from pathlib import Path

from tests.support.cycles import state_of
from tests.support.kuma_server import KumaClient
from tests.support.supervised import Running, Side
from tests.support.waiting import wait_until

BEATS = "SELECT id, monitor_id, time, status, msg FROM heartbeat"
MAINTENANCE = {
    "title": "Wartung 🔧",
    "description": "  spaces at both ends;\n",
    "strategy": "single",
    "intervalDay": 1,
    "timezoneOption": "UTC",
    "active": True,
    "dateRange": ["2031-05-01T10:00", "2031-05-01T12:00"],
    "timeRange": [{"hours": 2, "minutes": 0}, {"hours": 3, "minutes": 0}],
    "weekdays": [],
    "daysOfMonth": [],
}


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


class TwoKumas:
    """`fleet` is a leader and a replica that run, with one monitor, published as 1.1."""

    def test_an_empty_replica_gets_the_leader_s_user(self, fleet: Running) -> None:
        fleet.wait_applied(deadline=120)
        fleet.replica.wait_ready()
        client = fleet.replica.page()
        assert [m["name"] for m in client.monitor_list().values()] == ["First"]
        assert not client.needs_setup()
        client.close()

    def test_an_edit_arrives_and_heartbeats_stay(self, fleet: Running, web: str) -> None:
        wait_until(lambda: fleet.replica.query(BEATS), "a heartbeat on the replica", 90)
        before = fleet.replica.query(BEATS)
        position = latest(fleet)
        client = fleet.leader.page()
        client.add_monitor("null", web, description="  spaces at both ends;\n", timeout=0.1)
        client.edit_monitor(1, name="First, renamed 🚀")
        client._call("addMaintenance", MAINTENANCE)
        client.add_status_page("Page", "page")
        client.save_status_page("page", {"Group": [1, 2]}, domainNameList=["status.example.test"])
        client.close()
        published_after(fleet, position)
        cycles(2, fleet.leader)
        fleet.wait_applied()
        fleet.replica.wait_ready()
        page = fleet.replica.page()
        shown = {m["name"]: (m["description"], m["timeout"]) for m in page.monitor_list().values()}
        assert shown["null"] == ("  spaces at both ends;\n", 0.1)
        assert set(shown) == {"First, renamed 🚀", "null"}
        seen = page._call("getMaintenance", 1)["maintenance"]
        assert seen["title"] == "Wartung 🔧"
        assert [moment.replace("T", " ")[:16] for moment in seen["dateRange"]] == [
            "2031-05-01 10:00",
            "2031-05-01 12:00",
        ]
        page.close()
        assert set(before) <= set(fleet.replica.query(BEATS))

    def test_saving_without_a_change_stops_nothing(self, fleet: Running) -> None:
        client = fleet.leader.page()
        # What the first Save of a monitor may normalise is a real change; the second one is none.
        client.edit_monitor(1)
        cycles(3, fleet.leader)
        position = latest(fleet)
        fleet.wait_applied(position)
        fleet.replica.wait_ready()
        pid, links = kuma_pid(fleet.replica), fleet.leader.query("SELECT id FROM monitor_group")
        client.edit_monitor(1)
        save_page_again(fleet, client)
        client.close()
        assert fleet.leader.query("SELECT id FROM monitor_group") != links, (
            "Save wrote nothing anew"
        )
        cycles(5, fleet.leader, fleet.replica)
        assert latest(fleet) == position
        assert kuma_pid(fleet.replica) == pid

    def test_restore_now_takes_back_what_was_edited_on_the_replica(
        self, fleet: Running, web: str
    ) -> None:
        page = fleet.replica.page()
        page.add_monitor("made on the replica", web)
        page.close()
        cycles(2, fleet.replica)
        diff = fleet.replica.command("diff").stdout
        assert "made on the replica" in diff
        assert "deleted" in diff
        done = fleet.replica.json("restore", "--now")
        assert done["outcome"] == "applied"
        assert done["changes"]["tables"] == {
            "monitor": {"added": 0, "changed": 0, "deleted": 1, "replaced": 0}
        }
        fleet.replica.wait_ready()
        assert ("made on the replica",) not in fleet.replica.query("SELECT name FROM monitor")
        orphans = "SELECT count(*) FROM heartbeat WHERE monitor_id NOT IN (SELECT id FROM monitor)"
        assert fleet.replica.query(orphans) == [(0,)]
        assert fleet.replica.json("restore", "--now")["outcome"] == "nothing"
