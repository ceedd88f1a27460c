"""Every way in which rows come to a running Kuma is live, whoever owns them, whatever it does."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from replicator_kuma.base.errors import DatabaseLocked
from tests.e2e.two_kumas import kuma_pid
from tests.support import databases
from tests.support.kuma_server import KumaClient
from tests.support.live_fleet import Leader, LiveFleet, agent, all_begun, live
from tests.support.picture import LISTS, Target, by_id
from tests.support.supervised import Side
from tests.support.tools import restic_018
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.kuma, pytest.mark.restic, pytest.mark.slow]

NAMES = "SELECT name FROM monitor ORDER BY id"
ALLOWED = {"interval": 20, "retryInterval": 20}
"""a page does not save a monitor that beats each second"""
RULES = """
[[rule]]
table = "monitor"
where = { name = "overridden" }
set = { url = "%s/by-a-rule" }
"""


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    with closing(Target()) as target:
        yield target


@pytest.fixture(scope="module")
def fleet(
    tmp_path_factory: pytest.TempPathFactory, target: Target, kuma_folder: Path
) -> Iterator[LiveFleet]:
    """A replica with rules and rows of its own."""
    folder = tmp_path_factory.mktemp("ways")
    rules = folder / "rules.toml"
    rules.write_text(RULES % target.url)
    replica = Side(folder, "replica", "RESTORE_LOCAL_ENTITY_REPLICATION", restic_018())
    replica.environment |= {
        "REPLICATOR_OVERRIDES": str(rules),
        "REPLICATOR_LOCAL_ENTITIES": "proxy",
        "REPLICATOR_SETTINGS": "+disableAuth",
    }
    with LiveFleet(folder, f"{target.url}/base", replica) as fleet:
        fleet.leader.environment["REPLICATOR_SETTINGS"] = "+disableAuth"
        yield fleet


def url(target: Target, path: str) -> tuple[str, list[str]]:
    """Let the first monitor look at another path."""
    return "UPDATE monitor SET url = ? WHERE id = 1", [f"{target.url}{path}"]


def asks(target: Target, path: str) -> None:
    """The first monitor asks for this path, and for none before it."""
    target.asked.clear()
    wait_until(lambda: path in target.asked, f"a request of {path}")


def add(leader: Leader, target: Target, name: str, **columns: Any) -> int:
    row = {"interval": 1, "retry_interval": 1, "timeout": 10, "type": "http", "user_id": 1}
    return leader.insert(
        "monitor", **{"name": name, "url": f"{target.url}/{name}", **row, **columns}
    )


def test_rules_and_local_rows(fleet: LiveFleet, target: Target) -> None:
    add(fleet.leader, target, "overridden")
    proxy = {"user_id": 1, "protocol": "http", "port": 1, "auth": 0, "active": 1}
    fleet.leader.insert("proxy", host="leader.test", **proxy)
    fleet.apply()
    asks(target, "/by-a-rule")
    databases.edit(fleet.replica.database, "UPDATE proxy SET host = 'replica.test'")
    fleet.leader.edit(url(target, "/local"))
    fleet.apply()
    asks(target, "/local")
    assert fleet.replica.query("SELECT host FROM proxy") == [("replica.test",)]
    assert "/overridden" not in target.asked


def test_drift_is_healed(fleet: LiveFleet, target: Target) -> None:
    """What a person changes on the replica's own pages."""
    with closing(fleet.replica.page()) as page:
        page.edit_monitor(1, url=f"{target.url}/drifted", **ALLOWED)
        page.add_monitor("made here", f"{target.url}/made-here")
    asks(target, "/drifted")
    live(fleet.replica, "restore", "--now")
    asks(target, "/local")
    assert ("made here",) not in fleet.replica.query(NAMES)


def test_an_open_page_shows_the_new_rows(fleet: LiveFleet, target: Target) -> None:
    """All that a page is sent is what a page gets that is opened afterwards."""
    with closing(fleet.replica.page()) as page:
        for name in LISTS:
            page._wait_for(name)
        added = add(fleet.leader, target, "added")
        fleet.leader.insert("maintenance", title="m", description="", user_id=1, strategy="manual")
        fleet.leader.insert("notification", name="n", user_id=1, config="{}")
        fleet.leader.insert("status_page", slug="s", title="s", icon="/icon.svg", theme="light")
        fleet.leader.edit("UPDATE monitor SET name = 'first' WHERE id = 1")
        fleet.apply()
        assert view(page)["monitorList"][str(added)]["name"] == "added"
        fleet.leader.edit(("DELETE FROM monitor WHERE id = ?", [added]))
        fleet.apply()
        with closing(fleet.replica.page()) as anew:
            for name in LISTS:
                anew._wait_for(name)
            assert view(page) == view(anew)


def view(page: KumaClient) -> dict[str, dict[str, Any]]:
    """What a page holds after all that it was sent, by list and id."""
    with page._changed:
        events = {name: [*sent] for name, sent in page._events.items()}
    lists = {name: by_id(events[name][-1][0]) for name in LISTS}
    for (changed,) in events.get("updateMonitorIntoList", ()):
        lists["monitorList"] |= by_id(changed)
    for (gone,) in events.get("deleteMonitorFromList", ()):
        lists["monitorList"].pop(str(gone), None)
    return lists


