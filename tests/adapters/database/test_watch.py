"""What a watch over the rows promises: no edit is missed, and heartbeats are no edits."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from replicator_kuma.adapters.database import Watch
from replicator_kuma.adapters.database.detect import open_store
from replicator_kuma.adapters.database.mariadb import watch as mariadb_watch
from replicator_kuma.adapters.database.sqlite import watch as module
from replicator_kuma.adapters.database.sqlite.store import SqliteStore
from replicator_kuma.adapters.database.sqlite.wal import Tail
from replicator_kuma.base.errors import DatabaseMissing
from replicator_kuma.dump.catalog import TABLES
from replicator_kuma.dump.format import write_tables
from tests.adapters.database.test_wal import BEAT, SIZES, connected, make
from tests.support import databases, mariadb_build
from tests.support.clock import untraced_seconds
from tests.support.engines import Engine
from tests.support.mariadb import Server
from tests.support.tiers import by_tier


def seen(watch: Watch, before: str) -> str:
    """The digest once it differs; fails where it does not within some looks of half a second."""
    for _ in range(8):
        if watch.stirred() and (now := watch.digest()) != before:
            return now
        time.sleep(0.5)
    raise AssertionError("the edit was missed")


def settled(watch: Watch) -> str:
    """The digest of rows that nobody edits, once the watch is calm."""
    until = 0.0
    while watch.stirred() or time.monotonic() < until:
        found, wait = watch.digest(), 0.0 if isinstance(watch, module.SqliteWatch) else 1.4
        until = time.monotonic() + wait
        time.sleep(wait)
    return found


@pytest.fixture
def watch(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    """Of MariaDB with one second look at the rows, to be sooner at rest."""
    monkeypatch.setattr(mariadb_watch, "AGAIN", (1.2,))
    engine.build(monitors=30, heartbeats=4)
    watch = engine.store().watch(TABLES)
    with contextlib.ExitStack() as stack:
        stack.callback(watch.close)
        if engine.name == "sqlite":  # as a Kuma that runs: else each edit ends with a checkpoint
            kuma = stack.enter_context(closing(connected(engine.data_dir / "kuma.db")))
            kuma.execute("SELECT * FROM user").fetchall()
        yield watch


def test_an_edit_of_any_table_is_seen_and_heartbeats_are_none(watch: Watch, engine: Engine) -> None:
    digest = settled(watch)
    for _ in range(50):
        engine.edit(BEAT)
    assert not watch.stirred()
    for table in TABLES:
        names = engine.columns()[table]
        column = next(
            name
            for name, kind in names.items()
            if name not in TABLES[table].not_compared and "char" in kind.lower()
        ) if any("char" in kind.lower() for kind in names.values()) else None  # fmt: skip
        if column is None:  # a link: it goes
            (key,) = engine.query(f'SELECT max(id) FROM "{table}"')[0]
            engine.edit((f'DELETE FROM "{table}" WHERE id = ?', (key,)))
        else:
            where = "\"key\" = 'entryPage'" if table == "setting" else '"id" = 1'
            engine.edit(f'UPDATE "{table}" SET "{column}" = \'1\' WHERE {where}')
        now = seen(watch, digest)
        assert now != digest, table
        digest = now
        engine.edit(BEAT)


def test_what_kuma_itself_writes_is_no_edit(watch: Watch, engine: Engine) -> None:
    digest = settled(watch)
    engine.edit(
        "UPDATE monitor SET dns_last_result = '192.0.2.9' WHERE id = 5",
        "UPDATE status_page SET modified_date = '2031-01-01 00:00:00'",
        "UPDATE monitor_tag SET id = id + 1000",
        "INSERT INTO setting (\"key\", value) VALUES ('rdapDnsData', '{}')",
    )
    assert settled(watch) == digest


def test_a_watch_that_was_closed_goes_on_where_it_was(watch: Watch, engine: Engine) -> None:
    digest = settled(watch)
    watch.close()
    engine.edit("UPDATE tag SET name = 'while it was closed' WHERE id = 1")
    assert seen(watch, digest) != digest


def test_nothing_stays_open_for_another_to_find(engine: Engine) -> None:
    """Else each apply would find that a Kuma has the database open."""
    engine.build(monitors=3)
    watch = engine.store().watch(TABLES)
    settled(watch)
    watch.close()
    assert not engine.store().in_use()


def test_edits_within_one_second(mariadb: Server, tmp_path: Path) -> None:
    """MariaDB tells whole seconds; each edit is seen after few looks, half a second apart."""
    database = mariadb_build.build(mariadb.database("watched", tmp_path / "data"), monitors=9)
    watch = open_store(database.data_dir).watch(TABLES)
    watch.stirred()
    digest, late = watch.digest(), list[int]()
    for number in range(by_tier(6, 120)):
        database.edit(BEAT, f"UPDATE tag SET name = 'edit {number}' WHERE id = 2")
        looks = 0
        while not (watch.stirred() and watch.digest() != digest):
            looks += 1
            assert looks < 10, "it was missed"
            time.sleep(0.5)
            database.edit(BEAT)
        late.append(looks)
        digest = watch.digest()
    watch.close()
    assert max(late) <= 3, "a second and a half"


# --- SQLite ---------------------------------------------------------------------------------------

EDITS = (
    "UPDATE monitor SET name = 'x' || random() WHERE id = 1 + abs(random() % 40)",
    "UPDATE monitor SET body = hex(randomblob(4000)) WHERE id = 6",
    "UPDATE monitor SET body = replace(body, substr(body, 5000, 4), hex(randomblob(2)))"
    " WHERE id = 9",
    "UPDATE monitor SET body = NULL WHERE id = 12",
    "UPDATE monitor SET timeout = timeout + 1e-14 WHERE id = 3",
    "UPDATE user SET password = hex(randomblob(20))",
    "UPDATE setting SET value = random() WHERE key = 'entryPage'",
    "UPDATE proxy SET port = abs(random() % 60000)",
    "UPDATE docker_host SET name = random()",
    "UPDATE notification SET config = hex(randomblob(300)) WHERE id = 2",
    "INSERT INTO tag (name, color) VALUES (hex(randomblob(400)), 'c')",
    "DELETE FROM tag WHERE id = (SELECT max(id) FROM tag WHERE id > 12)",
    "DELETE FROM monitor_tag WHERE id = (SELECT max(id) FROM monitor_tag)",
    "UPDATE monitor_notification SET notification_id = 1 + abs(random() % 4) WHERE id = 3",
    "UPDATE status_page SET title = random()",
    "UPDATE status_page_cname SET domain = random() WHERE id = 1",
    "UPDATE \"group\" SET weight = random()",
    "UPDATE incident SET title = random()",
    "UPDATE maintenance SET title = random()",
    "UPDATE api_key SET name = random()",
    "UPDATE remote_browser SET url = random()",
    "UPDATE monitor_group SET weight = random() WHERE id = 1",
    "INSERT INTO monitor (name, type, user_id) VALUES (hex(randomblob(50)), 'ping', 1)",
    "DELETE FROM monitor WHERE id = (SELECT max(id) FROM monitor WHERE id > 40)",
    "UPDATE monitor SET description = CAST(x'ff80' || randomblob(3) AS TEXT) WHERE id = 7",
    "ALTER TABLE tag ADD COLUMN c{n}",
    "DROP TABLE remote_browser",
)  # fmt: skip
NO_EDITS = (
    *[BEAT] * 6,
    "UPDATE monitor SET dns_last_result = random() WHERE id = 4",
    "DELETE FROM heartbeat WHERE id IN (SELECT id FROM heartbeat LIMIT 30)",
    "PRAGMA incremental_vacuum(2)",
    "PRAGMA wal_checkpoint(PASSIVE)",
    "PRAGMA wal_checkpoint(RESTART)",
    "PRAGMA wal_checkpoint(TRUNCATE)",
    "VACUUM",
    "roll back",
    "restart",
    "replace",
    "move",
    "many beats",
)


class Kuma:
    """A database to which what a Kuma, and who runs it, does is done."""

    def __init__(self, folder: Path, page_size: int = 4096, auto_vacuum: int = 2) -> None:
        self.path = make(folder, page_size, auto_vacuum)
        self.watch = SqliteStore(folder).watch(TABLES)
        self.link = connected(self.path)
        self.count = 0

    def __enter__(self) -> Kuma:
        return self

    def __exit__(self, *_error: object) -> None:
        self.watch.close()
        self.link.close()

    def digest(self) -> str:
        """The rows after a look that sees something."""
        assert self.watch.stirred()
        return self.watch.digest()

    def do(self, what: str) -> None:
        self.count += 1
        match what:
            case "roll back":  # with frames in the log, since they have no room in memory
                for each in ("PRAGMA cache_size = 1", "BEGIN", EDITS[0], "UPDATE monitor SET "
                             "body = hex(randomblob(3000))", "ROLLBACK",
                             "PRAGMA cache_size = 200"):  # fmt: skip
                    self.link.execute(each)
            case "restart":
                self.restart(lambda: None)
            case "replace":  # by a copy, whose log begins at the same numbers
                self.restart(self._replace)
            case "move":
                self.restart(self._move)
            case "many beats":  # the log begins anew
                self.link.execute("BEGIN")
                self.link.execute(f"{BEAT}, {', '.join([BEAT[BEAT.index('(1,') :]] * 300)}")
                self.link.execute("COMMIT")
                for _ in range(60):
                    self.link.execute(BEAT)
            case _:
                try:
                    self.link.execute(what.format(n=self.count)).fetchall()
                except sqlite3.OperationalError as error:
                    assert "no such table" in str(error)  # noqa: PT017

    def restart(self, meanwhile: Callable[[], None]) -> None:
        self.link.close()
        meanwhile()
        self.link = connected(self.path)

    def _replace(self) -> None:
        copy = self.path.with_name("copy")
        shutil.copy(self.path, copy)
        copy.replace(self.path)

    def _move(self) -> None:
        """The folder is moved away, and a copy is put in its place."""
        folder = self.path.parent
        away = folder.with_name(f"{folder.name}-{self.count}")
        folder.rename(away)
        shutil.copytree(away, folder)

    def rows(self) -> dict[str, str]:
        """The truth: what a dump would hold."""
        with SqliteStore(self.path.parent).read() as reader:
            there = [name for name in TABLES if name in reader.schema.tables]
            entries, _named = write_tables(None, reader, there)
            return {name: entry.sha256 for name, entry in entries.items()}


def play(kuma: Kuma, rounds: list[list[str]]) -> tuple[int, int]:
    """Do each round, then look: no edit may be missed. Counts edits, and digests in vain."""
    digest, rows = kuma.digest(), kuma.rows()
    edits = in_vain = 0
    for each in rounds:
        for what in each:
            kuma.do(what)
        stirred, now = kuma.watch.stirred(), kuma.rows()
        assert stirred or now == rows, f"missed: {each}"
        if stirred:
            found = kuma.watch.digest()
            in_vain += found == digest
            assert found != digest or now == rows, f"not told apart: {each}"
            digest = found
        edits += now != rows
        rows = now
    return edits, in_vain


@settings(
    max_examples=by_tier(25, 150),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    rounds=st.lists(
        st.lists(st.sampled_from((*EDITS, *NO_EDITS, *NO_EDITS)), max_size=4), max_size=6
    ),
    page_size=st.sampled_from(SIZES),
    auto_vacuum=st.sampled_from((0, 1, 2)),
)
def test_no_edit_is_missed_whatever_happens_to_the_log(
    tmp_path_factory: pytest.TempPathFactory,
    rounds: list[list[str]],
    page_size: int,
    auto_vacuum: int,
) -> None:
    with Kuma(tmp_path_factory.mktemp("watched") / "data", page_size, auto_vacuum) as kuma:
        play(kuma, rounds)


def test_many_edits_among_many_heartbeats(tmp_path: Path) -> None:
    """Of 25 heartbeats a look; most looks find nothing, and few read the rows in vain."""
    chance, rounds = random.Random(11), list[list[str]]()
    edits = [edit for edit in EDITS if not edit.startswith(("ALTER", "DROP"))]
    for number in range(by_tier(60, 2_000)):
        each = [BEAT] * 25
        if number % 2:
            each.insert(chance.randrange(25), chance.choice(edits))
        if number % 20 == 0:
            each.insert(chance.randrange(25), chance.choice(NO_EDITS))
        rounds.append(each)
    with Kuma(tmp_path / "data") as kuma:
        done, in_vain = play(kuma, rounds)
    assert done >= len(rounds) * 0.4
    assert in_vain <= 2 + len(rounds) * 0.07, "one for each thing that nobody can see through"


WRITER = """
import random, sqlite3, sys, time
link = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
link.execute("PRAGMA synchronous = NORMAL")
print("begun", flush=True)
for number in range(int(sys.argv[2])):
    for _ in range(random.randrange(30)):
        link.execute(sys.argv[3])
    link.execute("BEGIN")
    link.execute("UPDATE tag SET color = ?, name = hex(randomblob(3000)) WHERE id = 1", (number,))
    link.execute(sys.argv[3])
    link.execute("COMMIT")
    if random.random() < 0.02:
        link.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    time.sleep(random.random() / 100)  # without a pause nobody else would get the lock
