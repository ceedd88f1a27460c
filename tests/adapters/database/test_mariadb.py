"""MariaDB's own: lost connections, deadlines, collations, ids, packets, and what a server sets."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pymysql
import pytest

from replicator_kuma.adapters.database.db_config import read_login
from replicator_kuma.adapters.database.mariadb.store import MariadbStore
from replicator_kuma.adapters.database.mariadb.writer import PARKED
from replicator_kuma.base.errors import (
    DatabaseLocked,
    DatabaseMigrating,
    DatabaseMissing,
    DatabaseUnreachable,
    SnapshotRefused,
)
from replicator_kuma.dump.catalog import HISTORY, SETTINGS
from replicator_kuma.dump.select import select
from tests.adapters.database.conftest import column, rows, store_of
from tests.support.mariadb import PASSWORD, Database, Server, short_folder
from tests.support.mariadb_build import build
from tests.support.waiting import wait_until

VALUE = "S3CRET-value"
NASTY = (
    "emoji 🟢🛠 and é ü 漢",
    "NUL \0 and \x1a, quotes ' \" `, \\ \\n \\' \\\\",
    "ends in a backslash \\",
    " spaces at both ends ",
    "% %s %(a)s ? :x {y} -- /* */ ; #",
    "\r\n\t",
    "\u2028 \U0010ffff \ufeff",
    "x" * 65_535,
    "",
)


@pytest.fixture
def database(mariadb: Server, tmp_path: Path) -> Database:
    return build(mariadb.database("own", tmp_path / "data"), monitors=12, heartbeats=4)


@pytest.fixture
def folder() -> Iterator[Path]:
    """For a server of one test's own."""
    with short_folder() as made:
        yield made


# ----------------------------------------------------------------- a server's ways to be away


def test_a_server_that_takes_connections_and_says_nothing(store: MariadbStore) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        login = replace(store.login, port=silent.getsockname()[1])
        hanging = MariadbStore(login, connect_timeout=0.3)
        for call in (hanging.exists, hanging.in_use, hanging.check, hanging.fingerprint):
            began = time.monotonic()
            with pytest.raises(DatabaseUnreachable, match="no answer in time"):
                call()
            assert time.monotonic() - began < 5


@pytest.mark.parametrize("said", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x05\0\0\0\x0a5.5\0", b""])
def test_what_answers_is_no_mariadb(said: bytes, store: MariadbStore) -> None:
    def answer() -> None:
        with listening.accept()[0] as peer:
            peer.sendall(said)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=answer)
        thread.start()
        login = replace(store.login, port=listening.getsockname()[1])
        with pytest.raises(DatabaseUnreachable):
            MariadbStore(login, connect_timeout=1).exists()
        thread.join(10)
    with pytest.raises(DatabaseUnreachable, match="Connection refused"):
        MariadbStore(login).exists()


def test_a_server_that_hangs_later_has_a_deadline_too(folder: Path) -> None:
    with Server(folder) as server:
        database = build(server.database("kuma", folder / "data"), monitors=3)
        store = store_of(database, timeout=0.5)
        with ExitStack() as stack:
            reader = stack.enter_context(store.read())
            os.kill(server.pid, signal.SIGSTOP)
            stack.callback(os.kill, server.pid, signal.SIGCONT)
            os.waitid(os.P_PID, server.pid, os.WSTOPPED)
            began = time.monotonic()
            with pytest.raises(DatabaseUnreachable):
                reader.count("monitor")
            assert time.monotonic() - began < 10
        assert store.exists()


def test_a_server_killed_amid_a_read_and_a_write(folder: Path) -> None:
    with Server(folder) as server:
        database = build(server.database("kuma", folder / "data"), monitors=300)
        for n in range(1, 301):  # more than what sockets hold
            database.edit(("UPDATE monitor SET body = repeat('b', 60000) WHERE id = ?", (n,)))
        store = store_of(database)
        before = store.fingerprint()

        def read() -> None:
            with store.read() as reader:
                stream = reader.rows(select(reader.schema, "monitor"))
                next(stream)
                server.kill()
                list(stream)

        def write() -> None:
            with store.write() as writer:
                writer.delete("monitor", range(1, 200))
                server.kill()
                writer.upsert("tag", ("id", "name", "color"), (), [(98, "new", "red")])

        def commit() -> None:
            with store.write() as writer:
                writer.delete("monitor", range(1, 200))
                server.kill()

        for call in (read, write, commit):
            with pytest.raises(DatabaseUnreachable):
                call()
            with pytest.raises(DatabaseUnreachable):
                store.exists()
            server.start()
            assert store.fingerprint() == before


