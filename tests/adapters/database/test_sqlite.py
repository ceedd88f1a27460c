"""SQLite's own: second processes, leftovers of killed ones, fingerprints, purges under way."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicator_kuma.adapters.database import history
from replicator_kuma.adapters.database.sqlite import integrity
from replicator_kuma.adapters.database.sqlite import store as module
from replicator_kuma.adapters.database.sqlite.store import SqliteStore
from replicator_kuma.adapters.database.sqlite.writer import SqliteHistory
from replicator_kuma.base.errors import DatabaseError, DatabaseLocked, DatabaseMissing
from replicator_kuma.dump.catalog import HISTORY, TABLES
from replicator_kuma.dump.select import select
from tests.support.databases import build, edit, query
from tests.support.dumps import digest_of
from tests.support.forked import forked
from tests.support.instances import HastyStore
from tests.support.openers import opened


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return build(tmp_path / "kuma.db", monitors=12, heartbeats=4, wal=True)


@pytest.fixture
def store(database: Path) -> SqliteStore:
    return HastyStore(database.parent)


def test_in_use_by_another_process(store: SqliteStore, database: Path) -> None:
    assert not store.in_use()
    with opened(database, "SELECT count(*) FROM monitor"):
        assert store.in_use()
        assert store.in_use()
        with store.read() as reader:
            assert reader.count("monitor") == 12
    assert not store.in_use()


def test_in_use_while_another_process_writes(store: SqliteStore, database: Path) -> None:
    with opened(database, "BEGIN IMMEDIATE", "UPDATE tag SET color = 'red'"):
        assert store.in_use()
    assert not store.in_use()
    assert query(database, "SELECT 1 FROM tag WHERE color = 'red'") == []


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
def test_exclusive_locking_mode_is_locked(store: SqliteStore, database: Path, mode: str) -> None:
    statements = (f"PRAGMA journal_mode = {mode}", "PRAGMA locking_mode = EXCLUSIVE",
                  "BEGIN EXCLUSIVE")  # fmt: skip
    with opened(database, *statements):
        assert store.in_use()
        for call in (store.read, store.write):
            with pytest.raises(DatabaseLocked, match="locked by another program"), call():
                pass
        with pytest.raises(DatabaseLocked):
            store.check()
        with pytest.raises(DatabaseLocked):
            store.purge_history()
    with store.read() as reader:
        assert reader.count("monitor") == 12


def killed(path: Path, *statements: str) -> None:
    with opened(path, *statements, wal=False) as pid:
        os.kill(pid, signal.SIGKILL)


def test_wal_that_a_killed_process_left_is_read(store: SqliteStore, database: Path) -> None:
    killed(
        database,
        "PRAGMA wal_autocheckpoint = 0",
        "UPDATE monitor SET name = 'committed, in the WAL only'",
        "BEGIN IMMEDIATE",
        "UPDATE monitor SET name = 'never committed'",
    )
    assert Path(f"{database}-wal").stat().st_size > 0
    assert b"committed, in the WAL only" not in database.read_bytes()
    with store.read() as reader:
        assert reader.count("monitor") == 12
    names = query(database, "SELECT DISTINCT name FROM monitor")
    assert names == [("committed, in the WAL only",)]
    store.check()


def test_hot_journal_that_a_killed_process_left_is_rolled_back(
    store: SqliteStore, database: Path
) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    before = digest_of(database)
    killed(
        database,
        "PRAGMA cache_size = 1",  # so that changed pages reach the file before the commit
        "BEGIN IMMEDIATE",
        "UPDATE heartbeat SET msg = hex(zeroblob(3000))",
        "UPDATE monitor SET description = hex(zeroblob(5000)), name = 'half written'",
    )
    journal = Path(f"{database}-journal")
    assert journal.stat().st_size > 0
    assert b"half written" in database.read_bytes()
    with store.read() as reader:
        assert reader.count("monitor") == 12
    assert digest_of(database) == before
    store.check()
    assert query(database, "SELECT 1 FROM monitor WHERE name = 'half written'") == []


def test_leftovers_are_recovered_in_a_copy_of_all_three_files(database: Path) -> None:
    """A backup of the whole folder under a running Kuma, put back elsewhere."""
    other = database.parent / "restored"
    other.mkdir()
    with opened(database, "UPDATE tag SET color = 'in the WAL'"):
        for suffix in ("", "-wal", "-shm"):
            shutil.copyfile(f"{database}{suffix}", f"{other / 'kuma.db'}{suffix}")
        expected = digest_of(database)
    assert digest_of(other / "kuma.db") == expected


def test_text_that_is_no_utf8_keeps_its_bytes(store: SqliteStore, database: Path) -> None:
    """Among rows that are, before and after, so that no row comes twice or is lost."""
    odd = b"caf\xe9 \xf0\x9f".decode("utf-8", "surrogateescape")
    names = ["plain", odd, "ü", odd + "2", "x" * 5_000, b"blob\xff", odd]
    wanted = [(100 + n, name, "#fff") for n, name in enumerate(names)]
    with store.write() as writer:
        writer.upsert("tag", ("id", "name", "color"), frozenset(), wanted)
        assert writer.count("tag") == 19
    sql = "SELECT id, CAST(name AS BLOB), typeof(name) FROM tag WHERE id >= 100 ORDER BY id"
    expected = [
        (n, v.encode("utf-8", "surrogateescape") if isinstance(v, str) else v,
         "text" if isinstance(v, str) else "blob")
        for n, v, _c in wanted
    ]  # fmt: skip
    assert query(database, sql) == expected
    with store.read() as reader:
        chosen = select(reader.schema, "tag")
        at = chosen.columns.index("name")
        assert [row[at] for row in reader.rows(chosen)][12:] == names
        assert [row[at] for row in reader.rows(chosen, [101, 102])] == [odd, "ü"]


def test_a_reader_holds_no_checkpoint_up(store: SqliteStore, database: Path) -> None:
    """Else Kuma's WAL would grow for as long as a dump takes."""
    with store.read() as reader:
        assert reader.count("tag") == 12
        with closing(sqlite3.connect(database, timeout=0, isolation_level=None)) as kuma:
            kuma.execute("DELETE FROM tag")
            assert kuma.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[0] == 0
        assert reader.count("tag") == 12


