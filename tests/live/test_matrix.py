"""Each table of the catalog, inserted, updated and deleted by a live apply, against a restart.

A picture (tests/support/picture.py) holds what a running Kuma does and shows. It is taken after a
live apply and again after a restart: both have to be equal. And a live apply has to change what the
picture shows of each table, so that no table is equal only because nobody looks at it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from replicator_kuma.dump.catalog import TABLES
from tests.support.live_fleet import LiveFleet
from tests.support.mariadb import Server
from tests.support.picture import Picture, Target, differences, take
from tests.support.supervised import KUMA_PASSWORD, USER, Side
from tests.support.tiers import TIER
from tests.support.tools import kuma_version, restic_018

pytestmark = [pytest.mark.kuma, pytest.mark.restic, pytest.mark.slow]

OPERATIONS = ("insert", "update", "delete")
ENGINES = ("sqlite", "mariadb") if TIER == "all" else ("sqlite",)
"""of the replica; Kuma's own MariaDB needs /app/data, and so a container"""
KEYS = (f"uk1_{KUMA_PASSWORD}",)
"""an API key holds the id of its row"""
RUNS = {"interval": 1, "retry_interval": 1, "timeout": 10, "user_id": 1, "type": "http"}
"""a monitor that beats each second"""


@dataclass(frozen=True)
class Stage:
    """Pictures around one live apply."""

    before: Picture
    live: Picture
    restarted: Picture


@pytest.fixture(scope="module", params=ENGINES)
def stages(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, kuma_folder: Path
) -> Iterator[Mapping[str, Stage]]:
    """All inserts in one apply, then all updates, then all deletes."""
    version = kuma_version(kuma_folder)
    if request.param != "sqlite" and (version.startswith("1.") or "dev" in version):
        pytest.skip("MariaDB is known since 2.0, and npm's build has no room for a port there")
    folder = tmp_path_factory.mktemp("matrix")
    replica = Side(folder, "replica", "RESTORE", restic_018())
    if request.param == "mariadb":
        server: Server = request.getfixturevalue("mariadb")
        database = server.database("live_matrix", replica.data_dir)
        replica.environment |= database.environment
        replica.query = database.query
    with closing(Target()) as target, LiveFleet(folder, f"{target.url}/base", replica) as fleet:
        yield run(fleet, target)


def run(fleet: LiveFleet, target: Target) -> dict[str, Stage]:
    made, last = dict[str, Stage](), picture(fleet, target)
    for operation, change in zip(OPERATIONS, (insert, update, delete), strict=True):
        change(fleet, target)
        fleet.apply()
        live = picture(fleet, target)
        fleet.restart()
        made[operation] = Stage(last, live, last := picture(fleet, target))
    return made


def picture(fleet: LiveFleet, target: Target) -> Picture:
    return take(
        fleet.replica,
        target,
        users=(USER, "second", "renamed"),
        slugs=("first", "other"),
        domains=("insert.test", "update.test"),
        keys=KEYS,
        pushes=("pushed-insert", "pushed-update"),
    )


@pytest.mark.parametrize("operation", OPERATIONS)
def test_kuma_does_and_shows_what_it_would_after_a_restart(
    stages: Mapping[str, Stage], operation: str
) -> None:
    stage = stages[operation]
    found = differences(stage.live, stage.restarted)
    assert not found, "\n".join(["live and restarted:", *found])


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_picture_shows_each_table(
    stages: Mapping[str, Stage], kuma_folder: Path, operation: str, table: str
) -> None:
    if table == "remote_browser" and old(kuma_folder):
        pytest.skip("there is no such table before 2.0")
    stage, shown = stages[operation], SHOWN[table]
    assert shown(stage.before) != shown(stage.live), shown(stage.live)


def old(folder: Path) -> bool:
    """Whether this Kuma has the tables of 1.x; npm's build has, too."""
    return kuma_version(folder).startswith("1.") or "dev" in kuma_version(folder)


# ------------------------------------------------------------------ rows


