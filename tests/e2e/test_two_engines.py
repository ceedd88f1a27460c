"""Two real servers on different engines: what is edited on the one is seen on the other.

The npm build's tables and columns are the same on both engines, but it notes its patches on SQLite
only: hence REPLICATOR_SCHEMA=compatible. The tests stand in an order and share the two servers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_two_kumas import cycles, kuma_pid, latest, published_after, save_page_again
from tests.support import databases, weak_repository
from tests.support.mariadb import Server
from tests.support.supervised import Running, Side
from tests.support.tools import restic_018
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.kuma, pytest.mark.restic, pytest.mark.slow]

Query = Callable[[str], list[tuple[Any, ...]]]
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


@dataclass
class Mixed(Running):
    """``there`` and ``here`` ask the leader's and the replica's database past everything."""

    there: Query
    here: Query


def make_side(
    folder: Path, name: str, mode: str, engine: str, server: Server
) -> tuple[Side, Query]:
    """One instance on an engine; MariaDB by db-config.json, on the replica by variables too."""
    extra = {"REPLICATOR_SCHEMA": "compatible"}
    if engine == "sqlite":
        made = Side(folder, name, mode, restic_018())
        made.environment |= {"UPTIME_KUMA_DB_TYPE": "sqlite"} | extra
        return made, lambda sql: databases.query(made.database, sql)
    database = server.database(f"e2e_{name}", folder / name)
    if mode == "RESTORE":
        # this build takes all but the database's name from its variables, which win
        database.write_config(password="not this one")
        extra |= database.environment
    made = Side(folder, name, mode, restic_018())
    made.environment |= extra
    return made, database.query


@pytest.fixture(
    scope="module",
    params=[("mariadb", "sqlite"), ("sqlite", "mariadb")],
    ids=["mariadb-to-sqlite", "sqlite-to-mariadb"],
)
def fleet(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    web: str,
    mariadb: Server,
    kuma_folder: Path,
) -> Iterator[Mixed]:
    folder = tmp_path_factory.mktemp("mixed")
    weak_repository.make(folder / "repository")
    leads, follows = request.param
    leader, there = make_side(folder, "leader", "BACKUP", leads, mariadb)
    replica, here = make_side(folder, "replica", "RESTORE", follows, mariadb)
    with Mixed(folder, leader, replica, there, here) as made:
        leader.set_up(First=web)
        replica.run()
        wait_until(lambda: "1.1" in made.positions(), "the first snapshot", 60)
        yield made


def test_the_leader_s_user_logs_in_to_the_replica(fleet: Mixed) -> None:
    fleet.wait_applied(deadline=120)
    fleet.replica.wait_ready()
    client = fleet.replica.page()
    assert [m["name"] for m in client.monitor_list().values()] == ["First"]
    assert not client.needs_setup()
    client.close()


def test_each_side_is_on_its_engine(fleet: Mixed, request: pytest.FixtureRequest) -> None:
    leads, follows = request.node.callspec.params["fleet"]
    for side, engine in ((fleet.leader, leads), (fleet.replica, follows)):
        assert side.database.exists() == (engine == "sqlite"), side.name


def test_an_edit_arrives_and_heartbeats_stay(fleet: Mixed, web: str) -> None:
    wait_until(lambda: fleet.here(BEATS), "a heartbeat on the replica", 90)
    before = fleet.here(BEATS)
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
    assert set(before) <= set(fleet.here(BEATS))


def test_saving_without_a_change_stops_nothing(fleet: Mixed) -> None:
    client = fleet.leader.page()
    # What the first Save of a monitor may normalise is a real change; the second one is none.
    client.edit_monitor(1)
    cycles(3, fleet.leader)
    position = latest(fleet)
    fleet.wait_applied(position)
    fleet.replica.wait_ready()
    pid, links = kuma_pid(fleet.replica), fleet.there("SELECT id FROM monitor_group")
    client.edit_monitor(1)
    save_page_again(fleet, client)
    client.close()
    assert fleet.there("SELECT id FROM monitor_group") != links, "Save wrote nothing anew"
    cycles(5, fleet.leader, fleet.replica)
    assert latest(fleet) == position
    assert kuma_pid(fleet.replica) == pid


def test_what_was_edited_on_the_replica_goes_and_a_second_restore_is_none(
    fleet: Mixed, web: str
) -> None:
    page = fleet.replica.page()
    page.add_monitor("made on the replica", web)
    page.close()
    assert "made on the replica" in fleet.replica.command("diff").stdout
    done = fleet.replica.json("restore", "--now")
    assert done["changes"]["tables"] == {
        "monitor": {"added": 0, "changed": 0, "deleted": 1, "replaced": 0}
    }
    fleet.replica.wait_ready()
    assert fleet.replica.json("restore", "--now")["outcome"] == "nothing"
    orphans = "SELECT count(*) FROM heartbeat WHERE monitor_id NOT IN (SELECT id FROM monitor)"
    assert fleet.here(orphans) == [(0,)]


def test_sigterm_ends_both(fleet: Mixed) -> None:
    sides = (fleet.leader, fleet.replica)
    kumas = [kuma_pid(side) for side in sides]
    # the exit code is Kuma's own, and this build sends SQLite's PRAGMA to MariaDB at its end
    assert fleet.stop() == [0 if side.database.exists() else 1 for side in sides]
    for side, kuma in zip(sides, kumas, strict=True):
        assert not Path(f"/proc/{kuma}").exists()
        assert not (side.data_dir / "replicator" / "work").exists()