def test_undo_and_back(fleet: LiveFleet, target: Target) -> None:
    fleet.leader.edit(url(target, "/to-be-undone"))
    fleet.apply()
    asks(target, "/to-be-undone")
    live(fleet.replica, "undo")
    asks(target, "/local")
    live(fleet.replica, "restore", "--resume", "--now")
    asks(target, "/to-be-undone")


def test_rows_of_nobody_a_second_factor_and_no_log_in_at_all(
    fleet: LiveFleet, target: Target
) -> None:
    """The agent asks nobody to log in."""
    nobody = add(fleet.leader, target, "of-nobody", user_id=None)
    fleet.leader.edit(
        "UPDATE user SET twofa_status = 1, twofa_secret = 'JBSWY3DPEHPK3PXP'",
        "INSERT OR REPLACE INTO setting (key, value) VALUES ('disableAuth', 'true')",
    )
    fleet.apply()
    asks(target, "/of-nobody")
    with closing(KumaClient(fleet.replica.url)) as page:
        page.connect()
        page._wait_for("autoLogin")
    fleet.leader.edit(
        ("UPDATE monitor SET url = url || '-2' WHERE id = ?", [nobody]),
        "UPDATE user SET twofa_status = 0, twofa_secret = NULL",
        "UPDATE setting SET value = 'false' WHERE key = 'disableAuth'",
    )
    fleet.apply()
    asks(target, "/of-nobody-2")


def test_a_person_edits_what_is_applied(fleet: LiveFleet, target: Target) -> None:
    """A hundred edits on a page while applies come: the rows win in the end.

    An apply gives up where rows change each time that it looks: the next one comes.
    """
    edits, ended = 0, threading.Event()

    def edit_on_the_page() -> None:
        nonlocal edits
        with closing(fleet.replica.page()) as page:
            while not ended.wait(0.1):
                page.edit_monitor(1, description=f"edit {edits}", **ALLOWED)
                edits += 1

    pid, applies, number = kuma_pid(fleet.replica), 0, 0
    thread = threading.Thread(target=edit_on_the_page)
    thread.start()
    try:
        while edits < 100 or applies < 5:
            number += 1
            fleet.leader.edit(url(target, f"/raced-{number}"))
            fleet.leader.publish()
            done = fleet.replica.command("restore", "--now", check=False)
            assert done.returncode in (0, DatabaseLocked.exit_code), done.stderr
            applies += done.returncode == 0
    finally:
        ended.set()
        thread.join(60)
    fleet.replica.command("restore", "--now")  # the page may have written the last
    assert fleet.replica.json("restore", "--now")["outcome"] == "nothing"
    assert kuma_pid(fleet.replica) == pid
    assert agent(fleet.replica).differ() == ()
    asks(target, f"/raced-{number}")
    since = time.monotonic()
    time.sleep(4)
    assert target.count(f"/raced-{number}", since) <= 5, "it runs once"


def test_an_apply_while_kuma_starts(fleet: LiveFleet, target: Target) -> None:
    """Kuma starts one monitor after another: what it has not reached begins with the new values."""
    ids = [add(fleet.leader, target, f"start-{number}") for number in range(40)]
    fleet.apply()
    assert fleet.replica.stop() == 0
    edited, paused, gone = ids[-1], ids[-2], ids[-3]
    fleet.leader.edit(
        ("UPDATE monitor SET url = ? WHERE id = ?", [f"{target.url}/start-edited", edited]),
        ("UPDATE monitor SET active = 0 WHERE id = ?", [paused]),
        ("DELETE FROM monitor WHERE id = ?", [gone]),
    )
    fleet.replica.run()
    fleet.replica.wait_ready()
    target.asked.clear()
    fleet.leader.publish()
    live(fleet.replica, "restore", "--now")
    assert agent(fleet.replica).hello().phase == "starting"
    all_begun(fleet.replica)
    asks(target, "/start-edited")
    assert not {f"/start-{n}" for n in (37, 38, 39)} & target.asked
    fleet.leader.edit("DELETE FROM monitor WHERE name LIKE 'start-%'")
    fleet.apply()


def test_a_leader_s_rollback_to_a_time(fleet: LiveFleet, target: Target) -> None:
    leader = fleet.leader
    leader.run()
    all_begun(leader)
    (before,) = leader.query("SELECT url FROM monitor WHERE id = 1")[0]
    moment = datetime.now(UTC).isoformat(timespec="seconds")
    wait_until(lambda: datetime.now(UTC).isoformat(timespec="seconds") != moment, "later")
    with closing(leader.page()) as page:
        page.edit_monitor(1, url=f"{target.url}/rolled-back", **ALLOWED)
    leader.command("backup")
    live(leader, "rollback", "--at", moment)
    asks(target, before.removeprefix(target.url))
    assert leader.stop() == 0


def test_a_promote(fleet: LiveFleet, target: Target) -> None:
    fleet.leader.edit(url(target, "/promoted"))
    fleet.leader.publish()
    live(fleet.replica, "promote")
    asks(target, "/promoted")