def test_a_connection_that_an_administrator_kills_is_rolled_back(
    store: MariadbStore, database: Database
) -> None:

    def write() -> None:
        with store.write() as writer:
            writer.delete("tag", [1, 2, 3])
            sql = "SELECT id FROM information_schema.processlist WHERE user = ?"
            ((process,),) = database.query(sql, (database.name,))
            database.edit(f"KILL {process}")
            writer.count("tag")

    with pytest.raises(DatabaseUnreachable):
        write()
    assert len(database.query("SELECT 1 FROM tag")) == 12


def test_the_login_is_refused_without_its_password_in_a_message(store: MariadbStore) -> None:
    wrong = MariadbStore(replace(store.login, password=VALUE))
    with pytest.raises(DatabaseUnreachable) as caught:
        wrong.exists()
    text = f"{caught.value!r} {caught.value.__cause__!r} {wrong.login!r} {vars(caught.value)}"
    assert "1045" in text
    assert VALUE not in text
    assert PASSWORD not in text


def test_a_password_of_any_characters(store: MariadbStore, mariadb: Server) -> None:
    with closing(mariadb.connect()) as root, root.cursor() as cursor:
        cursor.execute("SET PASSWORD FOR 'own'@'127.0.0.1' = PASSWORD(%s)", ("pä漢 '\\",))
    assert MariadbStore(replace(store.login, password="pä漢 '\\")).exists()


def test_no_tables_and_no_database(mariadb: Server, tmp_path: Path) -> None:
    empty = store_of(mariadb.database("own", tmp_path))
    absent = MariadbStore(replace(empty.login, database="own_absent", username="root", password=""))
    for store in (empty, absent):
        assert not store.exists()
        assert not store.in_use()
        assert store.fingerprint() == ""
        with pytest.raises(DatabaseMissing), store.read():
            pass


def test_the_embedded_server_of_a_kuma_that_does_not_run(tmp_path: Path) -> None:
    (tmp_path / "db-config.json").write_text('{"type": "embedded-mariadb"}')
    login = read_login(tmp_path, {})
    assert login is not None
    with pytest.raises(DatabaseUnreachable) as caught:
        MariadbStore(login).exists()
    assert "start Kuma" in caught.value.hint


@pytest.fixture
def login(database: Database) -> dict[str, Any]:
    """How Kuma connects: the store sees its own account's connections only, without PROCESS."""
    at = {"unix_socket": None, "host": "127.0.0.1", "port": database.server.port}
    return at | {"user": database.name, "password": PASSWORD}


def test_others_who_are_connected_are_users(
    store: MariadbStore, database: Database, login: dict[str, Any]
) -> None:
    assert not store.in_use()
    with closing(database.connect(**login)):
        assert store.in_use()
    assert not store.in_use()
    with closing(database.server.connect(**login)):
        assert not store.in_use()  # it is in no database


def test_a_connection_that_leaves_is_no_user(
    store: MariadbStore, database: Database, login: dict[str, Any]
) -> None:
    """As the server lists one that was closed a moment ago, the store's own last one too."""
    leaving = threading.Timer(0.1, database.connect(**login).close)
    leaving.start()
    assert not store.in_use()
    assert leaving.finished.is_set(), "it was looked for before it left"
    leaving.join()
    assert not any(store.in_use() for _ in range(50))


def test_a_pool_that_changes_its_connection_is_a_user(
    store: MariadbStore, database: Database, login: dict[str, Any]
) -> None:
    first = database.connect(**login)
    with ExitStack() as stack:

        def change() -> None:
            stack.enter_context(closing(database.connect(**login)))
            first.close()

        changing = threading.Timer(0.1, change)
        changing.start()
        try:
            assert store.in_use()
        finally:
            changing.join()