Change = Callable[[sqlite3.Connection], object]
CHANGES: dict[str, Change] = {
    "append to the WAL": lambda c: c.execute("UPDATE tag SET color = 'a' WHERE id = 1"),
    "checkpoint": lambda c: c.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall(),
    "checkpoint, then the WAL written over at the same size": lambda c: (
        c.execute("PRAGMA wal_checkpoint(RESTART)").fetchall(),
        c.execute("UPDATE tag SET color = 'b' WHERE id = 1"),
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_fingerprint_changes_in_wal_mode(
    store: SqliteStore, database: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SETTLE_NS", 0)
    with closing(sqlite3.connect(database, isolation_level=None)) as kuma:
        kuma.execute("UPDATE tag SET color = '0' WHERE id = 1")
        wal = Path(f"{database}-wal")
        before, size = store.fingerprint(), wal.stat().st_size
        assert before
        assert store.fingerprint() == before
        age(database)
        before = store.fingerprint()
        CHANGES[name](kuma)
        if "same size" in name:
            assert wal.stat().st_size == size
        assert store.fingerprint() != before


def age(database: Path) -> None:
    """As if all had been written long ago: time stamps alone shall not hide a change."""
    for suffix in ("", "-wal"):
        path = Path(f"{database}{suffix}")
        if path.exists():
            os.utime(path, ns=(10**18, 10**18))


def test_fingerprint_changes_in_delete_mode(
    store: SqliteStore, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SETTLE_NS", 0)
    with closing(sqlite3.connect(database, isolation_level=None)) as kuma:
        kuma.execute("PRAGMA journal_mode = DELETE")
        age(database)
        before, size = store.fingerprint(), database.stat().st_size
        kuma.execute("UPDATE tag SET color = 'c' WHERE id = 1")
        assert database.stat().st_size == size
        after = store.fingerprint()
        assert after != before
        age(database)
        settled = store.fingerprint()
        kuma.execute("BEGIN IMMEDIATE")
        kuma.execute("UPDATE tag SET color = 'd' WHERE id = 1")
        assert store.fingerprint() != settled  # a journal is there: not the same any more
        kuma.execute("ROLLBACK")


def test_fingerprint_changes_when_another_file_takes_the_place(
    store: SqliteStore, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SETTLE_NS", 0)
    age(database)
    before = store.fingerprint()
    other = database.with_name("other.db")
    shutil.copyfile(database, other)
    os.utime(other, ns=(10**18, 10**18))
    other.replace(database)
    assert store.fingerprint() != before


def test_fingerprint_is_the_same_after_reading(
    store: SqliteStore, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a check that finds nothing changed would never be the cheap one."""
    monkeypatch.setattr(module, "_SETTLE_NS", 0)
    for running in (True, False):
        connection = sqlite3.connect(database) if running else None
        if connection is not None:
            connection.execute("SELECT count(*) FROM tag").fetchone()
        digest_of(database)
        before = store.fingerprint()
        digest_of(database)
        assert store.fingerprint() == before, running
        if connection is not None:
            connection.close()


def test_fingerprint_is_empty_until_time_stamps_can_tell(
    store: SqliteStore, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(database, "UPDATE tag SET color = 'e'")
    assert store.fingerprint() == ""
    now = max(database.stat().st_mtime_ns, database.stat().st_ctime_ns)
    monkeypatch.setattr(time, "time_ns", lambda: now + module._SETTLE_NS + 1)
    assert store.fingerprint() != ""


def test_purge_in_batches(
    store: SqliteStore, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No transaction is so long that Kuma's HTTP has to wait for it."""
    monkeypatch.setattr(history, "FEWEST", 3)
    monkeypatch.setattr(history, "MOST", 3)
    beat = "INSERT INTO heartbeat (monitor_id, status, time) VALUES (5, 1, '2025')"
    edit(database, *[beat] * 16, "DELETE FROM monitor WHERE id IN (5, 6)")
    others = query(database, "SELECT count(*) FROM heartbeat WHERE monitor_id NOT IN (5, 6)")
    statements: list[str] = []
    connect = store.connect

    def traced(mode: str = "rw", timeout: float = 0.1) -> sqlite3.Connection:
        connection = connect(mode, timeout)
        connection.set_trace_callback(statements.append)
        return connection

    monkeypatch.setattr(store, "connect", traced)
    assert store.purge_history() == 20 + 4 + 5 * 2
    deleting = [s for s in statements if s.startswith("DELETE FROM heartbeat")]
    assert len(deleting) == 7 + 2  # 20 rows of the one, 4 of the other
    assert query(database, "SELECT count(*) FROM heartbeat") == others


@pytest.mark.parametrize("speed", [200, 20_000, 2_000_000])
def test_a_purge_holds_the_database_for_short_times_and_pauses_between(
    speed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``speed``: rows a second that this disk deletes; then it becomes a tenth of that."""
    now, left, held, free = 0.0, 300_000, list[float](), list[float]()

    def run(sql: str, table: str) -> int:
        nonlocal now, left
        rows = min(int(sql.rpartition(" ")[2].rstrip(")")), left)
        left -= rows
        slow = 10 if table == "heartbeat" and left < 150_000 else 1
        held.append(0.001 + rows * slow / speed)
        now += held[-1]
        return rows

    def ask(sql: str) -> list[tuple[int]]:
        return [(7,)] if "FROM heartbeat" in sql else []

    monkeypatch.setattr(time, "monotonic", lambda: now)
    there = {"monitor", "heartbeat"}
    assert SqliteHistory(ask, run, there, free.append).purge() == 300_000
    fewest = 0.001 + history.FEWEST * 10 / speed
    assert sum(seconds > max(0.05, fewest) for seconds in held) <= 3, "it learns at once"
    assert all(pause >= seconds for pause, seconds in zip(free, held, strict=True))
    if speed > 20_000:
        assert len(held) < 500, "it does not take forever"


def test_purge_leaves_a_monitor_that_came_meanwhile(
    store: SqliteStore, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kuma made a monitor with the id between the look and the deletion: its rows are its own."""
    edit(database, "DELETE FROM monitor WHERE id = 12")
    connect, done = store.connect, list[str]()

    def raced(mode: str = "rw", timeout: float = 0.1) -> sqlite3.Connection:
        connection = connect(mode, timeout)

        def look(statement: str) -> None:
            if statement.startswith("DELETE FROM heartbeat") and not done:
                done.append(statement)
                edit(database, "INSERT INTO monitor (id, name) VALUES (12, 'made by Kuma')")

        connection.set_trace_callback(look)
        return connection

    monkeypatch.setattr(store, "connect", raced)
    assert store.purge_history() == 0
    assert done
    assert query(database, "SELECT count(*) FROM heartbeat WHERE monitor_id = 12") == [(4,)]
    assert query(database, "SELECT 1 FROM monitor WHERE id = 12") == [(1,)]


@pytest.mark.parametrize("version", ["1.23", "2.0", "2.3"])
def test_purge_in_each_version(version: str, tmp_path: Path) -> None:
    path = build(tmp_path / "kuma.db", version, monitors=6, heartbeats=2)
    edit(path, "DELETE FROM monitor WHERE id = 6")
    there = [t for t in HISTORY if query(path, "SELECT 1 FROM sqlite_master WHERE name=?", (t,))]
    assert len(there) == (3 if version == "1.23" else 6)
    assert SqliteStore(tmp_path).purge_history() == 2 + len(there) - 1
    for table in there:
        assert query(path, f"SELECT 1 FROM {table} WHERE monitor_id = 6") == []


@pytest.mark.parametrize("kind", ["absolute", "relative", "chain", "folder"])
def test_a_linked_database_is_followed_as_sqlite_does(
    database: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """-wal and -shm lie beside the real file: a change that is only there is seen."""
    monkeypatch.setattr(module, "_SETTLE_NS", 0)
    away, data = tmp_path / "away", tmp_path / "linked"
    away.mkdir()
    database.rename(away / "real.db" if kind != "folder" else away / "kuma.db")
    real = away / ("real.db" if kind != "folder" else "kuma.db")
    if kind == "folder":
        data.symlink_to(away)
    else:
        data.mkdir()
    if kind == "absolute":
        (data / "kuma.db").symlink_to(real)
    elif kind == "relative":
        (data / "kuma.db").symlink_to("../away/real.db")
    elif kind == "chain":
        (tmp_path / "between").symlink_to("away/real.db")
        (data / "kuma.db").symlink_to("../between")
    store = SqliteStore(data)
    with closing(sqlite3.connect(data / "kuma.db", isolation_level=None)) as kuma:
        kuma.execute("PRAGMA journal_mode = WAL")
        kuma.execute("UPDATE tag SET color = 'first' WHERE id = 1")
        before = store.fingerprint()
        assert before
        assert store.fingerprint() == before
        kuma.execute("UPDATE tag SET color = 'second' WHERE id = 1")
        assert store.fingerprint() != before
        assert store.in_use()
    assert not store.in_use()
    store.check()
    store.check_writable()
    assert sorted(path.name for path in real.parent.iterdir()) == [real.name]


def test_a_link_to_nowhere_is_named(tmp_path: Path) -> None:
    (tmp_path / "kuma.db").symlink_to(tmp_path / "gone.db")
    with pytest.raises(DatabaseMissing, match=r"it is a link to .*gone\.db"):
        SqliteStore(tmp_path).connect()


def test_a_link_to_itself_is_named(tmp_path: Path) -> None:
    (tmp_path / "kuma.db").symlink_to("kuma.db")
    store = SqliteStore(tmp_path)
    for look in (store.connect, store.fingerprint, store.check, store.check_writable):
        with pytest.raises(DatabaseError, match="leads to itself"):
            look()
    assert store.holders() == ()


@pytest.mark.parametrize("kind", ["folder", "fifo"])
def test_what_is_no_file_is_no_database(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "kuma.db"
    path.mkdir() if kind == "folder" else os.mkfifo(path)
    with pytest.raises(DatabaseMissing, match=f"is (a|no regular) {kind.replace('fifo', 'file')}"):
        SqliteStore(tmp_path).connect()


def _as_somebody_else(work: Callable[[], object]) -> None:
    def there() -> None:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setuid(65534)
        work()

    assert forked(there) == 0


@pytest.mark.parametrize("closed", ["file", "its folder", "data directory"])
def test_what_this_user_may_not_read_is_not_missing(database: Path, closed: str) -> None:
    """Nobody is sent to look at DATA_DIR for what is a matter of rights."""
    with tempfile.TemporaryDirectory() as name:  # pytest's own are closed to others
        place = Path(name)
        for folder in (place, place / "away", place / "data"):
            folder.mkdir(exist_ok=True)
            folder.chmod(0o755)
        real, link = place / "away" / "kuma.db", place / "data" / "kuma.db"
        shutil.copy(database, real)
        link.symlink_to(real)
        shut = {"file": real, "its folder": real.parent, "data directory": link.parent}[closed]
        shut.chmod(0)

        def look() -> None:
            store = SqliteStore(link.parent)
            assert store.exists()
            for call in (store.connect, store.check, store.read().__enter__):
                with pytest.raises(DatabaseError, match="this user may not") as caught:
                    call()
                assert not isinstance(caught.value, DatabaseMissing)
                assert "rights" in caught.value.hint

        try:
            _as_somebody_else(look)
        finally:
            shut.chmod(0o755)


def test_a_data_directory_with_any_bytes_in_its_name(database: Path, tmp_path: Path) -> None:
    data = tmp_path / os.fsdecode(b"d\xff ?#%")
    data.mkdir()
    database.rename(data / "kuma.db")
    with SqliteStore(data).read() as reader:
        assert reader.count("monitor") == 12


def test_what_stands_in_the_way_of_the_wal_is_not_a_missing_database(database: Path) -> None:
    """SQLite says "unable to open database file", and the file is there."""
    Path(f"{database}-wal").mkdir()
    store = SqliteStore(database.parent)
    with pytest.raises(DatabaseError, match=r"cannot be opened|no regular") as caught, store.read():
        pass
    assert not isinstance(caught.value, DatabaseMissing)
    assert "DATA_DIR" not in caught.value.hint


def test_a_brief_trial_is_taken_back(store: SqliteStore, database: Path, tmp_path: Path) -> None:
    """It is in the database itself, and writes nothing into its files, however much it is."""
    files = (database, Path(f"{database}-wal"))
    with closing(sqlite3.connect(database, timeout=0, isolation_level=None)) as kuma:
        assert kuma.execute("PRAGMA journal_mode = WAL").fetchone() == ("wal",)
        kuma.execute("UPDATE monitor SET name = 'old'")
        before = [file.read_bytes() for file in files]
        with store.rehearsal(tmp_path / "copy", brief=True) as writer:
            assert writer is not None
            long = [(number, "x" * 1_000_000) for number in range(1, 13)]
            writer.upsert("monitor", ("id", "name"), (), long)
            assert writer.query("SELECT count(*) FROM monitor WHERE name <> 'old'") == [(12,)]
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                kuma.execute("UPDATE monitor SET name = 'meanwhile'")
            assert kuma.execute("SELECT DISTINCT name FROM monitor").fetchall() == [("old",)]
        assert [file.read_bytes() for file in files] == before
        kuma.execute("UPDATE monitor SET name = 'new'")
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("brief", [True, False])
def test_a_trial_on_a_copy_has_all_rows(
    store: SqliteStore, database: Path, tmp_path: Path, brief: bool
) -> None:
    """A trigger may read any of them, and what goes takes others along."""
    if brief:
        edit(database, "CREATE TRIGGER acts AFTER UPDATE ON monitor BEGIN SELECT 1; END")
    with store.rehearsal(tmp_path / "copy", brief=brief) as writer:
        assert writer is not None
        for table in TABLES:
            assert writer.count(table) == len(query(database, f'SELECT 1 FROM "{table}"'))
        edit(database, "UPDATE monitor SET name = 'nobody waits'")
    assert not (tmp_path / "copy").exists()


KINDS = ("INTEGER", "TEXT", "NUMERIC", "REAL")
ANY_VALUE = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.sampled_from(("", "7", "-1.5", "1e3", "0x1", "2026-11-20 06:17:18", "a1", "\x00")),
    st.text(max_size=3),
    st.binary(max_size=2),
)


@given(st.lists(st.tuples(*[ANY_VALUE] * (2 * len(KINDS))), min_size=1, max_size=20))
def test_a_value_of_another_type_is_suspect(rows: list[tuple[object, ...]]) -> None:
    """Whatever the other columns of its row hold. A value without a type keeps what it was given,
    as after somebody has changed the type of its column."""
    names = [f"{kind}{n}" for kind in KINDS for n in range(2)]
    odd = []
    for name in names:
        if name.startswith("TEXT"):
            odd.append(f"typeof({name}) IN ('integer', 'real')")
        else:
            number = f"(typeof({name}) = 'text' AND {name} GLOB '*[0-9]*' "
            odd.append(f"{number} AND {name} NOT GLOB '*[A-DF-Za-df-z:/]*')")
        if name.startswith(("INTEGER", "NUMERIC")):
            odd.append(f"typeof({name}) = 'real'")
    suspect = integrity._suspect({name: name.rstrip("01") for name in names})
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(f"CREATE TABLE t ({', '.join(names)})")
        connection.executemany(f"INSERT INTO t VALUES ({', '.join('?' * len(names))})", rows)
        sql = "SELECT rowid FROM t WHERE "
        found, wanted = (
            {row[0] for row in connection.execute(sql + " OR ".join(terms))}
            for terms in (suspect, odd)
        )
    assert wanted <= found