def insert(fleet: LiveFleet, target: Target) -> None:
    put = fleet.leader.insert
    (password,) = fleet.leader.query("SELECT password FROM user WHERE id = 1")[0]
    put("user", id=2, username="second", password=password, active=1)
    for key, value in {
        "searchEngineIndex": "false",
        "entryPage": '"statusPage-first"',
        "keepDataPeriodDays": "90",
        "serverTimezone": '"Asia/Tokyo"',
        "apiKeysEnabled": "true",
        "steamAPIKey": '"steam-insert"',
    }.items():
        fleet.leader.edit(("DELETE FROM setting WHERE key = ?", [key]))
        put("setting", key=key, value=value, type="general")
    for number in (1, 2):
        put("proxy", id=number, user_id=1, protocol="http", host="127.0.0.1", port=target.port,
            auth=1, username=f"proxy-{number}", password="secret", active=1)  # fmt: skip
        put("docker_host", id=number, user_id=1, name=f"docker-{number}", docker_type="tcp",
            docker_daemon=f"{target.url}/docker-{number}")  # fmt: skip
        config = {"type": "webhook", "webhookURL": f"{target.url}/hook-{number}"}
        put("notification", id=number, name=f"hook-{number}", user_id=1, active=1,
            config=json.dumps({**config, "webhookContentType": "json"}))  # fmt: skip
        put("tag", id=number, name=f"team{number}", color="#059669")
        slug = ("first", "other")[number - 1]
        put("status_page", id=number, slug=slug, title=slug, icon="/icon.svg", theme="light")
        put("group", id=number, name=f"group-{number}", public=1, status_page_id=1)
        put("incident", id=number, title=f"incident-{number}", content="c", status_page_id=number,
            pin=1, active=1, style="info")  # fmt: skip
        put("maintenance", id=number, title=f"maintenance-{number}", description="", user_id=1,
            strategy="manual", active=1)  # fmt: skip
    put("maintenance", id=3, title="nights", description="", user_id=1, strategy="cron", active=1,
        cron="0 3 * * *", duration=60, timezone="SAME_AS_SERVER")  # fmt: skip
    put("status_page_cname", status_page_id=1, domain="insert.test")
    put("api_key", id=1, key=password, name="key-insert", user_id=1, active=1)
    if "remote_browser" in fleet.leader.tables():
        put("remote_browser", id=1, name="browser-insert", url="ws://127.0.0.1:1", user_id=1)
    monitors(fleet, target)
    put("monitor_notification", monitor_id=1, notification_id=1)
    put("monitor_tag", monitor_id=1, tag_id=1, value="value-insert")
    put("monitor_group", monitor_id=1, group_id=1)
    put("monitor_maintenance", monitor_id=11, maintenance_id=1)
    put("maintenance_status_page", status_page_id=1, maintenance_id=1)


def monitors(fleet: LiveFleet, target: Target) -> None:
    """A monitor of each kind of change."""

    def add(number: int, name: str, **columns: Any) -> None:
        row = {"id": number, "name": name, "url": f"{target.url}/{name}", "active": 1}
        fleet.leader.insert("monitor", **RUNS | row | columns)

    add(2, "edited")
    add(3, "proxied", url="http://proxied.test/insert", proxy_id=1)
    add(4, "boxed", type="docker", docker_host=1, docker_container="box")
    add(5, "resumed", active=0)
    add(6, "paused")
    add(7, "parent", type="group")
    add(8, "child", parent=7)
    add(9, "retyped")
    add(10, "pushed", type="push", push_token="pushed-insert", interval=3600)
    add(11, "maintained")
    add(12, "of the second", user_id=2)
    add(13, "of nobody", user_id=None)


def update(fleet: LiveFleet, target: Target) -> None:
    def moved(path: str) -> str:
        return f"{target.url}/{path}"

    fleet.leader.edit(
        "UPDATE user SET username = 'renamed' WHERE id = 2",
        "UPDATE setting SET value = 'true' WHERE key = 'searchEngineIndex'",
        "UPDATE setting SET value = '\"dashboard\"' WHERE key = 'entryPage'",
        "UPDATE setting SET value = '30' WHERE key = 'keepDataPeriodDays'",
        "UPDATE setting SET value = '\"Europe/Oslo\"' WHERE key = 'serverTimezone'",
        "UPDATE setting SET value = '\"steam-update\"' WHERE key = 'steamAPIKey'",
        "UPDATE proxy SET username = 'proxy-update' WHERE id = 1",
        ("UPDATE docker_host SET docker_daemon = ? WHERE id = 1", [moved("docker-update")]),
        "UPDATE notification SET config = replace(config, 'hook-2', 'hook-update') WHERE id = 2",
        "UPDATE monitor_notification SET notification_id = 2",
        "UPDATE tag SET name = 'crew' WHERE id = 1",
        "UPDATE monitor_tag SET value = 'value-update'",
        "UPDATE status_page SET title = 'title-update' WHERE id = 1",
        "UPDATE status_page_cname SET domain = 'update.test'",
        "UPDATE \"group\" SET name = 'group-update' WHERE id = 1",
        "UPDATE monitor_group SET group_id = 2",
        "UPDATE incident SET title = 'incident-update' WHERE id = 1",
        "UPDATE maintenance SET title = 'maintenance-update' WHERE id = 1",
        "UPDATE maintenance SET active = 0 WHERE id = 2",
        "UPDATE maintenance SET cron = '0 4 * * *' WHERE id = 3",
        "UPDATE monitor_maintenance SET monitor_id = 12",
        "UPDATE maintenance_status_page SET status_page_id = 2",
        "UPDATE api_key SET active = 0",
        ("UPDATE monitor SET name = 'renamed', url = ? WHERE id = 2", [moved("edited-update")]),
        "UPDATE monitor SET url = 'http://proxied.test/update' WHERE id = 3",
        "UPDATE monitor SET active = 1 WHERE id = 5",
        "UPDATE monitor SET active = 0 WHERE id = 6",
        "UPDATE monitor SET parent = NULL WHERE id = 8",
        "UPDATE monitor SET type = 'port', hostname = '127.0.0.1', port = 9 WHERE id = 9",
        "UPDATE monitor SET push_token = 'pushed-update' WHERE id = 10",
        # the id stays, the monitor is another one
        ("UPDATE monitor SET name = 'another', url = ?, created_date = '2020-02-02 02:02:02' "
         "WHERE id = 13", [moved("another")]),
    )  # fmt: skip
    if "remote_browser" in fleet.leader.tables():
        fleet.leader.edit("UPDATE remote_browser SET name = 'browser-update'")


