"""What is hard to put into a table: values that change places, odd orders, other monitors."""

from __future__ import annotations

import itertools
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from replicator_kuma.base.errors import SnapshotRefused
from replicator_kuma.dump.format import write_tables
from replicator_kuma.replication import observe
from replicator_kuma.replication.instance import Outcome
from tests.support import compare
from tests.support.databases import VERSIONS, build, edit, query
from tests.support.dumps import digest_of
from tests.support.fleet import Fleet


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    """A leader and a replica that have the same rows, each with heartbeats of its own."""
    fleet = Fleet(tmp_path)
    build(fleet.leader_db, monitors=30)
    build(fleet.replica_db, monitors=30, heartbeats=3)
    assert fleet.replicate().outcome is Outcome.NOTHING
    return fleet


def assert_follows(fleet: Fleet) -> None:
    """One cycle brings what the leader has, leaves the rest, and a second one does nothing."""
    before = fleet.folder / "before.db"
    shutil.copyfile(fleet.replica_db, before)
    assert fleet.replicate().outcome is Outcome.APPLIED
    fleet.assert_replicated(before)
    assert fleet.follow().outcome is Outcome.NOTHING


@pytest.mark.parametrize(
    ("table", "column", "ids"),
    [
        ("status_page", "slug", (1, 2)),
        ("status_page", "slug", (1, 2, 3)),
        ("user", "username", (1, 2)),
        ("user", "username", (1, 2, 3)),
        ("status_page_cname", "domain", (1, 2, 3)),
        ("status_page_cname", "domain", (3, 1, 2)),
    ],
)
def test_unique_values_change_places(
    fleet: Fleet, table: str, column: str, ids: tuple[int, ...]
) -> None:
    more = [
        "INSERT INTO user (id, username) VALUES (2, 'second'), (3, 'third')",
        "INSERT INTO status_page (id, slug, title, icon, theme) VALUES (3, 'third', '', '', '')",
    ]
    edit(fleet.leader_db, *more)
    assert_follows(fleet)
    old = query(fleet.leader_db, f"SELECT {column} FROM {table} ORDER BY id")
    with closing(sqlite3.connect(fleet.leader_db)) as connection, connection:
        values = {i: connection.execute(f"SELECT {column} FROM {table} WHERE id={i}").fetchone()[0]
                  for i in ids}  # fmt: skip
        for i in ids:
            connection.execute(f"UPDATE {table} SET {column} = 'p{i}' WHERE id = {i}")
        for one, other in zip(ids, (*ids[1:], ids[0]), strict=True):
            sql = f"UPDATE {table} SET {column} = ? WHERE id = ?"
            connection.execute(sql, (values[other], one))
    assert query(fleet.leader_db, f"SELECT {column} FROM {table} ORDER BY id") != old
    assert_follows(fleet)


def test_a_unique_value_goes_from_a_deleted_row_to_a_new_and_from_an_old_to_a_new(
    fleet: Fleet,
) -> None:
    page = "INSERT INTO status_page (id, slug, title, icon, theme) VALUES "
    edit(
        fleet.leader_db,
        "UPDATE status_page SET slug = 'elsewhere' WHERE id = 1",
        page + "(3, 'public', '', '', '')",
        "DELETE FROM status_page_cname WHERE domain = 'status.example'",
        "INSERT INTO status_page_cname (status_page_id, domain) VALUES (3, 'status.example')",
    )
    assert_follows(fleet)
    edit(
        fleet.leader_db,
        "DELETE FROM status_page WHERE id = 3",
        "DELETE FROM status_page_cname WHERE status_page_id = 3",
        page + "(4, 'public', '', '', '')",
    )
    assert_follows(fleet)


@pytest.mark.parametrize("order", list(itertools.permutations((1, 2, 3))))
def test_a_cycle_of_slugs_beside_a_row_of_the_same_name(
    fleet: Fleet, order: tuple[int, int, int]
) -> None:
    page = "INSERT INTO status_page (id, slug, title, icon, theme) VALUES "
    edit(fleet.leader_db, page + "(3, 'third', '', '', '')")
    assert_follows(fleet)
    slugs = dict(zip(order, ("public", "internal", "third"), strict=True))
    edit(
        fleet.leader_db,
        *(f"UPDATE status_page SET slug = 'p{i}' WHERE id = {i}" for i in slugs),
        *(f"UPDATE status_page SET slug = '{s}' WHERE id = {i}" for i, s in slugs.items()),
        "UPDATE status_page SET footer_text = 'changed'",
    )
    assert_follows(fleet)