def test_a_deadlock_is_a_lock(store: MariadbStore, database: Database) -> None:
    """The smaller transaction is the one that the server ends: ours."""
    sql = "SELECT 1 FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'"
    with database.transaction() as kuma:
        kuma.execute("UPDATE notification SET name = 'x'")
        kuma.execute("UPDATE heartbeat SET msg = 'x'")
        waiting = threading.Thread(target=kuma.execute, args=("DELETE FROM tag WHERE id = 1",))

        def write() -> None:
            with store.write() as writer:
                writer.upsert("tag", ("id", "name", "color"), (), [(1, "new", "red")])
                waiting.start()
                # renewed only when nobody asked for a tenth of a second
                wait_until(lambda: database.query(sql), "the other one to wait", 10, 0.3)
                writer.delete("notification", [3])

        with pytest.raises(DatabaseLocked):
            write()
        waiting.join(20)
    assert database.query("SELECT name FROM notification WHERE id = 3") == [("x",)]


@pytest.mark.parametrize("monitor", [1, 12])
def test_a_write_holds_each_monitor_from_its_begin(
    monitor: int, store: MariadbStore, database: Database
) -> None:
    """So a heartbeat of a Kuma that runs waits for it, and neither is a deadlock's victim."""
    beat = f"INSERT INTO heartbeat (monitor_id, status, time) VALUES ({monitor}, 1, '2025-01-01')"
    with closing(database.connect()) as kuma, kuma.cursor() as cursor:
        cursor.execute("SET innodb_lock_wait_timeout = 1")
        with store.write(), pytest.raises(pymysql.err.OperationalError, match="1205"):
            cursor.execute(beat)
        assert cursor.execute(beat) == 1


def test_a_write_to_some_monitors_lets_heartbeats_of_others_in(
    store: MariadbStore, database: Database
) -> None:
    """Also while it compares all rows, which it does by reading them."""
    beat = "INSERT INTO heartbeat (monitor_id, status, time) VALUES (%s, 1, '2025-01-01')"
    with closing(database.connect()) as kuma, kuma.cursor() as cursor:
        cursor.execute("SET innodb_lock_wait_timeout = 1")
        with store.write(monitors=[3]) as writer:
            writer.fingerprint()
            assert len(rows(writer, "monitor")) == 12
            writer.upsert("monitor", ("id", "name"), (), [(3, "new")])
            assert cursor.execute(beat, (4,)) == 1
            with pytest.raises(pymysql.err.OperationalError, match="1205"):
                cursor.execute(beat, (3,))
        assert cursor.execute(beat, (3,)) == 1
    assert database.query("SELECT name FROM monitor WHERE id = 3") == [("new",)]


def test_tables_that_change_while_they_are_read(store: MariadbStore, database: Database) -> None:
    with store.read() as reader:
        assert reader.count("monitor") == 12
        database.edit("ALTER TABLE tag ADD COLUMN more int NOT NULL DEFAULT 7, FORCE")
        with pytest.raises(DatabaseMigrating):
            rows(reader, "tag")


# ----------------------------------------------------------------- streams


def test_what_a_stream_still_has_survives_another_question(store: MariadbStore) -> None:
    with store.read() as reader:
        first = reader.rows(select(reader.schema, "monitor"))
        second = reader.rows(select(reader.schema, "tag"))
        found = [next(first)[0], next(second)[0], next(first)[0], reader.count("tag")]
        assert found == [1, 1, 2, 12]
        assert [row[0] for row in first] == list(range(3, 13))
        assert [row[0] for row in second] == list(range(2, 13))
        with closing(cast(Generator[Any], reader.rows(select(reader.schema, "monitor")))) as left:
            next(left)
        assert reader.count("monitor") == 12


# ----------------------------------------------------------------- values


def put(store: MariadbStore, table: str, *found: dict[str, Any]) -> None:
    with store.write() as writer:
        writer.upsert(table, tuple(found[0]), (), [tuple(row.values()) for row in found])


def test_text_of_all_kinds_comes_back(store: MariadbStore, database: Database) -> None:
    put(store, "maintenance", *(
        {"id": n, "title": "t", "description": text} for n, text in enumerate(NASTY, 10)
    ))  # fmt: skip
    with store.read() as reader:
        assert column(reader, "maintenance", "description")[1:] == list(NASTY)
    asked = "SELECT hex(description) FROM maintenance WHERE id >= 10 ORDER BY id LIMIT 99"
    assert [row[0] for row in database.query(asked)] == [t.encode().hex().upper() for t in NASTY]