def delete(fleet: LiveFleet, target: Target) -> None:
    keep = {"user": "id > 1", "monitor": "id > 1", "setting": "type = 'general'"}
    have = fleet.leader.tables()
    gone = [table for table in reversed([*TABLES]) if table in have]
    fleet.leader.edit(*(f'DELETE FROM "{t}" WHERE {keep.get(t, "1")}' for t in gone))


# ------------------------------------------------------------------ where each table is seen


def in_list(*path: str) -> Callable[[Picture], object]:
    """A part of what the first user's browser gets."""

    def shown(seen: Picture) -> object:
        part = seen["lists"][USER]
        for name in path:
            part = part.get(name)
        return part

    return shown


def on_pages(member: str) -> Callable[[Picture], object]:
    """A member of the documents of both status pages, which have it not, where there is no page."""

    def shown(seen: Picture) -> object:
        documents = [page["page"] for page in seen["pages"].values() if isinstance(page, dict)]
        found = [document.get(member) for document in documents]
        return [one for one in found if one]

    return shown


def monitors_on_pages(seen: Picture) -> object:
    groups = [group for page in on_pages("publicGroupList")(seen) for group in page]  # type: ignore[attr-defined]
    return sorted((group["name"], m["name"]) for group in groups for m in group["monitorList"])


def groups_on_pages(seen: Picture) -> object:
    groups = [group for page in on_pages("publicGroupList")(seen) for group in page]  # type: ignore[attr-defined]
    return sorted(group["name"] for group in groups)


def asked(word: str) -> Callable[[Picture], object]:
    """Requests at the target that have a word in them."""
    return lambda seen: [one for one in seen["asked"] if word in one]


def beats_of(*monitors: str) -> Callable[[Picture], object]:
    return lambda seen: [seen["beats"].get(monitor) for monitor in monitors]


def tags_of_the_first(seen: Picture) -> object:
    return seen["lists"][USER]["monitorList"]["1"]["tags"]


SHOWN: Mapping[str, Callable[[Picture], object]] = {
    "user": lambda seen: [isinstance(lists, dict) for lists in seen["lists"].values()],
    "setting": lambda seen: (seen["robots"], in_list("settings", "steamAPIKey")(seen)),
    "proxy": asked("http://proxied.test"),
    "docker_host": asked("/containers/"),
    "remote_browser": in_list("remoteBrowserList"),
    "notification": in_list("notificationList"),
    "tag": in_list("tags"),
    "status_page": on_pages("config"),
    "status_page_cname": lambda seen: seen["hosts"],
    "group": groups_on_pages,
    "incident": lambda seen: (on_pages("incident")(seen), on_pages("incidents")(seen)),
    "maintenance": in_list("maintenanceList"),
    "api_key": lambda seen: seen["metrics"]["status"],
    "monitor": asked("/"),
    "monitor_notification": lambda seen: seen["alerts"],
    "monitor_tag": tags_of_the_first,
    "monitor_group": monitors_on_pages,
    "monitor_maintenance": beats_of("11", "12"),
    "maintenance_status_page": on_pages("maintenanceList"),
}
"""table → the part of a picture that its rows decide"""