def test_children_before_parents(fleet: Fleet) -> None:
    """New monitors whose parent has the higher id."""
    edit(
        fleet.leader_db,
        "INSERT INTO monitor (id, name, parent, user_id) VALUES (40, 'child', 50, 1)",
        "INSERT INTO monitor (id, name, parent, user_id) VALUES (50, 'parent', 60, 1)",
        "INSERT INTO monitor (id, name, user_id) VALUES (60, 'grandparent', 1)",
        "UPDATE monitor SET parent = 60 WHERE id = 2",
    )
    assert_follows(fleet)


def test_parents_in_a_circle(fleet: Fleet) -> None:
    edit(
        fleet.leader_db,
        "UPDATE monitor SET parent = 3 WHERE id = 2",
        "UPDATE monitor SET parent = 4 WHERE id = 3",
        "UPDATE monitor SET parent = 2 WHERE id = 4",
        "UPDATE monitor SET parent = 5 WHERE id = 5",
    )
    assert_follows(fleet)
    edit(fleet.leader_db, "DELETE FROM monitor WHERE id IN (2, 3, 4, 5)",
         *(f"DELETE FROM monitor_{t} WHERE monitor_id IN (2, 3, 4, 5)"
           for t in ("tag", "notification", "group")))  # fmt: skip
    assert_follows(fleet)


def test_a_user_that_is_replaced_keeps_no_monitor_hostage(fleet: Fleet) -> None:
    """Another user id for all: with foreign keys on, monitors would lose their owner."""
    owned = ("monitor", "maintenance", "api_key", "notification", "proxy", "docker_host")
    edit(
        fleet.leader_db,
        "UPDATE user SET id = 7",
        *(f"UPDATE {t} SET user_id = 7" for t in (*owned, "remote_browser")),
    )
    assert_follows(fleet)


def test_another_monitor_under_the_same_id(fleet: Fleet) -> None:
    """Somebody had added one on the replica: its heartbeats are not the leader's monitor's."""
    for path, date in ((fleet.leader_db, "2025-03-03"), (fleet.replica_db, "2025-02-02")):
        edit(
            path,
            "INSERT INTO monitor (id, name, user_id, created_date, dns_last_result) "
            f"VALUES (31, 'of {date}', 1, '{date}', 'of {date}')",
        )
    edit(
        fleet.replica_db,
        *("INSERT INTO heartbeat (monitor_id, status, time) VALUES (31, 1, '2025-02-02')",) * 5,
        "INSERT INTO stat_daily (monitor_id, timestamp, ping, up, down) VALUES (31, 1, 1, 1, 1)",
        "INSERT INTO monitor_tls_info (monitor_id, info_json) VALUES (31, '{}')",
        "INSERT INTO notification_sent_history (type, monitor_id, days) VALUES ('x', 31, 7)",
    )
    seen = []

    def at_start() -> None:
        rows = query(fleet.replica_db, "SELECT count(*), min(monitor_id) FROM heartbeat "
                                      "WHERE abs(monitor_id) = 31")  # fmt: skip
        seen.append(rows[0])

    fleet.kuma.on_start = at_start
    assert_follows(fleet)
    assert seen == [(5, -31)]  # set aside while Kuma was not ready, in case it has to go back
    for table in compare.HISTORY:
        assert query(fleet.replica_db, f"SELECT 1 FROM {table} WHERE abs(monitor_id) = 31") == []
    sql = "SELECT name, dns_last_result FROM monitor WHERE id = 31"
    assert query(fleet.replica_db, sql) == [("of 2025-03-03", "of 2025-03-03")]


def test_another_monitor_under_the_same_id_and_a_kuma_that_fails(fleet: Fleet) -> None:
    """The way back gives the set-aside history back."""
    edit(fleet.leader_db, "UPDATE monitor SET created_date = '2025-09-09' WHERE id = 5")
    before = fleet.folder / "before.db"
    shutil.copyfile(fleet.replica_db, before)
    fleet.kuma.refuses_to_be_ready = [True]
    fleet.publish()
    with pytest.raises(Exception, match="runs on the rows from before"):
        fleet.follow()
    assert compare.config_differences(fleet.replica_db, before) == []
    assert compare.staying_differences(fleet.replica_db, before) == []