"""


def test_looks_amid_the_commits_of_another_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a look comes upon: what could be read before it, it has noticed."""
    with Kuma(tmp_path / "data") as kuma:
        readable, digested = SqliteStore(kuma.path.parent)._readable, list[Any]()

        def noted() -> sqlite3.Connection:
            connection = readable()
            digested.append(connection.execute(color).fetchall())
            return connection

        monkeypatch.setattr(kuma.watch, "_readable", noted)
        kuma.do("UPDATE tag SET color = -1 WHERE id = 1")
        command = [sys.executable, "-c", WRITER, str(kuma.path), str(by_tier(300, 3_000)), BEAT]
        color = "SELECT color FROM tag WHERE id = 1"
        kuma.digest()
        with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            ended = False
            while not ended:
                ended = writer.poll() is not None  # one more look after its end
                now = kuma.link.execute(color).fetchall()
                if kuma.watch.stirred():
                    kuma.watch.digest()
                assert now == digested[-1] or int(now[0][0]) < int(digested[-1][0][0]), "missed"
        assert len(digested) > 10


def test_without_dbstat_or_a_log_each_write_is_a_reason_to_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Kuma(tmp_path / "data") as kuma:
        monkeypatch.setattr(module, "pages_of", lambda *_given: None)
        kuma.do(BEAT)
        digest = kuma.digest()
        assert not kuma.watch.stirred()
        kuma.do(BEAT)
        assert kuma.digest() == digest
        monkeypatch.undo()
        kuma.link.execute("PRAGMA journal_mode = DELETE")
        assert kuma.digest() == digest
        kuma.do(EDITS[0])
        assert kuma.digest() != digest