def test_numbers_dates_and_blobs_keep_their_type(store: MariadbStore, database: Database) -> None:
    database.edit(
        "ALTER TABLE tag ADD COLUMN amount decimal(8,3), ADD COLUMN raw blob, ADD COLUMN day date, "
        "ADD COLUMN at time, ADD COLUMN stamp timestamp NULL, ADD COLUMN fine datetime(6), "
        "ADD COLUMN big bigint unsigned, ADD COLUMN ratio double, ADD COLUMN bits bit(9)",
    )
    value = {
        "id": 50, "name": "n", "color": "c", "amount": "1.500", "raw": b"\0\xff'\\", "day":
        "2031-05-01", "at": "26:00:00", "stamp": "2031-05-01 10:00:00", "fine":
        "2031-05-01 10:00:00.000123", "big": 2**63 - 1, "ratio": 0.1 + 0.2, "bits": b"\1\0",
    }  # fmt: skip
    put(store, "tag", value)
    with store.read() as reader:
        chosen = select(reader.schema, "tag")
        (row,) = rows(reader, "tag", [50])
        found = dict(zip(chosen.columns, row, strict=True))
        assert {name: found[name] for name in value} == value
        assert type(found["ratio"]) is float
        assert found["created_date"] is not None
        empty = dict(zip(chosen.columns, rows(reader, "tag", [1])[0], strict=True))
        assert empty["raw"] is None
        assert empty["amount"] is None


@pytest.mark.parametrize(
    ("table", "row", "kind"),
    [
        ("tag", {"id": 1, "name": None, "color": VALUE}, "NOT NULL, error 1048"),
        ("tag", {"id": 1, "name": VALUE * 30, "color": "c"}, "too long, error 1406"),
        ("tag", {"id": 1, "name": float("inf"), "color": VALUE}, "MariaDB does not have"),
        ("tag", {"id": 1, "name": VALUE + "\udcff", "color": "c"}, "MariaDB does not have"),
        ("tag", {"id": VALUE, "name": "n", "color": "c"}, "no value of its type, error 1366"),
        ("tag", {"id": 2**32, "name": VALUE, "color": "c"}, "out of range, error 1264"),
        ("tag", {"id": -1, "name": VALUE, "color": "c"}, "out of range, error 1264"),
        ("tag", {"id": 1, "name": VALUE, "color": "c", "created_date": VALUE}, "1292"),
        ("tag", {"id": 1, "name": "odd", "color": VALUE}, "CHECK, error 4025"),
        ("status_page_cname", {"id": 1, "domain": "🟢" + VALUE}, "error 1366"),
        ("monitor", {"id": 1, "snmp_version": VALUE}, "none of the column's values, error 1265"),
        ("monitor", {"id": 1, "body": VALUE * 6000}, "too long, error 1406"),
    ],
)
def test_what_a_column_does_not_take_is_refused_without_a_value(
    table: str, row: dict[str, Any], kind: str, store: MariadbStore, database: Database
) -> None:
    database.edit("ALTER TABLE tag ADD CONSTRAINT odd CHECK (name <> 'odd')")
    before = store.fingerprint()
    with pytest.raises(SnapshotRefused) as caught:
        put(store, table, row)
    assert table in str(caught.value)
    assert kind in str(caught.value)
    assert VALUE not in f"{caught.value!r} {caught.value.__cause__!r}"
    assert store.fingerprint() == before


def test_ids_over_31_bits(store: MariadbStore, database: Database) -> None:
    last = 2**32 - 1
    put(store, "monitor", {"id": last, "name": "last"}, {"id": 2**31, "name": "first"})
    with store.read() as reader:
        assert [row[0] for row in rows(reader, "monitor")][-2:] == [2**31, last]
        assert [row[0] for row in rows(reader, "monitor", [last, 2**31, last + 1])] == [
            2**31,
            last,
        ]
    with store.write() as writer:
        writer.delete("monitor", [last])
    assert database.query("SELECT max(id) FROM monitor") == [(2**31,)]


# ----------------------------------------------------------------- collations and UNIQUE