def test_a_monitor_added_here_just_before_kuma_stops_leaves_no_orphan(fleet: Fleet) -> None:
    """The plan was made without it; the transaction plans anew, and its history goes too."""
    edit(fleet.leader_db, "UPDATE tag SET color = '#111111' WHERE id = 1")
    fleet.publish()
    stop = fleet.kuma.stop

    def add_and_stop() -> None:
        edit(
            fleet.replica_db,
            "INSERT INTO monitor (id, name, user_id) VALUES (99, 'mine', 1)",
            "INSERT INTO heartbeat (monitor_id, status, time) VALUES (99, 1, '2025-01-01')",
            "INSERT INTO monitor_tag (monitor_id, tag_id) VALUES (99, 1)",
        )
        stop()

    fleet.kuma.stop = add_and_stop  # type: ignore[method-assign]
    assert fleet.follow().outcome is Outcome.APPLIED
    assert compare.config_differences(fleet.replica_db, fleet.leader_db) == []
    assert compare.orphans(fleet.replica_db) == []


def test_ids_of_links_travel_with_a_change_and_make_none(fleet: Fleet) -> None:
    edit(
        fleet.leader_db,
        "UPDATE monitor_group SET id = 2000 - id",
        "UPDATE status_page_cname SET id = 100 - id",
    )
    assert fleet.replicate().outcome is Outcome.NOTHING
    edit(fleet.leader_db, "UPDATE monitor SET name = 'x' WHERE id = 1")
    assert_follows(fleet)  # its ids are compared too


def test_ids_of_links_change_places(fleet: Fleet) -> None:
    """Each id belongs to another row of the same table now."""
    edit(
        fleet.leader_db,
        "UPDATE monitor_tag SET id = -(91 - id)",
        "UPDATE monitor_tag SET id = -id",
        "UPDATE tag SET color = '#222222' WHERE id = 1",
    )
    assert_follows(fleet)


def test_links_that_are_there_twice(fleet: Fleet) -> None:
    link = "INSERT INTO monitor_notification (monitor_id, notification_id) VALUES (1, 4)"
    edit(fleet.leader_db, link, link, link)
    assert_follows(fleet)
    edit(
        fleet.leader_db,
        "DELETE FROM monitor_notification WHERE id = "
        "(SELECT min(id) FROM monitor_notification WHERE notification_id = 4)",
    )
    assert_follows(fleet)


def test_a_setting_comes_and_goes(fleet: Fleet) -> None:
    insert = "INSERT INTO setting (key, value, type) VALUES ('checkBeta', 'true', 'general')"
    edit(fleet.leader_db, insert, "DELETE FROM setting WHERE key = 'steamAPIKey'")
    edit(fleet.replica_db, "UPDATE setting SET id = id + 500")
    assert_follows(fleet)


@pytest.mark.parametrize("version", VERSIONS)
def test_an_empty_replica_of_each_version(version: str, tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    build(fleet.leader_db, version, monitors=40)
    build(fleet.replica_db, version, monitors=0, users=0)
    assert_follows(fleet)


@pytest.mark.parametrize("version", VERSIONS)
def test_everything_else(version: str, tmp_path: Path) -> None:
    """A replica with other rows under the same ids, in WAL mode."""
    fleet = Fleet(tmp_path)
    build(fleet.leader_db, version, monitors=25, tags=2, notifications=3, wal=True)
    build(fleet.replica_db, version, monitors=60, users=3, heartbeats=2, wal=True)
    edit(
        fleet.replica_db, "UPDATE monitor SET name = 'other ' || id, parent = NULL WHERE id % 3 = 0"
    )
    assert_follows(fleet)


def test_a_snapshot_that_breaks_a_rule_changes_nothing(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two users of one name: no leader publishes that, so an enemy wrote it."""
    edit(fleet.leader_db, "DROP TABLE user", "CREATE TABLE user (id INTEGER PRIMARY KEY, "
         "username, password, active, timezone, twofa_secret, twofa_status, twofa_last_token)",
         "INSERT INTO user VALUES (1,'x','p',1,'','',0,''), (2,'x','p',1,'','',0,'')")  # fmt: skip
    before = digest_of(fleet.replica_db)
    monkeypatch.setattr(observe, "write_audited", write_tables)
    fleet.publish()
    with pytest.raises(SnapshotRefused, match="user breaks a rule of the table"):
        fleet.follow()
    assert digest_of(fleet.replica_db) == before
    assert fleet.kuma.up