def test_a_database_that_is_gone_and_comes_back(tmp_path: Path) -> None:
    with Kuma(tmp_path / "data") as kuma:
        digest = kuma.digest()
        kuma.link.close()
        shutil.rmtree(tmp_path / "data")
        with pytest.raises(DatabaseMissing):
            kuma.digest()
        make(tmp_path / "data")
        databases.edit(kuma.path, EDITS[0])
        assert kuma.digest() != digest


def test_rows_that_are_being_committed_are_waited_for(tmp_path: Path) -> None:
    """A transaction's frames are in the log before anybody can read its rows."""
    with Kuma(tmp_path / "data") as kuma:
        digest, order = kuma.digest(), list[str]()
        other = sqlite3.connect(kuma.path, isolation_level=None, check_same_thread=False)
        kuma.do(EDITS[0])
        other.execute("BEGIN IMMEDIATE")

        def commit() -> None:
            order.append("committed")
            other.execute("COMMIT")
            other.close()

        timer = threading.Timer(0.3, commit)
        timer.start()
        assert kuma.digest() != digest
        assert order == ["committed"], "it did not wait"
        timer.join()


def test_a_user_that_may_only_read_reads_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For nobody waits for a transaction that is being committed."""
    with Kuma(tmp_path / "data") as kuma:
        store = SqliteStore(kuma.path.parent)
        monkeypatch.setattr(kuma.watch, "_connect", lambda: store.connect("ro"))
        digest = kuma.digest()
        assert kuma.digest() == digest
        kuma.do(EDITS[0])
        assert kuma.digest() != digest


def test_a_look_opens_neither_the_database_nor_its_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To close one would drop the locks that SQLite holds in this process."""
    names, real = list[str](), os.open

    def noted(path: str, *arguments: int, **named: int) -> int:
        names.append(str(path))
        return real(path, *arguments, **named)

    with Kuma(tmp_path / "data") as kuma:
        kuma.digest()
        monkeypatch.setattr(os, "open", noted)
        for _ in range(3):
            kuma.do("restart")
            kuma.do(BEAT)
            kuma.watch.stirred()
    assert "kuma.db-wal" in names
    assert not {"kuma.db", "kuma.db-shm"} & {name.rpartition("/")[2] for name in names}


def test_a_look_reads_only_what_is_new(tmp_path: Path) -> None:
    with Kuma(tmp_path / "data") as kuma, closing(Tail(kuma.path)) as tail:
        kuma.link.execute("PRAGMA wal_autocheckpoint = 0")
        for _ in range(2_000):
            kuma.link.execute(BEAT)
        tail.news()
        many = untraced_seconds(lambda: [tail.log() for _ in range(3)])
        few = untraced_seconds(lambda: [tail.news() for _ in range(3)])
    assert few < many / 10