def test_settings_go_by_the_exact_key(database: Database) -> None:
    """The column's collation takes `ENTRYPAGE` for `entryPage`, and `a ` for `a`."""
    database.edit(
        "DELETE FROM setting",
        *(
            ('INSERT INTO setting ("key", value) VALUES (?, ?)', (key, key))
            for key in ("ENTRYPAGE", "checkBeta ", "é", "Z", "a", "_")
        ),
    )
    chosen = SETTINGS | {"é", "Z", "a", "_", "E"}
    store = store_of(database, settings=chosen)
    with store.read() as reader:
        assert [row[0] for row in rows(reader, "setting")] == ["Z", "_", "a", "é"]
        assert rows(reader, "setting", ["entryPage", "checkBeta", "A", 7]) == []
    with store.write() as writer:
        writer.delete("setting", ["entryPage", "checkBeta", "z"])
    assert len(database.query("SELECT 1 FROM setting")) == 6
    with pytest.raises(SnapshotRefused, match="UNIQUE"), store.write() as writer:
        writer.upsert("setting", ("key", "value"), (), [("a", "new"), ("entryPage", "mine")])
    assert ("ENTRYPAGE", "ENTRYPAGE") in database.query('SELECT "key", value FROM setting')
    with store.write() as writer:
        writer.upsert("setting", ("key", "value"), (), [("a", "new"), ("z2", "more")])
    assert ("a", "new") in database.query('SELECT "key", value FROM setting')


@pytest.mark.parametrize("slug", ["public", "PUBLIC", "public ", "públic"])
def test_another_row_with_the_same_unique_text_is_not_overwritten(
    slug: str, store: MariadbStore, database: Database
) -> None:
    asked = "SELECT * FROM status_page ORDER BY id"
    before = database.query(asked)
    columns = ("id", "slug", "title", "icon", "theme")
    new = (99, slug, "not the same", "/icon.svg", "light")
    with pytest.raises(SnapshotRefused, match="UNIQUE, error 1242"), store.write() as writer:
        writer.upsert("status_page", columns, ("theme",), [(98, "free", "", "", ""), new])
    with pytest.raises(SnapshotRefused, match="UNIQUE, error 1062"), store.write() as writer:
        writer.upsert("status_page", columns, (), [(2, slug, "", "", "")])
    assert database.query(asked) == before


def test_a_row_that_changes_nothing_but_its_key_is_no_way_around(
    store: MariadbStore, database: Database
) -> None:
    """With no column left to update, the guard is all that there is."""
    with store.write() as writer:
        writer.upsert("user", ("id", "username"), ("username",), [(1, "someone else")])
    assert database.query('SELECT username FROM "user"') == [("admin",)]
    with pytest.raises(SnapshotRefused), store.write() as writer:
        writer.upsert("user", ("id", "username"), ("username",), [(2, "Admin")])


# ----------------------------------------------------------------- history


def history(database: Database) -> dict[str, list[int]]:
    return {
        table: [r[0] for r in database.query(f"SELECT DISTINCT monitor_id FROM {table} ORDER BY 1")]
        for table in HISTORY
    }


def test_history_of_monitors_with_ids_over_31_bits(store: MariadbStore, database: Database) -> None:
    """Such a monitor's id may be the very place where another one's history would be kept."""
    put(store, "monitor", {"id": PARKED + 3, "name": "high"}, {"id": PARKED + 1000, "name": "x"})
    high = "INSERT INTO heartbeat (monitor_id, status, time) VALUES (?, 1, '2025-01-01')"
    database.edit((high, (PARKED + 3,)), (high, (PARKED + 1000,)))
    with store.write() as writer:
        writer.park_history([1, 3, PARKED + 1000])
    kept = [*range(2, 13), PARKED + 1, PARKED + 3]
    kept.remove(3)  # its place was taken: it went at once
    assert history(database)["heartbeat"] == kept
    with store.write() as writer:
        writer.unpark_history([1])
    assert history(database)["heartbeat"] == [1, 2, *range(4, 13), PARKED + 3]


def test_purge_goes_on_after_its_first_transaction(store: MariadbStore, database: Database) -> None:
    many = "INSERT INTO heartbeat (monitor_id, status, time) SELECT 900, 1, '2025-01-01' FROM "
    database.edit(many + "seq_1_to_4500", many.replace("900", str(PARKED + 7)) + "seq_1_to_10")
    assert store.purge_history() == 4510
    assert store.purge_history() == 0
    assert len(database.query("SELECT 1 FROM heartbeat")) == 12 * 4


# ----------------------------------------------------------------- fingerprints


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        ("UPDATE monitor SET description = NULL WHERE id = 3", True),
        ("UPDATE monitor SET body = '' WHERE id = 3", True),
        ("UPDATE monitor SET timeout = 0.25 WHERE id = 3", True),
        ("UPDATE tag SET id = 77 WHERE id = 3", True),
        ("UPDATE monitor SET hostname = 'x', url = concat('a', char(0), 'b') WHERE id = 3", True),
        ("UPDATE setting SET value = 'new' WHERE \"key\" = 'entryPage'", True),
        ("DELETE FROM knex_migrations LIMIT 1", True),
        ("UPDATE setting SET value = 'new' WHERE \"key\" = 'jwtSecret'", False),
        ("UPDATE monitor SET dns_last_result = 'new'", False),
        ("DELETE FROM heartbeat", False),
    ],
)
def test_what_a_fingerprint_sees(
    change: str, seen: bool, store: MariadbStore, database: Database
) -> None:
    before = store.fingerprint()
    assert before == store.fingerprint() != ""
    database.edit(change)
    assert (store.fingerprint() != before) is seen


def test_a_fingerprint_tells_where_a_text_ends(store: MariadbStore, database: Database) -> None:
    """By name the columns are color, created_date, id, name: these two need neighbours."""
    database.edit("ALTER TABLE tag ADD COLUMN nam varchar(9) DEFAULT NULL")
    seen = set()
    for nam, name in (("a\0b", "c"), ("a", "b\0c"), (None, "a\0b\0c"), ("", "a\0b\0c")):
        database.edit(("UPDATE tag SET nam = ?, name = ? WHERE id = 3", (nam, name)))
        seen.add(store.fingerprint())
    assert len(seen) == 4


# ----------------------------------------------------------------- what a server has set


def test_a_server_with_other_ways(folder: Path) -> None:
    options = (
        "--sql-mode=NO_BACKSLASH_ESCAPES,ANSI_QUOTES,PIPES_AS_CONCAT,ORACLE",
        "--character-set-server=latin1",
        "--collation-server=latin1_german2_ci",
        "--default-time-zone=+05:30",
        "--transaction-isolation=READ-UNCOMMITTED",
        "--max-allowed-packet=1M",
    )
    with Server(folder, options=options) as server:
        database = build(server.database("kuma", folder / "data"), monitors=12, heartbeats=2)
        with closing(server.connect()) as root, root.cursor() as cursor:
            cursor.execute("SET GLOBAL sql_select_limit = 3")
            cursor.execute("SET GLOBAL sql_safe_updates = 1")
        store = store_of(database)
        test_text_of_all_kinds_comes_back(store, database)
        with store.read() as reader:
            assert len(rows(reader, "monitor")) == 12
            assert sum(1 for _ in reader.rows(select(reader.schema, "monitor_tag"))) == 36
        database.edit("DELETE FROM proxy WHERE id > 0")
        with store.write() as writer:
            for table in writer.schema.require(writer.schema.tables):
                writer.sweep(select(writer.schema, table))
            writer.delete("monitor", [1])
        assert database.query("SELECT count(*) FROM heartbeat") == [(24,)]
        assert store.purge_history() == 7
        packets(store, database)


def packets(store: MariadbStore, database: Database) -> None:
    """Under a max_allowed_packet of 1 MiB."""
    texts = ("body", "headers", "description", "tls_ca", "tls_cert", "tls_key", "grpc_body")
    whole: dict[str, Any] = dict.fromkeys(texts, "b" * 65_535)
    put(store, "monitor", *({"id": 100 + n, **whole} for n in range(20)))
    assert database.query("SELECT count(*) FROM monitor WHERE length(body) = 65535") == [(20,)]
    assert store.fingerprint()
    with pytest.raises(SnapshotRefused, match="max_allowed_packet"):
        put(store, "monitor", {"id": 1000, **dict.fromkeys(texts, "\\" * 100_000)})
    more = "url grpc_metadata method grpc_protobuf oauth_scopes json_path rabbitmq_nodes conditions"
    for name in (*more.split(), "database_query", "auth_domain", "mqtt_topic"):
        database.edit(f"UPDATE monitor SET {name} = repeat('m', 65535) WHERE id = 100")
    assert store.fingerprint() == ""  # a row without a hash is no row that did not change
